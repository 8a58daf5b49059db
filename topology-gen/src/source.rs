//! Where facts come from: this tray's NVML, Slurm's node list, a file, nvidia-smi, a command for each node.
//!
//! A source says what was seen and never judges it.
#![forbid(unsafe_code)]

pub mod extra;
pub mod file;
pub mod nvidia_smi;
pub mod nvml;
pub mod remote;
pub mod slurm;

use fabric::{NodeName, TrayReading};

/// What was seen of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Its reading.
    Reading(TrayReading),
    /// No reading, or none that can be understood; in words.
    Silent(String),
    /// A node that is not meant to have GPUs; in words.
    NoGpus(String),
}

/// One node and what was seen of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The node.
    pub node: NodeName,
    /// What was seen.
    pub seen: Seen,
    /// Why what was seen may be old, when the node does not answer now.
    pub stale: Option<String>,
    /// GPUs that the node should have, when the source knows.
    pub expected_gpus: Option<u32>,
}

/// Everything one source said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory {
    /// In the order of the source.
    pub observations: Vec<Observation>,
    /// Whether the source names every node there is, so that a node it does not name is gone.
    pub complete: bool,
    /// What of the source could not be used, in words.
    pub notes: Vec<String>,
}
