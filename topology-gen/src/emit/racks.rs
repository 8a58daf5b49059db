//! What tables and pictures show: racks of NVLink partitions of trays, how each tray is, and which job lies where.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use fabric::identity::DomainId;
use fabric::topology::BlockTopology;
use fabric::{HostList, NodeName};

use super::{Job, State, count};

/// One tray.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tray {
    /// Its node.
    pub node: NodeName,
    /// How it is.
    pub state: State,
    /// Jobs on it, as positions in [`Racks::jobs`].
    pub jobs: Vec<usize>,
}

/// One NVLink partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The block's name.
    pub name: String,
    /// Its trays.
    pub trays: Vec<Tray>,
}

impl Partition {
    /// Its trays in one state.
    pub fn count(&self, state: State) -> usize {
        self.trays.iter().filter(|tray| tray.state == state).count()
    }

    /// Its nodes as Slurm writes them.
    pub fn nodes(&self) -> String {
        self.trays.iter().map(|tray| tray.node.clone()).collect::<HostList>().to_string()
    }
}

/// What is known beside the blocks and the jobs.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// How trays are.
    pub states: BTreeMap<NodeName, State>,
    /// The NVLink domain of trays; it brings the partitions of one rack together.
    pub domains: BTreeMap<NodeName, DomainId>,
    /// Trays with an NVLink partition that are in no block.
    pub strays: BTreeSet<NodeName>,
    /// How a tray without a job is when `states` does not have it.
    pub otherwise: Option<State>,
}

/// The whole picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Racks {
    /// The base size, when the topology has one.
    pub base: Option<u32>,
    /// The blocks in their order.
    pub partitions: Vec<Partition>,
    /// Positions of the blocks, those of one NVLink domain together.
    pub racks: Vec<Vec<usize>>,
    /// Trays that are in no block: of jobs that also have trays in blocks, and strays.
    pub outside: Vec<Tray>,
    /// The jobs that have trays in blocks, in the order of their first trays.
    pub jobs: Vec<Job>,
    /// How many other jobs there are.
    pub elsewhere: usize,
    /// For each job the blocks that it has trays in, and how many.
    shares: Vec<Vec<(usize, usize)>>,
}

impl Racks {
    /// Lays jobs and facts over blocks.
    pub fn new(topology: &BlockTopology, jobs: Vec<Job>, facts: &Facts) -> Self {
        let all = jobs.len();
        let jobs = in_order(topology, jobs);
        let mut on_node: BTreeMap<&NodeName, Vec<usize>> = BTreeMap::new();
        for (at, job) in jobs.iter().enumerate() {
            for node in &job.nodes {
                let there = on_node.entry(node).or_default();
                if there.last() != Some(&at) {
                    there.push(at);
                }
            }
        }
        let tray = |node: &NodeName| {
            let jobs = on_node.get(node).cloned().unwrap_or_default();
            let state = facts.states.get(node).copied().or(facts.otherwise).unwrap_or(State::Unknown);
            // Jobs are asked for last: one that is on an idle tray has just begun.
            let begun = !jobs.is_empty() && matches!(state, State::Idle | State::Unknown);
            let state = if begun { State::Allocated } else { state };
            Tray { node: node.clone(), state, jobs }
        };
        let partition = |block: &fabric::Block| Partition {
            name: block.name.to_string(),
            trays: block.nodes.iter().map(tray).collect(),
        };
        let partitions: Vec<Partition> = topology.blocks.iter().map(partition).collect();
        let inside: BTreeSet<&NodeName> = topology.blocks.iter().flat_map(|block| &block.nodes).collect();
        let outside: BTreeSet<&NodeName> = on_node.keys().copied().chain(&facts.strays).collect();
        let outside = outside.into_iter().filter(|node| !inside.contains(*node)).map(tray).collect();
        let shares = shares(jobs.len(), &partitions);
        let racks = by_domain(topology, facts);
        let elsewhere = all - jobs.len();
        Self { base: topology.base_size(), partitions, racks, outside, jobs, elsewhere, shares }
    }

    /// The blocks a job has trays in, with the number of them, in block order.
    pub fn blocks_of(&self, job: usize) -> Vec<(&str, usize)> {
        let shares = self.shares.get(job).map(Vec::as_slice).unwrap_or_default();
        let name = |at: usize| self.partitions.get(at).map(|partition| partition.name.as_str());
        shares.iter().filter_map(|(at, trays)| Some((name(*at)?, *trays))).collect()
    }

    /// Whether a job lies in more than one NVLink partition, or partly in none.
    pub fn is_spread(&self, job: usize) -> bool {
        self.blocks_of(job).len() > 1 || self.trays_outside(job) > 0
    }

    fn trays_outside(&self, job: usize) -> usize {
        self.outside.iter().filter(|tray| tray.jobs.contains(&job)).count()
    }

