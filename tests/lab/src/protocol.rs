#![forbid(unsafe_code)]
//! What the lab and its host programs say to each other: one JSON object a line.

use serde::{Deserialize, Serialize};

/// How a job asks for GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gpus {
    /// `--gpus-per-node`.
    PerNode(u16),
    /// `--gpus`: of all its nodes together.
    PerJob(u32),
    /// `--gpus-per-task`.
    PerTask(u16),
}

/// A job as Slurm's evaluator gets to see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobQuestion {
    /// Least number of nodes.
    pub min_nodes: u32,
    /// Requested number of nodes; the upper end of a range.
    pub req_nodes: u32,
    /// Most nodes.
    pub max_nodes: u32,
    /// CPUs of the whole job.
    pub min_cpus: u32,
    /// CPUs of each task, at least 1.
    pub cpus_per_task: u16,
    /// Tasks; 0 when not given.
    pub num_tasks: u32,
    /// Tasks on each node; 0 when not given.
    pub ntasks_per_node: u16,
    /// `--segment`; 0 when not given.
    pub segment: u16,
    /// `--spread-segments`.
    pub spread: bool,
    /// `--consolidate-segments`.
    pub consolidate: bool,
    /// Whole nodes only.
    pub exclusive: bool,
    /// Nodes that must be used, by position.
    pub required: Vec<u32>,
    /// GPUs, if it asks for any.
    pub gpus: Option<Gpus>,
    /// How much of a hierarchical resource it wants on each node; 0 for none.
    pub hres: u32,
}

/// A question: which nodes does the job get?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// CPUs that each node can give to this job; 0: the node is not usable.
    pub cpus: Vec<u16>,
    /// CPUs of each node that other jobs have.
    pub taken: Vec<u16>,
    /// GPUs of each node that other jobs have.
    pub gpus_taken: Vec<u16>,
    /// Weight of each node.
    pub weights: Vec<u32>,
    /// Drained nodes, by position.
    pub drained: Vec<u32>,
    /// What is left of the hierarchical resource on each of its leaves; empty when the job wants none.
    pub hres_left: Vec<u32>,
    /// The leaf of each node; empty as above.
    pub hres_leaf: Vec<u16>,
    /// The job.
    pub job: JobQuestion,
}

/// A question about whole trays that are all alike, in few words: the replay asks it a hundred thousand times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraysQuestion {
    /// Nodes that the job may have, as runs: the first one and how many.
    pub usable: Vec<(u32, u32)>,
    /// Drained nodes, as runs.
    pub drained: Vec<(u32, u32)>,
    /// CPUs of each node.
    pub cpus: u16,
    /// The job.
    pub job: JobQuestion,
}

impl TraysQuestion {
    /// The same in full, for a cluster of so many nodes.
    pub fn in_full(self, nodes: usize) -> Question {
        let in_runs = |runs: Vec<(u32, u32)>| {
            runs.into_iter().flat_map(|(first, count)| first..first.saturating_add(count))
        };
        let mut cpus = vec![0; nodes];
        for node in in_runs(self.usable) {
            if let Some(of_node) = cpus.get_mut(node as usize) {
                *of_node = self.cpus;
            }
        }
        Question {
            cpus,
            taken: vec![0; nodes],
            gpus_taken: vec![0; nodes],
            weights: vec![1; nodes],
            drained: in_runs(self.drained).filter(|&node| (node as usize) < nodes).collect(),
            hres_left: Vec::new(),
            hres_leaf: Vec::new(),
            job: self.job,
        }
    }
}

/// Who answers a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answerer {
    /// The plugin that Slurm loaded.
    Plugin,
    /// The first usable nodes, as many as wanted, handed to Slurm's flat evaluator: a choice without any thought.
    Floor,
}

/// A question about everything that is not the choice of nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryQuestion {
    /// Seed of the sets of nodes that are asked about.
    pub seed: u64,
    /// Names of blocks that are asked about.
    pub blocks: Vec<String>,
}

/// From the lab to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Answer a question.
    Ask(Box<Question>),
    /// Answer a question about whole trays that are all alike.
    AskTrays(TraysQuestion),
    /// Ask all other entry points of the plugin.
    Entries(EntryQuestion),
    /// Answer the last question again so many times, and say how long each took.
    Time {
        /// Who answers.
        answerer: Answerer,
        /// How many times.
        repetitions: u32,
    },
    /// Put a node into a block, or out of all, as `scontrol update nodename=... topology=...` does.
    Move {
        /// Its position.
        node: u32,
        /// The block's name.
        block: Option<String>,
    },
    /// Destroy the plugin's model and build it again from the configuration.
    Rebuild,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Slurm's return code, 0 for a placement.
    pub rc: i32,
    /// Nodes that the job gets, by position; empty when it gets none.
    pub nodes: Vec<u32>,
    /// Whether everything that Slurm goes on using was left as it should be.
    pub intact: bool,
}

/// From the host to the lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The host has started and built its cluster.
    Ready {
        /// How long the plugin took to build its model, in nanoseconds.
        build_ns: u64,
    },
    /// The answer to a question.
    Answer(Answer),
    /// What the other entry points answer, in lines.
    Entries(String),
    /// Nanoseconds of each repetition.
    Times(Vec<u64>),
    /// Slurm's return code for a change.
    Changed(i32),
    /// The host cannot go on.
    Failed(String),
}
