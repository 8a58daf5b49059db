//! From trays to blocks: which block is which NVLink partition, in which order, of which base size.
//!
//! Names and positions outlive a run. Slurm forms aggregated blocks by position and users see block names, so a block of the
//! previous file keeps both, new ones come at the end, and one that lost all its trays stays as an empty placeholder.
#![forbid(unsafe_code)]

mod claim;
mod compose;

use std::collections::{BTreeMap, BTreeSet};

use fabric::topology::BlockTopology;
use fabric::{BlockName, BlockSizes, FabricId, NodeName};

use crate::natural;
use crate::reconcile::Trays;

pub use compose::{Names, compose};

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No tray has a usable NVLink partition now.
    #[error("no tray with a usable NVLink partition was found")]
    NothingValid,
    /// Jobs of the base size would fit no block.
    #[error("base size {base} is larger than the largest NVLink partition, which has {largest} trays")]
    BaseTooLarge {
        /// What was asked for.
        base: u32,
        /// Trays of the largest partition.
        largest: u32,
    },
    /// The base size is not a block size for Slurm.
    #[error("base size {base} cannot be used")]
    Base {
        /// What was asked for.
        base: u32,
        /// Which rule.
        source: fabric::BlockSizesError,
    },
}

/// One block of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedBlock {
    /// Its name.
    pub name: BlockName,
    /// Its NVLink partition; `None` when no tray of it speaks now.
    pub id: Option<FabricId>,
    /// All its nodes in natural order.
    pub nodes: Vec<NodeName>,
    /// Those of them that say nothing now and stay because they were here.
    pub stale: BTreeSet<NodeName>,
}

/// What the topology should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Block sizes; the base size is the first.
    pub sizes: BlockSizes,
    /// The blocks in their order.
    pub blocks: Vec<PlannedBlock>,
    /// Nodes of which nothing is known and that were in no block.
    pub unplaced: Vec<NodeName>,
    /// What differs from the previous file, in words.
    pub changes: Vec<String>,
}

impl Plan {
    /// What users can rely on.
    pub fn guarantee(&self) -> String {
        format!("jobs and segments up to {} trays stay in one NVLink partition", self.sizes.base())
    }

    /// Trays of the largest block.
    pub fn largest(&self) -> usize {
        self.blocks.iter().map(|block| block.nodes.len()).max().unwrap_or(0)
    }
}

/// Plans the blocks. Without `base_size` the base is the tray count of the largest NVLink partition, or the larger base of the
/// previous file, never that of a smaller partition: a base below would silently give up the locality of jobs between the two.
///
/// # Errors
/// [`PlanError`].
pub fn plan(
    trays: &Trays,
    previous: Option<&BlockTopology>,
    base_size: Option<u32>,
) -> Result<Plan, PlanError> {
    if trays.partitions.is_empty() {
        return Err(PlanError::NothingValid);
    }
    let mut blocks = kept_blocks(trays, previous);
    let mut changes = Vec::new();
    for (id, nodes) in new_partitions(trays, &blocks) {
        let name = claim::free_name(&id, &blocks, trays.partitions.keys());
        changes.push(format!("block {name} is new"));
        blocks.push(PlannedBlock { name, id: Some(id), nodes: nodes.clone(), stale: BTreeSet::new() });
    }
    let unplaced = keep_quiet_nodes(trays, previous, &mut blocks);
    for block in &mut blocks {
        block.nodes.sort_by(|a, b| natural::compare(a.as_str(), b.as_str()));
    }
    changes.extend(moves(trays, previous, &blocks));
    let sizes = block_sizes(&blocks, previous, base_size)?;
    let base = sizes.base();
    if let Some(before) = previous.and_then(BlockTopology::base_size)
        && before != base
    {
        changes.push(format!("base size was {before}, now {base}"));
    }
    Ok(Plan { sizes, blocks, unplaced, changes })
}

/// The base size asked for, else that of the largest partition. A base of the previous file that is larger stays, with its
/// aggregated sizes: a tray that is away for a while must not change what users were promised.
fn block_sizes(
    blocks: &[PlannedBlock],
    previous: Option<&BlockTopology>,
    base_size: Option<u32>,
) -> Result<BlockSizes, PlanError> {
    let largest = blocks.iter().map(|block| block.nodes.len()).max().unwrap_or(0);
    let largest = u32::try_from(largest).unwrap_or(u32::MAX);
    let before = previous.and_then(|topology| topology.sizes.as_ref());
    if let Some(base) =
        base_size.filter(|base| *base > largest && before.is_none_or(|sizes| sizes.base() < *base))
    {
        return Err(PlanError::BaseTooLarge { base, largest });
    }
    let base = base_size.unwrap_or(largest.max(before.map_or(0, BlockSizes::base)));
    match before.filter(|sizes| sizes.base() == base) {
        Some(sizes) => Ok(sizes.clone()),
        None => BlockSizes::new(vec![base]).map_err(|source| PlanError::Base { base, source }),
    }
}

