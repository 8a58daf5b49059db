#![forbid(unsafe_code)]
//! The configuration of one block topology, and everything that is wrong with it.
//!
//! All faults are logged at once. Slurm's own plugin ends the process at the first that it minds and accepts the others. Ours
//! ends nothing: where no other controller goes on in its place, what is faulty is left out ([`RawConfig::mended`]).

use std::collections::{HashMap, HashSet};
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
    BlockName { name: String },
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
            Self::BlockName { name } => {
                write!(
                    f,
                    "block name {name:?} is not a host list, which names of aggregated blocks are made of"
                )
            }
            Self::NoSize => write!(f, "no block has nodes and block_sizes is not set"),
            Self::NodesInTwoBlocks { first, second, nodes } => {
                write!(f, "blocks {first} and {second} both have {nodes}")
            }
        }
    }
}

impl Fault {
    /// Whether Slurm's own plugin ends the process on it (26.05.3 `src/plugins/topology/block/block_record.c`).
    pub(crate) fn is_fatal(&self) -> bool {
        match self {
            Self::NodesInTwoBlocks { .. } => false,
            Self::BlockSizes { sizes, .. } => !are_sizes_for_stock(sizes),
            _ => true,
        }
    }
}

/// Whether stock accepts the sizes: each is the first one times a power of two below 2^16, in any order.
fn are_sizes_for_stock(sizes: &[c_int]) -> bool {
    let base = sizes.first().copied().unwrap_or(0);
    let fits =
        |&size: &c_int| size > 0 && size % base == 0 && (size / base).cast_unsigned().is_power_of_two();
    (1..=0xffff).contains(&base) && sizes.iter().all(|size| fits(size) && size / base < 1 << 16)
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

    /// The configuration without what Slurm's own plugin ends the process on: block sizes that are none, and blocks whose
    /// name or nodes cannot be used. The trays of a block that is left out are in no block until the file is mended, which
    /// is the one place where they cannot be taken for neighbours of trays that they are none of.
    pub(crate) fn mended(&self, faults: &[Fault]) -> Self {
        let bad_sizes =
            faults.iter().any(|fault| matches!(fault, Fault::BlockSizes { .. }) && fault.is_fatal());
        let mut seen = HashSet::new();
        let is_usable = |block: &&RawBlock| {
            let Some(name) = block.name.as_deref() else { return false };
            let minds = |fault: &Fault| match fault {
                Fault::HostList { block: of, hosts } => {
                    *of == words(name) && block.nodes.as_deref().map(words).as_ref() == Some(hosts)
                }
                Fault::BlockName { name: bad } => *bad == words(name),
                _ => false,
            };
            !faults.iter().any(minds) && seen.insert(name.to_owned())
        };
        Self {
            sizes: if bad_sizes { Vec::new() } else { self.sizes.clone() },
            blocks: self.blocks.iter().filter(is_usable).cloned().collect(),
        }
    }

    /// Whether Slurm makes aggregated blocks, whose names are made of the blocks' names.
    pub(crate) fn has_aggregated_blocks(&self) -> bool {
        self.blocks.len() > 1 && self.sizes.len() != 1
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

    #[test]
    fn what_stock_ends_the_process_on_is_fatal_and_nothing_else() {
        let sizes =
            |sizes: &[c_int]| Fault::BlockSizes { sizes: sizes.to_vec(), why: String::new() }.is_fatal();
        for bad in [&[4, 12][..], &[4, 6], &[0], &[8, 4], &[-4], &[1, 1 << 16], &[1 << 16], &[4, -8]] {
            assert!(sizes(bad), "{bad:?}");
        }
        for odd in [&[4, 4][..], &[4, 16, 8], &[4, 1 << 17]] {
            assert!(!sizes(odd), "{odd:?}");
        }
        assert!(Fault::NoBlocks.is_fatal() && Fault::Nameless { position: 1 }.is_fatal());
        let twice = Fault::NodesInTwoBlocks { first: "a".into(), second: "b".into(), nodes: "n1".into() };
        assert!(!twice.is_fatal());
    }

    #[test]
    fn what_is_faulty_is_left_out() {
        let nodes =
            |name: &CStr, nodes: &CStr| RawBlock { name: Some(name.into()), nodes: Some(nodes.into()) };
        let config = RawConfig {
            sizes: vec![4, 6],
            blocks: vec![
                nodes(c"a", c"n[1-4]"),
                RawBlock { name: None, nodes: Some(c"n9".into()) },
                nodes(c"a", c"n[5-8]"),
                nodes(c"b", c"n[01-0"),
                nodes(c"c[1", c"n10"),
                nodes(c"d", c"n11"),
            ],
        };
        let mut faults = config.faults();
        faults.push(Fault::HostList { block: "b".into(), hosts: "n[01-0".into() });
        faults.push(Fault::BlockName { name: "c[1".into() });
        let mended = config.mended(&faults);
        assert_eq!(mended.sizes, []);
        assert_eq!(mended.blocks, [nodes(c"a", c"n[1-4]"), nodes(c"d", c"n11")]);
        assert_eq!(mended.faults(), []);
        assert_eq!(mended.mended(&[]), mended);
        let odd = RawConfig { sizes: vec![4, 16, 8], ..mended };
        assert_eq!(odd.mended(&odd.faults()), odd, "what stock accepts stays as it is");
    }
}
