#![forbid(unsafe_code)]
//! Jobs over several partitions: those that are larger than every one, and those that a site lets span.

use std::cmp::Reverse;
use std::ops::Range;

use super::split::divide;
use super::{Candidate, Partition, Refusal, Request, Rules, Split, WAYS_MAX, groups, merge};

/// The best way in each group that can hold the job: in the smallest aggregated blocks that can, over the fewest
/// partitions that the healthy trays allow.
pub(super) fn candidates(
    partitions: &[Partition],
    request: &Request,
    rules: &Rules,
) -> Result<Vec<Candidate>, Refusal> {
    let required: u32 = partitions.iter().map(|p| p.required).sum();
    if required != request.required {
        return Err(Refusal::RequiredTraysOutside { required: request.required });
    }
    let blocks = rules.levels.base_blocks(request.trays);
    for size in rules.levels.for_blocks(blocks) {
        if groups(partitions, size).any(|group| fewest(&partitions[group], request.trays).is_some()) {
            return in_groups(partitions, request, rules, size);
        }
    }
    // The healthy trays never hold it.
    in_groups(partitions, request, rules, usize::MAX)
}

/// The ways in groups of one size, in each over the fewest partitions that its healthy trays allow: groups that need fewest
/// first, then those that allow even shares where these are wanted, then those of the lowest weight, then those with
/// fewest free trays.
fn in_groups(
    partitions: &[Partition],
    request: &Request,
    rules: &Rules,
    size: usize,
) -> Result<Vec<Candidate>, Refusal> {
    let mut found = Vec::new();
    let (mut closest, mut apart) = (None, true);
    for group in groups(partitions, size) {
        let members = &partitions[group.clone()];
        if members.iter().map(|p| p.required).sum::<u32>() != request.required {
            continue;
        }
        apart = false;
        let possible = fewest(members, request.trays);
        let count = possible.unwrap_or(members.len());
        let allowed = u32::try_from(count).unwrap_or(u32::MAX);
        let holders = members.iter().filter(|p| p.required > 0).count();
        if holders > count {
            let partitions = u32::try_from(holders).unwrap_or(u32::MAX);
            return Err(Refusal::RequiredTraysScattered { required: request.required, partitions, allowed });
        }
        let chosen = choose(partitions, group.clone(), request.trays, count);
        let free: u32 = chosen.iter().map(|&i| partitions[i].free).sum();
        // What is said of a job that waits: of the groups that can hold it the one that comes closest.
        closest = closest.max(Some((possible.is_some(), free, Reverse(allowed))));
        if free >= request.trays {
            let share = even_share(request.trays, count);
            let uneven = rules.split == Split::Even && chosen.iter().any(|&i| partitions[i].free < share);
            let weight = members.iter().map(|p| p.weight).min();
            let free: u32 = members.iter().map(|p| p.free).sum();
            found.push(((count, uneven, weight, free, group.start), group, chosen));
        }
    }
    if !found.is_empty() {
        found.sort_by_key(|&(rank, ..)| rank);
        found.truncate(WAYS_MAX);
        let ways = found.into_iter().map(|(_, group, chosen)| {
            // A packed job takes the largest first, which need not be the best fit for even shares.
            let chosen = if rules.split == Split::Packed { group.collect() } else { chosen };
            merge(divide(rules.split, partitions, &chosen, request.trays))
        });
        Ok(ways.collect())
    } else if apart {
        Err(Refusal::RequiredTraysApart { required: request.required })
    } else {
        let within = u32::try_from(size).ok().filter(|_| size < partitions.len());
        let (_, best_free, Reverse(partitions)) = closest.unwrap_or((false, 0, Reverse(0)));
        Err(Refusal::TooFewFreeToSpan { wanted: request.trays, partitions, within, best_free })
    }
}

/// The `count` partitions of a group to use: those with required trays, and of the others, when enough can carry an even
/// share, the lightest and then the fullest of those (best fit), otherwise the ones with most free trays.
fn choose(partitions: &[Partition], group: Range<usize>, trays: u32, count: usize) -> Vec<usize> {
    let (mut chosen, mut others): (Vec<usize>, Vec<usize>) =
        group.filter(|&i| partitions[i].free > 0).partition(|&i| partitions[i].required > 0);
    let missing = count.saturating_sub(chosen.len());
    let share = even_share(trays, count);
    let able = |&i: &usize| partitions[i].free >= share;
    if chosen.iter().all(able) && others.iter().filter(|&i| able(i)).count() >= missing {
        others.retain(able);
        others.sort_unstable_by_key(|&i| (partitions[i].weight, partitions[i].free, i));
    } else {
        others.sort_unstable_by_key(|&i| (Reverse(partitions[i].free), partitions[i].weight, i));
    }
    others.truncate(missing);
    chosen.extend(others);
    chosen
}

/// Trays of each of `count` partitions when all give as many, rounded up.
fn even_share(trays: u32, count: usize) -> u32 {
    trays.div_ceil(u32::try_from(count).unwrap_or(u32::MAX).max(1))
}

/// The fewest of these partitions whose healthy trays hold the job; None when all do not.
fn fewest(partitions: &[Partition], trays: u32) -> Option<usize> {
    let mut healthy: Vec<u32> = partitions.iter().map(|p| p.healthy.max(p.free)).collect();
    healthy.sort_unstable_by_key(|&trays| Reverse(trays));
    let mut sum = 0u32;
    let reaches = |&trays_here: &u32| {
        sum = sum.saturating_add(trays_here);
        sum >= trays
    };
    healthy.iter().position(reaches).map(|last| last + 1)
}
