//! A situation: racks, the state of their trays, and the job that is asked for.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::protocol::{Gpus, JobQuestion, Question};

/// A synthetic cluster. Nodes are `n1`, `n2`, ... in the order of the racks, racks are blocks `b1`, `b2`, ...
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    /// GPUs of each node, 0 for none. Nodes with GPUs have two sockets and [`Cluster::cores`] cores.
    #[serde(default)]
    pub gpus: u16,
    /// Cores of each node with GPUs, an even number up to 64.
    #[serde(default)]
    pub cores: u16,
    /// What has changed since the start, in order.
    #[serde(default)]
    pub changes: Vec<Change>,
}

/// A change while Slurm runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Change {
    /// A node is put into a rack's block, or out of all blocks.
    Move {
        /// Its position.
        node: u32,
        /// Position of the rack.
        rack: Option<u32>,
    },
    /// The plugin's model is built again.
    Rebuild,
}

impl From<Change> for String {
    fn from(change: Change) -> Self {
        match change {
            Change::Move { node, rack: Some(rack) } => format!("n{} to b{}", node + 1, rack + 1),
            Change::Move { node, rack: None } => format!("n{} out", node + 1),
            Change::Rebuild => "rebuild".to_owned(),
        }
    }
}

impl TryFrom<String> for Change {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = |word: &str, kind: char| {
            let number = word.strip_prefix(kind)?.parse::<u32>().ok()?;
            number.checked_sub(1)
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let change = match words[..] {
            ["rebuild"] => Some(Self::Rebuild),
            [node, "out"] => number(node, 'n').map(|node| Self::Move { node, rack: None }),
            [node, "to", block] => number(node, 'n')
                .zip(number(block, 'b'))
                .map(|(node, rack)| Self::Move { node, rack: Some(rack) }),
            _ => None,
        };
        change.ok_or_else(|| format!("\"{text}\" is none of \"n1 to b2\", \"n1 out\", \"rebuild\""))
    }
}

impl Cluster {
    /// All nodes.
    pub fn nodes(&self) -> usize {
        (self.racks.iter().sum::<u32>() + self.loose) as usize
    }

    /// The rack of each node, after all changes; None for loose ones.
    pub fn rack_of_nodes(&self) -> Vec<Option<usize>> {
        let racked = self
            .racks
            .iter()
            .enumerate()
            .flat_map(|(rack, &trays)| std::iter::repeat_n(Some(rack), trays as usize));
        let mut racks: Vec<_> = racked.chain(std::iter::repeat_n(None, self.loose as usize)).collect();
        for change in &self.changes {
            if let Change::Move { node, rack } = *change {
                racks[node as usize] = rack.map(|rack| rack as usize);
            }
        }
        racks
    }

    /// The leaf of hierarchical resources of each node: its rack at the start. Nodes in none have a leaf of their own.
    pub fn leaf_of_nodes(&self) -> Vec<u16> {
        let all = self.racks.iter().copied().chain([self.loose]);
        (0..).zip(all).flat_map(|(leaf, nodes)| std::iter::repeat_n(leaf, nodes as usize)).collect()
    }

    /// Trays of each rack, after all changes.
    pub fn trays_of_racks(&self) -> Vec<u32> {
        let mut trays = vec![0; self.racks.len()];
        for rack in self.rack_of_nodes().into_iter().flatten() {
            trays[rack] += 1;
        }
        trays
    }

    /// Trays of the largest rack.
    pub fn largest(&self) -> u32 {
        self.trays_of_racks().into_iter().max().unwrap_or(0)
    }

    /// Partitions of one aggregated block on each level, ascending; none without levels. Positions count, not names: the
    /// groups are aligned.
    pub fn levels(&self) -> Vec<usize> {
        if self.block_sizes.is_empty() {
            return vec![2, 4, 8, 16];
        }
        let base = self.base().max(1);
        self.block_sizes.iter().map(|&size| (size / base) as usize).filter(|&group| group > 1).collect()
    }

    /// Trays of a base block: the first size, or else the trays that the first block with any had when the model was built.
    pub fn base(&self) -> u32 {
        if let Some(&first) = self.block_sizes.first() {
            return first;
        }
        let built = self.changes.iter().rposition(|change| *change == Change::Rebuild).unwrap_or(0);
        let then = Self { changes: self.changes[..built].to_vec(), ..self.clone() };
        then.trays_of_racks().into_iter().find(|&trays| trays > 0).unwrap_or(0)
    }

