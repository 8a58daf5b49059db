//! Trays that are powered down and up under a running controller: the blocks hold, shown by where jobs go.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case, Setup, explained};
use crate::placement::{outcome, submit};
use anyhow::ensure;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use tests::limits::SOON;
use tests::{Cluster, wait_for};

/// Two racks of four trays, without prologs.
const OURS: Setup = Setup { profile: "small-2x4", stock: false, imex: false };
const STOCK: Setup = Setup { stock: true, ..OURS };

/// Trays that are powered down: half of the first rack.
const DOWN: [&str; 2] = ["r01n03", "r01n04"];

pub(crate) const CASES: &[Case] = &[
    Case { name: "power::blocks_hold_when_trays_go_and_come_back::ours", body: Body::Own(OURS, down_and_up) },
    Case {
        name: "power::blocks_hold_when_trays_go_and_come_back::stock",
        body: Body::Own(STOCK, down_and_up),
    },
];

fn down_and_up(setup: &Setup) -> anyhow::Result<()> {
    let cluster = setup
        .builder("power")
        // Power saving is on, and only by hand.
        .set("SuspendProgram", "/bin/true")
        .set("ResumeProgram", "/bin/true")
        .set("SuspendTime", "INFINITE")
        .set("SuspendTimeout", "1")
        .set("ResumeTimeout", "60")
        .start()?;
    body(&cluster).map_err(|error| explained(error, &cluster, "power"))
}

fn body(cluster: &Cluster) -> anyhow::Result<()> {
    let blocks = cluster.blocks()?;
    for round in 0..2 {
        power(cluster, "power_down_force")?;
        for node in DOWN {
            cluster.stop_daemon(node, Signal::SIGTERM)?;
        }
        states(cluster, "is powered down", |state| state.ends_with('~'))?;
        ensure!(cluster.blocks()? == blocks, "round {round}: the blocks are not what they were");
        // Nothing but the whole second rack can take four without waking a tray.
        lies(cluster, 4, &["r02n01", "r02n02", "r02n03", "r02n04"])?;
        lies(cluster, 2, &["r01n01", "r01n02", "r02n01", "r02n02", "r02n03", "r02n04"])?;
        power(cluster, "power_up")?;
        states(cluster, "is to be powered up", |state| state.ends_with('#'))?;
        for node in DOWN {
            cluster.start_daemon_after_boot(node)?;
        }
        cluster.wait_idle(&cluster.nodes())?;
        ensure!(cluster.blocks()? == blocks, "round {round}: the blocks are not what they were");
        whole_racks(cluster)?;
    }
    Ok(())
}

fn power(cluster: &Cluster, state: &str) -> anyhow::Result<()> {
    let nodes = format!("nodename={}", DOWN.join(","));
    cluster.ctl(&["scontrol", "update", &nodes, &format!("state={state}")]).map(drop)
}

/// Waits until all of [`DOWN`] are in a state as `sinfo` writes it, with the sign of its power.
fn states(cluster: &Cluster, what: &str, wanted: fn(&str) -> bool) -> anyhow::Result<()> {
    wait_for(&format!("each of {DOWN:?} {what}"), SOON, || {
        let states = cluster.node_states()?;
        let as_wanted = |(node, state): &(String, String)| !DOWN.contains(&node.as_str()) || wanted(state);
        Ok(if states.iter().all(as_wanted) { Ok(()) } else { Err(format!("{states:?}")) })
    })
}

/// A job of so many trays lies in one rack and on none but these.
fn lies(cluster: &Cluster, trays: usize, awake: &[&str]) -> anyhow::Result<()> {
    let job = submit(cluster, &[&format!("-N{trays}")])?;
    let nodes = outcome(cluster, job)?.unwrap_or_default();
    cluster.cancel(job)?;
    cluster.wait_idle(awake)?;
    let fits = nodes
        .iter()
        .all(|node| awake.contains(&node.as_str()) && node.as_str()[..3] == nodes[0].as_str()[..3]);
    ensure!(nodes.len() == trays && fits, "a job of {trays} should be in one rack of {awake:?}: {nodes:?}");
    Ok(())
}

/// Two jobs of four take one rack each.
fn whole_racks(cluster: &Cluster) -> anyhow::Result<()> {
    let mut racks = BTreeSet::new();
    let jobs = [submit(cluster, &["-N4"])?, submit(cluster, &["-N4"])?];
    for job in jobs {
        let nodes = outcome(cluster, job)?.unwrap_or_default();
        let of_job: BTreeSet<String> = nodes.iter().map(|node| node.as_str()[..3].to_owned()).collect();
        ensure!(nodes.len() == 4 && of_job.len() == 1, "job {job} is on {nodes:?}");
        racks.extend(of_job);
    }
    ensure!(racks.len() == 2, "both jobs are in {racks:?}");
    jobs.iter().try_for_each(|job| cluster.cancel(*job))?;
    cluster.wait_idle(&cluster.nodes())
}
