//! Which block of the previous file is which NVLink partition, and names for new blocks.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use fabric::topology::{Block, BlockTopology};
use fabric::{BlockName, FabricId, NodeName};

use super::PlannedBlock;

/// For each block of the previous file the NVLink partition it stands for now, each partition at most once.
///
/// A name that [`BlockName::for_fabric`] made decides alone. A name that somebody chose (`rack7`) stands for the partition that
/// most of its nodes are in now; while many of them say nothing, for the one that most of the others are in, if that consists
/// mostly of them. Of two such blocks the one with more of these nodes wins, then the earlier one.
pub(super) fn claims(
    partitions: &BTreeMap<FabricId, Vec<NodeName>>,
    previous: &BlockTopology,
) -> Vec<Option<FabricId>> {
    let mut places: BTreeMap<&NodeName, FabricId> = BTreeMap::new();
    for (id, nodes) in partitions {
        places.extend(nodes.iter().map(|node| (node, *id)));
    }
    let mut wishes: Vec<Wish> = Vec::new();
    let mut claims = vec![None; previous.blocks.len()];
    for (at, block) in previous.blocks.iter().enumerate() {
        wishes.extend(wishes_of(block, at, partitions, &places));
    }
    wishes.sort_by_key(|wish| (std::cmp::Reverse((wish.named, wish.votes)), wish.at));
    for Wish { at, id, .. } in wishes {
        if !claims.contains(&Some(id))
            && let Some(claim @ None) = claims.get_mut(at)
        {
            *claim = Some(id);
        }
    }
    claims
}

/// A block and a partition it may stand for.
struct Wish {
    /// The block's name was made for this partition.
    named: bool,
    /// Nodes of the block that are in the partition now.
    votes: usize,
    /// Position of the block.
    at: usize,
    id: FabricId,
}

/// Partitions the block may stand for.
fn wishes_of(
    block: &Block,
    at: usize,
    partitions: &BTreeMap<FabricId, Vec<NodeName>>,
    places: &BTreeMap<&NodeName, FabricId>,
) -> Vec<Wish> {
    let mut votes: BTreeMap<FabricId, usize> = BTreeMap::new();
    for node in &block.nodes {
        if let Some(id) = places.get(node) {
            *votes.entry(*id).or_default() += 1;
        }
    }
    let speaking: usize = votes.values().sum();
    let wish = |id: &FabricId| {
        let count = votes.get(id).copied().unwrap_or(0);
        let named = block.name.names_fabric(id);
        let size = partitions.get(id).map_or(0, Vec::len);
        let wanted = named
            .unwrap_or_else(|| count * 2 > block.nodes.len() || count * 2 > speaking && count * 2 > size);
        wanted.then_some(Wish { named: named == Some(true), votes: count, at, id: *id })
    };
    partitions.keys().filter_map(wish).collect()
}

/// A name for the block of a new partition that no other block has and that no other partition could claim. A partition that
/// found its `seat` taken is called after it.
pub(super) fn free_name<'a>(
    id: &FabricId,
    seat: Option<&BlockName>,
    blocks: &[PlannedBlock],
    ids: impl Iterator<Item = &'a FabricId> + Clone,
) -> BlockName {
    let taken = |name: &BlockName| blocks.iter().any(|block| block.name == *name);
    let after_seat = seat.and_then(|seat| BlockName::new(format!("{seat}-{}", id.partition)).ok());
    if let Some(name) = after_seat.filter(|name| !taken(name)) {
        return name;
    }
    let mut name = BlockName::for_fabric(id);
    for len in [8, 12, 16, 24, 32] {
        name = BlockName::for_fabric_with(id, len);
        let shared = ids.clone().any(|other| other != id && name.names_fabric(other) == Some(true));
        if !taken(&name) && !shared {
            break;
        }
    }
    name
}
