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
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

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
    /// Whether the node can run no job now, as far as the source knows.
    pub unusable: bool,
    /// Its Features, when the source is Slurm.
    pub features: Vec<String>,
    /// GPUs that the node should have, when the source knows.
    pub expected_gpus: Option<u32>,
}

impl Observation {
    /// What a source saw just now that knows nothing else of the node.
    pub fn now(node: NodeName, seen: Seen) -> Self {
        Self { node, seen, stale: None, unusable: false, features: Vec::new(), expected_gpus: None }
    }
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

/// A piece of JSON as a type; else why not, without a line and column that mean nothing outside of the piece.
fn typed<T: DeserializeOwned>(raw: &RawValue) -> Result<T, String> {
    let plain = |_| serde_json::from_str::<serde_json::Value>(raw.get()).and_then(serde_json::from_value);
    serde_json::from_str(raw.get()).or_else(plain).map_err(|error| error.to_string())
}
