#![forbid(unsafe_code)]
//! What the choice needs to know of nodes, and which nodes its shares are.

use std::cmp::Reverse;
use std::num::NonZeroU32;

use fabric::placement::{Candidate, Partition, Request};

use super::ends::Room;
use crate::bits;
use crate::host::eval::Eval;
use crate::host::job::Job;
use crate::host::node::{self, NodeTable};
use crate::model::{Block, Model};

/// Looks at nodes.
pub(super) struct Survey<'s> {
    pub(super) eval: &'s Eval<'s>,
    pub(super) model: &'s Model,
    pub(super) job: &'s Job<'s>,
    pub(super) nodes: &'s NodeTable<'s>,
    /// The usable nodes that are looked at: all of them, or those with enough CPUs.
    pub(super) usable: &'s [u64],
    /// The room that the job leaves, where the site keeps some.
    pub(super) room: Option<&'s Room<'s>>,
}

/// Which nodes of a partition are taken first; equal ones in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    /// Those of the lowest weight.
    Lightest,
    /// Those with most CPUs for the job.
    Richest,
    /// Those with most GPUs for the job, of equal ones those with most CPUs.
    MostGpus,
}

/// How the trays are found that are neither drained nor down. Looking at nodes' records takes long on a large cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// All are taken for healthy.
    Assumed,
    /// Node by node, until it is clear how many partitions the job needs.
    AsNeeded,
    /// Node by node.
    Read,
}

/// Nodes to try.
pub(super) type NodeSet = Vec<usize>;

