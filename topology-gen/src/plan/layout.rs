//! Which blocks there are and in which order: those of the previous file as they stand, or the seats of a site map.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use fabric::topology::BlockTopology;
use fabric::{BlockName, DomainId, FabricId, NodeName};

use super::{PlannedBlock, claim};
use crate::reconcile::Trays;
use crate::site_map::SiteMap;

/// The blocks, with the trays that speak for them.
pub(super) struct Layout {
    pub(super) blocks: Vec<PlannedBlock>,
    /// For each block of the previous file its position now; `None` when it is gone.
    pub(super) places: Vec<Option<usize>>,
    /// For partitions that found their seat taken the name of it.
    pub(super) crowded: BTreeMap<FabricId, BlockName>,
}

pub(super) fn layout(trays: &Trays, previous: Option<&BlockTopology>, map: Option<&SiteMap>) -> Layout {
    let claims = previous.map(|previous| claim::claims(&trays.partitions, previous)).unwrap_or_default();
    let block = |name: &BlockName, id: Option<FabricId>| PlannedBlock {
        name: name.clone(),
        id,
        nodes: id.and_then(|id| trays.partitions.get(&id)).cloned().unwrap_or_default(),
        stale: BTreeSet::new(),
    };
    let before = previous.map(|previous| previous.blocks.as_slice()).unwrap_or_default();
    let Some(map) = map else {
        let blocks = before.iter().zip(&claims).map(|(old, id)| block(&old.name, *id)).collect();
        let places = (0..before.len()).map(Some).collect();
        return Layout { blocks, places, crowded: BTreeMap::new() };
    };
    let (seated, crowded) = seated(map, trays, previous);
    let mut blocks: Vec<PlannedBlock> =
        map.seats.iter().zip(&seated).map(|(seat, id)| block(&seat.name, *id)).collect();
    let of_name: BTreeMap<&BlockName, usize> =
        map.seats.iter().enumerate().map(|(at, seat)| (&seat.name, at)).collect();
    let of_id: BTreeMap<FabricId, usize> =
        seated.iter().enumerate().filter_map(|(at, id)| Some(((*id)?, at))).collect();
    let mut places = Vec::new();
    let (spoken, quiet) = (trays.spoken(), trays.quiet());
    for (old, id) in before.iter().zip(claims) {
        let seat = of_name.get(&old.name).or_else(|| of_id.get(&id?));
        let is_missed =
            || old.nodes.iter().any(|node| quiet.contains(node) || !trays.complete && !spoken.contains(node));
        places.push(match seat {
            Some(at) => Some(*at),
            // It has no seat, but a partition, or trays that may come back.
            None if id.is_some() || is_missed() => {
                blocks.push(block(&old.name, id));
                Some(blocks.len() - 1)
            }
            None => None,
        });
    }
    Layout { blocks, places, crowded }
}

/// For each seat its partition, and the seats of partitions that came too late. Of several that suit, the better match wins,
/// then the one whose trays sat there before, then the larger one, then the lower id.
fn seated(
    map: &SiteMap,
    trays: &Trays,
    previous: Option<&BlockTopology>,
) -> (Vec<Option<FabricId>>, BTreeMap<FabricId, BlockName>) {
    let mut sat: BTreeMap<&NodeName, &BlockName> = BTreeMap::new();
    for block in previous.map(|file| file.blocks.as_slice()).unwrap_or_default() {
        sat.extend(block.nodes.iter().map(|node| (node, &block.name)));
    }
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
                let here = nodes.iter().filter(|node| sat.get(node) == Some(&&seat.name)).count();
                wishes.push((Reverse((fit, here, nodes.len())), *id, at));
            }
        }
    }
    wishes.sort_unstable();
    let mut seated = vec![None; map.seats.len()];
    let mut placed = BTreeSet::new();
    for (_, id, at) in &wishes {
        if let Some(seat @ None) = seated.get_mut(*at)
            && placed.insert(*id)
        {
            *seat = Some(*id);
        }
    }
    let mut crowded = BTreeMap::new();
    for (_, id, at) in wishes.iter().filter(|(_, id, _)| !placed.contains(id)) {
        if let Some(seat) = map.seats.get(*at) {
            crowded.entry(*id).or_insert_with(|| seat.name.clone());
        }
    }
    (seated, crowded)
}
