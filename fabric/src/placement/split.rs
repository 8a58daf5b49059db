#![forbid(unsafe_code)]
//! How many trays each of some chosen partitions gives.

use std::cmp::Reverse;

use super::{Partition, Share, Split};

/// Divides `trays` over the chosen partitions, which have so many free in sum and whose required trays are no more.
/// Each gives its required trays at least. Partitions that would give nothing are left out.
pub(super) fn divide(split: Split, partitions: &[Partition], chosen: &[usize], trays: u32) -> Vec<Share> {
    let mut shares: Vec<Share> =
        chosen.iter().map(|&partition| Share { partition, trays: partitions[partition].required }).collect();
    // The smallest partition first: what it cannot carry falls to the larger ones.
    shares.sort_by_key(|share| (partitions[share.partition].free, share.partition));
    match split {
        Split::Even => level(partitions, &mut shares, trays),
        Split::Packed => fill(partitions, &mut shares, trays),
    }
    shares.retain(|share| share.trays > 0);
    debug_assert_eq!(
        shares.iter().map(|share| share.trays).sum::<u32>(),
        trays,
        "the partitions hold the job"
    );
    shares
}

/// Raises all shares to the same height, as far as the free trays go.
fn level(partitions: &[Partition], shares: &mut [Share], trays: u32) {
    let at = |share: &Share, height: u32| {
        let free = partitions[share.partition].free;
        height.clamp(share.trays.min(free), free)
    };
    let sum = |height: u32| -> u64 { shares.iter().map(|share| u64::from(at(share, height))).sum() };
    // The greatest height that does not take more than the job's trays.
    let (mut low, mut high) = (0, trays);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if sum(middle) <= u64::from(trays) { low = middle } else { high = middle - 1 }
    }
    let mut left = u64::from(trays).saturating_sub(sum(low));
    for share in shares {
        let height = at(share, low);
        let more = left > 0 && height == low && height < partitions[share.partition].free;
        left -= u64::from(more);
        share.trays = height + u32::from(more);
    }
}

/// Fills one partition after the other: those with required trays first, then the largest, at last the one that holds the
/// rest most tightly.
fn fill(partitions: &[Partition], shares: &mut [Share], trays: u32) {
    let room = |share: &Share| partitions[share.partition].free - share.trays;
    let weight = |share: &Share| (partitions[share.partition].weight, share.partition);
    let mut left = trays.saturating_sub(shares.iter().map(|share| share.trays).sum());
    while left > 0 {
        let open = || shares.iter().enumerate().filter(|(_, share)| room(share) > 0);
        let used = open().filter(|(_, share)| share.trays > 0).max_by_key(|(_, share)| room(share));
        let tight = || {
            open()
                .filter(|(_, share)| room(share) >= left)
                .min_by_key(|(_, share)| (room(share), weight(share)))
        };
        let largest = || open().min_by_key(|(_, share)| (Reverse(room(share)), weight(share)));
        let Some((next, _)) = used.or_else(tight).or_else(largest) else { return };
        let take = room(&shares[next]).min(left);
        shares[next].trays += take;
        left -= take;
    }
}
