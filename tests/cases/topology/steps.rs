//! What the cases of topologies do with a cluster.
#![forbid(unsafe_code)]

use anyhow::{Context as _, ensure};
use fabric::JobId;
use tests::cluster::{BlockLine, Captured, Target};
pub(crate) use tests::limits::SOON;
use tests::{Cluster, wait_for};

pub(crate) const FILE: &str = "/etc/slurm/topology.yaml";
pub(crate) const READINGS: &str = "/run/readings.json";
pub(crate) const NVML: &str = "/run/nvlink-sim/nvml.json";
pub(crate) const R01: &str = "nvl-3c9b1e52-32766";
pub(crate) const R02: &str = "nvl-a45f0d97-32766";

/// Runs topology-gen on the controller.
pub(crate) fn topology_gen(cluster: &Cluster, args: &[&str]) -> anyhow::Result<Captured> {
    cluster.capture(&Target::controller(), &[&["topology-gen"], args].concat())
}

/// Puts what the trays say now where `--readings` finds it; trays in `silent` say nothing.
pub(crate) fn collect(cluster: &Cluster, silent: &[&str]) -> anyhow::Result<()> {
    let says = |node: &str| (!silent.contains(&node)).then(|| cluster.reading(node)).transpose();
    cluster.write_readings(READINGS, says)
}

/// Tells Slurm what a tray says of itself now.
pub(crate) fn register(cluster: &Cluster, node: &str) -> anyhow::Result<()> {
    let extra = cluster.tray(node, &["topology-gen", "probe", "--extra"])?;
    let extra = format!("extra={}", extra.trim());
    cluster.ctl(&["scontrol", "update", &format!("nodename={node}"), &extra]).map(drop)
}

/// Applies what is in [`READINGS`].
pub(crate) fn apply(cluster: &Cluster, more: &[&str]) -> anyhow::Result<Captured> {
    topology_gen(cluster, &[&["apply", "--readings", READINGS], more].concat())
}

pub(crate) fn applied(cluster: &Cluster, more: &[&str]) -> anyhow::Result<Captured> {
    let done = apply(cluster, more)?;
    ensure!(done.status.code() == Some(0), "apply {more:?}: {}\n{}{}", done.status, done.stderr, done.stdout);
    Ok(done)
}

/// Applies what Slurm's own list says.
pub(crate) fn applied_live(cluster: &Cluster, more: &[&str]) -> anyhow::Result<Captured> {
    let done = topology_gen(cluster, &[&["apply"], more].concat())?;
    ensure!(done.status.code() == Some(0), "apply {more:?}: {}\n{}{}", done.status, done.stderr, done.stdout);
    Ok(done)
}

/// The blocks as `name=nodes`, in Slurm's order.
pub(crate) fn blocks(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let line = |block: BlockLine| {
        let nodes: Vec<&str> = block.nodes.iter().map(|node| node.trim_start_matches('r')).collect();
        format!("{}={}", block.name, nodes.join(","))
    };
    Ok(cluster.blocks()?.into_iter().map(line).collect())
}

pub(crate) const RACK_1: &str = "nvl-3c9b1e52-32766=01n01,01n02,01n03,01n04";
pub(crate) const RACK_2: &str = "nvl-a45f0d97-32766=02n01,02n02,02n03,02n04";

/// Runs a case, then brings the cluster back to what it was, also after a failure.
pub(crate) fn with_return(
    cluster: &Cluster,
    case: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let settings: Vec<(String, String)> = cluster
        .nodes()
        .into_iter()
        .map(|node| Ok((node.clone(), cluster.tray(&node, &["cat", NVML])?)))
        .collect::<anyhow::Result<_>>()?;
    let done = case();
    let back = || -> anyhow::Result<()> {
        cluster.ctl(&["scancel", "--user=alice"])?;
        cluster.heal(None)?;
        for (node, text) in settings {
            cluster.write_file(&Target::node(&node), NVML, &text)?;
        }
        collect(cluster, &[])?;
        applied(cluster, &["--fresh", "--move-running-jobs", "--base-size", "4"])?;
        cluster.wait_idle(&cluster.nodes())?;
        let found = blocks(cluster)?;
        ensure!(found == [RACK_1, RACK_2], "the cluster is not as before: {found:?}");
        Ok(())
    };
    let back = back().context("back to the beginning");
    done.and(back)
}

/// Starts a job that stays, and waits until it runs.
pub(crate) fn hold(cluster: &Cluster, options: &[&str]) -> anyhow::Result<JobId> {
    let id = start(cluster, options)?;
    cluster.wait_running(id, SOON)?;
    Ok(id)
}

pub(crate) fn start(cluster: &Cluster, options: &[&str]) -> anyhow::Result<JobId> {
    cluster.submit(&[&["--output=/dev/null", "--exclusive"], options].concat(), "sleep 1000")
}

/// Starts a job, gives its nodes, and ends it.
pub(crate) fn nodes_of(cluster: &Cluster, options: &[&str]) -> anyhow::Result<Vec<String>> {
    let id = hold(cluster, options)?;
    let nodes = cluster.job(id)?.nodes.iter().map(ToString::to_string).collect();
    cluster.ctl(&["scancel", &id.to_string()])?;
    cluster.wait_ended(id, SOON)?;
    Ok(nodes)
}

/// The job was looked at and waits.
pub(crate) fn waits(cluster: &Cluster, options: &[&str]) -> anyhow::Result<()> {
    let id = start(cluster, options)?;
    wait_for(&format!("{options:?} is looked at"), SOON, || {
        let job = cluster.job(id)?;
        ensure!(job.state == "PENDING", "{options:?} runs: {job:?}");
        let looked_at = !matches!(job.reason.as_str(), "None" | "Priority");
        Ok(if looked_at { Ok(()) } else { Err(job.reason) })
    })?;
    cluster.ctl(&["scancel", &id.to_string()])?;
    Ok(())
}

pub(crate) fn still_runs(cluster: &Cluster, id: JobId) -> anyhow::Result<()> {
    let job = cluster.job(id)?;
    ensure!(job.state == "RUNNING" && job.restarts == 0, "job {id} does not run on: {job:?}");
    Ok(())
}
