//! Topologies as text: YAML for Slurm, tables and SVG for people, JSON for programs. Nothing here looks anything up.
#![forbid(unsafe_code)]

pub mod json;
pub mod labels;
pub mod svg;
pub mod table;
pub mod tiers;
pub mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use fabric::topology::BlockTopology;
use fabric::{HostList, NodeName};
use serde::Deserialize;

/// A job and the nodes it runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id as text, so that array and heterogeneous jobs can be shown too.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its nodes.
    pub nodes: HostList,
}

/// Why a file of job placements cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    /// Not JSON of the form `{"jobs":[{"id":1,"name":"a","nodes":"n[1-4]"}]}`.
    #[error(
        "job placement is not JSON of the form {{\"jobs\":[{{\"id\":1,\"name\":\"a\",\"nodes\":\"n[1-4]\"}}]}}"
    )]
    Json {
        /// The parser's words.
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
struct JobsFile {
    jobs: Vec<JobEntry>,
}

#[derive(Deserialize)]
struct JobEntry {
    id: IdText,
    #[serde(default)]
    name: String,
    nodes: HostList,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum IdText {
    Number(u64),
    Text(String),
}

/// Reads job placements.
///
/// # Errors
/// [`JobsError`].
pub fn parse_jobs(text: &str) -> Result<Vec<Job>, JobsError> {
    let file: JobsFile = serde_json::from_str(text).map_err(|source| JobsError::Json { source })?;
    let job = |entry: JobEntry| Job {
        id: match entry.id {
            IdText::Number(id) => id.to_string(),
            IdText::Text(id) => id,
        },
        name: entry.name,
        nodes: entry.nodes,
    };
    Ok(file.jobs.into_iter().map(job).collect())
}

/// One tray in a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tray {
    /// Its node.
    pub node: NodeName,
    /// Jobs on it, as positions in [`Racks::jobs`].
    pub jobs: Vec<usize>,
    /// Whether it says nothing now and is shown where it was last.
    pub stale: bool,
}

/// One NVLink partition in a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The block's name.
    pub name: String,
    /// Its trays.
    pub trays: Vec<Tray>,
}

/// What tables and pictures show: the blocks, and which job sits on which trays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Racks {
    /// The base size, when the topology has one.
    pub base: Option<u32>,
    /// The blocks in their order.
    pub columns: Vec<Column>,
    /// Nodes of jobs that are in no block.
    pub outside: Vec<Tray>,
    /// The jobs in the order given.
    pub jobs: Vec<Job>,
}

impl Racks {
    /// Lays jobs over blocks.
    pub fn new(topology: &BlockTopology, jobs: Vec<Job>, stale: &BTreeSet<NodeName>) -> Self {
        let mut on_node: BTreeMap<&NodeName, Vec<usize>> = BTreeMap::new();
        for (at, job) in jobs.iter().enumerate() {
            for node in &job.nodes {
                let there = on_node.entry(node).or_default();
                if there.last() != Some(&at) {
                    there.push(at);
                }
            }
        }
        let tray = |node: &NodeName| Tray {
            node: node.clone(),
            jobs: on_node.get(node).cloned().unwrap_or_default(),
            stale: stale.contains(node),
        };
        let columns: Vec<Column> = topology
            .blocks
            .iter()
            .map(|block| Column {
                name: block.name.to_string(),
                trays: block.nodes.iter().map(tray).collect(),
            })
            .collect();
        let inside: BTreeSet<&NodeName> = topology.blocks.iter().flat_map(|block| &block.nodes).collect();
        let outside = on_node.keys().filter(|node| !inside.contains(*node)).map(|node| tray(node)).collect();
        Self { base: topology.base_size(), columns, outside, jobs }
    }

    /// The blocks a job has trays in, with the number of them, in block order.
    pub fn blocks_of(&self, job: usize) -> Vec<(&str, usize)> {
        let count = |column: &Column| column.trays.iter().filter(|tray| tray.jobs.contains(&job)).count();
        self.columns
            .iter()
            .map(|column| (column.name.as_str(), count(column)))
            .filter(|(_, trays)| *trays > 0)
            .collect()
    }

    /// What a reader wants to know of a job: its trays and how many NVLink partitions they lie in.
    pub fn sentence(&self, job: usize) -> String {
        let blocks = self.blocks_of(job);
        let inside: usize = blocks.iter().map(|(_, trays)| trays).sum();
        let outside = self.outside.iter().filter(|tray| tray.jobs.contains(&job)).count();
        let mut words =
            format!("{} in {}", count(inside + outside, "tray"), count(blocks.len(), "NVLink partition"));
        if outside > 0 {
            words.push_str(&format!(", {outside} in no block"));
        }
        words
    }
}

/// A number with its noun, in the plural where it needs one.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use fabric::{Block, BlockName, BlockSizes};

    /// Two racks of three trays with two jobs, one of which spans them and uses a node outside.
    pub(crate) fn racks() -> Racks {
        let block = |name: &str, nodes: &str| Block {
            name: BlockName::new(name).unwrap(),
            nodes: HostList::parse(nodes).unwrap(),
        };
        let topology = BlockTopology {
            sizes: Some(BlockSizes::new(vec![3]).unwrap()),
            blocks: vec![
                block("nvl-aaaaaaaa-1", "n[1-3]"),
                block("gone", ""),
                block("nvl-bbbbbbbb-1", "n[4-6]"),
            ],
        };
        let jobs = r#"{"jobs":[{"id":7,"name":"train <a&b>","nodes":"n[1-2]"},{"id":"8_1","nodes":"n2,n[4-5],x1"}]}"#;
        Racks::new(&topology, parse_jobs(jobs).unwrap(), &[NodeName::new("n6").unwrap()].into())
    }

    #[test]
    fn jobs_are_counted_by_block() {
        let racks = racks();
        assert_eq!(racks.blocks_of(1), [("nvl-aaaaaaaa-1", 1), ("nvl-bbbbbbbb-1", 2)]);
        assert_eq!(racks.sentence(0), "2 trays in 1 NVLink partition");
        assert_eq!(racks.sentence(1), "4 trays in 2 NVLink partitions, 1 in no block");
        assert_eq!(racks.outside.iter().map(|t| t.node.as_str()).collect::<Vec<_>>(), ["x1"]);
    }

    #[test]
    fn placements_of_another_form_are_refused() {
        for text in ["[]", "{}", r#"{"jobs":[{"id":1}]}"#, r#"{"jobs":[{"id":1,"nodes":"n[3-1]"}]}"#] {
            assert!(parse_jobs(text).is_err(), "{text}");
        }
    }
}
