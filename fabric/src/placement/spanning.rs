#![forbid(unsafe_code)]
//! Jobs that are larger than every partition.

use super::{Candidate, Partition, Refusal, Request, Share, merge};

/// The best way over the fewest partitions that the healthy trays allow.
pub(super) fn candidate(partitions: &[Partition], request: &Request) -> Result<Candidate, Refusal> {
    let count = fewest(partitions, request.trays);
    let mut by_free: Vec<usize> = (0..partitions.len()).filter(|&i| partitions[i].free > 0).collect();
    by_free.sort_by_key(|&i| (std::cmp::Reverse(partitions[i].free), i));

    let best_free = by_free.iter().take(count).map(|&i| partitions[i].free).sum();
    if best_free < request.trays {
        return Err(Refusal::TooFewFreeToSpan {
            wanted: request.trays,
            partitions: u32::try_from(count).unwrap_or(u32::MAX),
            best_free,
        });
    }
    Ok(even_split(partitions, &by_free, count, request.trays))
}

/// The fewest partitions whose healthy trays hold the job; where the healthy ones never do, the fewest by free trays.
fn fewest(partitions: &[Partition], trays: u32) -> usize {
    let mut healthy: Vec<u32> = partitions.iter().map(|p| p.healthy.max(p.free)).collect();
    healthy.sort_unstable_by_key(|&n| std::cmp::Reverse(n));
    smallest_prefix(healthy.into_iter(), trays).unwrap_or(partitions.len())
}

/// How many leading items reach `goal` in sum.
fn smallest_prefix(items: impl Iterator<Item = u32>, goal: u32) -> Option<usize> {
    let mut sum = 0u32;
    for (index, item) in items.enumerate() {
        sum = sum.saturating_add(item);
        if sum >= goal {
            return Some(index + 1);
        }
    }
    None
}

/// Splits the job over `count` partitions as evenly as their free trays allow.
///
/// With enough partitions that can carry an even share, the fullest of those are taken (best fit); otherwise the
/// ones with most free trays.
fn even_split(partitions: &[Partition], by_free: &[usize], count: usize, trays: u32) -> Candidate {
    let share = trays.div_ceil(u32::try_from(count).unwrap_or(u32::MAX));
    let able: Vec<usize> = by_free.iter().copied().filter(|&i| partitions[i].free >= share).collect();
    let mut chosen: Vec<usize> = if able.len() >= count {
        let mut best_fit = able;
        best_fit.sort_by_key(|&i| (partitions[i].free, i));
        best_fit.truncate(count);
        best_fit
    } else {
        by_free.iter().copied().take(count).collect()
    };

    // The smallest partition first: what it cannot carry falls to the larger ones.
    chosen.sort_by_key(|&i| (partitions[i].free, i));
    let mut left = trays;
    let mut shares = Vec::with_capacity(chosen.len());
    for (position, &partition) in chosen.iter().enumerate() {
        let partitions_left = u32::try_from(chosen.len() - position).unwrap_or(u32::MAX);
        let take = left.div_ceil(partitions_left).min(partitions[partition].free);
        left -= take;
        if take > 0 {
            shares.push(Share { partition, trays: take });
        }
    }
    debug_assert_eq!(left, 0, "the chosen partitions hold the job");
    merge(shares)
}
