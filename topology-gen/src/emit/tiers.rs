//! Slurm partitions for the topologies of a file, as text for slurm.conf, and the QOS that go with them.
//!
//! A tier is a topology with a base size of its own. A Slurm partition says `Topology=`; that is all a user sees of a tier. A
//! QOS cannot name a topology or a block; it can bound the nodes of a job, so that none needs a second NVLink partition.
#![forbid(unsafe_code)]

use fabric::topology::{BlockTopology, cluster_default};
use fabric::{HostList, Topology, TopologyKind};

use super::count;

/// What the lines shall say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// One more Slurm partition for each block of the default topology.
    pub blocks: bool,
    /// A QOS for each Slurm partition, of the same name.
    pub qos: bool,
}

/// `PartitionName` lines for slurm.conf.
pub fn conf(topologies: &[Topology], options: Options) -> String {
    let mut text =
        String::from("# Slurm partitions for topology.yaml, written by slurm-nvlink's topology-gen\n");
    for topology in topologies {
        let name = &topology.name;
        match (&topology.kind, topology.block()) {
            (_, Some(block)) => {
                let base = block.base_size().unwrap_or(0);
                let qos = if options.qos { format!(" QOS={name}") } else { String::new() };
                text.push_str(&format!(
                    "# {name}: jobs and segments up to {} stay in one NVLink partition\nPartitionName={name} Topology={name} Nodes={}{qos}\n",
                    count(usize::try_from(base).unwrap_or(usize::MAX), "node"),
                    nodes(block),
                ));
            }
            (TopologyKind::Flat, None) => text.push_str(&format!(
                "# {name}: for nodes outside NVLink\n#PartitionName={name} Topology={name} Nodes=...\n"
            )),
            _ => text.push_str(&format!("# {name}: another kind of topology, left to you\n")),
        }
    }
    if options.blocks
        && let Some((topology, block)) = default_block(topologies)
    {
        text.push_str("# one Slurm partition for each NVLink partition\n");
        for block in block.blocks.iter().filter(|block| !block.nodes.is_empty()) {
            let qos = if options.qos { format!(" QOS={}", block.name) } else { String::new() };
            text.push_str(&format!(
                "PartitionName={} Topology={} Nodes={}{qos}\n",
                block.name, topology.name, block.nodes
            ));
        }
    }
    text
}

/// Commands that make the QOS, or bring one that exists up to date: a job of a tier gets no more nodes than its base size, all
/// jobs on an NVLink partition no more than it has.
pub fn sacctmgr(topologies: &[Topology], options: Options) -> String {
    let mut text =
        String::from("# QOS for the tiers of topology.yaml, written by slurm-nvlink's topology-gen\n");
    for topology in topologies {
        let Some(base) = topology.block().and_then(BlockTopology::base_size) else { continue };
        text.push_str(&qos(&topology.name, &format!("MaxTRESPerJob=node={base}")));
    }
    if options.blocks
        && let Some((_, block)) = default_block(topologies)
    {
        for block in block.blocks.iter().filter(|block| !block.nodes.is_empty()) {
            text.push_str(&qos(block.name.as_str(), &format!("GrpTRES=node={}", block.nodes.len())));
        }
    }
    text
}

fn qos(name: &str, limit: &str) -> String {
    format!(
        "sacctmgr -i add qos {name} || true\nsacctmgr -i modify qos {name} set {limit} Flags=DenyOnLimit\n"
    )
}

/// The default topology if it has blocks, else the first that has.
fn default_block(topologies: &[Topology]) -> Option<(&Topology, &BlockTopology)> {
    let with_blocks = |topology: &'_ Topology| topology.block().is_some();
    let found = cluster_default(topologies)
        .filter(|topology| with_blocks(topology))
        .or_else(|| topologies.iter().find(|topology| with_blocks(topology)))?;
    Some((found, found.block()?))
}

/// All nodes of the blocks, each once.
fn nodes(block: &BlockTopology) -> HostList {
    let mut nodes: Vec<&fabric::NodeName> = block.blocks.iter().flat_map(|block| &block.nodes).collect();
    nodes.sort_by(|a, b| crate::natural::compare(a.as_str(), b.as_str()));
    nodes.dedup();
    nodes.into_iter().cloned().collect()
}
