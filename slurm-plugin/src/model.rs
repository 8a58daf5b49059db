#![forbid(unsafe_code)]
//! Our block model: the base blocks of one topology, each an NVLink partition with its trays.

use std::ffi::{CStr, CString};

use fabric::placement::Rules;

use crate::bits::{self, Neighbours};
use crate::config::{Fault, RawConfig, words};
use crate::host::bitmap::Bitmap;
use crate::host::config::{is_host_list, nodes};

/// One base block.
pub(crate) struct Block {
    pub(crate) name: CString,
    /// Nodes of the block.
    nodes: Neighbours,
    /// How many nodes that are.
    trays: u32,
}

impl Block {
    fn new(name: CString, nodes: Neighbours) -> Self {
        let trays = nodes.count();
        Self { name, nodes, trays }
    }

    /// How many of the given nodes are in the block.
    pub(crate) fn overlap(&self, nodes: &[u64]) -> u32 {
        self.nodes.overlap(nodes)
    }

    /// Those of the given nodes that are in the block, in ascending order.
    pub(crate) fn common<'a>(&'a self, nodes: &'a [u64]) -> impl Iterator<Item = usize> + 'a {
        self.nodes.common(nodes)
    }

    /// The nodes that are not among the given ones, in order.
    pub(crate) fn others<'a>(&'a self, nodes: &'a [u64]) -> impl Iterator<Item = usize> + 'a {
        self.nodes.others(nodes)
    }

    /// The nodes in order.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = usize> + '_ {
        self.nodes.iter()
    }

    /// How many nodes the block has, drained ones included.
    pub(crate) fn trays(&self) -> u32 {
        self.trays
    }
}

/// The base blocks of one topology in the order of the file.
pub(crate) struct Model {
    pub(crate) blocks: Vec<Block>,
    /// Nodes of the largest block.
    largest: u32,
    /// What the site decided: aggregated blocks and settings.
    pub(crate) rules: Rules,
}

/// What an update of one node's block came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The node is already just there.
    None,
    /// The node moves, enters or leaves.
    Needed,
    /// There is no such block.
    NoSuchBlock,
}

impl Model {
    /// Builds the model.
    ///
    /// # Errors
    /// Every fault of the configuration.
    pub(crate) fn build(config: &RawConfig, node_count: usize) -> Result<Self, Vec<Fault>> {
        let mut faults = config.faults();
        faults.extend(unusable_names(config));
        let mut blocks = Vec::with_capacity(config.blocks.len());
        for block in &config.blocks {
            let name = block.name.clone().unwrap_or_default();
            let nodes = match block.nodes.as_deref() {
                None => Neighbours::default(),
                Some(hosts) => match nodes(hosts) {
                    Ok(nodes) => Neighbours::new(nodes.words()),
                    Err(_) => {
                        faults.push(Fault::HostList { block: words(&name), hosts: words(hosts) });
                        continue;
                    }
                },
            };
            blocks.push(Block::new(name, nodes));
        }
        if config.sizes.is_empty() && !config.blocks.is_empty() && blocks.iter().all(|b| b.trays == 0) {
            faults.push(Fault::NoSize);
        }
        faults.extend(overlaps(&blocks, node_count));
        if faults.is_empty() {
            let first = blocks.iter().map(Block::trays).find(|&trays| trays > 0).unwrap_or(0);
            let rules = Rules { levels: config.levels(first), ..Rules::default() };
            Ok(Self { largest: largest(&blocks), blocks, rules })
        } else {
            Err(faults)
        }
    }

    /// Nodes of the largest block.
    pub(crate) fn largest(&self) -> u32 {
        self.largest
    }

    /// What moving `node` to the block `unit` (None: out of every block) would change.
    pub(crate) fn change(&self, node: usize, unit: Option<&CStr>) -> Change {
        if let Some(unit) = unit
            && !self.blocks.iter().any(|block| block.name.as_c_str() == unit)
        {
            return Change::NoSuchBlock;
        }
        let settled = self
            .blocks
            .iter()
            .all(|block| block.nodes.contains(node) == (unit == Some(block.name.as_c_str())));
        if settled { Change::None } else { Change::Needed }
    }

    /// Moves `node` to the block `unit` (None: out of every block).
    pub(crate) fn place(&mut self, node: usize, unit: Option<&CStr>) {
        for block in &mut self.blocks {
            let belongs = unit == Some(block.name.as_c_str());
            if block.nodes.contains(node) != belongs {
                block.nodes.put(node, belongs);
                block.trays = block.nodes.count();
            }
        }
        self.largest = largest(&self.blocks);
    }
}

fn largest(blocks: &[Block]) -> u32 {
    blocks.iter().map(Block::trays).max().unwrap_or(0)
}

/// Names of which Slurm cannot make the name of an aggregated block.
fn unusable_names(config: &RawConfig) -> Vec<Fault> {
    let names = config.blocks.iter().filter_map(|block| block.name.as_deref());
    let is_unusable = |name: &&CStr| config.has_aggregated_blocks() && !is_host_list(name);
    names.filter(is_unusable).map(|name| Fault::BlockName { name: words(name) }).collect()
}

/// Pairs of blocks that share nodes. Slurm accepts them silently and counts the nodes twice.
fn overlaps(blocks: &[Block], node_count: usize) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut seen = Bitmap::new(node_count);
    for (position, block) in blocks.iter().enumerate() {
        if block.overlap(seen.words()) > 0 {
            for earlier in &blocks[..position] {
                let mut both = Bitmap::new(node_count);
                for node in block.nodes().filter(|&node| earlier.nodes.contains(node)) {
                    bits::put(both.words_mut(), node, true);
                }
                if let Some(names) = both.node_names() {
                    faults.push(Fault::NodesInTwoBlocks {
                        first: words(&earlier.name),
                        second: words(&block.name),
                        nodes: words(names.as_c_str()),
                    });
                }
            }
        }
        for node in block.nodes() {
            bits::put(seen.words_mut(), node, true);
        }
    }
    faults
}
