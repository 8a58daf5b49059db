//! Which trays share this tray's IMEX domain: the job's nodes that lie in this tray's block.
//!
//! A block is one NVLink partition. All trays of a job read the same `topology.yaml` and the same host list, so all
//! compute the same members in the same order, without asking anybody.
#![forbid(unsafe_code)]

use fabric::hostlist::HostList;
use fabric::names::{BlockName, NodeName};
use fabric::topology::{Block, BlockTopology, Topology, cluster_default};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Largest `topology.yaml` that is read, in bytes; 50,000 nodes take about 1 MB.
const LEN_MAX: u64 = 64 << 20;

/// The topology cannot be used.
#[derive(Debug, Error)]
pub enum MembersError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is not a topology file.
    #[error("cannot understand {path}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: fabric::slurm_yaml::YamlError,
    },
    /// It is larger than any real one.
    #[error("{path} has more than {LEN_MAX} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// This node is not among the job's.
    #[error("node {node} is not in the job's node list {nodes}")]
    NotInJob {
        /// This node.
        node: NodeName,
        /// The job's nodes.
        nodes: HostList,
    },
}

/// The trays of one job in one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    /// The block.
    pub block: BlockName,
    /// The trays in the order of the job's node list, each once.
    pub nodes: Vec<NodeName>,
    /// This tray's position in `nodes`.
    pub own_index: usize,
}

/// Reads `topology.yaml` beside `slurm.conf`; no file is no topology.
///
/// # Errors
/// [`MembersError`] when there is one that cannot be used.
pub fn load_topologies(slurm_conf: &Path) -> Result<Vec<Topology>, MembersError> {
    let path = slurm_conf.parent().unwrap_or(Path::new("/")).join("topology.yaml");
    let length = match std::fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(MembersError::Read { path, source }),
    };
    if length > LEN_MAX {
        return Err(MembersError::TooLarge { path });
    }
    let text =
        std::fs::read_to_string(&path).map_err(|source| MembersError::Read { path: path.clone(), source })?;
    fabric::slurm_yaml::parse(&text).map_err(|source| MembersError::Parse { path, source })
}

/// The block of `node`: in the cluster's default topology, else in the first topology that holds it.
#[must_use]
pub fn block_of<'a>(topologies: &'a [Topology], node: &NodeName) -> Option<&'a Block> {
    in_order(topologies).find_map(|topology| topology.block_of(node.as_ref()))
}

/// All topologies with blocks, the cluster's default first.
fn in_order(topologies: &[Topology]) -> impl Iterator<Item = &BlockTopology> {
    let default = cluster_default(topologies).and_then(Topology::block);
    default.into_iter().chain(topologies.iter().filter_map(Topology::block))
}

/// The job's trays in `block`, in the job's order.
///
/// # Errors
/// [`MembersError::NotInJob`] when the own node is not among them.
pub fn members(block: &Block, own: &NodeName, job_nodes: &HostList) -> Result<Members, MembersError> {
    let in_block: HashSet<&NodeName> = block.nodes.iter().collect();
    let mut seen = HashSet::new();
    let nodes: Vec<NodeName> =
        job_nodes.iter().filter(|node| in_block.contains(node) && seen.insert(*node)).cloned().collect();
    match nodes.iter().position(|node| node == own) {
        Some(own_index) => Ok(Members { block: block.name.clone(), nodes, own_index }),
        None => Err(MembersError::NotInJob { node: own.clone(), nodes: job_nodes.clone() }),
    }
}

/// One block of a job that lies in several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The block.
    pub block: BlockName,
    /// The first of the job's trays in it.
    pub first: NodeName,
    /// How many of the job's trays are in it.
    pub trays: usize,
}

