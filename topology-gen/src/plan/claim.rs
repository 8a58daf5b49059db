//! Which block of the previous file is which NVLink partition, and names for new blocks.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use fabric::topology::{Block, BlockTopology};
use fabric::{BlockName, FabricId, NodeName};

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
    let mut taken: BTreeSet<FabricId> = BTreeSet::new();
    let mut wishes: Vec<Wish> = Vec::new();
    let mut claims = vec![None; previous.blocks.len()];
    for (at, block) in previous.blocks.iter().enumerate() {
        wishes.extend(wishes_of(block, at, partitions, &places));
    }
    wishes.sort_by_key(|wish| (std::cmp::Reverse((wish.named, wish.votes)), wish.at));
    for Wish { at, id, .. } in wishes {
        if !taken.contains(&id)
            && let Some(claim @ None) = claims.get_mut(at)
        {
            *claim = Some(id);
            taken.insert(id);
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
    let wish = |id: FabricId, named: bool| {
        let count = votes.get(&id).copied().unwrap_or(0);
        Wish { named, votes: count, at, id }
    };
    if let Some(named) = block.name.fabrics() {
        let ids = partitions.range(named.range()).map(|(id, _)| *id);
        return ids.filter(|id| named.contains(id)).map(|id| wish(id, true)).collect();
    }
    let speaking: usize = votes.values().sum();
    let wanted = |(id, count): (&FabricId, &usize)| {
        let size = partitions.get(id).map_or(0, Vec::len);
        let most = count * 2 > block.nodes.len() || count * 2 > speaking && count * 2 > size;
        most.then(|| wish(*id, false))
    };
    votes.iter().filter_map(wanted).collect()
}

/// A name for the block of a new partition that no other block has and that no other partition could claim. A partition that
/// found its `seat` taken is called after it.
pub(super) fn free_name(
    id: &FabricId,
    seat: Option<&BlockName>,
    taken: &BTreeSet<BlockName>,
    partitions: &BTreeMap<FabricId, Vec<NodeName>>,
) -> BlockName {
    let after_seat = seat.and_then(|seat| BlockName::new(format!("{seat}-{}", id.partition)).ok());
    if let Some(name) = after_seat.filter(|name| !taken.contains(name)) {
        return name;
    }
    let mut name = BlockName::for_fabric(id);
    for len in [8, 12, 16, 24, 32] {
        name = BlockName::for_fabric_with(id, len);
        let others = |named: fabric::NamedFabrics| {
            partitions.range(named.range()).any(|(other, _)| other != id && named.contains(other))
        };
        if !taken.contains(&name) && !name.fabrics().is_some_and(others) {
            break;
        }
    }
    name
}