impl Survey<'_> {
    /// Every partition by its numbers.
    pub(super) fn partitions(&self, request: &Request, health: Health) -> Vec<Partition> {
        let largest = self.model.largest();
        let spans = request.segment.is_none() && request.trays > largest;
        let levels = self.model.rules.levels.exist();
        // The least that a partition must have free to be of use.
        let least = request.segment.map_or(if spans { 1 } else { request.trays }, NonZeroU32::get);
        let idle = self.idle();
        let mut whole_trays = 0;
        let free: Vec<u32> = self.model.blocks.iter().map(|block| block.overlap(self.usable)).collect();
        // Partitions are put in order by their weights, those that can be of use.
        let of_use = |free: u32| free >= least;
        let weights = self.weights(self.model.blocks.iter().zip(&free).filter(|(_, free)| of_use(**free)));
        let mut weights = weights.as_slice();

        let partition = |(position, (block, &free)): (usize, (&Block, &u32))| {
            // Whole partitions of the largest size: fewer cannot hold the job, so the others do not matter.
            let decided = spans && !levels && whole_trays >= request.trays;
            let healthy = match health {
                Health::AsNeeded if decided => free,
                Health::Assumed => block.trays(),
                Health::AsNeeded | Health::Read => block.trays() - self.ill(block, &[]),
            };
            if healthy == largest {
                whole_trays += healthy;
            }
            let read = if of_use(free) { free as usize } else { 0 };
            let (its_own, others) = weights.split_at(read);
            weights = others;
            let (weight, light) = lightest(its_own);
            Partition {
                trays: block.trays(),
                healthy,
                free,
                required: self.job.required.map_or(0, |required| block.overlap(required)),
                idle: idle.as_deref().map_or(free, |idle| block.overlap(idle)),
                weight,
                light,
                spare: self.room.map_or(free, |room| room.spare(position, free, block.others(self.usable))),
            }
        };
        self.model.blocks.iter().zip(&free).enumerate().map(partition).collect()
    }

    /// The weights of the usable nodes of these partitions.
    fn weights<'b>(&self, partitions: impl Iterator<Item = (&'b Block, &'b u32)> + Clone) -> Vec<u64> {
        let count: u32 = partitions.clone().map(|(_, free)| free).sum();
        let mut weights = vec![0; count as usize];
        let mut rest = weights.as_mut_slice();
        for (block, &free) in partitions {
            let (its_own, others) = rest.split_at_mut(free as usize);
            self.nodes.weights(block.common(self.usable), its_own);
            rest = others;
        }
        weights
    }

    /// Finds out how many trays of a partition are healthy. Usable ones are, so only the others are looked at.
    pub(super) fn look_at(&self, position: usize, partition: &mut Partition) {
        if partition.free == partition.trays {
            return;
        }
        partition.healthy = partition.trays - self.ill(&self.model.blocks[position], self.usable);
    }

    /// How many trays of a partition are drained or down, beside those that are known to be healthy.
    fn ill(&self, block: &Block, healthy: &[u64]) -> u32 {
        let unclear = block.others(node::available().unwrap_or(&[])).filter(|&n| !bits::contains(healthy, n));
        let ill = unclear.filter(|&node| !self.nodes.get(node).is_some_and(|node| node.is_healthy()));
        ill.fold(0, |ill, _| ill + 1)
    }

    /// The usable nodes on which nothing runs; None when that is all of them.
    fn idle(&self) -> Option<Vec<u64>> {
        let idle = node::idle().filter(|idle| !bits::is_subset(self.usable, idle))?;
        Some(self.usable.iter().zip(idle).map(|(usable, idle)| usable & idle).collect())
    }

    fn weight(&self, node: usize) -> u64 {
        self.nodes.get(node).map_or(u64::MAX, |node| node.weight())
    }

    fn free(&self, partition: usize) -> impl Iterator<Item = usize> + '_ {
        self.model.blocks[partition].common(self.usable)
    }

    fn cpus(&self, node: usize) -> u64 {
        self.eval.cpus(node).into()
    }

    /// Whether as many free nodes of the partition as the job may have can give its CPUs.
    pub(super) fn has_cpus(&self, partition: usize) -> bool {
        let needed = u64::from(self.job.min_cpus);
        let most = self.eval.most() as usize;
        let mut sum = 0;
        let enough = self.free(partition).take(most).any(|node| {
            sum += self.cpus(node);
            sum >= needed
        });
        enough || {
            let mut cpus: Vec<u64> = self.free(partition).map(|node| self.cpus(node)).collect();
            cpus.sort_unstable_by_key(|&cpus| Reverse(cpus));
            cpus.iter().take(most).sum::<u64>() >= needed
        }
    }

    /// Whether some partition of so many trays would have the job's CPUs on as many nodes as the job may have, if all
    /// of its nodes were free. What a node has on which something runs, or that is drained, cannot be seen: it counts
    /// as the best of the usable ones.
    pub(super) fn some_partition_may_have_cpus(&self, trays: u32) -> bool {
        let needed = u64::from(self.job.min_cpus);
        let most = self.eval.most() as usize;
        let best = bits::ones(self.usable).map(|node| self.cpus(node)).max().unwrap_or(u64::MAX);
        let idle = self.idle();
        let idle = idle.as_deref().unwrap_or(self.usable);
        let whole = |node| bits::contains(idle, node);
        self.model.blocks.iter().filter(|block| block.trays() >= trays).any(|block| {
            let mut cpus: Vec<u64> =
                block.nodes().map(|node| if whole(node) { self.cpus(node) } else { best }).collect();
            cpus.sort_unstable_by_key(|&cpus| Reverse(cpus));
            cpus.iter().take(most).sum::<u64>() >= needed
        })
    }

    /// All free nodes of one partition: Slurm's evaluator picks among them.
    pub(super) fn all_of(&self, partition: usize, nodes: &mut NodeSet) {
        nodes.clear();
        nodes.extend(self.free(partition));
    }

    /// The nodes of a candidate over several partitions.
    pub(super) fn some_of(&self, candidate: &Candidate, pick: Pick, nodes: &mut NodeSet) {
        nodes.clear();
        for share in &candidate.shares {
            let rank = |node: usize| match pick {
                Pick::Lightest => self.weight(node),
                Pick::Richest => u64::MAX - self.cpus(node),
                Pick::MostGpus => u64::MAX - (u64::from(self.eval.gpus(node)) << 16 | self.cpus(node)),
            };
            let optional = |node| !self.job.required.is_some_and(|required| bits::contains(required, node));
            let mut free: Vec<(bool, u64, usize)> =
                self.free(share.partition).map(|node| (optional(node), rank(node), node)).collect();
            free.sort_unstable();
            nodes.extend(free.iter().take(share.trays as usize).map(|&(.., node)| node));
        }
    }

    /// The segments with most CPUs that there are, and how many CPUs that is: no other choice has more.
    pub(super) fn richest_segments(
        &self,
        request: &Request,
        segment: NonZeroU32,
        nodes: &mut NodeSet,
    ) -> u64 {
        let size = segment.get() as usize;
        let mut segments: Vec<(u64, Vec<usize>)> = Vec::new();
        for partition in 0..self.model.blocks.len() {
            let mut free: Vec<usize> = self.free(partition).collect();
            free.sort_by_key(|&node| Reverse(self.cpus(node)));
            let chunks = free.chunks_exact(size).take(if request.spread { 1 } else { usize::MAX });
            segments.extend(
                chunks.map(|chunk| (chunk.iter().map(|&node| self.cpus(node)).sum(), chunk.to_vec())),
            );
        }
        // Within a partition the richer segment comes first, so taking the richest of all takes them in that order.
        segments.sort_by_key(|&(cpus, _)| Reverse(cpus));
        segments.truncate((request.trays / segment) as usize);
        nodes.clear();
        nodes.extend(segments.iter().flat_map(|(_, nodes)| nodes));
        segments.iter().map(|(cpus, _)| cpus).sum()
    }
}

/// The lowest of these weights, and how many nodes have it; `u64::MAX` and 0 when there are none.
fn lightest(weights: &[u64]) -> (u64, u32) {
    let first = weights.first().copied().unwrap_or(u64::MAX);
    // Most often they are all the same, which takes less to find out.
    if weights.iter().fold(0, |different, weight| different | weight ^ first) == 0 {
        return (first, u32::try_from(weights.len()).unwrap_or(u32::MAX));
    }
    let lightest = weights.iter().copied().min().unwrap_or(u64::MAX);
    (lightest, weights.iter().map(|&weight| u32::from(weight == lightest)).sum())
}
