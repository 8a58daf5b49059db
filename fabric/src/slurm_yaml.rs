//! The text form of `topology.yaml`, read and written as Slurm does.
//!
//! Slurm keeps every scalar as a string until somebody wants a number, takes one topology as a bare mapping, ignores
//! unknown keys without a word and crashes on an empty list (Slurm 26.05.3 src/plugins/data_parser, src/interfaces/topology.c).
//! [`parse`] accepts what Slurm accepts and refuses, with the line, what would end slurmctld; [`parse_with_notes`] also
//! tells what Slurm takes though it is probably not meant. [`emit()`] writes what all Slurm versions from 25.05 on read.
#![forbid(unsafe_code)]

mod emit;
pub mod node;
mod read;

use std::fmt;

use crate::hostlist::HostListError;
use crate::names::NameError;
use crate::sizes::BlockSizesError;
use crate::topology::Topology;

pub use emit::{emit, emit_with_comments};

/// Largest text that is read. 50,000 nodes need about 1 MiB.
pub const TEXT_LEN_MAX: usize = 16 << 20;

/// Why a text is not a `topology.yaml`. Lines count from 1.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    /// Not YAML.
    #[error("line {line}: not valid YAML: {what}")]
    Syntax {
        /// Where.
        line: usize,
        /// The parser's words.
        what: String,
    },
    /// Larger than [`TEXT_LEN_MAX`] or nested too deeply.
    #[error("line {line}: {what}")]
    TooLarge {
        /// Where.
        line: usize,
        /// Which bound.
        what: String,
    },
    /// YAML that Slurm's reader does not take: aliases, several documents, keys that are not text, repeated keys.
    #[error("line {line}: {what}")]
    Unsupported {
        /// Where.
        line: usize,
        /// In words.
        what: String,
    },
    /// Nothing in it. Slurm refuses an empty file and crashes on an empty list.
    #[error("no topology in it")]
    Empty,
    /// A value has another shape than Slurm wants.
    #[error("line {line}: {field} must be {wanted}, found {found}")]
    Shape {
        /// Where.
        line: usize,
        /// The key.
        field: String,
        /// What Slurm wants.
        wanted: &'static str,
        /// What is there.
        found: String,
    },
    /// A topology without a kind, or with two.
    #[error("line {line}: topology {name:?} {what}")]
    Kind {
        /// Where.
        line: usize,
        /// Its name.
        name: String,
        /// In words.
        what: String,
    },
    /// A block topology that ends slurmctld.
    #[error("line {line}: {what}")]
    Blocks {
        /// Where.
        line: usize,
        /// In words.
        what: String,
    },
    /// Block sizes that end slurmctld.
    #[error("line {line}: bad block_sizes")]
    Sizes {
        /// Where.
        line: usize,
        /// Which rule.
        source: BlockSizesError,
    },
    /// A block name that cannot be used.
    #[error("line {line}: bad block name")]
    BlockName {
        /// Where.
        line: usize,
        /// Which rule.
        source: NameError,
    },
    /// A host list that cannot be read.
    #[error("line {line}: bad nodes of block {block:?}")]
    Nodes {
        /// Where.
        line: usize,
        /// The block.
        block: String,
        /// Which rule.
        source: HostListError,
    },
}

/// Something that Slurm accepts though it is probably not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where, from 1.
    pub line: usize,
    /// In words.
    pub what: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// Reads the topologies of a `topology.yaml` in the order of the file; never an empty list.
///
/// # Errors
/// [`YamlError`] for the first thing that Slurm would refuse, crash on, or die of.
pub fn parse(text: &str) -> Result<Vec<Topology>, YamlError> {
    parse_with_notes(text).map(|(topologies, _)| topologies)
}

/// As [`parse`], with what Slurm would silently take in another sense or ignore.
///
/// # Errors
/// As [`parse`].
pub fn parse_with_notes(text: &str) -> Result<(Vec<Topology>, Vec<Note>), YamlError> {
    read::topologies(&node::read(text)?)
}

#[cfg(test)]
mod tests;