/// The job's trays by block, in the order of the job's node list; trays in no block are left out. The same on all trays.
#[must_use]
pub fn shares(topologies: &[Topology], job_nodes: &HostList) -> Vec<Share> {
    let mut blocks: HashMap<&NodeName, &BlockName> = HashMap::new();
    for topology in in_order(topologies) {
        for block in &topology.blocks {
            for node in block.nodes.iter() {
                blocks.entry(node).or_insert(&block.name);
            }
        }
    }
    let mut shares: Vec<Share> = Vec::new();
    let mut seen = HashSet::new();
    for node in job_nodes.iter().filter(|node| seen.insert(*node)) {
        let Some(block) = blocks.get(node) else { continue };
        match shares.iter_mut().find(|share| share.block == **block) {
            Some(share) => share.trays += 1,
            None => shares.push(Share { block: (*block).clone(), first: node.clone(), trays: 1 }),
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use fabric::topology::TopologyKind;
    use proptest::prelude::*;

    fn topology(name: &str, cluster_default: bool, blocks: &[(&str, &str)]) -> Topology {
        let blocks = blocks
            .iter()
            .map(|(name, nodes)| Block {
                name: BlockName::new(*name).unwrap(),
                nodes: HostList::parse(nodes).unwrap(),
            })
            .collect();
        Topology {
            name: name.to_owned(),
            cluster_default,
            kind: TopologyKind::Block(BlockTopology { sizes: None, blocks }),
        }
    }

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn found(job: &str, own: &str) -> String {
        let topologies = [topology("t", true, &[("a", "n[1-4]"), ("b", "n[5-8]")])];
        let block = block_of(&topologies, &node(own)).unwrap();
        let members = members(block, &node(own), &HostList::parse(job).unwrap()).unwrap();
        let names: Vec<&str> = members.nodes.iter().map(NodeName::as_str).collect();
        format!("{} {} {}", members.block, names.join(" "), members.own_index)
    }

    #[test]
    fn a_job_over_two_blocks_has_a_domain_in_each() {
        assert_eq!(found("n[3-6]", "n3"), "a n3 n4 0");
        assert_eq!(found("n[3-6]", "n6"), "b n5 n6 1");
    }

    #[test]
    fn shares_are_in_the_order_of_the_job_and_agree_with_the_members() {
        let topologies = [topology("t", true, &[("a", "n[1-4]"), ("b", "n[5-8]")])];
        let job = HostList::parse("n[7,3,8,3],x1,n4").unwrap();
        let found: Vec<String> = shares(&topologies, &job)
            .iter()
            .map(|share| format!("{} {} {}", share.block, share.first, share.trays))
            .collect();
        assert_eq!(found, ["b n7 2", "a n3 2"]);
        for share in shares(&topologies, &job) {
            let block = block_of(&topologies, &share.first).unwrap();
            let members = members(block, &share.first, &job).unwrap();
            assert_eq!((members.own_index, members.nodes.len()), (0, share.trays));
        }
        assert_eq!(shares(&topologies, &HostList::parse("x[1-3]").unwrap()), []);
    }

    #[test]
    fn order_is_that_of_the_job_and_a_name_counts_once() {
        assert_eq!(found("n4,n2,n4,n9,n1", "n1"), "a n4 n2 n1 2");
    }

    #[test]
    fn the_default_topology_goes_first_and_another_one_helps_out() {
        let topologies = [
            topology("first", false, &[("x", "n[1-9]")]),
            topology("default", true, &[("y", "n[1-4]")]),
            Topology { name: "flat".to_owned(), cluster_default: false, kind: TopologyKind::Flat },
        ];
        assert_eq!(block_of(&topologies, &node("n1")).unwrap().name.as_str(), "y");
        assert_eq!(block_of(&topologies, &node("n5")).unwrap().name.as_str(), "x");
        assert!(block_of(&topologies, &node("m1")).is_none());
    }

    #[test]
    fn a_job_that_does_not_have_this_node_is_refused() {
        let topologies = [topology("t", true, &[("a", "n[1-4]")])];
        let block = block_of(&topologies, &node("n1")).unwrap();
        let error = members(block, &node("n1"), &HostList::parse("n[2-3]").unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "node n1 is not in the job's node list n[2-3]");
    }

    #[test]
    fn no_topology_file_is_no_topology() {
        let temp = tempfile::tempdir().unwrap();
        assert!(load_topologies(&temp.path().join("slurm.conf")).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn all_members_compute_the_same_list(job in proptest::collection::vec(1u32..9, 1..12)) {
            let topologies = [topology("t", true, &[("a", "n[1-4]"), ("b", "n[5-8]")])];
            let nodes: HostList = job.iter().map(|number| node(&format!("n{number}"))).collect();
            for own in nodes.iter() {
                let block = block_of(&topologies, own).unwrap();
                let mine = members(block, own, &nodes).unwrap();
                prop_assert_eq!(&mine.nodes[mine.own_index], own);
                for other in &mine.nodes {
                    prop_assert_eq!(&members(block, other, &nodes).unwrap().nodes, &mine.nodes);
                }
            }
        }
    }
}
