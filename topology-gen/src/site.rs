//! What Slurm knows of the nodes, from `scontrol show nodes --json`: which there are, how they are, where they stand.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use fabric::NodeName;
use serde::Deserialize;

use crate::source::slurm::SlurmError;
use crate::version::SlurmVersion;

/// States in which a node takes no new job (Slurm 26.05.3 src/plugins/data_parser, node states).
pub(crate) const UNUSABLE: [&str; 9] = [
    "DOWN",
    "DRAIN",
    "FAIL",
    "NOT_RESPONDING",
    "POWERED_DOWN",
    "POWERING_DOWN",
    "UNKNOWN",
    "FUTURE",
    "INVALID_REG",
];
/// States in which a node runs something or is kept for somebody.
const BUSY: [&str; 6] = ["ALLOCATED", "MIXED", "COMPLETING", "RESERVED", "PLANNED", "BLOCKED"];
/// States in which a node's slurmd cannot be expected to answer.
pub(crate) const AWAY: [&str; 6] =
    ["DOWN", "NOT_RESPONDING", "POWERED_DOWN", "POWERING_DOWN", "UNKNOWN", "FUTURE"];

/// One node as Slurm sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlurmNode {
    /// State words.
    pub state: Vec<String>,
    /// Slurm partitions it is in.
    pub partitions: Vec<String>,
    /// Whether its Gres names GPUs.
    pub has_gpus: bool,
    /// `Topology=` as Slurm has it for a dynamic node, from slurm.conf, or from an update: `nvl:b1,ib:s3`; else empty.
    pub topology: String,
    /// When its slurmd started or last read its configuration, in seconds since 1970; 0 when it has not registered.
    pub slurmd_start: u64,
}

impl SlurmNode {
    fn is_one_of(&self, words: &[&str]) -> bool {
        self.state.iter().any(|word| words.contains(&word.as_str()))
    }

    /// Whether Slurm made it without slurm.conf, or may power it down. Such a node keeps its `Topology=` through reloads, other
    /// nodes take the file then (Slurm 26.05.3 src/slurmctld/node_mgr.c).
    pub fn is_dynamic(&self) -> bool {
        self.is_one_of(&["DYNAMIC_NORM", "DYNAMIC_FUTURE", "CLOUD"])
    }

    /// Whether it can run jobs, now or when those on it have ended.
    pub fn is_healthy(&self) -> bool {
        !self.is_one_of(&UNUSABLE)
    }

    /// Whether a whole-node job could start on it now.
    pub fn is_free(&self) -> bool {
        self.is_healthy() && !self.is_one_of(&BUSY)
    }

    /// Whether its slurmd should answer.
    pub fn answers(&self) -> bool {
        !self.is_one_of(&AWAY)
    }
}

/// All nodes, and the version that listed them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Site {
    /// The version of the scontrol that printed the list, which is the controller's on a sound installation.
    pub version: Option<SlurmVersion>,
    /// Name of the cluster; empty when the list does not say it.
    pub cluster: String,
    /// The nodes by name.
    pub nodes: BTreeMap<NodeName, SlurmNode>,
}

#[derive(Deserialize)]
struct Answer {
    nodes: Vec<RawNode>,
    #[serde(default)]
    meta: Meta,
}

#[derive(Deserialize, Default)]
struct Meta {
    #[serde(default)]
    slurm: Release,
}

#[derive(Deserialize, Default)]
struct Release {
    #[serde(default)]
    release: String,
    #[serde(default)]
    cluster: String,
}

#[derive(Deserialize)]
struct RawNode {
    name: String,
    #[serde(default)]
    state: Vec<String>,
    #[serde(default)]
    partitions: Vec<String>,
    #[serde(default)]
    gres: Option<String>,
    #[serde(default)]
    topology: Option<String>,
    #[serde(default)]
    slurmd_start_time: Option<Time>,
}

#[derive(Deserialize)]
struct Time {
    #[serde(default)]
    number: u64,
}

/// Reads the node list. Nodes whose names are none are left out.
///
/// # Errors
/// [`SlurmError::Json`] when the text is not a node list.
pub fn parse(text: &str) -> Result<Site, SlurmError> {
    let answer: Answer = serde_json::from_str(text).map_err(|source| SlurmError::Json { source })?;
    let Release { release, cluster } = answer.meta.slurm;
    let mut site = Site { version: release.parse().ok(), cluster, ..Site::default() };
    for raw in answer.nodes {
        let Ok(name) = NodeName::new(raw.name) else { continue };
        let gres = raw.gres.unwrap_or_default();
        let node = SlurmNode {
            state: raw.state,
            partitions: raw.partitions,
            has_gpus: gres.split(',').any(|item| item == "gpu" || item.starts_with("gpu:")),
            topology: raw.topology.unwrap_or_default(),
            slurmd_start: raw.slurmd_start_time.map_or(0, |time| time.number),
        };
        site.nodes.insert(name, node);
    }
    Ok(site)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{RACK_A, node_list, rack, silent};

    #[test]
    fn states_decide_who_can_run_jobs() {
        let site = parse(&node_list(&[rack("n[1-2]", RACK_A), silent("n3")])).unwrap();
        let node = |name: &str| site.nodes.get(name).unwrap();
        assert!(node("n1").is_free() && node("n1").has_gpus && node("n1").answers());
        assert!(!node("n3").is_healthy() && !node("n3").answers());
        let with = |words: &[&str]| SlurmNode {
            state: words.iter().map(|word| (*word).to_owned()).collect(),
            ..SlurmNode::default()
        };
        assert!(with(&["ALLOCATED"]).is_healthy() && !with(&["ALLOCATED"]).is_free());
        assert!(!with(&["IDLE", "DRAIN"]).is_healthy() && with(&["IDLE", "DRAIN"]).answers());
        assert!(parse("[]").is_err());
    }
}
