//! The blocks against Slurm's nodes and slurm.conf.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use fabric::{HostList, NodeName};

use super::file::{SeenBlocks, SeenTopology};
use super::{Input, Sink};
use crate::conf::SlurmConf;
use crate::natural;
use crate::site::Site;

/// Nodes that Slurm does not know, nodes in no block, partitions that mix both.
pub(super) fn blocks(
    topology: &SeenTopology,
    blocks: &SeenBlocks,
    default: bool,
    input: &Input<'_>,
    sink: &mut Sink,
) {
    let Some(site) = input.site else { return };
    for block in &blocks.blocks {
        let unknown = listed(block.nodes.iter().filter(|node| !site.nodes.contains_key(*node)));
        if !unknown.is_empty() {
            let what = format!(
                "Slurm has no node {unknown}; block {} counts it though it can run nothing",
                block.name
            );
            sink.wrong(block.line, what, "correct the name, or add the node to slurm.conf");
        }
    }
    let inside: BTreeSet<&NodeName> = blocks.blocks.iter().flat_map(|block| &block.nodes).collect();
    let outside: BTreeSet<&NodeName> = site.nodes.keys().filter(|node| !inside.contains(node)).collect();
    if outside.is_empty() {
        return;
    }
    let mut told = false;
    for partition in input.conf.map(|conf| conf.partitions.as_slice()).unwrap_or_default() {
        let here = partition.topology.as_ref().map_or(default, |name| *name == topology.name);
        let of_partition = |node: &&&NodeName| {
            site.nodes.get(**node).is_some_and(|facts| facts.partitions.contains(&partition.name))
        };
        let (mixed, any) =
            (outside.iter().filter(of_partition), inside.iter().any(|node| of_partition(&node)));
        let mixed = listed(mixed.copied());
        if here && any && !mixed.is_empty() {
            let what = format!(
                "{mixed} is in no block of topology {:?}, but in partition {} ({}) with nodes that are; while one of those is \
                 free, jobs cannot use it",
                topology.name, partition.name, partition.place
            );
            sink.wrong(
                blocks.line,
                what,
                "add it to a block, or give it a partition and a flat topology of its own",
            );
            told = true;
        }
    }
    if !told {
        let what = format!("{} is in no block of topology {:?}", listed(outside), topology.name);
        let hint = "fine for nodes whose partitions use another topology; check with --slurm-conf";
        sink.note(blocks.line, what, hint);
    }
}

/// Partitions and nodes of slurm.conf that name a topology.
pub(super) fn conf(conf: &SlurmConf, seen: &[SeenTopology], names: &[&str], sink: &mut Sink) {
    for partition in &conf.partitions {
        if let Some(name) = partition.topology.as_deref().filter(|name| !names.contains(name)) {
            let what = format!(
                "partition {} ({}) has Topology={name}, which is not in the file",
                partition.name, partition.place
            );
            sink.fatal(0, what, format!("the file has: {}", names.join(", ")));
        }
    }
    for line in &conf.nodes {
        assignments(&line.topology, &line.nodes, &line.place, seen, sink);
    }
}

/// Nodes with a `Topology=` of their own in Slurm that they keep across reloads.
pub(super) fn dynamic(site: &Site, seen: &[SeenTopology], sink: &mut Sink) {
    let mut groups: BTreeMap<&str, Vec<NodeName>> = BTreeMap::new();
    for (name, node) in &site.nodes {
        if node.is_dynamic() && !node.topology.is_empty() {
            groups.entry(&node.topology).or_default().push(name.clone());
        }
    }
    for (topology, nodes) in groups {
        assignments(topology, &nodes, IN_CONTROLLER, seen, sink);
    }
}

/// Where the `Topology=` of a dynamic node is.
const IN_CONTROLLER: &str = "in the controller";

/// `Topology=name:unit[,...]` of some nodes against the file.
fn assignments(text: &str, nodes: &[NodeName], place: &str, seen: &[SeenTopology], sink: &mut Sink) {
    let shown = listed(nodes);
    for pair in text.split(',') {
        let (name, unit) = pair.split_once(':').unwrap_or((pair, ""));
        let Some(topology) = seen.iter().find(|topology| topology.name == name) else {
            let what =
                format!("{shown} ({place}) has Topology={pair}, and topology {name} is not in the file");
            sink.fatal(0, what, "keep the topology while a node names it");
            continue;
        };
        let Some(blocks) = &topology.blocks else { continue };
        let Some(block) = blocks.blocks.iter().find(|block| block.name == unit) else {
            let what = format!("{shown} ({place}) has Topology={pair}, and there is no block {unit}");
            sink.fatal(blocks.line, what, "keep the block, without nodes if need be, while a node names it");
            continue;
        };
        let elsewhere = blocks.blocks.iter().filter(|other| other.name != unit);
        for other in elsewhere {
            let moved = listed(nodes.iter().filter(|node| other.nodes.iter().any(|there| there == *node)));
            if moved.is_empty() {
                continue;
            }
            let what = format!(
                "{moved} ({place}) has Topology={pair}, which overrides its place in block {}",
                other.name
            );
            let hint = if place == IN_CONTROLLER {
                let own = text.split(',').map(|own| match own.split_once(':') {
                    Some((of, _)) if of == name => format!("{name}:{}", other.name),
                    _ => own.to_owned(),
                });
                let own = own.collect::<Vec<_>>().join(",");
                format!("first tell Slurm where it is now: scontrol update nodename={moved} topology={own}")
            } else {
                format!("remove Topology= there, or list it in block {}", block.name)
            };
            sink.wrong(other.line, what, hint);
        }
    }
}

fn listed<'a>(nodes: impl IntoIterator<Item = &'a NodeName>) -> HostList {
    let mut nodes: Vec<&NodeName> = nodes.into_iter().collect();
    nodes.sort_by(|a, b| natural::compare(a.as_str(), b.as_str()));
    nodes.dedup();
    nodes.into_iter().cloned().collect()
}
