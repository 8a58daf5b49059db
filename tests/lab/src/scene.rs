//! A situation: racks, the state of their trays, and the job that is asked for.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::protocol::{JobQuestion, Question};

/// A synthetic cluster. Nodes are `n1`, `n2`, ... in the order of the racks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Trays of each rack, each one NVLink partition and one block.
    pub racks: Vec<u32>,
    /// Nodes after the last rack that are in no block.
    #[serde(default)]
    pub loose: u32,
    /// `block_sizes` of topology.yaml; empty: left out, which for Slurm means five levels.
    #[serde(default)]
    pub block_sizes: Vec<u32>,
}

impl Cluster {
    /// All nodes.
    pub fn nodes(&self) -> usize {
        (self.racks.iter().sum::<u32>() + self.loose) as usize
    }

    /// The rack of each node; None for loose ones.
    pub fn rack_of_nodes(&self) -> Vec<Option<usize>> {
        let racked = self
            .racks
            .iter()
            .enumerate()
            .flat_map(|(rack, &trays)| std::iter::repeat_n(Some(rack), trays as usize));
        racked.chain(std::iter::repeat_n(None, self.loose as usize)).collect()
    }

    /// Trays of the largest rack.
    pub fn largest(&self) -> u32 {
        self.racks.iter().copied().max().unwrap_or(0)
    }

    /// Whether Slurm makes aggregated blocks: there is more than one size, or none is given, which means five.
    pub fn has_aggregates(&self) -> bool {
        self.block_sizes.len() != 1
    }

    /// The blocks as topology.yaml has them.
    pub fn topology_yaml(&self) -> String {
        let mut text = "---\n- topology: lab\n  cluster_default: true\n  block:\n".to_owned();
        if !self.block_sizes.is_empty() {
            text.push_str("    block_sizes:\n");
            for size in &self.block_sizes {
                let _ = writeln!(text, "      - {size}");
            }
        }
        text.push_str("    blocks:\n");
        let mut first = 1;
        for (rack, trays) in self.racks.iter().enumerate() {
            let last = first + trays - 1;
            let _ = writeln!(text, "      - block: b{}\n        nodes: n[{first}-{last}]", rack + 1);
            first = last + 1;
        }
        text
    }
}

/// The state of a tray.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tray {
    /// Another job has it.
    pub busy: bool,
    /// It is drained.
    pub drained: bool,
    /// CPUs that it can give to the job while it is neither busy nor drained, 1 to 64.
    pub cpus: u16,
    /// Scheduling weight.
    pub weight: u32,
}

/// The job that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What Slurm's evaluator is told.
    pub asked: JobQuestion,
    /// Nodes that the job must not use, by position.
    pub excluded: Vec<u32>,
}

/// A situation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// Where.
    pub cluster: Cluster,
    /// Each node's state.
    pub trays: Vec<Tray>,
    /// Who.
    pub job: Job,
}

impl Scene {
    /// CPUs that a node can give to the job; 0 when it is not usable: also when it cannot hold the tasks of a node,
    /// which Slurm finds out before it asks a topology plugin.
    pub fn cpus(&self, node: u32) -> u16 {
        let tray = self.trays[node as usize];
        let asked = &self.job.asked;
        let least = asked.ntasks_per_node.max(1).saturating_mul(asked.cpus_per_task);
        let usable = !tray.busy && !tray.drained && tray.cpus >= least && !self.job.excluded.contains(&node);
        if usable { tray.cpus } else { 0 }
    }

    /// How many nodes the job is to get at least: like stock's block evaluation, the lesser of the two.
    pub fn wanted(&self) -> u32 {
        self.job.asked.min_nodes.min(self.job.asked.req_nodes)
    }

    /// The question for the host.
    pub fn question(&self) -> Question {
        let drained = (0..).zip(&self.trays).filter(|(_, tray)| tray.drained).map(|(node, _)| node);
        Question {
            cpus: (0..self.trays.len() as u32).map(|node| self.cpus(node)).collect(),
            weights: self.trays.iter().map(|tray| tray.weight).collect(),
            drained: drained.collect(),
            job: self.job.asked.clone(),
        }
    }
}

/// A job of so many whole nodes and nothing else.
pub fn plain_job(nodes: u32) -> JobQuestion {
    JobQuestion {
        min_nodes: nodes,
        req_nodes: nodes,
        max_nodes: nodes,
        min_cpus: nodes,
        cpus_per_task: 1,
        num_tasks: 0,
        ntasks_per_node: 0,
        segment: 0,
        spread: false,
        consolidate: false,
        exclusive: true,
        required: Vec::new(),
    }
}
