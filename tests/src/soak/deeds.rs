//! Doing to trays what a plan says.
#![forbid(unsafe_code)]

use super::plan::{Deed, Event, Phase, Plan};
use crate::cluster::{Cluster, Target};
use crate::fault::{Fault, FaultKind};
use crate::limits;
use crate::wait::act_for;
use anyhow::{Context as _, bail};
use fabric::JobId;
use std::time::Duration;

/// How long a tray is cut off that is cut off before its domain is complete: longer than peers wait for an absent member.
const LONG_OUTAGE: Duration = Duration::from_secs(12);
/// How long otherwise.
const SHORT_OUTAGE: Duration = Duration::from_secs(3);
/// The daemon of a healthy tray takes so long to start when another tray's domain is to be seen forming.
const FORMING_MS: u64 = 2_500;
/// Every daemon takes so long to end when an epilog is to be seen at work.
const ENDING_MS: u64 = 1_500;

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
            act_for(limits::SWITCHED_OFF);
            cluster.switch_on(tray)
        }
        Deed::RestartSlurmd => cluster.restart_slurmd(tray),
        Deed::Late(_) | Deed::KillProlog(_) | Deed::KillEpilog(_) => Ok(()),
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