    /// Up to so many trays the site's base size promises that a job lies in one partition; without sizes to all that fit.
    pub fn promised(&self) -> u32 {
        self.block_sizes.first().copied().unwrap_or(u32::MAX)
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
    /// CPUs that it can give to the job while it is neither busy nor drained; 1 to 64 with those of other jobs.
    pub cpus: u16,
    /// CPUs that other jobs have, which share the tray.
    pub taken: u16,
    /// GPUs that other jobs have, which share the tray.
    pub gpus_taken: u16,
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
    /// What is left for the job of a hierarchical resource, on each rack and at last on all nodes in no rack, as they were at
    /// the start; empty when it wants none.
    pub hres_left: Vec<u32>,
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
    /// CPUs that a node can give to the job; 0 when it is not usable: also when it cannot hold the tasks or the GPUs of
    /// a node, which Slurm finds out before it asks a topology plugin.
    pub fn cpus(&self, node: u32) -> u16 {
        let tray = self.trays[node as usize];
        let asked = &self.job.asked;
        let least = asked.ntasks_per_node.max(1).saturating_mul(asked.cpus_per_task);
        let shared = tray.taken > 0 || tray.gpus_taken > 0;
        let gone = tray.busy || tray.drained || self.job.excluded.contains(&node);
        let usable = !gone
            && tray.cpus >= least
            && self.has_gpus(node)
            && self.has_hres(node)
            && !(asked.exclusive && shared);
        if usable { tray.cpus } else { 0 }
    }

    /// GPUs of a node that no other job has.
    pub fn free_gpus(&self, node: u32) -> u16 {
        self.cluster.gpus.saturating_sub(self.trays[node as usize].gpus_taken)
    }

    fn has_gpus(&self, node: u32) -> bool {
        let least = match self.job.asked.gpus {
            None => 0,
            Some(Gpus::PerNode(gpus)) => gpus,
            Some(Gpus::PerTask(gpus)) => gpus.saturating_mul(self.job.asked.ntasks_per_node.max(1)),
            Some(Gpus::PerJob(_)) => 1,
        };
        self.free_gpus(node) >= least
    }

    /// Whether the node's leaf has enough of the hierarchical resource for one node: slurmctld leaves others out.
    fn has_hres(&self, node: u32) -> bool {
        let leaf = || self.cluster.leaf_of_nodes()[node as usize];
        self.job.asked.hres == 0 || self.job.hres_left[usize::from(leaf())] >= self.job.asked.hres
    }

    /// How many nodes the job is to get at least: like stock's block evaluation, the lesser of the two.
    pub fn wanted(&self) -> u32 {
        self.job.asked.min_nodes.min(self.job.asked.req_nodes)
    }

    /// Whether a partition may have the trays, the CPUs and the GPUs of the job when all of its trays are free. What a tray
    /// has that is not usable now, Slurm does not tell: it counts as the best of the others. For CPUs that is the bound
    /// by which the plugin decides (`Survey::some_partition_may_have_cpus`), worked out here from the situation; a
    /// mistake in the idea itself does not show.
    pub fn may_fit_a_partition(&self) -> bool {
        let asked = &self.job.asked;
        let usable = |node: u32| Some(u32::from(self.cpus(node))).filter(|&cpus| cpus > 0);
        let best = (0..self.trays.len() as u32).filter_map(usable).max().unwrap_or(u32::MAX);
        let mut racks: Vec<Vec<u32>> = vec![Vec::new(); self.cluster.racks.len()];
        for (node, rack) in (0..).zip(self.cluster.rack_of_nodes()) {
            if let Some(rack) = rack {
                racks[rack].push(usable(node).unwrap_or(best));
            }
        }
        racks.iter_mut().any(|cpus| {
            cpus.sort_unstable_by_key(|&cpus| std::cmp::Reverse(cpus));
            let most: u64 = cpus.iter().take(asked.max_nodes as usize).map(|&cpus| u64::from(cpus)).sum();
            let gpus = match asked.gpus {
                Some(Gpus::PerJob(gpus)) => gpus,
                _ => 0,
            };
            let trays = (cpus.len() as u32).min(asked.max_nodes);
            cpus.len() as u32 >= self.wanted()
                && most >= u64::from(asked.min_cpus)
                && trays * u32::from(self.cluster.gpus) >= gpus
        })
    }

    /// The question for the host.
    pub fn question(&self) -> Question {
        let drained = (0..).zip(&self.trays).filter(|(_, tray)| tray.drained).map(|(node, _)| node);
        Question {
            cpus: (0..self.trays.len() as u32).map(|node| self.cpus(node)).collect(),
            taken: self.trays.iter().map(|tray| tray.taken).collect(),
            gpus_taken: self.trays.iter().map(|tray| tray.gpus_taken).collect(),
            weights: self.trays.iter().map(|tray| tray.weight).collect(),
            drained: drained.collect(),
            hres_left: self.job.hres_left.clone(),
            hres_leaf: if self.job.asked.hres > 0 { self.cluster.leaf_of_nodes() } else { Vec::new() },
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
        gpus: None,
        hres: 0,
    }
}

/// A tray that does nothing and has so many CPUs.
pub fn idle_tray(cpus: u16) -> Tray {
    Tray { busy: false, drained: false, cpus, taken: 0, gpus_taken: 0, weight: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_words_and_move_nodes() {
        let cluster = Cluster {
            racks: vec![2, 2],
            changes: ["n1 to b2", "n4 out", "rebuild", "n4 out"]
                .map(|text| Change::try_from(text.to_owned()).unwrap())
                .to_vec(),
            ..Cluster::default()
        };
        assert_eq!(cluster.rack_of_nodes(), [Some(1), Some(0), Some(1), None]);
        assert_eq!((cluster.trays_of_racks(), cluster.largest()), (vec![1, 2], 2));
        let words: Vec<String> = cluster.changes.iter().map(|&change| change.into()).collect();
        assert_eq!(words, ["n1 to b2", "n4 out", "rebuild", "n4 out"]);
        assert_eq!(
            Change::try_from("n0 to b1".to_owned()).unwrap_err(),
            "\"n0 to b1\" is none of \"n1 to b2\", \"n1 out\", \"rebuild\""
        );
    }
}
