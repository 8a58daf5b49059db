//! What a `topology.yaml` says, without its text form.
#![forbid(unsafe_code)]

use crate::hostlist::HostList;
use crate::names::BlockName;
use crate::sizes::BlockSizes;

/// A named group of nodes that Slurm plans with; here one NVLink partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Block {
    /// Its name; unique in its topology.
    pub name: BlockName,
    /// Its nodes in order. Empty in a placeholder that only keeps the position of later blocks.
    pub nodes: HostList,
}

/// A topology of blocks. Aggregated blocks follow from the positions in `blocks`, so the order is part of the meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BlockTopology {
    /// Base size and aggregated sizes; without them Slurm takes the node count of the first block that has nodes.
    pub sizes: Option<BlockSizes>,
    /// The blocks in the order of the file.
    pub blocks: Vec<Block>,
}

/// A topology of another kind, kept so that it can be written back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct OtherTopology {
    /// The kind: `tree`, `ring`, `torus3d`, or `flat` with options.
    pub kind: String,
    /// What stood below the key.
    pub body: Body,
}

impl From<&str> for OtherTopology {
    fn from(kind: &str) -> Self {
        Self { kind: kind.to_owned(), body: Body::Map(Vec::new()) }
    }
}

impl From<String> for OtherTopology {
    fn from(kind: String) -> Self {
        Self { kind, body: Body::Map(Vec::new()) }
    }
}

/// Nested text as Slurm reads it: every scalar is a string.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(untagged))]
pub enum Body {
    /// One scalar.
    Text(String),
    /// A list.
    List(Vec<Body>),
    /// A mapping in the order of the file.
    Map(Vec<(String, Body)>),
}

/// What a topology is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum TopologyKind {
    /// Blocks (Slurm's topology/block).
    Block(BlockTopology),
    /// All nodes are alike (Slurm's topology/flat).
    Flat,
    /// Anything else, carried along unread.
    Other(OtherTopology),
}

/// One named topology of `topology.yaml`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Topology {
    /// Its name, which partitions use as `Topology=`; may be empty in a file with a single topology.
    pub name: String,
    /// Whether the file marks it as the default. With no mark, Slurm takes the first of the file.
    pub cluster_default: bool,
    /// What it is made of.
    pub kind: TopologyKind,
}

impl Topology {
    /// The blocks, when it is a block topology.
    pub fn block(&self) -> Option<&BlockTopology> {
        match &self.kind {
            TopologyKind::Block(block) => Some(block),
            TopologyKind::Flat | TopologyKind::Other(_) => None,
        }
    }
}

/// The topology that Slurm uses where a partition names none: the first one marked `cluster_default`, else the first.
pub fn cluster_default(topologies: &[Topology]) -> Option<&Topology> {
    topologies.iter().find(|t| t.cluster_default).or(topologies.first())
}

impl BlockTopology {
    /// The base size as Slurm takes it: the first size given, else the node count of the first block that has nodes,
    /// else `None`.
    pub fn base_size(&self) -> Option<u32> {
        match &self.sizes {
            Some(sizes) => Some(sizes.base()),
            None => {
                let first = self.blocks.iter().map(|b| b.nodes.len()).find(|len| *len > 0)?;
                u32::try_from(first).ok()
            }
        }
    }

    /// The block that holds the node; the first one when several do, as for Slurm's rank and address.
    pub fn block_of(&self, node: &str) -> Option<&Block> {
        self.blocks.iter().find(|b| b.nodes.iter().any(|n| n.as_str() == node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(name: &str, nodes: &str) -> Block {
        Block { name: BlockName::new(name).unwrap(), nodes: HostList::parse(nodes).unwrap() }
    }

    #[test]
    fn without_sizes_the_first_block_that_has_nodes_sets_the_base() {
        let topology = BlockTopology {
            sizes: None,
            blocks: vec![block("a", ""), block("b", "n[1-3]"), block("c", "n[4-9]")],
        };
        assert_eq!(topology.base_size(), Some(3));
        assert_eq!(topology.block_of("n4").map(|b| b.name.as_str()), Some("c"));
        assert_eq!(topology.block_of("n40"), None);
    }

    #[test]
    fn the_first_mark_wins_and_without_one_the_first_topology() {
        let one = |name: &str, cluster_default| Topology {
            name: name.into(),
            cluster_default,
            kind: TopologyKind::Other("tree".into()),
        };
        let files = [one("a", false), one("b", true), one("c", true)];
        assert_eq!(cluster_default(&files).map(|t| t.name.as_str()), Some("b"));
        assert_eq!(cluster_default(&files[..1]).map(|t| t.name.as_str()), Some("a"));
        assert_eq!(cluster_default(&[]), None);
    }
}
