//! What a plan changes in the previous file, in words.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use fabric::topology::BlockTopology;
use fabric::{BlockName, NodeName};

use super::PlannedBlock;
use crate::natural;
use crate::reconcile::Trays;

/// Nodes that came, went or moved, and blocks that were renamed, moved or emptied. `places` says where the blocks of the
/// previous file are now.
pub(super) fn changes(
    trays: &Trays,
    previous: Option<&BlockTopology>,
    places: &[Option<usize>],
    blocks: &[PlannedBlock],
) -> Vec<String> {
    let Some(previous) = previous else { return Vec::new() };
    let now = |at: Option<usize>| at.and_then(|at| blocks.get(at));
    let mut words = Vec::new();
    let mut before: BTreeMap<&NodeName, &BlockName> = BTreeMap::new();
    for ((was, block), place) in (0..).zip(&previous.blocks).zip(places) {
        let name = now(*place).map_or(&block.name, |block| &block.name);
        if *name != block.name {
            words.push(format!("block {} is now called {name}", block.name));
        }
        match place {
            Some(at) if *at != was => words.push(format!("block {name} moves from position {was} to {at}")),
            None => words.push(format!("block {} is gone", block.name)),
            _ => {}
        }
        for node in &block.nodes {
            before.entry(node).or_insert(name);
        }
    }
    words.extend(nodes(trays, &before, blocks));
    for (block, place) in previous.blocks.iter().zip(places) {
        if let Some(now) = now(*place).filter(|now| !block.nodes.is_empty() && now.nodes.is_empty()) {
            words.push(format!("block {} has no trays left and stays as an empty placeholder", now.name));
        }
    }
    words
}

fn nodes(trays: &Trays, before: &BTreeMap<&NodeName, &BlockName>, blocks: &[PlannedBlock]) -> Vec<String> {
    let mut after: BTreeMap<&NodeName, &BlockName> = BTreeMap::new();
    for block in blocks {
        after.extend(block.nodes.iter().map(|node| (node, &block.name)));
    }
    let mut nodes: Vec<&NodeName> = before.keys().chain(after.keys()).copied().collect();
    nodes.sort_by(|a, b| natural::compare(a.as_str(), b.as_str()));
    nodes.dedup();
    let named: BTreeSet<&NodeName> =
        trays.outside.iter().chain(&trays.rejected).map(|reason| &reason.node).collect();
    let word = |node: &NodeName| match (before.get(node), after.get(node)) {
        (Some(from), Some(to)) if from != to => Some(format!("node {node} moves from {from} to {to}")),
        (None, Some(to)) => Some(format!("node {node} joins {to}")),
        (Some(from), None) if named.contains(node) => Some(format!("node {node} leaves {from}")),
        (Some(from), None) => Some(format!("node {node} leaves {from}: Slurm no longer knows it")),
        _ => None,
    };
    nodes.into_iter().filter_map(word).collect()
}
