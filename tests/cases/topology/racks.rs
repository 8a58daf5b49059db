//! Racks that are built, taken away and brought back, in slurm.conf as in the hall.
#![forbid(unsafe_code)]

use super::steps::{applied_live, blocks, hold, still_runs};
use crate::harness::{Setup, explained};
use anyhow::{Context as _, ensure};
use fabric::JobId;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use tests::Cluster;
use tests::cluster::Target;

const CONF: &str = "/etc/slurm/slurm.conf";
const RACKS: usize = 10;
const TRAYS: usize = 2;

/// Ten racks of two trays, whose first eight hex digits tell them apart.
fn profile() -> String {
    let mut text = String::from("description = \"ten racks of 2 trays\"\n");
    for rack in 1..=RACKS {
        let _ = write!(
            text,
            "[[racks]]\nname = \"r{rack:02}\"\ntrays = {TRAYS}\ngpus_per_tray = 4\ncluster_uuid = \"{rack:08x}-7a41-4d0e-9f63-5b1d8ae20c01\"\n"
        );
    }
    text
}

pub(super) fn come_and_go(setup: &Setup) -> anyhow::Result<()> {
    let file = tempfile::Builder::new().suffix(".toml").tempfile()?;
    std::fs::write(file.path(), profile())?;
    let path = file.path().to_str().context("a path that is no text")?;
    let cluster = setup.builder("racks").profile(path).start()?;
    built_removed_and_back(&cluster)
        .map_err(|error| explained(error, &cluster, "topology::racks_come_and_go"))
}

fn nodes_of(racks: impl IntoIterator<Item = usize>) -> Vec<String> {
    racks.into_iter().flat_map(|rack| (1..=TRAYS).map(move |tray| format!("r{rack:02}n{tray:02}"))).collect()
}

fn block_of(rack: usize) -> String {
    format!("nvl-{rack:08x}-32766={rack:02}n01,{rack:02}n02")
}

/// Puts exactly these racks into slurm.conf, and starts and stops the daemons of the others.
fn racks_are(cluster: &Cluster, whole: &str, racks: &[usize]) -> anyhow::Result<()> {
    let here: BTreeSet<String> = nodes_of(racks.iter().copied()).into_iter().collect();
    let mut text = String::new();
    for line in whole.lines() {
        let node = line.strip_prefix("NodeName=").and_then(|rest| rest.split(' ').next());
        if node.is_some_and(|node| !here.contains(node)) {
            continue;
        }
        match line.split_once(" Nodes=").filter(|(head, _)| head.starts_with("PartitionName=")) {
            Some((head, rest)) => {
                let rest = rest.split_once(' ').map_or("", |(_, rest)| rest);
                let nodes: Vec<&str> = here.iter().map(String::as_str).collect();
                writeln!(text, "{head} Nodes={} {rest}", nodes.join(","))?;
            }
            None => writeln!(text, "{line}")?,
        }
    }
    let running = |node: &String| -> anyhow::Result<bool> {
        let status = cluster.status()?.into_iter().find(|status| status.node == *node);
        Ok(status.is_some_and(|status| matches!(status.daemon, tests::control::DaemonState::Running(_))))
    };
    let gone: Vec<String> = nodes_of(1..=RACKS).into_iter().filter(|node| !here.contains(node)).collect();
    for node in &gone {
        if running(node)? {
            cluster.stop_daemon(node, Signal::SIGTERM)?;
        }
    }
    cluster.write_file(&Target::controller(), CONF, &text)?;
    cluster.ctl(&["scontrol", "reconfigure"])?;
    let mut started = Vec::new();
    for node in here {
        if !running(&node)? {
            cluster.start_daemon(&node)?;
            started.push(node);
        }
    }
    cluster.wait_idle(&started)
}

/// As many jobs of a whole rack as there are free racks: each lies in one.
fn fill(cluster: &Cluster, racks: usize) -> anyhow::Result<()> {
    let jobs: Vec<JobId> =
        (0..racks).map(|_| super::steps::start(cluster, &["-N2"])).collect::<anyhow::Result<_>>()?;
    let mut used = BTreeSet::new();
    for job in &jobs {
        let nodes: Vec<String> =
            cluster.wait_running(*job, super::SOON)?.nodes.iter().map(ToString::to_string).collect();
        let racks: BTreeSet<&str> = nodes.iter().filter_map(|node| node.get(..3)).collect();
        ensure!(nodes.len() == 2 && racks.len() == 1, "job {job} lies in {nodes:?}");
        used.extend(racks.into_iter().map(str::to_owned));
    }
    ensure!(used.len() == racks, "{used:?} instead of {racks} racks");
    for job in &jobs {
        cluster.cancel(*job)?;
    }
    jobs.iter().try_for_each(|job| cluster.wait_ended(*job, super::SOON).map(drop))
}

fn built_removed_and_back(cluster: &Cluster) -> anyhow::Result<()> {
    let whole = cluster.ctl(&["cat", CONF])?;
    racks_are(cluster, &whole, &[1, 2])?;
    applied_live(cluster, &["--fresh"])?;
    ensure!(blocks(cluster)? == [block_of(1), block_of(2)], "{:?}", blocks(cluster)?);
    let beside = hold(cluster, &["-N2", "-wr01n01"])?;
    fill(cluster, 1)?;

    let all: Vec<usize> = (1..=RACKS).collect();
    racks_are(cluster, &whole, &all)?;
    ensure!(blocks(cluster)?.len() == 2, "new racks have blocks before anybody gave them any");
    applied_live(cluster, &[])?;
    // The first two where they were; the new ones behind them.
    let ten: Vec<String> = all.iter().map(|rack| block_of(*rack)).collect();
    ensure!(blocks(cluster)? == ten, "{:?}", blocks(cluster)?);
    still_runs(cluster, beside)?;
    fill(cluster, 9)?;

    let without: Vec<usize> = all.iter().copied().filter(|rack| *rack != 5).collect();
    racks_are(cluster, &whole, &without)?;
    applied_live(cluster, &[])?;
    // Its place stays, empty: no aggregated block changes.
    let mut nine = ten.clone();
    nine[4] = "nvl-00000005-32766=".to_owned();
    ensure!(blocks(cluster)? == nine, "{:?}", blocks(cluster)?);
    still_runs(cluster, beside)?;
    fill(cluster, 8)?;

    racks_are(cluster, &whole, &all)?;
    applied_live(cluster, &[])?;
    ensure!(blocks(cluster)? == ten, "{:?}", blocks(cluster)?);
    still_runs(cluster, beside)?;
    fill(cluster, 9)?;
    let live = super::topology_gen(cluster, &["diff", "--live"])?;
    ensure!(live.status.success(), "{live:?}");
    Ok(())
}
