//! Puts the planned blocks into the whole file and leaves every other topology of it as it is.
#![forbid(unsafe_code)]

use fabric::topology::{Block, BlockTopology};
use fabric::{Topology, TopologyKind};

use super::{Plan, Tier, tiers_of};

/// Names of the two topologies that are ours.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The block topology.
    pub block: &'a str,
    /// The topology for nodes without multi-node NVLink.
    pub flat: &'a str,
}

/// The topologies of the new file. In a file that exists, ours keeps its place and the default stays what it was; in a new
/// one ours is the default. Tiers that the plan no longer has go. With `outside` nodes there is a flat topology for them.
pub fn compose(
    plan: &Plan,
    tiers: &[Tier],
    previous: &[Topology],
    names: Names<'_>,
    outside: bool,
) -> Vec<Topology> {
    let blocks: Vec<Block> = plan
        .blocks
        .iter()
        .map(|block| Block { name: block.name.clone(), nodes: block.nodes.iter().cloned().collect() })
        .collect();
    let kind = |sizes: &fabric::BlockSizes| {
        TopologyKind::Block(BlockTopology { sizes: Some(sizes.clone()), blocks: blocks.clone() })
    };
    let gone: Vec<&str> = tiers_of(previous, names.block)
        .map(|(name, _)| name)
        .filter(|name| !tiers.iter().any(|tier| tier.name == *name))
        .collect();
    let kept = previous.iter().filter(|topology| !gone.contains(&topology.name.as_str()));
    let mut topologies: Vec<Topology> = kept.cloned().collect();
    let ours = std::iter::once((names.block, &plan.sizes));
    for (name, sizes) in ours.chain(tiers.iter().map(|tier| (tier.name.as_str(), &tier.sizes))) {
        match topologies.iter_mut().find(|topology| topology.name == name) {
            Some(topology) => topology.kind = kind(sizes),
            None => {
                let cluster_default = topologies.is_empty();
                topologies.push(Topology { name: name.to_owned(), cluster_default, kind: kind(sizes) });
            }
        }
    }
    if outside && !topologies.iter().any(|topology| topology.name == names.flat) {
        topologies.push(Topology {
            name: names.flat.to_owned(),
            cluster_default: false,
            kind: TopologyKind::Flat,
        });
    }
    topologies
}
