#![forbid(unsafe_code)]
//! Jobs in segments: each segment lies in one partition.

use super::{Candidate, Partition, Refusal, Request, Share, merge};

/// The best way to lay the segments out: few partitions, then best fit.
pub(super) fn candidate(
    partitions: &[Partition],
    request: &Request,
    segment: u32,
    largest: u32,
) -> Result<Candidate, Refusal> {
    if segment > largest {
        return Err(Refusal::SegmentTooLarge { segment, largest });
    }
    let wanted = request.trays / segment;
    let mut open: Vec<Room> = partitions
        .iter()
        .enumerate()
        .map(|(partition, p)| Room { partition, segments: room(p, segment, request.spread), free: p.free })
        .filter(|room| room.segments > 0)
        .collect();

    let total: u32 = open.iter().map(|room| room.segments).sum();
    if total < wanted {
        return Err(Refusal::NoRoomForSegments { wanted, segment, room: total, spread: request.spread });
    }

    let mut left = wanted;
    let mut shares = Vec::new();
    while left > 0 {
        let index = next(&open, left);
        let chosen = open.swap_remove(index);
        let take = chosen.segments.min(left);
        left -= take;
        shares.push(Share { partition: chosen.partition, trays: take * segment });
    }
    Ok(merge(shares))
}

/// A partition that still has room.
struct Room {
    partition: usize,
    segments: u32,
    free: u32,
}

fn room(partition: &Partition, segment: u32, spread: bool) -> u32 {
    let fits = partition.free / segment;
    if spread { fits.min(1) } else { fits }
}

/// The next partition to fill: the fullest one that takes all the rest, else the one that takes most of it.
fn next(open: &[Room], left: u32) -> usize {
    let takes_all = open
        .iter()
        .enumerate()
        .filter(|(_, room)| room.segments >= left)
        .min_by_key(|(_, room)| (room.free, room.partition));
    let takes_most = || {
        open.iter()
            .enumerate()
            .max_by_key(|(_, room)| (room.segments, std::cmp::Reverse((room.free, room.partition))))
    };
    takes_all.or_else(takes_most).map_or(0, |(index, _)| index)
}
