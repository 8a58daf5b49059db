//! From trays to blocks: which block is which NVLink partition, in which order, of which base size.
//!
//! Names and positions outlive a run. Slurm forms aggregated blocks by position and users see block names, so a block of the
//! previous file keeps both, new ones come at the end, and one that lost all its trays stays as an empty placeholder. A site map
//! decides both instead, and keeps places for racks to come.
#![forbid(unsafe_code)]

mod base;
mod changes;
mod claim;
mod compose;
mod layout;
mod today;

use std::collections::{BTreeMap, BTreeSet};

use fabric::topology::BlockTopology;
use fabric::{BlockName, BlockSizes, FabricId, NodeName};

use crate::natural;
use crate::reconcile::Trays;
use crate::site_map::SiteMap;

pub use base::{BaseSize, BaseSizeError, Tier, TierError, TierWish, tiers, tiers_of};
pub use compose::{Names, compose};
use layout::Layout;
pub use today::{Today, today};

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
    /// A tier would take the place of something else.
    #[error("there is another topology called {name:?}")]
    TierTaken {
        /// Its name.
        name: String,
    },
    /// The largest partition has no more trays than may be away.
    #[error(
        "with {spares} trays to spare nothing is left of the largest NVLink partition, which has {largest}"
    )]
    Spares {
        /// What was asked for.
        spares: u32,
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

/// What is asked of a plan.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wishes<'a> {
    /// The base size; without it the tray count of the largest NVLink partition.
    pub base: Option<BaseSize>,
    /// Names and places of the racks.
    pub map: Option<&'a SiteMap>,
}

/// Plans the blocks. Without a base size the base is the tray count of the largest NVLink partition, less the few that the
/// previous file has to spare, never that of a smaller partition: a base below would silently give up the locality of jobs
/// between the two.
///
/// # Errors
/// [`PlanError`].
pub fn plan(trays: &Trays, previous: Option<&BlockTopology>, wishes: Wishes<'_>) -> Result<Plan, PlanError> {
    if trays.partitions.is_empty() {
        return Err(PlanError::NothingValid);
    }
    let Layout { mut blocks, places, crowded } = layout::layout(trays, previous, wishes.map);
    let mut changes = Vec::new();
    let mut names: BTreeSet<BlockName> = blocks.iter().map(|block| block.name.clone()).collect();
    for (id, nodes) in new_partitions(trays, &blocks) {
        let name = claim::free_name(&id, crowded.get(&id), &names, &trays.partitions);
        names.insert(name.clone());
        changes.push(format!("block {name} is new"));
        blocks.push(PlannedBlock { name, id: Some(id), nodes: nodes.clone(), stale: BTreeSet::new() });
    }
    let unplaced = keep_quiet_nodes(trays, previous, &places, &mut blocks);
    for block in &mut blocks {
        block.nodes.sort_by(|a, b| natural::compare(a.as_str(), b.as_str()));
    }
    changes.extend(changes::changes(trays, previous, &places, &blocks));
    let levels = wishes.map.map(|map| map.levels.as_slice());
    let sizes = base::block_sizes(&blocks, previous, wishes.base, levels)?;
    let base = sizes.base();
    if let Some(before) = previous.and_then(BlockTopology::base_size)
        && before != base
    {
        changes.push(format!("base size was {before}, now {base}"));
    }
    Ok(Plan { sizes, blocks, unplaced, changes })
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
    places: &[Option<usize>],
    blocks: &mut [PlannedBlock],
) -> Vec<NodeName> {
    let mut last: BTreeMap<&NodeName, usize> = BTreeMap::new();
    let before = previous.map(|p| p.blocks.as_slice()).unwrap_or_default();
    for (block, at) in before.iter().zip(places).filter_map(|(block, at)| Some((block, (*at)?))) {
        for node in &block.nodes {
            last.entry(node).or_insert(at);
        }
    }
    let spoken = trays.spoken();
    let quiet = trays.quiet();
    let mut unplaced = Vec::new();
    for node in &quiet {
        match last.get(node).and_then(|at| blocks.get_mut(*at)) {
            Some(block) => keep(block, node),
            None => unplaced.push((*node).clone()),
        }
    }
    // A source that does not name every node says nothing about those it leaves out.
    if !trays.complete {
        for (node, at) in last {
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

#[cfg(test)]
mod tests;
