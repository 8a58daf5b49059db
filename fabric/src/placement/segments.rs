#![forbid(unsafe_code)]
//! Jobs in segments: each segment lies in one partition.

use std::cmp::Reverse;
use std::ops::Range;

use super::{Candidate, Partition, Refusal, Request, Rules, Share, WAYS_MAX, groups, merge};

/// The best way to lay the segments out, or, for segments that belong together, the best way in each group that can hold
/// them: few partitions, then low weights, then best fit.
pub(super) fn candidates(
    partitions: &[Partition],
    request: &Request,
    rules: &Rules,
    segment: u32,
) -> Result<Vec<Candidate>, Refusal> {
    let largest = partitions.iter().map(|p| p.trays).max().unwrap_or(0);
    if segment > largest {
        return Err(Refusal::SegmentTooLarge { segment, largest });
    }
    let required: u32 = partitions.iter().map(|p| p.required).sum();
    if required != request.required {
        return Err(Refusal::RequiredTraysOutside { required: request.required });
    }
    let Request { spread, held, .. } = *request;
    let job = Segments { size: segment, wanted: request.trays / segment, spread, held };
    let size = if request.consolidate { job.group_size(partitions, rules) } else { usize::MAX };
    let mut found = Vec::new();
    let (mut best_room, mut apart) = (0, true);
    for group in groups(partitions, size) {
        let members = &partitions[group.clone()];
        if members.iter().map(|p| p.required).sum::<u32>() != request.required {
            continue;
        }
        apart = false;
        best_room = best_room.max(job.room_in(members, |p| p.free));
        if let Some(shares) = job.lay_out(partitions, group.clone()) {
            let way = merge(shares);
            let free: u32 = members.iter().map(|p| p.free).sum();
            found.push(((way.shares.len(), free, group.start), way));
        }
    }
    if !found.is_empty() {
        found.sort_by_key(|&(rank, _)| rank);
        found.truncate(WAYS_MAX);
        Ok(found.into_iter().map(|(_, candidate)| candidate).collect())
    } else if apart {
        Err(Refusal::RequiredTraysApart { required: request.required })
    } else if best_room >= job.wanted {
        Err(Refusal::RequiredTraysInTheWay { required: request.required, segment })
    } else {
        let within = u32::try_from(size).ok().filter(|_| size < partitions.len());
        Err(Refusal::NoRoomForSegments { wanted: job.wanted, segment, room: best_room, spread, within })
    }
}

/// The segments of a job.
struct Segments {
    size: u32,
    wanted: u32,
    spread: bool,
    held: bool,
}

/// A partition that still has room.
struct Room {
    partition: usize,
    segments: u32,
    free: u32,
    weight: u64,
    spare: u32,
    used: bool,
}

impl Segments {
    /// How many fit into so many trays.
    fn fit(&self, trays: u32) -> u32 {
        let fit = trays / self.size;
        if self.spread { fit.min(1) } else { fit }
    }

    fn room_in(&self, partitions: &[Partition], trays: impl Fn(&Partition) -> u32) -> u32 {
        partitions.iter().map(|p| self.fit(trays(p))).sum()
    }

    /// How many partitions the groups have in which consolidated segments lie: the smallest groups that hold them by size,
    /// and of which one does with its healthy trays.
    fn group_size(&self, partitions: &[Partition], rules: &Rules) -> usize {
        let levels = &rules.levels;
        let blocks = if self.spread {
            levels.base_blocks(self.size).saturating_mul(self.wanted)
        } else {
            levels.base_blocks(self.size.saturating_mul(self.wanted))
        };
        let holds = |&size: &usize| {
            let mut rooms = groups(partitions, size)
                .map(|group| self.room_in(&partitions[group], |p| p.healthy.max(p.free)));
            rooms.any(|room| room >= self.wanted)
        };
        let one = (blocks <= 1).then_some(1);
        one.into_iter().chain(levels.for_blocks(blocks)).find(holds).unwrap_or(usize::MAX)
    }

    /// The segments in one group; None when they do not fit. First come those of the required trays, then what fits beside
    /// them, because that needs no more partitions.
    fn lay_out(&self, partitions: &[Partition], group: Range<usize>) -> Option<Vec<Share>> {
        let mut left = self.wanted;
        let mut shares = Vec::new();
        let mut open = Vec::new();
        for partition in group {
            let p = &partitions[partition];
            let (mut segments, forced) = (self.fit(p.allowed(self.held)), p.required.div_ceil(self.size));
            segments = segments.checked_sub(forced)?;
            left = left.checked_sub(forced)?;
            if forced > 0 {
                shares.push(Share { partition, trays: forced * self.size });
            }
            if segments > 0 {
                let Partition { free, weight, spare, .. } = *p;
                open.push(Room { partition, segments, free, weight, spare, used: forced > 0 });
            }
        }
        while left > 0 {
            let index = next(&open, left, self.size)?;
            let chosen = open.swap_remove(index);
            let take = chosen.segments.min(left);
            left -= take;
            shares.push(Share { partition: chosen.partition, trays: take * self.size });
        }
        Some(shares)
    }
}

/// The next partition to fill: one that is used anyway, else the best fit that takes all the rest, else the one that takes
/// most of it.
fn next(open: &[Room], left: u32, size: u32) -> Option<usize> {
    let rooms = || open.iter().enumerate();
    let used = rooms().filter(|(_, room)| room.used).min_by_key(|(_, room)| room.partition);
    let takes_all = || {
        rooms()
            .filter(|(_, room)| room.segments >= left)
            .min_by_key(|(_, room)| (room.weight, room.spare < left * size, room.free, room.partition))
    };
    let takes_most =
        || rooms().min_by_key(|(_, room)| (Reverse(room.segments), room.weight, room.free, room.partition));
    used.or_else(takes_all).or_else(takes_most).map(|(index, _)| index)
}
