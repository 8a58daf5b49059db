//! Doing to trays what a plan says.
#![forbid(unsafe_code)]

use super::plan::{Deed, Event, Phase, Plan};
use crate::cluster::{Cluster, Target};
use crate::control::DaemonState;
use crate::fault::{Fault, FaultKind};
use crate::wait_for;
use anyhow::{Context as _, bail};
use fabric::JobId;
use nix::sys::signal::Signal;
use std::time::Duration;

/// How long a tray is cut off that is cut off before its domain is complete: longer than peers wait for an absent member.
const LONG_OUTAGE: Duration = Duration::from_secs(12);
/// How long otherwise.
const SHORT_OUTAGE: Duration = Duration::from_secs(3);
/// A tray that reboots is away for so long: slurmctld asks after the jobs of a tray that has booted only if they began this long
/// before (Slurm 26.05 src/slurmctld/job_mgr.c, `_purge_missing_jobs`), and no real one boots faster.
const SWITCHED_OFF: Duration = Duration::from_secs(22);
/// The daemon of a healthy tray takes so long to start when another tray's domain is to be seen forming.
const FORMING_MS: u64 = 2_500;
/// Every daemon takes so long to end when an epilog is to be seen at work.
const ENDING_MS: u64 = 1_500;
/// A slurmd that waits for its prolog ends with it at the latest.
const SLURMD_ENDS: Duration = Duration::from_secs(60);

/// What must be so before the job is submitted.
pub(super) fn prepare(cluster: &Cluster, plan: &Plan, trays: &[String]) -> anyhow::Result<()> {
    let job = trays.get(..plan.trays).context("the plan needs more trays")?;
    let touched = |position: usize| plan.events.iter().any(|event| event.tray == position);
    if plan.at(Phase::Forming).next().is_some() {
        let helper = (0..job.len()).rev().find(|position| !touched(*position));
        let tray = &job[helper.context("a plan for the forming needs a tray to which nothing happens")?];
        slow(cluster, tray, FaultKind::ImexSlowStart, FORMING_MS)?;
    }
    if plan.at(Phase::Ending).next().is_some() {
        job.iter().try_for_each(|tray| slow(cluster, tray, FaultKind::ImexSlowStop, ENDING_MS))?;
    } else if plan.crowded {
        // The trays that the second job does not need are still at it when it starts.
        let own = job.iter().take(plan.trays.div_ceil(2));
        own.into_iter().try_for_each(|tray| slow(cluster, tray, FaultKind::ImexSlowStop, ENDING_MS))?;
    }
    for (position, tray) in job.iter().enumerate() {
        let orders = orders(plan, position);
        if orders != sim::hook::Settings::default() {
            cluster.order(tray, &orders)?;
        }
    }
    plan.at(Phase::Before).try_for_each(|event| {
        let tray = job.get(event.tray).context("the plan names a tray that it has not")?;
        match &event.deed {
            Deed::Fault(fault) => begin(cluster, tray, fault, event),
            Deed::Late(_) | Deed::KillProlog(_) | Deed::KillEpilog(_) => Ok(()),
            other => bail!("{other} before the start makes no sense"),
        }
    })
}

fn slow(cluster: &Cluster, tray: &str, kind: FaultKind, ms: u64) -> anyhow::Result<()> {
    cluster.fault(tray, Fault { kind, ms: Some(ms) }, None)
}

/// What the hooks of a tray are told beforehand.
fn orders(plan: &Plan, position: usize) -> sim::hook::Settings {
    let mut orders = sim::hook::Settings::default();
    for event in plan.events.iter().filter(|event| event.tray == position) {
        match &event.deed {
            Deed::Late(ms) => orders.prolog.after_ms = *ms,
            Deed::KillProlog(step) => orders.prolog.kill_after = Some(step.clone()),
            Deed::KillEpilog(step) => orders.epilog.kill_after = Some(step.clone()),
            _ => {}
        }
    }
    orders
}

fn begin(cluster: &Cluster, tray: &str, fault: &Fault, event: &Event) -> anyhow::Result<()> {
    let early = matches!(event.phase, Phase::Before | Phase::Forming);
    let time = event.deed.is_outage().then_some(if early { LONG_OUTAGE } else { SHORT_OUTAGE });
    cluster.fault(tray, fault.clone(), time)
}

/// Does it, to a job that is there.
pub(super) fn happen(cluster: &Cluster, job: JobId, tray: &str, event: &Event) -> anyhow::Result<()> {
    let scontrol = |verb: &[&str]| {
        let number = job.to_string();
        let argv = [verb, &[number.as_str()]].concat();
        // A job that has ended meanwhile cannot be requeued; what becomes of it shows.
        cluster.capture(&Target::controller(), &argv).map(drop)
    };
    match &event.deed {
        Deed::Fault(fault) => begin(cluster, tray, fault, event),
        Deed::Cancel => scontrol(&["scancel"]),
        Deed::Requeue => scontrol(&["scontrol", "requeue"]),
        Deed::Reboot => {
            cluster.switch_off(tray)?;
            act_for(SWITCHED_OFF);
            cluster.switch_on(tray)
        }
        Deed::RestartSlurmd => restart_slurmd(cluster, tray),
        Deed::Late(_) | Deed::KillProlog(_) | Deed::KillEpilog(_) => Ok(()),
    }
}

/// As `systemctl restart slurmd` with the unit's KillMode=process: SIGTERM to it alone, and a new one when it is gone. One that
/// waits for its prolog stays that long, so the supervisor, who serves everybody, is not asked to wait for it.
fn restart_slurmd(cluster: &Cluster, tray: &str) -> anyhow::Result<()> {
    let state = || -> anyhow::Result<DaemonState> {
        let all = cluster.status()?;
        Ok(all.into_iter().find(|status| status.node == tray).context("no such tray")?.daemon)
    };
    // One that another event has killed is only started.
    if let DaemonState::Running(pid) = state()? {
        cluster.tray(tray, &["kill", &format!("-{}", Signal::SIGTERM as i32), &pid.to_string()])?;
        let proc = cluster.root_of(tray)?.join(format!("proc/{pid}"));
        wait_for(&format!("slurmd of {tray} ends"), SLURMD_ENDS, || {
            Ok(if proc.exists() { Err("it is still there".to_owned()) } else { Ok(()) })
        })?;
    }
    match cluster.start_daemon(tray) {
        // Somebody's healing was faster.
        Err(error) if !matches!(state()?, DaemonState::Running(_)) => Err(error),
        _ => Ok(()),
    }
}

/// Ends everything that a plan has begun on these trays.
pub(super) fn heal(cluster: &Cluster, trays: &[String]) -> anyhow::Result<()> {
    for tray in trays {
        cluster.heal(Some(tray))?;
        cluster.order(tray, &sim::hook::Settings::default())?;
    }
    Ok(())
}

/// Lets something act for a while.
#[expect(
    clippy::disallowed_methods,
    reason = "the fault is to act for a while: this is not a wait for something"
)]
pub(super) fn act_for(time: Duration) {
    std::thread::sleep(time);
}