/// The blocks of the previous file in their order, with the trays that now speak for them.
fn kept_blocks(trays: &Trays, previous: Option<&BlockTopology>) -> Vec<PlannedBlock> {
    let Some(previous) = previous else { return Vec::new() };
    let claims = claim::claims(&trays.partitions, previous);
    let blocks = previous.blocks.iter().zip(claims).map(|(block, id)| PlannedBlock {
        name: block.name.clone(),
        id,
        nodes: id.and_then(|id| trays.partitions.get(&id)).cloned().unwrap_or_default(),
        stale: BTreeSet::new(),
    });
    blocks.collect()
}

/// Partitions without a block, in natural order of their first nodes.
fn new_partitions<'a>(trays: &'a Trays, blocks: &[PlannedBlock]) -> Vec<(FabricId, &'a Vec<NodeName>)> {
    let known: BTreeSet<FabricId> = blocks.iter().filter_map(|block| block.id).collect();
    let mut new: Vec<_> = trays
        .partitions
        .iter()
        .filter(|(id, _)| !known.contains(id))
        .map(|(id, nodes)| (*id, nodes))
        .collect();
    let first = |nodes: &'a [NodeName]| nodes.first().map(NodeName::as_str).unwrap_or_default();
    new.sort_by(|(_, a), (_, b)| natural::compare(first(a), first(b)));
    new
}

/// Puts nodes that say nothing now back into the block where they were last; gives those that were in none.
fn keep_quiet_nodes(
    trays: &Trays,
    previous: Option<&BlockTopology>,
    blocks: &mut [PlannedBlock],
) -> Vec<NodeName> {
    let mut places: BTreeMap<&NodeName, usize> = BTreeMap::new();
    for (at, block) in previous.map(|p| p.blocks.as_slice()).unwrap_or_default().iter().enumerate() {
        for node in &block.nodes {
            places.entry(node).or_insert(at);
        }
    }
    let spoken: BTreeSet<&NodeName> = trays
        .partitions
        .values()
        .flatten()
        .chain(trays.outside.iter().chain(&trays.rejected).map(|reason| &reason.node))
        .collect();
    let quiet: BTreeSet<&NodeName> =
        trays.silent.iter().chain(&trays.pending).map(|reason| &reason.node).collect();
    let mut unplaced = Vec::new();
    for node in &quiet {
        match places.get(node).and_then(|at| blocks.get_mut(*at)) {
            Some(block) => keep(block, node),
            None => unplaced.push((*node).clone()),
        }
    }
    // A source that does not name every node says nothing about those it leaves out.
    if !trays.complete {
        for (node, at) in places {
            if !spoken.contains(node)
                && !quiet.contains(node)
                && let Some(block) = blocks.get_mut(at)
            {
                keep(block, node);
            }
        }
    }
    unplaced.sort_by(|a, b| natural::compare(a.as_str(), b.as_str()));
    unplaced
}

fn keep(block: &mut PlannedBlock, node: &NodeName) {
    block.nodes.push(node.clone());
    block.stale.insert(node.clone());
}

/// Nodes that came, went or moved, and blocks that emptied.
fn moves(trays: &Trays, previous: Option<&BlockTopology>, blocks: &[PlannedBlock]) -> Vec<String> {
    let Some(previous) = previous else { return Vec::new() };
    let mut before: BTreeMap<&NodeName, &BlockName> = BTreeMap::new();
    for block in &previous.blocks {
        for node in &block.nodes {
            before.entry(node).or_insert(&block.name);
        }
    }
    let mut after: BTreeMap<&NodeName, &BlockName> = BTreeMap::new();
    for block in blocks {
        after.extend(block.nodes.iter().map(|node| (node, &block.name)));
    }
    let mut nodes: Vec<&NodeName> = before.keys().chain(after.keys()).copied().collect();
    nodes.sort_by(|a, b| natural::compare(a.as_str(), b.as_str()));
    nodes.dedup();
    let named: BTreeSet<&NodeName> =
        trays.outside.iter().chain(&trays.rejected).map(|reason| &reason.node).collect();
    let mut words = Vec::new();
    for node in nodes {
        match (before.get(node), after.get(node)) {
            (Some(from), Some(to)) if from != to => {
                words.push(format!("node {node} moves from {from} to {to}"))
            }
            (None, Some(to)) => words.push(format!("node {node} joins {to}")),
            (Some(from), None) if named.contains(node) => words.push(format!("node {node} leaves {from}")),
            (Some(from), None) => words.push(format!("node {node} leaves {from}: Slurm no longer knows it")),
            _ => {}
        }
    }
    let emptied = previous.blocks.iter().zip(blocks);
    words.extend(
        emptied.filter(|(old, new)| !old.nodes.is_empty() && new.nodes.is_empty()).map(|(_, new)| {
            format!("block {} has no trays left and stays as an empty placeholder", new.name)
        }),
    );
    words
}

#[cfg(test)]
mod tests;
