//! Puts the planned blocks into the whole file and leaves every other topology of it as it is.
#![forbid(unsafe_code)]

use fabric::topology::{Block, BlockTopology};
use fabric::{Topology, TopologyKind};

use super::Plan;

/// Names of the two topologies that are ours.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The block topology.
    pub block: &'a str,
    /// The topology for nodes without multi-node NVLink.
    pub flat: &'a str,
}

/// The topologies of the new file. In a file that exists, ours keeps its place and the default stays what it was; in a new
/// one ours is the default. With `outside` nodes there is a flat topology for them.
pub fn compose(plan: &Plan, previous: &[Topology], names: Names<'_>, outside: bool) -> Vec<Topology> {
    let blocks = plan
        .blocks
        .iter()
        .map(|block| Block { name: block.name.clone(), nodes: block.nodes.iter().cloned().collect() });
    let block = BlockTopology { sizes: Some(plan.sizes.clone()), blocks: blocks.collect() };
    let mut topologies = previous.to_vec();
    let kind = TopologyKind::Block(block);
    match topologies.iter_mut().find(|topology| topology.name == names.block) {
        Some(ours) => ours.kind = kind,
        None => {
            let cluster_default = topologies.is_empty();
            topologies.push(Topology { name: names.block.to_owned(), cluster_default, kind });
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
