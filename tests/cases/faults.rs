//! Faults of simulated trays begin, are seen, and end without a trace.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case, Setup};
use anyhow::{Context as _, ensure};
use clap::ValueEnum as _;
use std::time::{Duration, Instant};
use tests::cluster::Target;
use tests::control::DaemonState;
use tests::fault::{Fault, FaultKind};
use tests::limits::SOON;
use tests::{Cluster, wait_for};

pub(crate) const CASES: &[Case] = &[
    Case { name: "faults::one_heals_after_its_seconds", body: Body::On(Setup::PLAIN_SMALL, heals_by_itself) },
    Case { name: "faults::every_kind_begins_and_ends", body: Body::On(Setup::PLAIN_SMALL, every_kind) },
    Case {
        name: "faults::of_the_fabric_are_seen_by_topology_gen",
        body: Body::On(Setup::PLAIN_SMALL, seen_by_probe),
    },
    Case { name: "faults::cut_a_tray_off", body: Body::On(Setup::PLAIN_SMALL, cut_off) },
    Case { name: "faults::kill_slurmd", body: Body::On(Setup::PLAIN_SMALL, slurmd_kill) },
];

const TRAY: &str = "r01n03";

/// The faults that act on the tray.
fn acting(cluster: &Cluster) -> anyhow::Result<(Vec<FaultKind>, DaemonState)> {
    let node =
        cluster.status()?.into_iter().find(|status| status.node == TRAY).context("the tray is not listed")?;
    Ok((node.faults.into_iter().map(|fault| fault.kind).collect(), node.daemon))
}

/// What `topology-gen probe` prints on the tray, and its exit status.
fn probe(cluster: &Cluster) -> anyhow::Result<(String, Option<i32>)> {
    let captured = cluster.capture(&Target::node(TRAY), &["topology-gen", "probe"])?;
    Ok((captured.stdout, captured.status.code()))
}

fn heals_by_itself(cluster: &Cluster) -> anyhow::Result<()> {
    let healthy = probe(cluster)?;
    let time = Duration::from_secs(5);
    let begin = Instant::now();
    cluster.fault(TRAY, Fault::new(FaultKind::WrongClique), Some(time))?;
    let sick = probe(cluster)?;
    ensure!(sick != healthy && begin.elapsed() < time, "{sick:?}");
    wait_for("the fault is over", SOON, || {
        let (kinds, _) = acting(cluster)?;
        Ok(if kinds.is_empty() { Ok(()) } else { Err(format!("{kinds:?}")) })
    })?;
    ensure!(begin.elapsed() >= time, "healed after {:?}", begin.elapsed());
    ensure!(probe(cluster)? == healthy, "the tray does not look as before");
    Ok(())
}

fn every_kind(cluster: &Cluster) -> anyhow::Result<()> {
    let settings = |cluster: &Cluster| cluster.tray(TRAY, &["cat", "/run/nvlink-sim/nvml.json"]);
    let healthy = settings(cluster)?;
    for kind in FaultKind::value_variants() {
        let what = || format!("fault {}", kind.name());
        cluster.fault(TRAY, Fault::new(*kind), None).with_context(what)?;
        ensure!(acting(cluster)?.0 == [*kind], "{kind:?} does not act");
        cluster.heal(Some(TRAY)).with_context(what)?;
        ensure!(acting(cluster)?.0.is_empty(), "{kind:?} still acts");
        ensure!(settings(cluster)? == healthy, "{kind:?} has left a trace");
    }
    cluster.wait_idle(&cluster.nodes())
}

fn seen_by_probe(cluster: &Cluster) -> anyhow::Result<()> {
    let expected = [
        (FaultKind::FabricNotStarted, Some(1)),
        (FaultKind::FabricInProgress, Some(1)),
        (FaultKind::GpuDisagrees, Some(1)),
        (FaultKind::Degraded, Some(0)),
        (FaultKind::NvmlMissing, Some(2)),
    ];
    for (kind, status) in expected {
        cluster.fault(TRAY, Fault::new(kind), None)?;
        let seen = probe(cluster)?;
        cluster.heal(Some(TRAY))?;
        ensure!(seen.1 == status, "{kind:?}: exit status {:?} instead of {status:?}\n{}", seen.1, seen.0);
    }
    ensure!(probe(cluster)?.1 == Some(0));
    Ok(())
}

fn cut_off(cluster: &Cluster) -> anyhow::Result<()> {
    let reach = |seconds: &str| {
        cluster.ctl(&["timeout", seconds, "bash", "-c", &format!("exec 3<>/dev/tcp/{TRAY}/6818")])
    };
    reach("20")?;
    cluster.fault(TRAY, Fault::new(FaultKind::Unreachable), None)?;
    let cut = reach("2");
    cluster.heal(Some(TRAY))?;
    ensure!(cut.is_err(), "the controller still reaches {TRAY}");
    wait_for("the tray is reached again", SOON, || Ok(reach("20").map_err(|error| error.to_string())))?;
    cluster.wait_idle(&cluster.nodes())
}

fn slurmd_kill(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.fault(TRAY, Fault::new(FaultKind::SlurmdKill), None)?;
    let (_, daemon) = acting(cluster)?;
    cluster.heal(Some(TRAY))?;
    ensure!(matches!(&daemon, DaemonState::Ended(how) if how.contains("SIGKILL")), "{daemon:?}");
    let (_, daemon) = acting(cluster)?;
    ensure!(matches!(daemon, DaemonState::Running(_)), "{daemon:?}");
    cluster.wait_idle(&cluster.nodes())
}
