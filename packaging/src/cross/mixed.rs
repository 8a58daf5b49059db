//! A tray of the real racks' architecture beside one of this machine's: a job over both has one IMEX domain.
//!
//! On the one tray slurmd, slurmstepd, the plugin, prolog and epilog are arm64 programs under emulation, on the other
//! they are this machine's. The IMEX daemons and the hardware are simulated on both, and built for both.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tests::tree::Tree;
use tests::{Cluster, ClusterBuilder, wait_for};

use super::room::Room;
use crate::artifacts;
use crate::child;
use crate::console::Progress;
use crate::outcome::Outcome;

/// The batch host, of this machine's architecture, and the emulated tray.
const TRAYS: [&str; 2] = ["r01n01", "r01n02"];
/// Makes up for what the kernel refuses to emulated programs; see its source.
const SHIM: &str = "emulated-fexecve.so";
/// Bounds of emulated work.
const SOON: Duration = Duration::from_secs(60);
/// In the command lines of slurmd and of a job's IMEX daemon.
const SLURMD: &str = "slurmd --systemd";
const DAEMON: &str = "nvidia-imex -c ";
const CHANNELS: &str = "dev/nvidia-caps-imex-channels";

/// Boots the mixed cluster and runs the job.
///
/// # Errors
/// What the emulated tray needs cannot be built.
pub(super) fn check(room: &Room, tree: &Path, built: &Path, stage: &Path, log: &Path) -> Result<Outcome> {
    artifacts::put_for_trays(built, stage)?;
    let mut compiler = room.command("aarch64-linux-gnu-gcc");
    compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-D_GNU_SOURCE"]);
    compiler.args(["-o", &format!("/mnt/target/stage/{SHIM}"), "packaging/src/cross/fexecve.c"]);
    let status = child::run(&mut compiler, log, SOON, &mut Progress::new())?;
    ensure!(status.success(), "cannot build {SHIM}:\n{}", fs::read_to_string(log)?);
    let result = run(tree, stage);
    let text = match &result {
        Ok(()) => String::new(),
        Err(error) => format!("a job over an arm64 tray and one of this machine's: {error:#}\n"),
    };
    Ok(Outcome::check(result.is_ok(), text))
}

fn run(tree: &Path, stage: &Path) -> Result<()> {
    let cluster = ClusterBuilder::default()
        .name(&format!("mixed-{}", std::process::id()))
        .profile("small-2x4")
        .foreign_tray(TRAYS[1], Tree::open(tree)?, stage)
        .copy(Path::new("/usr/lib").join(SHIM), stage.join(SHIM))
        .under(TRAYS[1], &["env", &format!("QEMU_SET_ENV=LD_PRELOAD=/usr/lib/{SHIM}")])
        .start()?;
    job(&cluster).map_err(|error| error.context(logs(&cluster)))
}

/// What prolog and epilog said on both trays, and slurmd about them.
fn logs(cluster: &Cluster) -> String {
    let read = |tray: &str, file: &str| {
        let path = cluster.logs(tray).map(|logs| logs.join(file));
        path.ok().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
    };
    let mut text = String::new();
    for tray in TRAYS {
        let [ours, slurms] = ["slurm-nvlink/imex.log", "slurm/slurmd.log"].map(|file| read(tray, file));
        let errors = slurms.lines().filter(|line| line.contains("error") || line.contains("prolog"));
        ours.lines().chain(errors).for_each(|line| text.push_str(&format!("{tray}: {line}\n")));
    }
    text
}

