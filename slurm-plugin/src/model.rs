#![forbid(unsafe_code)]
//! Our block model: the base blocks of one topology, each an NVLink partition with its trays.

use std::ffi::{CStr, CString};
use std::ops::Range;

use crate::bits;
use crate::config::{Fault, RawConfig, words};
use crate::host::bitmap::Bitmap;
use crate::host::config::nodes;

/// One base block.
pub(crate) struct Block {
    pub(crate) name: CString,
    /// Nodes of the block.
    nodes: Bitmap,
    /// The words in which they lie: a few, because the nodes of a block are neighbours in the node table.
    span: Range<usize>,
    /// How many nodes that are.
    trays: u32,
}

impl Block {
    fn new(name: CString, nodes: Bitmap) -> Self {
        let mut block = Self { name, nodes, span: 0..0, trays: 0 };
        block.count();
        block
    }

    fn count(&mut self) {
        self.span = bits::span(self.nodes.words());
        self.trays = bits::count(self.nodes.words());
    }

    /// How many of the given nodes are in the block.
    pub(crate) fn overlap(&self, nodes: &[u64]) -> u32 {
        let (block, nodes) = self.within(nodes);
        bits::overlap(block, nodes)
    }

    /// Those of the given nodes that are in the block, in ascending order.
    pub(crate) fn common<'a>(&'a self, nodes: &'a [u64]) -> impl Iterator<Item = usize> + 'a {
        let (block, nodes) = self.within(nodes);
        let first = self.span.start * u64::BITS as usize;
        bits::common(block, nodes).map(move |node| first + node)
    }

    /// The nodes in order.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = usize> + '_ {
        self.common(self.words())
    }

    /// The part of both sets where the block has nodes.
    fn within<'a>(&'a self, nodes: &'a [u64]) -> (&'a [u64], &'a [u64]) {
        let of = |words: &'a [u64]| words.get(self.span.clone()).unwrap_or(&[]);
        (of(self.nodes.words()), of(nodes))
    }

    /// The nodes as words of a bitmap.
    pub(crate) fn words(&self) -> &[u64] {
        self.nodes.words()
    }

    /// How many nodes the block has, drained ones included.
    pub(crate) fn trays(&self) -> u32 {
        self.trays
    }
}

/// The base blocks of one topology in the order of the file.
pub(crate) struct Model {
    pub(crate) blocks: Vec<Block>,
    /// Whether jobs larger than a block must heed aggregated blocks.
    pub(crate) aggregated_levels: bool,
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
        let mut blocks = Vec::with_capacity(config.blocks.len());
        for block in &config.blocks {
            let name = block.name.clone().unwrap_or_default();
            let nodes = match block.nodes.as_deref() {
                None => Bitmap::new(node_count),
                Some(hosts) => match nodes(hosts) {
                    Ok(nodes) => nodes,
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
        faults.extend(overlaps(&blocks));
        if faults.is_empty() {
            Ok(Self { blocks, aggregated_levels: config.has_aggregated_levels() })
        } else {
            Err(faults)
        }
    }

    /// Nodes of the largest block.
    pub(crate) fn largest(&self) -> u32 {
        self.blocks.iter().map(Block::trays).max().unwrap_or(0)
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
            .all(|block| bits::contains(block.words(), node) == (unit == Some(block.name.as_c_str())));
        if settled { Change::None } else { Change::Needed }
    }

    /// Moves `node` to the block `unit` (None: out of every block).
    pub(crate) fn place(&mut self, node: usize, unit: Option<&CStr>) {
        for block in &mut self.blocks {
            let belongs = unit == Some(block.name.as_c_str());
            bits::put(block.nodes.words_mut(), node, belongs);
            block.count();
        }
    }
}

/// Pairs of blocks that share nodes. Slurm accepts them silently and counts the nodes twice.
fn overlaps(blocks: &[Block]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut seen: Vec<u64> = Vec::new();
    for (position, block) in blocks.iter().enumerate() {
        seen.resize(seen.len().max(block.words().len()), 0);
        if bits::overlap(&seen, block.words()) > 0 {
            for earlier in &blocks[..position] {
                if bits::overlap(earlier.words(), block.words()) > 0 {
                    faults.push(shared(earlier, block));
                }
            }
        }
        for (all, word) in seen.iter_mut().zip(block.words()) {
            *all |= word;
        }
    }
    faults
}

fn shared(first: &Block, second: &Block) -> Fault {
    let mut both = Bitmap::new(second.words().len() * u64::BITS as usize);
    let nodes: Vec<usize> = bits::common(first.words(), second.words()).collect();
    for &node in &nodes {
        bits::put(both.words_mut(), node, true);
    }
    let names =
        both.node_names().map_or_else(|| format!("{} nodes", nodes.len()), |text| words(text.as_c_str()));
    Fault::NodesInTwoBlocks { first: words(&first.name), second: words(&second.name), nodes: names }
}