    /// What a reader wants to know of a job: its trays and how many NVLink partitions they lie in.
    pub fn sentence(&self, job: usize) -> String {
        let blocks = self.blocks_of(job);
        let inside: usize = blocks.iter().map(|(_, trays)| trays).sum();
        let outside = self.trays_outside(job);
        let mut words =
            format!("{} in {}", count(inside + outside, "tray"), count(blocks.len(), "NVLink partition"));
        if outside > 0 {
            words.push_str(&format!(", {outside} in no block"));
        }
        words
    }

    /// Trays in blocks.
    pub fn trays(&self) -> usize {
        self.partitions.iter().map(|partition| partition.trays.len()).sum()
    }

    /// Trays of the largest block.
    pub fn largest(&self) -> usize {
        self.partitions.iter().map(|partition| partition.trays.len()).max().unwrap_or(0)
    }

    /// How many trays of blocks are in each state that occurs.
    pub fn tally(&self) -> BTreeMap<State, usize> {
        let mut tally = BTreeMap::new();
        for tray in self.partitions.iter().flat_map(|partition| &partition.trays) {
            *tally.entry(tray.state).or_default() += 1;
        }
        tally
    }

    /// Whether anything is known of how trays are.
    pub fn has_states(&self) -> bool {
        self.tally().keys().any(|state| !matches!(state, State::Unknown | State::Stale))
    }

    /// Sizes of segments, and how many of each fit on idle trays now: a segment lies in one block. The sizes are the powers
    /// of two up to the largest block, the base size, and the largest block.
    pub fn segments(&self) -> Vec<(usize, usize)> {
        let largest = self.largest();
        let powers = (0..16).map(|level| 1 << level);
        let base = self.base.and_then(|base| usize::try_from(base).ok());
        let mut sizes: BTreeSet<usize> = powers.chain(base).chain([largest]).collect();
        sizes.retain(|size| (1..=largest).contains(size));
        let idle: Vec<usize> = self.partitions.iter().map(|partition| partition.count(State::Idle)).collect();
        sizes.into_iter().map(|size| (size, idle.iter().map(|idle| idle / size).sum())).collect()
    }

    /// What users can rely on, from the base size; empty without one.
    pub fn promise(&self) -> String {
        let Some(base) = self.base else { return String::new() };
        format!("base size {base}: jobs and segments up to {base} trays stay in one NVLink partition")
    }

    /// `36 trays in 2 NVLink partitions: 28 allocated, 8 idle`.
    pub fn summary(&self) -> String {
        let empty = self.partitions.iter().filter(|partition| partition.trays.is_empty()).count();
        let filled = count(self.partitions.len() - empty, "NVLink partition");
        let mut words = format!("{} in {filled}", count(self.trays(), "tray"));
        if empty > 0 {
            words.push_str(&format!(" and {}", count(empty, "empty place")));
        }
        if self.has_states() {
            let states: Vec<String> =
                self.tally().into_iter().map(|(state, trays)| format!("{trays} {}", state.word())).collect();
            words.push_str(&format!(": {}", states.join(", ")));
        }
        words
    }
}

/// The jobs with trays in blocks, ordered by the first of these.
fn in_order(topology: &BlockTopology, jobs: Vec<Job>) -> Vec<Job> {
    let nodes = topology.blocks.iter().flat_map(|block| &block.nodes);
    let mut places: BTreeMap<&NodeName, usize> = BTreeMap::new();
    for (at, node) in nodes.enumerate() {
        places.entry(node).or_insert(at);
    }
    let first = |job: &Job| job.nodes.iter().filter_map(|node| places.get(node)).min().copied();
    let mut placed: Vec<(usize, Job)> =
        jobs.into_iter().filter_map(|job| Some((first(&job)?, job))).collect();
    placed.sort_by_key(|(at, _)| *at);
    placed.into_iter().map(|(_, job)| job).collect()
}

fn shares(jobs: usize, partitions: &[Partition]) -> Vec<Vec<(usize, usize)>> {
    let mut shares: Vec<Vec<(usize, usize)>> = vec![Vec::new(); jobs];
    for (at, partition) in partitions.iter().enumerate() {
        for job in partition.trays.iter().flat_map(|tray| &tray.jobs) {
            let Some(share) = shares.get_mut(*job) else { continue };
            match share.last_mut() {
                Some((last, trays)) if *last == at => *trays += 1,
                _ => share.push((at, 1)),
            }
        }
    }
    shares
}

