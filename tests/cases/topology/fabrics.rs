//! Random fabrics on a controller with many trays that are switched off (simulated): real Slurm loads every generated file, and
//! reports it as planned.
//!
//! `SLURM_NVLINK_SEED` and `SLURM_NVLINK_FABRICS` choose the first seed and the number of fabrics.
#![forbid(unsafe_code)]

use super::steps::{FILE, READINGS, applied};
use crate::harness::{Setup, explained};
use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use tests::Cluster;
use tests::cluster::{BlockLine, Target};
use tests::dice::Dice;

/// Trays without a daemon.
const TRAYS: u64 = 240;
/// Fabrics of a quick run.
const FABRICS: u64 = 30;

pub(super) fn any_fabric(setup: &Setup) -> anyhow::Result<()> {
    let number = |name: &str, otherwise: u64| -> anyhow::Result<u64> {
        match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
            Err(_) => Ok(otherwise),
        }
    };
    let (first, fabrics) = (number("SLURM_NVLINK_SEED", 1)?, number("SLURM_NVLINK_FABRICS", FABRICS)?);
    let nodes = format!("f[001-{TRAYS:03}]");
    let cluster = setup
        .builder("fabrics")
        .set("NodeName", &format!("{nodes} CPUs=4 Gres=gpu:4 State=CLOUD"))
        .set("PartitionName", &format!("far Nodes={nodes}"))
        .set("SuspendProgram", "/bin/true")
        .set("ResumeProgram", "/bin/true")
        .set("SuspendTime", "-1")
        .start()?;
    let run = || -> anyhow::Result<()> {
        // Only the controller is wanted; nobody waits for trays that are down.
        for node in cluster.nodes() {
            cluster.stop_daemon(&node, Signal::SIGTERM)?;
            cluster.ctl(&[
                "scontrol",
                "update",
                &format!("nodename={node}"),
                "state=down",
                "reason=fabrics",
            ])?;
        }
        let mut before = Vec::new();
        for seed in first..first + fabrics {
            before = one(&cluster, seed, &before)
                .with_context(|| format!("SLURM_NVLINK_SEED={seed} SLURM_NVLINK_FABRICS=1"))?;
        }
        println!("seeds {first} to {}: {fabrics} fabrics of {TRAYS} trays", first + fabrics - 1);
        Ok(())
    };
    run().map_err(|error| explained(error, &cluster, "topology::any_fabric_is_loaded_as_planned"))
}

/// A partition of the fabric: domain and clique.
type Place = (String, u32);

/// What trays say.
#[derive(Default)]
struct Fabric {
    readings: serde_json::Map<String, serde_json::Value>,
    partitions: BTreeMap<Place, BTreeSet<String>>,
}

/// Racks of 1 to 18 trays, some in up to three partitions, on trays in any order. UUIDs of neighbours may begin alike; some trays
/// are silent, some have no fabric, some stand in racks of their own.
fn fabric(dice: &mut Dice) -> anyhow::Result<Fabric> {
    let mut trays: Vec<String> = (1..=TRAYS).map(|tray| format!("f{tray:03}")).collect();
    if dice.below(2) == 0 {
        for at in (1..trays.len()).rev() {
            trays.swap(at, dice.below(at + 1));
        }
    }
    let mut fabric = Fabric::default();
    let mut rack = 0;
    while !trays.is_empty() {
        rack += 1;
        let size = (1 + dice.below(18)).min(trays.len());
        let heads = [
            "3c9b1e52-7a41-4d0e",
            "3c9b1e52-7a41-4d0f",
            "3c9b1e52-0000-4d0e",
            "00000000-7a41-4d0e",
            "ffffffff-ffff-ffff",
        ];
        let head = if dice.below(3) == 0 {
            dice.pick(&heads).to_owned()
        } else {
            format!("{:08x}-7a41-4d0e", dice.below(1 << 32))
        };
        let domain = format!("{head}-9f63-{rack:012x}");
        let parts = 1 + dice.below(3);
        let clique = dice.pick(&[0_u32, 1, 32_766, 2_147_483_647, 2_147_483_648, 4_294_967_290]);
        for tray in trays.drain(..size) {
            let kind = dice.below(20);
            let place = (domain.clone(), clique + u32::try_from(dice.below(parts))?);
            let reading = match kind {
                0 => serde_json::Value::Null,
                1 => reading("00000000-0000-0000-0000-000000000000", 0),
                _ => reading(&place.0, place.1),
            };
            fabric.readings.insert(tray.clone(), reading);
            if kind > 1 {
                fabric.partitions.entry(place).or_default().insert(tray);
            }
        }
    }
    Ok(fabric)
}

