//! Which blocks there are and in which order: those of the previous file as they stand, or the seats of a site map.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use fabric::topology::BlockTopology;
use fabric::{DomainId, FabricId, NodeName};

use super::{PlannedBlock, claim};
use crate::reconcile::Trays;
use crate::site_map::{Seat, SiteMap};

/// The blocks, with the trays that speak for them.
pub(super) struct Layout {
    pub(super) blocks: Vec<PlannedBlock>,
    /// For each block of the previous file its position now; `None` when it is gone.
    pub(super) places: Vec<Option<usize>>,
}

pub(super) fn layout(trays: &Trays, previous: Option<&BlockTopology>, map: Option<&SiteMap>) -> Layout {
    let claims = previous.map(|previous| claim::claims(&trays.partitions, previous)).unwrap_or_default();
    let block = |name: &fabric::BlockName, id: Option<FabricId>| PlannedBlock {
        name: name.clone(),
        id,
        nodes: id.and_then(|id| trays.partitions.get(&id)).cloned().unwrap_or_default(),
        stale: BTreeSet::new(),
    };
    let before = previous.map(|previous| previous.blocks.as_slice()).unwrap_or_default();
    let Some(map) = map else {
        let blocks = before.iter().zip(&claims).map(|(old, id)| block(&old.name, *id)).collect();
        return Layout { blocks, places: (0..before.len()).map(Some).collect() };
    };
    let seated = seated(map, trays, previous);
    let mut blocks: Vec<PlannedBlock> =
        map.seats.iter().zip(&seated).map(|(seat, id)| block(&seat.name, *id)).collect();
    let mut places = Vec::new();
    let (spoken, quiet) = (trays.spoken(), trays.quiet());
    for (old, id) in before.iter().zip(claims) {
        let at = blocks
            .iter()
            .position(|block| block.name == old.name)
            .or_else(|| blocks.iter().position(|block| id.is_some() && block.id == id));
        let is_missed =
            || old.nodes.iter().any(|node| quiet.contains(node) || !trays.complete && !spoken.contains(node));
        places.push(match at {
            Some(at) => Some(at),
            // It has no seat, but a partition, or trays that may come back.
            None if id.is_some() || is_missed() => {
                blocks.push(block(&old.name, id));
                Some(blocks.len() - 1)
            }
            None => None,
        });
    }
    Layout { blocks, places }
}

/// For each seat its partition. Of several that suit, the better match wins, then the one whose trays sat there before, then
/// the larger one, then the lower id.
fn seated(map: &SiteMap, trays: &Trays, previous: Option<&BlockTopology>) -> Vec<Option<FabricId>> {
    let sat = |seat: &Seat, nodes: &[NodeName]| {
        let block = previous.and_then(|file| file.blocks.iter().find(|block| block.name == seat.name));
        let old: BTreeSet<&NodeName> = block.iter().flat_map(|block| &block.nodes).collect();
        nodes.iter().filter(|node| old.contains(node)).count()
    };
    let mut of_domain: BTreeMap<DomainId, Vec<usize>> = BTreeMap::new();
    let mut of_node: BTreeMap<&NodeName, usize> = BTreeMap::new();
    for (at, seat) in map.seats.iter().enumerate() {
        if let Some(domain) = seat.domain {
            of_domain.entry(domain).or_default().push(at);
        }
        of_node.extend(seat.nodes.iter().map(|node| (node, at)));
    }
    let mut wishes = Vec::new();
    for (id, nodes) in &trays.partitions {
        let mut near: BTreeSet<usize> = nodes.iter().filter_map(|node| of_node.get(node).copied()).collect();
        near.extend(of_domain.get(&id.domain).into_iter().flatten());
        for (at, seat) in near.into_iter().filter_map(|at| Some((at, map.seats.get(at)?))) {
            if let Some(fit) = seat.suits(id, nodes) {
                wishes.push((Reverse((fit, sat(seat, nodes), nodes.len())), *id, at));
            }
        }
    }
    wishes.sort_unstable();
    let mut seated = vec![None; map.seats.len()];
    let mut placed = BTreeSet::new();
    for (_, id, at) in wishes {
        if let Some(seat @ None) = seated.get_mut(at)
            && placed.insert(id)
        {
            *seat = Some(id);
        }
    }
    seated
}