/// Brings the blocks of one domain together, at the place of the first. A block stands for the domain of most of its trays; one
/// of which that is not known is a rack of its own.
fn by_domain(topology: &BlockTopology, facts: &Facts) -> Vec<Vec<usize>> {
    let mut racks: Vec<Vec<usize>> = Vec::new();
    let mut known: BTreeMap<DomainId, usize> = BTreeMap::new();
    for (at, block) in topology.blocks.iter().enumerate() {
        let mut votes: BTreeMap<DomainId, usize> = BTreeMap::new();
        for domain in block.nodes.iter().filter_map(|node| facts.domains.get(node)) {
            *votes.entry(*domain).or_default() += 1;
        }
        let domain = votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(domain, _)| domain);
        let rack = domain.and_then(|domain| known.get(&domain)).and_then(|at| racks.get_mut(*at));
        match rack {
            Some(rack) => rack.push(at),
            None => {
                known.extend(domain.map(|domain| (domain, racks.len())));
                racks.push(vec![at]);
            }
        }
    }
    racks
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::emit::parse_jobs;
    use fabric::{Block, BlockName, BlockSizes};

    pub(crate) fn topology(base: u32, blocks: &[(&str, &str)]) -> BlockTopology {
        let block = |(name, nodes): &(&str, &str)| Block {
            name: BlockName::new(*name).unwrap(),
            nodes: HostList::parse(nodes).unwrap(),
        };
        let sizes = BlockSizes::new(vec![base]).unwrap();
        BlockTopology { sizes: Some(sizes), blocks: blocks.iter().map(block).collect() }
    }

    pub(crate) fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    /// Two racks of three trays with two jobs, one of which spans them and uses a node outside, and one job elsewhere.
    pub(crate) fn racks() -> Racks {
        let topology =
            topology(3, &[("nvl-aaaaaaaa-1", "n[1-3]"), ("gone", ""), ("nvl-bbbbbbbb-1", "n[4-6]")]);
        let jobs = r#"{"jobs":[{"id":"8_1","nodes":"n2,n[4-5],x1"},{"id":7,"name":"train <a&b>","user":"alice","nodes":"n[1-2]"},{"id":9,"nodes":"x2"}]}"#;
        let facts = Facts {
            states: [(node("n6"), State::Stale)].into(),
            otherwise: Some(State::Idle),
            ..Facts::default()
        };
        Racks::new(&topology, parse_jobs(jobs).unwrap(), &facts)
    }

    #[test]
    fn jobs_are_counted_by_block() {
        let racks = racks();
        assert_eq!(racks.jobs.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), ["7", "8_1"]);
        assert_eq!(racks.blocks_of(1), [("nvl-aaaaaaaa-1", 1), ("nvl-bbbbbbbb-1", 2)]);
        assert_eq!(racks.sentence(0), "2 trays in 1 NVLink partition");
        assert_eq!(racks.sentence(1), "4 trays in 2 NVLink partitions, 1 in no block");
        assert!(racks.is_spread(1) && !racks.is_spread(0));
        assert_eq!((racks.outside.len(), racks.elsewhere), (1, 1));
        assert_eq!(
            racks.summary(),
            "6 trays in 2 NVLink partitions and 1 empty place: 4 allocated, 1 idle, 1 stale"
        );
    }

    #[test]
    fn a_node_named_twice_by_a_job_counts_once() {
        let jobs = parse_jobs(r#"{"jobs":[{"id":1,"nodes":"n1,n1"}]}"#).unwrap();
        let racks = Racks::new(&topology(2, &[("a", "n[1-2]")]), jobs, &Facts::default());
        assert_eq!(racks.blocks_of(0), [("a", 1)]);
        assert_eq!(racks.partitions[0].trays[1].state, State::Unknown);
    }

    #[test]
    fn partitions_of_one_domain_come_together() {
        let domain = |byte: u8| DomainId([byte; 16]);
        let topology = topology(2, &[("a", "n[1-2]"), ("b", "n[3-4]"), ("empty", ""), ("c", "n[5-6]")]);
        let domains = [("n1", 1), ("n2", 1), ("n3", 2), ("n5", 1), ("n6", 1)];
        let domains = domains.map(|(name, id)| (node(name), domain(id))).into();
        let racks = Racks::new(&topology, vec![], &Facts { domains, ..Facts::default() });
        assert_eq!(racks.racks, [vec![0, 3], vec![1], vec![2]]);
    }

    #[test]
    fn segments_that_fit_lie_in_one_block_each() {
        let blocks: Vec<String> =
            (0..4).map(|rack| format!("n[{}-{}]", rack * 18 + 1, rack * 18 + 18)).collect();
        let blocks: Vec<(String, &str)> =
            blocks.iter().enumerate().map(|(at, nodes)| (format!("b{at}"), nodes.as_str())).collect();
        let blocks: Vec<(&str, &str)> = blocks.iter().map(|(name, nodes)| (name.as_str(), *nodes)).collect();
        let jobs = parse_jobs(r#"{"jobs":[{"id":1,"nodes":"n[19-20,37-47,55-72]"}]}"#).unwrap();
        let facts = Facts { otherwise: Some(State::Idle), ..Facts::default() };
        let racks = Racks::new(&topology(18, &blocks), jobs, &facts);
        // 18, 16, 7 and 0 idle trays.
        assert_eq!(racks.segments(), [(1, 41), (2, 20), (4, 9), (8, 4), (16, 2), (18, 1)]);
    }
}