/// A reading as `topology-gen probe` prints it.
fn reading(domain: &str, partition: u32) -> serde_json::Value {
    let gpu = |index: u32| {
        serde_json::json!({"index": index, "uuid": "", "name": "simulated",
            "fabric": {"domain": domain, "partition": partition, "state": 3, "status": 0}})
    };
    serde_json::json!({"driver_version": "1", "gpus": (0..4).map(gpu).collect::<Vec<_>>()})
}

/// One fabric, planned afresh or upon the blocks of before; gives the blocks.
fn one(cluster: &Cluster, seed: u64, before: &[BlockLine]) -> anyhow::Result<Vec<BlockLine>> {
    let mut dice = Dice::new(seed, 0);
    let fabric = fabric(&mut dice)?;
    let text = serde_json::Value::Object(fabric.readings.clone()).to_string();
    cluster.write_file(&Target::controller(), READINGS, &text)?;
    let afresh = before.is_empty() || dice.below(2) == 0;
    let largest = fabric.partitions.values().map(BTreeSet::len).max().unwrap_or(1);
    let base = (1 + dice.below(largest)).to_string();
    // Trays without fabric share a Slurm partition with the others here, and small base sizes are chosen, which is called wrong.
    let mut options = vec!["--accept-wrong", "--move-running-jobs", "--base-size", &base];
    options.extend(afresh.then_some("--fresh"));
    applied(cluster, &options)?;
    let found = cluster.blocks()?;
    let planned = planned(&cluster.ctl(&["cat", FILE])?)?;
    ensure!(found == planned, "Slurm reports {found:?}\ninstead of {planned:?}");
    is_the_fabric(&fabric, &found)?;
    if afresh {
        let sets: BTreeSet<BTreeSet<&String>> =
            found.iter().map(|block| block.nodes.iter().collect()).collect();
        let wanted: BTreeSet<BTreeSet<&String>> =
            fabric.partitions.values().map(|nodes| nodes.iter().collect()).collect();
        ensure!(sets == wanted, "{sets:?} instead of {wanted:?}");
    } else {
        // Names and places of the blocks of before are the same.
        let names = |blocks: &[BlockLine]| blocks.iter().map(|block| block.name.clone()).collect::<Vec<_>>();
        ensure!(names(&found).starts_with(&names(before)), "{:?} was {:?}", names(&found), names(before));
    }
    Ok(found)
}

/// The blocks of a file in their order.
fn planned(yaml: &str) -> anyhow::Result<Vec<BlockLine>> {
    let topologies = fabric::slurm_yaml::parse(yaml)?;
    let topology = fabric::topology::cluster_default(&topologies).and_then(|topology| topology.block());
    let line = |block: &fabric::Block| BlockLine {
        name: block.name.to_string(),
        nodes: block.nodes.iter().map(ToString::to_string).collect(),
    };
    Ok(topology.context("no block topology in the file")?.blocks.iter().map(line).collect())
}

/// All trays that speak are in a block with all others of their partition and with no tray of another one.
fn is_the_fabric(fabric: &Fabric, blocks: &[BlockLine]) -> anyhow::Result<()> {
    let mut block_of: BTreeMap<&str, &str> = BTreeMap::new();
    for block in blocks {
        for node in &block.nodes {
            ensure!(block_of.insert(node, &block.name).is_none(), "{node} is in two blocks");
        }
    }
    let mut taken: BTreeMap<&str, &Place> = BTreeMap::new();
    for (place, nodes) in &fabric.partitions {
        let names: BTreeSet<Option<&str>> =
            nodes.iter().map(|node| block_of.get(node.as_str()).copied()).collect();
        let [Some(name)] = names.iter().copied().collect::<Vec<_>>()[..] else {
            anyhow::bail!("the trays of {place:?} are in {names:?}");
        };
        if let Some(other) = taken.insert(name, place) {
            anyhow::bail!("{place:?} and {other:?} are both in {name}");
        }
    }
    Ok(())
}
