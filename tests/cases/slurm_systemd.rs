//! A real slurmd as the unit that Debian ships, beside a real slurmctld, under a real systemd: the (simulated) IMEX
//! daemon of a job lives in a unit of its own, through a restart of slurmd, and ends with the epilog that the new
//! slurmd runs.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case, Setup};
use crate::imex::SMALL;
use crate::imex_systemd;
use anyhow::{Context as _, ensure};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use tests::machine::{BOOT, Machine};
use tests::wait_for;

pub(crate) const CASES: &[Case] = &[Case {
    name: "slurm_systemd::the_daemon_survives_a_restart_of_slurmd",
    body: Body::Own(SMALL, restarted),
}];

/// The only node of its cluster. Its services are root's, and its control groups systemd's: Slurm makes none.
const SLURM_CONF: &str = "ClusterName=one
SlurmctldHost=t1(10.76.0.1)
SlurmUser=root
AuthType=auth/slurm
CredType=cred/slurm
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmdParameters=config_overrides
SelectType=select/cons_tres
TopologyPlugin=topology/block
SchedulerParameters=batch_sched_delay=0,sched_interval=1
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
PrologFlags=Alloc
Prolog=/usr/sbin/imex-prolog
Epilog=/usr/sbin/imex-epilog
NodeName=t1 NodeAddr=10.76.0.1 CPUs=2 RealMemory=1000
PartitionName=trays Nodes=t1 Default=YES
";
const JOB: &str = "until [ -e /tmp/end ]; do sleep 0.05; done";

fn put_files(tray: &Machine) -> anyhow::Result<()> {
    let etc = tray.file("/etc/slurm");
    fs::write(etc.join("slurm.conf"), SLURM_CONF)?;
    fs::write(etc.join("cgroup.conf"), "CgroupPlugin=disabled\n")?;
    fs::write(etc.join("plugstack.conf"), "")?;
    let mut key = [0; 1024];
    fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    fs::write(etc.join("slurm.key"), key)?;
    fs::set_permissions(etc.join("slurm.key"), fs::Permissions::from_mode(0o600))?;
    for spool in ["slurmctld", "slurmd"] {
        fs::create_dir_all(tray.file("/var/spool").join(spool))?;
    }
    // Debian's slurmctld is the user slurm's, who has nothing else to do here. slurmd's unit is as it is shipped.
    let drop_in = tray.file("/etc/systemd/system/slurmctld.service.d");
    fs::create_dir_all(&drop_in)?;
    fs::write(drop_in.join("user.conf"), "[Service]\nUser=root\nGroup=root\n")?;
    // With nothing but 127.0.0.1 getaddrinfo finds no address at all for a daemon to listen at (AI_ADDRCONFIG).
    tray.text(&["ip", "address", "add", "10.76.0.1/32", "dev", "lo"])?;
    tray.text(&["systemctl", "daemon-reload"]).map(drop)
}

/// A property of a unit.
fn property(tray: &Machine, unit: &str, name: &str) -> anyhow::Result<String> {
    let text = tray.text(&["systemctl", "show", &format!("--property={name}"), "--value", unit])?;
    Ok(text.trim().to_owned())
}

/// Waits until Slurm says this of the job.
fn job_is(tray: &Machine, job: &str, wanted: &str) -> anyhow::Result<()> {
    wait_for(&format!("job {job} is {wanted}"), BOOT, || {
        let said = tray.text(&["squeue", "--noheader", "--states=all", "--format=%T %r", "--job", job])?;
        Ok(if said.trim() == wanted { Ok(()) } else { Err(said) })
    })
}

fn restarted(_: &Setup) -> anyhow::Result<()> {
    let tray = imex_systemd::boot()?;
    put_files(&tray)?;
    through_a_restart(&tray).map_err(|error| {
        let journal = tray.text(&["journalctl", "--quiet", "--no-pager", "--lines=60"]).unwrap_or_default();
        error.context(format!("the journal of the tray:\n{journal}"))
    })
}

fn through_a_restart(tray: &Machine) -> anyhow::Result<()> {
    tray.text(&["systemctl", "start", "slurmctld", "slurmd"])?;
    ensure!(property(tray, "slurmd", "KillMode")? == "process", "Debian's unit has changed");
    wait_for("the node is idle", BOOT, || {
        let said = tray.text(&["sinfo", "--noheader", "--format=%t"])?;
        Ok(if said.trim() == "idle" { Ok(()) } else { Err(said) })
    })?;
    let said = tray.text(&["sbatch", "--parsable", "--exclusive", "--output=/dev/null", "--wrap", JOB])?;
    let job = said.trim();
    job_is(tray, job, "RUNNING None")?;
    let units = imex_systemd::units(tray)?;
    let [unit] = units.as_slice() else { anyhow::bail!("{units:?}") };
    let (unit, state) = unit.split_once(' ').context("no state")?;
    ensure!(
        unit.starts_with(&format!("slurm-nvlink-imexd-job-{job}-")) && state == "active",
        "{unit} {state}"
    );
    let before = (property(tray, "slurmd", "MainPID")?, property(tray, unit, "MainPID")?);
    ensure!(property(tray, unit, "ControlGroup")? == format!("/system.slice/{unit}"));

    tray.text(&["systemctl", "restart", "slurmd"])?;
    wait_for("the new slurmd has registered", BOOT, || {
        let said = tray.text(&["sinfo", "--noheader", "--format=%t"])?;
        Ok(if said.trim() == "alloc" { Ok(()) } else { Err(said) })
    })?;
    let after = (property(tray, "slurmd", "MainPID")?, property(tray, unit, "MainPID")?);
    ensure!(before.0 != after.0 && before.1 == after.1, "slurmd and daemon were {before:?}, are {after:?}");
    ensure!(property(tray, unit, "ActiveState")? == "active");
    job_is(tray, job, "RUNNING None")?;
    let status = tray.text(&["imex-prolog", "status"])?;
    ensure!(status.starts_with(&format!("job {job}: ready; ")), "{status}");

    fs::write(tray.file("/tmp/end"), "")?;
    job_is(tray, job, "COMPLETED None")?;
    imex_systemd::wait_no_units(tray)?;
    let said = |name: &str| tray.text(&["journalctl", "--quiet", "--output=cat", "-t", name]);
    wait_for("the epilog has said so", BOOT, || {
        let epilog = said("imex-epilog")?;
        let right = epilog.contains("outcome=removed") && epilog.contains("the daemon has ended in order");
        Ok(if right { Ok(()) } else { Err(epilog) })
    })?;
    wait_for("the node is idle again", BOOT, || {
        let said = tray.text(&["sinfo", "--noheader", "--format=%t"])?;
        Ok(if said.trim() == "idle" { Ok(()) } else { Err(said) })
    })?;
    let left = tray.text(&["sh", "-c", "ls /dev/nvidia-caps-imex-channels; pgrep -x nvidia-imex || true"])?;
    ensure!(left.is_empty(), "left: {left}");
    Ok(())
}
