//! What a topology plugin does besides choosing nodes, on a real cluster: several topologies in one file, ranks, and the
//! record of a job's segments over a restart. Stock and ours must do the very same.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case, Setup};
use crate::live::with_file;
use crate::placement::{clear, outcome, submit};
use anyhow::{Context as _, ensure};
use fabric::NodeName;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use tests::cluster::Target;
use tests::limits::SOON;
use tests::{Cluster, wait_for};

/// Two racks of four trays, without prologs.
const SMALL: Setup = Setup { profile: "small-2x4", stock: false, imex: false };
const SLURM_CONF: &str = "/etc/slurm/slurm.conf";

pub(crate) const CASES: &[Case] = &[
    Case { name: "beside::several_topologies_in_one_file", body: Body::OnBoth(SMALL, several) },
    Case { name: "beside::segments_are_remembered_over_a_restart", body: Body::OnBoth(SMALL, segments) },
];

/// Runs `body` while slurm.conf has more lines.
fn with_conf(
    cluster: &Cluster,
    lines: &str,
    body: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let whole = cluster.ctl(&["cat", SLURM_CONF])?;
    cluster.write_file(&Target::controller(), SLURM_CONF, &format!("{whole}{lines}"))?;
    let done = body();
    cluster.ctl(&["scancel", "--user=alice"])?;
    cluster.write_file(&Target::controller(), SLURM_CONF, &whole)?;
    done
}

/// The racks of four as they are, in the order 2, 1; the same trays in halves of racks; a tree; no order at all.
const TOPOLOGIES: &str = "---
- topology: nvlink
  cluster_default: true
  block: {block_sizes: [4, 8], blocks: [{block: two, nodes: 'r02n[01-04]'}, {block: one, nodes: 'r01n[01-04]'}]}
- topology: halves
  block:
    block_sizes: [2]
    blocks:
      - {block: a, nodes: 'r01n[01-02]'}
      - {block: b, nodes: 'r01n[03-04]'}
      - {block: c, nodes: 'r02n[01-02]'}
      - {block: d, nodes: 'r02n[03-04]'}
- topology: wood
  tree: {switches: [{switch: s1, nodes: 'r01n[01-04]'}, {switch: s2, nodes: 'r02n[01-04]'}, {switch: s0, children: 's[1-2]'}]}
- topology: plain
  flat: true
";

const PARTITIONS: &str = "TopologyParam=BlockAsNodeRank
PartitionName=halves Nodes=ALL Topology=halves
PartitionName=wood Nodes=ALL Topology=wood
PartitionName=plain Nodes=ALL Topology=plain
";

fn several(cluster: &Cluster) -> anyhow::Result<()> {
    with_file(
        cluster,
        |_| TOPOLOGIES.to_owned(),
        || {
            with_conf(cluster, PARTITIONS, || {
                cluster.ctl(&["scontrol", "reconfigure"])?;
                cluster.wait_idle(&cluster.nodes())?;
                let seen = in_all_partitions(cluster)?;
                as_the_other(cluster, seen)
            })
        },
    )
}

/// What jobs and commands show of four topologies.
fn in_all_partitions(cluster: &Cluster) -> anyhow::Result<String> {
    let mut seen = cluster.ctl(&["scontrol", "show", "topology"])?;
    for topology in ["halves", "wood"] {
        seen.push_str(&cluster.ctl(&["scontrol", "show", "topology", topology])?);
    }
    // The order of nodes follows the blocks, not the names.
    seen.push_str(&cluster.ctl(&["sinfo", "--noheader", "--partition=trays", "--format=%N"])?);
    let nodes = cluster.ctl(&["scontrol", "show", "nodes"])?;
    for topology in nodes.split_whitespace().filter(|word| word.starts_with("Topology=")) {
        seen.push_str(topology);
        seen.push('\n');
    }
    for (partition, count) in [("trays", 4), ("halves", 2), ("halves", 6), ("wood", 6), ("plain", 6)] {
        let job = submit(cluster, &["-p", partition, &format!("-N{count}")])?;
        let nodes = outcome(cluster, job)?.with_context(|| format!("-p {partition} -N{count} waits"))?;
        cluster.cancel(job)?;
        cluster.wait_idle(&cluster.nodes())?;
        let rack = |node: &NodeName| node.as_str()[..3].to_owned();
        let half = |node: &NodeName| (rack(node), node.as_str() >= &format!("{}n03", rack(node))[..]);
        let racks = nodes.iter().map(rack).collect::<BTreeSet<_>>().len();
        let halves = nodes.iter().map(half).collect::<BTreeSet<_>>().len();
        let whole = match partition {
            "trays" => racks == 1,
            "halves" => halves == count / 2,
            _ => nodes.len() == count,
        };
        ensure!(whole, "-p {partition} -N{count} runs on {nodes:?}");
    }
    let script = "echo $SLURM_TOPOLOGY_ADDR $SLURM_TOPOLOGY_ADDR_PATTERN $SLURM_PROCID";
    let options = ["srun", "--exclusive", "--nodes=8", "--ntasks=8", "--label"];
    let tasks =
        cluster.succeed(&Target::controller().as_user(), &[&options[..], &["sh", "-c", script]].concat())?;
    let mut tasks: Vec<&str> = tasks.lines().collect();
    tasks.sort_unstable();
    seen.push_str(&tasks.join("\n"));
    cluster.wait_idle(&cluster.nodes())?;
    // A block by its name.
    cluster.ctl(&[
        "scontrol",
        "create",
        "reservation",
        "reservationname=r",
        "users=root",
        "starttime=now",
        "duration=60",
        "nodes=block{one}",
    ])?;
    let reserved = cluster.ctl(&["scontrol", "--oneliner", "show", "reservation"]);
    cluster.ctl(&["scontrol", "delete", "reservationname=r"])?;
    let reserved = reserved?;
    ensure!(reserved.contains("Nodes=r01n[01-04]"), "{reserved}");
    Ok(seen)
}

/// Stock and ours in turn: the second must show what the first showed.
fn as_the_other(cluster: &Cluster, seen: String) -> anyhow::Result<()> {
    static FIRST: Mutex<Option<(String, String)>> = Mutex::new(None);
    let plugin = cluster.about().plugin.clone();
    let mut first = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((other, shown)) = first.as_ref().filter(|(other, _)| *other != plugin) {
        let differs = shown.lines().zip(seen.lines()).find(|(a, b)| a != b);
        ensure!(*shown == seen, "{other} and {plugin} differ: {differs:?}\n{shown}\n---\n{seen}");
    }
    *first = Some((plugin, seen));
    Ok(())
}

/// A job whose segments are recorded for its IMEX channels is packed into slurmctld's state and out of it again.
fn segments(cluster: &Cluster) -> anyhow::Result<()> {
    let job = submit(cluster, &["-N4", "--segment=2", "--network=unique-channel-per-segment"])?;
    let nodes = outcome(cluster, job)?.context("the job waits")?;
    cluster.stop_daemon("ctl", Signal::SIGTERM)?;
    cluster.start_daemon("ctl")?;
    let again = wait_for("slurmctld has the job again", SOON, || {
        Ok(match cluster.job(job) {
            Ok(job) if job.state == "RUNNING" => Ok(job.nodes),
            Ok(job) => Err(format!("{job:?}")),
            Err(error) => Err(format!("{error:#}")),
        })
    })?;
    ensure!(again == nodes, "{nodes:?} became {again:?}");
    clear(cluster, "")
}
