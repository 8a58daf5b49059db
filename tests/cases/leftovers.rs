//! The end of a cluster, however it comes about, leaves nothing on the machine.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case, Setup, cluster_name};
use anyhow::{Context as _, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use tests::limits::SOON;
use tests::tree::Tree;
use tests::{Cluster, paths, wait_for};

pub(crate) const CASES: &[Case] = &[
    Case { name: "leftovers::none_after_the_end", body: Body::Own(Setup::PLAIN_SMALL, after_the_end) },
    Case {
        name: "leftovers::none_after_the_supervisor_was_killed",
        body: Body::Own(Setup::PLAIN_SMALL, after_a_kill),
    },
    Case { name: "leftovers::none_after_a_sigterm", body: Body::Own(Setup::PLAIN_SMALL, after_a_sigterm) },
    Case {
        name: "leftovers::none_after_the_starter_was_killed",
        body: Body::Own(Setup::PLAIN_SMALL, after_a_killed_start),
    },
];

/// Everything that a cluster could leave behind, as the host sees it.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    mounts: Vec<String>,
    interfaces: BTreeSet<String>,
    /// Processes in pid or network namespaces other than ours.
    strangers: BTreeSet<String>,
}

impl Host {
    fn look() -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let tree = Tree::ensure()?.root().display().to_string();
        let of_clusters = |line: &&str| line.contains(paths::CLUSTERS) || line.contains(&tree);
        let interfaces = fs::read_to_string("/proc/net/dev")?;
        let name = |line: &str| line.split_once(':').map(|(name, _)| name.trim().to_owned());
        Ok(Self {
            mounts: mounts.lines().filter(of_clusters).map(str::to_owned).collect(),
            interfaces: interfaces.lines().filter_map(name).collect(),
            strangers: strangers()?,
        })
    }
}

/// Processes of this user's that live in another pid namespace and belong to clusters of this test run.
fn strangers() -> anyhow::Result<BTreeSet<String>> {
    let ours = fs::read_link("/proc/self/ns/pid")?;
    let mut strangers = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        // Processes come and go while we look; other clusters' processes are told apart by their host names.
        let Ok(namespace) = fs::read_link(path.join("ns/pid")) else { continue };
        if namespace != ours && belongs_to_us(&path) {
            strangers.insert(path.display().to_string());
        }
    }
    Ok(strangers)
}

/// Whether a process's mounts name the state directory of a cluster of this test run.
fn belongs_to_us(process: &Path) -> bool {
    let ours = format!("{}/{}", paths::CLUSTERS, cluster_name(""));
    fs::read_to_string(process.join("mountinfo")).is_ok_and(|mounts| mounts.contains(&ours))
}

/// Waits until the host looks as before and the cluster is gone from the list, and its directory with it.
fn nothing_left(before: &Host, name: &str) -> anyhow::Result<()> {
    let directory = Path::new(paths::CLUSTERS).join(cluster_name(name));
    wait_for("nothing of the cluster is left", SOON, || {
        let (now, running) = (Host::look()?, Cluster::running()?);
        let gone = now == *before && !running.contains(&cluster_name(name)) && !directory.exists();
        Ok(if gone { Ok(()) } else { Err(format!("{now:?}, running: {running:?}")) })
    })
}

fn with_a_job(cluster: &Cluster) -> anyhow::Result<()> {
    let job = cluster.submit(&["--nodes=8"], "srun sleep 1000")?;
    cluster.wait_running(job, SOON)?;
    ensure!(!strangers()?.is_empty(), "the check does not see the cluster's processes");
    Ok(())
}

fn after_the_end(setup: &Setup) -> anyhow::Result<()> {
    let before = Host::look()?;
    let cluster = setup.start("end")?;
    with_a_job(&cluster)?;
    drop(cluster);
    nothing_left(&before, "end")
}

fn after_a_kill(setup: &Setup) -> anyhow::Result<()> {
    let before = Host::look()?;
    let cluster = setup.start("kill")?;
    with_a_job(&cluster)?;
    kill(Pid::from_raw(cluster.supervisor_pid()), Signal::SIGKILL)?;
    nothing_left(&before, "kill")
}

fn after_a_sigterm(setup: &Setup) -> anyhow::Result<()> {
    let before = Host::look()?;
    let cluster = setup.start("term")?;
    with_a_job(&cluster)?;
    let directory = cluster.state_dir().to_owned();
    kill(Pid::from_raw(cluster.supervisor_pid()), Signal::SIGTERM)?;
    // This end is in order: the supervisor itself removes its directory.
    wait_for("the supervisor has cleaned up", SOON, || {
        Ok(if directory.exists() { Err(format!("{} exists", directory.display())) } else { Ok(()) })
    })?;
    nothing_left(&before, "term")
}

fn after_a_killed_start(setup: &Setup) -> anyhow::Result<()> {
    let before = Host::look()?;
    let name = cluster_name("start");
    let mut starter = Command::new(env!("CARGO_BIN_EXE_cluster"))
        .args([
            "up",
            "--name",
            &name,
            "--profile",
            setup.profile,
            "--plugin",
            "stock",
            "--prolog",
            "/bin/true",
        ])
        .args(["--epilog", "/bin/true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run the command line")?;
    let state = Path::new(paths::CLUSTERS).join(&name).join("state.json");
    let begun = wait_for("the cluster is half up", SOON, || {
        Ok(if state.exists() { Ok(()) } else { Err(format!("{} is not there", state.display())) })
    });
    starter.kill()?;
    starter.wait()?;
    begun?;
    nothing_left(&before, "start")
}