/// A job over both trays, from its prologs to its epilogs.
fn job(cluster: &Cluster) -> Result<()> {
    let emulated = emulated(cluster, TRAYS[1], SLURMD)? && !emulated(cluster, TRAYS[0], SLURMD)?;
    ensure!(emulated, "slurmd of {} is not the only one that is emulated", TRAYS[1]);
    let script =
        "srun topology-gen --version > /home/alice/step; until [ -e /home/alice/end ]; do sleep 0.1; done";
    let options = ["-N2", "-wr01n[01-02]", "--exclusive", "--output=/dev/null"];
    let job = cluster.submit(&options, script)?;
    cluster.wait_running(job, SOON)?;
    wait_for("both trays are ready", SOON, || {
        let states: Vec<String> = TRAYS.iter().map(|tray| state(cluster, tray)).collect::<Result<_>>()?;
        Ok(if states == ["ready", "ready"] { Ok(()) } else { Err(format!("{states:?}")) })
    })?;
    one_domain(cluster, job.get())?;
    wait_for("a step has run on both trays", SOON, || {
        let text = cluster.ctl(&["cat", "/home/alice/step"]).unwrap_or_default();
        Ok(if text.lines().count() == TRAYS.len() { Ok(()) } else { Err(format!("it printed {text:?}")) })
    })?;
    cluster.ctl(&["touch", "/home/alice/end"])?;
    cluster.wait_idle(&TRAYS)?;
    TRAYS.iter().try_for_each(|tray| nothing_left(cluster, tray, job.get()))
}

/// Whether a tray's process with `words` in its command line runs under the emulator.
fn emulated(cluster: &Cluster, tray: &str, words: &str) -> Result<bool> {
    for process in processes(cluster, tray)? {
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).replace('\0', " ").contains(words) {
            let program = fs::read_link(process.join("exe"))?;
            return Ok(program.to_string_lossy().contains("qemu"));
        }
    }
    bail!("{tray}: no process has {words:?} in its command line")
}

/// The directories of a tray's processes.
fn processes(cluster: &Cluster, tray: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(cluster.root_of(tray)?.join("proc"))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// How far the tray's only job is.
fn state(cluster: &Cluster, tray: &str) -> Result<String> {
    let text = cluster.tray(tray, &["imex-prolog", "status", "--json"])?;
    let status: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    let state = status.pointer("/jobs/0/domain/state").and_then(Value::as_str);
    Ok(state.unwrap_or("none").to_owned())
}

/// The same two members on both trays, UP as each of them sees it, one emulated daemon, and a channel for the job's user on both.
fn one_domain(cluster: &Cluster, job: u32) -> Result<()> {
    ensure!(emulated(cluster, TRAYS[1], DAEMON)?, "the IMEX daemon of {} is not emulated", TRAYS[1]);
    let directory = format!("run/slurm-nvlink/imex/job-{job}");
    let mut lists = BTreeSet::new();
    for tray in TRAYS {
        lists.insert(fs::read_to_string(cluster.root_of(tray)?.join(&directory).join("nodes.cfg"))?);
        let channel = cluster.tray(tray, &["stat", "--format=%A %U", &format!("/{CHANNELS}/channel0")])?;
        ensure!(channel.trim() == "crw------- alice", "{tray}: the channel is {channel:?}");
        wait_for(&format!("the domain is UP as {tray} sees it"), SOON, || {
            let config = format!("/{directory}/config.cfg");
            let text = cluster.tray(tray, &["nvidia-imex-ctl", "-N", "-j", "-c", &config])?;
            let view: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
            let members = view["nodes"].as_object().map_or(0, serde_json::Map::len);
            Ok(if view["status"] == "UP" && members == 2 { Ok(()) } else { Err(text) })
        })?;
    }
    let lines = lists.first().map_or(0, |list| list.lines().count());
    ensure!(lists.len() == 1 && lines == 2, "the trays' node lists: {lists:?}");
    Ok(())
}

/// No channel, no file of the job but its ending mark, no daemon.
fn nothing_left(cluster: &Cluster, tray: &str, job: u32) -> Result<()> {
    let root = cluster.root_of(tray)?;
    let mut left = Vec::new();
    for place in ["run/slurm-nvlink/imex", CHANNELS] {
        for entry in fs::read_dir(root.join(place))? {
            left.push(entry?.file_name().to_string_lossy().into_owned());
        }
    }
    left.retain(|name| *name != "tray.lock" && *name != format!("job-{job}.ended"));
    let daemons = cluster.tray(tray, &["sh", "-c", "pgrep -x nvidia-imex || :"])?;
    ensure!(
        left.is_empty() && daemons.trim().is_empty(),
        "{tray}: left are {left:?} and daemons {daemons:?}"
    );
    Ok(())
}
