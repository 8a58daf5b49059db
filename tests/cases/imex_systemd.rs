//! A tray with a real systemd as its first process: the (simulated) IMEX daemon is a unit of its own, and the journal has
//! what prolog and epilog say.
//!
//! No cluster: Slurm's environment is given by hand, in namespaces with nothing but a loopback network.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case, Setup};
use crate::imex::SMALL;
use anyhow::{Context as _, ensure};
use std::fs;
use std::path::Path;
use std::process::Output;
use tests::machine::{BOOT, Machine};
use tests::stage::{self, Artifact};
use tests::tree::Tree;
use tests::wait_for;

pub(crate) const CASES: &[Case] = &[
    Case { name: "imex_systemd::the_daemon_is_a_unit", body: Body::Own(SMALL, a_unit) },
    Case { name: "imex_systemd::a_prolog_killed_at_any_time_leaves_no_unit", body: Body::Own(SMALL, killed) },
];

/// A tray that systemd runs.
pub(crate) fn boot() -> anyhow::Result<Machine> {
    Machine::boot(&Tree::ensure()?, "t1", None, put_files)
}

/// A hook as slurmd would run it for job 7; `before` goes in front of the program.
fn hook(tray: &Machine, before: &[&str], program: &str) -> anyhow::Result<Output> {
    let variables = [
        "SLURM_JOB_ID=7",
        "SLURM_JOB_UID=1000",
        "SLURM_JOB_GID=1000",
        "SLURMD_NODENAME=t1",
        "SLURM_JOB_NODELIST=t1",
        "SLURM_JOB_EXCLUSIVE=NODE",
        "SLURM_JOB_GPUS=0,1,2,3",
        "SLURM_CONF=/etc/slurm/slurm.conf",
    ];
    tray.run(&[&["env"], variables.as_slice(), before, &[program]].concat())
}

/// Our units, as `name active-state`.
pub(crate) fn units(tray: &Machine) -> anyhow::Result<Vec<String>> {
    let list = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "slurm-nvlink-*"];
    let text = tray.text(&list)?;
    let of_line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        format!("{} {}", words.first().unwrap_or(&""), words.get(2).unwrap_or(&""))
    };
    Ok(text.lines().map(of_line).collect())
}

pub(crate) fn wait_no_units(tray: &Machine) -> anyhow::Result<()> {
    wait_for("no unit is left", BOOT, || {
        let units = units(tray)?;
        Ok(if units.is_empty() { Ok(()) } else { Err(format!("{units:?}")) })
    })
}

/// All files that the tray has beside the tree's.
fn put_files(root: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(root.join("etc/slurm"))?;
    let places = [
        (Artifact::Prolog, "usr/sbin/imex-prolog"),
        (Artifact::Epilog, "usr/sbin/imex-epilog"),
        (Artifact::Imex, "usr/bin/nvidia-imex"),
        (Artifact::ImexCtl, "usr/bin/nvidia-imex-ctl"),
        (Artifact::Nvml, "usr/lib/libnvidia-ml.so.1"),
    ];
    stage::put(root, &places)?;
    fs::write(
        root.join("etc/proc-devices"),
        "Character devices:\n234 nvidia-caps-imex-channels\n\nBlock devices:\n",
    )?;
    fs::write(root.join("etc/slurm/slurm.conf"), "GresTypes=gpu\nNodeName=t1 NodeAddr=127.0.0.1\n")?;
    // The simulated NVML library shows this NVLink partition where nobody has told it another one.
    let block = format!("nvl-{}-{}", &sim::nvml::DEFAULT_CLUSTER_UUID[..8], sim::nvml::DEFAULT_CLIQUE);
    let text = format!(
        "- topology: t\n  cluster_default: true\n  block:\n    block_sizes: [1]\n    blocks:\n    - block: {block}\n      nodes: t1\n"
    );
    Ok(fs::write(root.join("etc/slurm/topology.yaml"), text)?)
}

fn a_unit(_: &Setup) -> anyhow::Result<()> {
    let tray = boot()?;
    let prolog = hook(&tray, &[], "imex-prolog")?;
    ensure!(prolog.status.code() == Some(0), "{prolog:?}");
    let units = units(&tray)?;
    let [unit] = units.as_slice() else { anyhow::bail!("{units:?}; {prolog:?}") };
    let (name, state) = unit.split_once(' ').context("no state")?;
    ensure!(name.starts_with("slurm-nvlink-imexd-job-7-") && state == "active", "{unit}");
    let group = tray.text(&["systemctl", "show", "--property=ControlGroup", "--value", name])?;
    ensure!(group.trim() == format!("/system.slice/{name}"), "{group}");
    let status = tray.text(&["imex-prolog", "status"])?;
    ensure!(status.starts_with("job 7: ready; "), "{status}");
    let health = tray.text(&["env", "SLURMD_NODENAME=t1", "imex-prolog", "health"])?;
    ensure!(health.starts_with("ok: t1 in block nvl-"), "{health}");
    let epilog = hook(&tray, &[], "imex-epilog")?;
    ensure!(epilog.status.code() == Some(0), "{epilog:?}");
    ensure!(String::from_utf8_lossy(&epilog.stderr).contains("the daemon has ended in order"), "{epilog:?}");
    wait_no_units(&tray)?;
    wait_for("the journal has both closing lines", BOOT, || {
        let said =
            |name: &str| tray.text(&["journalctl", "--quiet", "--output=cat", "-t", name, "IMEX_JOB=7"]);
        let (prolog, epilog) = (said("imex-prolog")?, said("imex-epilog")?);
        let right = prolog.contains("outcome=ready") && epilog.contains("outcome=removed");
        Ok(if right { Ok(()) } else { Err(format!("{prolog}{epilog}")) })
    })
}

fn killed(_: &Setup) -> anyhow::Result<()> {
    let tray = boot()?;
    let mut killed = 0;
    for millis in (5..200).step_by(15) {
        let span = format!("0.{millis:03}");
        let prolog = hook(&tray, &["timeout", "--signal=KILL", &span], "imex-prolog")?;
        killed += usize::from(prolog.status.code() != Some(0));
        let epilog = hook(&tray, &[], "imex-epilog")?;
        ensure!(epilog.status.code() == Some(0), "after {millis} ms: {epilog:?}");
        wait_no_units(&tray).with_context(|| format!("after {millis} ms"))?;
        let left = tray.text(&[
            "sh",
            "-c",
            "ls /run/slurm-nvlink/imex /dev/nvidia-caps-imex-channels 2>/dev/null; true",
        ])?;
        let of_job = |line: &&str| {
            line.starts_with("job-7") && !line.ends_with(".ended") || line.starts_with("channel")
        };
        ensure!(left.lines().find(of_job).is_none(), "after {millis} ms: {left}");
    }
    ensure!(killed > 0, "no prolog was killed in time");
    Ok(())
}
