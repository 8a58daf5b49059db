#![forbid(unsafe_code)]
//! The configuration of one block topology, and everything that is wrong with it.
//!
//! A fault never stops Slurm by our doing: all of them are logged at once, and the topology is left to Slurm's own
//! plugin, which ends the process on some of them and accepts others.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_int};
use std::fmt;

use fabric::placement::Levels;
use fabric::sizes::BlockSizes;

/// One block as written in topology.yaml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawBlock {
    pub(crate) name: Option<CString>,
    pub(crate) nodes: Option<CString>,
}

/// One topology's `block:` part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RawConfig {
    pub(crate) sizes: Vec<c_int>,
    pub(crate) blocks: Vec<RawBlock>,
}

/// Something wrong with the configuration. Positions count from 1, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    NoBlocks,
    Nameless { position: usize },
    DuplicateName { name: String, first: usize, second: usize },
    BlockSizes { sizes: Vec<c_int>, why: String },
    HostList { block: String, hosts: String },
    NoSize,
    NodesInTwoBlocks { first: String, second: String, nodes: String },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBlocks => write!(f, "it has no blocks"),
            Self::Nameless { position } => write!(f, "block {position} has no name"),
            Self::DuplicateName { name, first, second } => {
                write!(f, "blocks {first} and {second} have the same name {name}")
            }
            Self::BlockSizes { sizes, why } => write!(f, "block_sizes {sizes:?}: {why}"),
            Self::HostList { block, hosts } => write!(f, "block {block}: {hosts:?} is not a host list"),
            Self::NoSize => write!(f, "no block has nodes and block_sizes is not set"),
            Self::NodesInTwoBlocks { first, second, nodes } => {
                write!(f, "blocks {first} and {second} both have {nodes}")
            }
        }
    }
}

impl RawConfig {
    /// The faults that can be seen without knowing the nodes.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.blocks.is_empty() {
            faults.push(Fault::NoBlocks);
        }
        let mut seen: HashMap<&CStr, usize> = HashMap::new();
        for (position, block) in (1..).zip(&self.blocks) {
            match block.name.as_deref() {
                None => faults.push(Fault::Nameless { position }),
                Some(name) => {
                    if let Some(first) = seen.insert(name, position) {
                        faults.push(Fault::DuplicateName { name: words(name), first, second: position });
                    }
                }
            }
        }
        if !self.sizes.is_empty()
            && let Err(why) = self.block_sizes()
        {
            faults.push(Fault::BlockSizes { sizes: self.sizes.clone(), why });
        }
        faults
    }

    fn block_sizes(&self) -> Result<BlockSizes, String> {
        let sizes: Result<Vec<u32>, _> = self.sizes.iter().map(|&size| u32::try_from(size)).collect();
        let sizes = sizes.map_err(|_| "sizes are positive".to_owned())?;
        BlockSizes::new(sizes).map_err(|error| error.to_string())
    }

    /// Aggregated blocks: those of `block_sizes`, else those that Slurm takes for blocks of `first` nodes, the node count of
    /// the first block that has nodes.
    pub(crate) fn levels(&self, first: u32) -> Levels {
        match self.block_sizes() {
            Ok(sizes) => Levels::new(&sizes),
            Err(_) => Levels::by_default(first),
        }
    }
}

/// Text for a log line.
pub(crate) fn words(text: &CStr) -> String {
    text.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(name: &CStr) -> RawBlock {
        RawBlock { name: Some(name.to_owned()), nodes: Some(c"n[1-4]".to_owned()) }
    }

    #[test]
    fn a_good_configuration_has_no_faults() {
        let config = RawConfig { sizes: vec![4, 8, 32], blocks: vec![block(c"a"), block(c"b")] };
        assert_eq!(config.faults(), []);
        let without_sizes = RawConfig { sizes: vec![], ..config };
        assert_eq!(without_sizes.faults(), []);
    }

    #[test]
    fn all_faults_are_found_at_once() {
        let config = RawConfig {
            sizes: vec![4, 6],
            blocks: vec![block(c"a"), RawBlock { name: None, nodes: None }, block(c"a")],
        };
        let lines: Vec<String> = config.faults().iter().map(ToString::to_string).collect();
        assert_eq!(lines[0], "block 2 has no name");
        assert_eq!(lines[1], "blocks 1 and 3 have the same name a");
        assert!(lines[2].starts_with("block_sizes [4, 6]: "), "{}", lines[2]);
        assert_eq!(lines.len(), 3);
        assert_eq!(RawConfig::default().faults(), [Fault::NoBlocks]);
        for sizes in [vec![0], vec![-1], vec![4, 12], vec![8, 4], vec![1, 1 << 16]] {
            let config = RawConfig { sizes: sizes.clone(), blocks: vec![block(c"a")] };
            assert_eq!(config.faults().len(), 1, "{sizes:?}");
        }
    }

    #[test]
    fn only_a_single_size_keeps_aggregated_blocks_out() {
        let levels = |sizes: &[c_int]| RawConfig { sizes: sizes.to_vec(), blocks: vec![] }.levels(18);
        assert!(!levels(&[18]).exist());
        assert_eq!(levels(&[]), Levels::by_default(18));
        assert_ne!(levels(&[18, 36]), levels(&[18, 72]));
    }
}
