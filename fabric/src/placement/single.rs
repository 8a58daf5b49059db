#![forbid(unsafe_code)]
//! Jobs that must lie in one partition.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Candidate, Partition, Refusal, Request, Share};

/// What a partition is ordered by before its health and its position.
type Rank = (u64, bool, u32, u32, bool);

/// The partitions that can hold the job: lowest weight first, then those whose room it does not delay, then fewest idle and
/// fewest free trays, so that whole free partitions are broken last; of equal ones first those with enough trays of that weight, then those with drained
/// trays, which cannot hold the largest jobs anyway, then in order of position.
#[derive(Debug, Clone)]
pub(super) struct Fitting {
    trays: u32,
    partitions: BinaryHeap<Reverse<(Rank, bool, usize)>>,
}

/// Lowest weight, no room delayed, least damage, enough trays of that weight.
fn rank(partition: &Partition, request: &Request) -> Rank {
    let delays_room = partition.spare < request.trays;
    (partition.weight, delays_room, partition.idle, partition.free, partition.light < request.trays)
}

/// Whether the job could lie in the partition now.
fn fits(partition: &Partition, request: &Request) -> bool {
    partition.allowed(request.held) >= request.trays && partition.required == request.required
}

/// The positions of those best partitions among which only health and position decide; none when one is better than all
/// others.
pub(super) fn tied(partitions: &[Partition], request: &Request) -> Vec<usize> {
    let mut tied = Vec::new();
    let mut best = None;
    for (position, partition) in partitions.iter().enumerate().filter(|(_, p)| fits(p, request)) {
        let rank = rank(partition, request);
        if best.is_none_or(|best| rank < best) {
            best = Some(rank);
            tied.clear();
        }
        if best == Some(rank) {
            tied.push(position);
        }
    }
    if tied.len() > 1 { tied } else { Vec::new() }
}

impl Iterator for Fitting {
    type Item = Candidate;

    fn next(&mut self) -> Option<Candidate> {
        let Reverse((.., partition)) = self.partitions.pop()?;
        Some(Candidate { shares: vec![Share { partition, trays: self.trays }] })
    }
}

/// One candidate for each partition that can hold the job.
pub(super) fn candidates(partitions: &[Partition], request: &Request) -> Result<Fitting, Refusal> {
    if request.required > 0 && !partitions.iter().any(|p| p.required == request.required) {
        return Err(Refusal::RequiredTraysApart { required: request.required });
    }
    let fitting: Vec<_> = partitions
        .iter()
        .enumerate()
        .filter(|(_, p)| fits(p, request))
        .map(|(position, p)| Reverse((rank(p, request), p.healthy >= p.trays, position)))
        .collect();
    if fitting.is_empty() {
        return Err(refusal(partitions, request));
    }
    Ok(Fitting { trays: request.trays, partitions: fitting.into() })
}

fn refusal(partitions: &[Partition], request: &Request) -> Refusal {
    let unhealthy = |p: &Partition| p.trays - p.healthy.min(p.trays);
    // Of equal ones the one with most drained trays: about those somebody can do something.
    let best = partitions
        .iter()
        .filter(|p| p.required == request.required)
        .min_by_key(|p| (p.trays < request.trays, Reverse((p.free, unhealthy(p)))));
    Refusal::NoPartitionFree {
        wanted: request.trays,
        best_free: best.map_or(0, |p| p.free),
        best_unhealthy: best.map_or(0, unhealthy),
    }
}
