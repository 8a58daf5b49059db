#![forbid(unsafe_code)]
//! Which NVLink partitions a job's trays come from: the pure choice.
//!
//! The caller describes each partition by counts ([`Partition`]), the job by a [`Request`], and gets an ordered
//! list of [`Candidate`]s or a [`Refusal`] that says in one sentence why there is none:
//!
//! ```text
//! partitions + request ── candidates() ──> [best, next best, ...]  or  Refusal
//! ```
//!
//! Nothing here knows Slurm, nodes or bitmaps; turning shares into trays is the caller's part. The policy:
//!
//! 1. A job without segments that fits a partition by the partition's *full* size lies in one partition.
//! 2. A larger job takes the fewest partitions that the *healthy* trays allow, split evenly where that needs no
//!    more of them.
//! 3. A segment never leaves its partition; a job in segments takes as few partitions as the free trays allow.
//! 4. Among equals the least damage to whole free partitions wins (best fit), then the lowest position.

mod refusal;
mod segments;
mod single;
mod spanning;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;

pub use refusal::Refusal;

/// One NVLink partition as the choice sees it. All numbers are counts of trays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Trays that belong to the partition, drained and broken ones included.
    pub trays: u32,
    /// Trays that are not drained, down or failing, whether busy or free.
    pub healthy: u32,
    /// Trays that this job could use now.
    pub free: u32,
    /// Trays that the job names and that lie here; all of them are free.
    pub required: u32,
    /// Lowest scheduling weight among the free trays. Lower is preferred, as Slurm's node weights are.
    pub weight: u64,
}

/// What the job asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Trays wanted, at least 1.
    pub trays: u32,
    /// `--segment`: trays of one segment share a partition. `trays` is a multiple of it.
    pub segment: Option<NonZeroU32>,
    /// `--spread-segments`: no two segments in one partition.
    pub spread: bool,
    /// Trays that the job names (`-w`), in all partitions together and outside of them.
    pub required: u32,
}

/// Trays to take from one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Position of the partition in the slice given to [`candidates`].
    pub partition: usize,
    /// How many of its free trays; at least 1.
    pub trays: u32,
}

/// One way to place the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The partitions used, in the order of their positions.
    pub shares: Vec<Share>,
}

impl Candidate {
    /// The partition that holds the whole job, if one does.
    pub fn only_partition(&self) -> Option<usize> {
        match self.shares.as_slice() {
            [only] => Some(only.partition),
            _ => None,
        }
    }
}

/// All ways worth trying, best first, each worked out when it is asked for: most often the first one is taken.
#[derive(Debug, Clone)]
pub struct Candidates(Ways);

#[derive(Debug, Clone)]
enum Ways {
    /// The whole job in one of these.
    One(single::Fitting),
    /// Over several; None once it was given.
    Several(Option<Candidate>),
}

impl Iterator for Candidates {
    type Item = Candidate;

    fn next(&mut self) -> Option<Candidate> {
        match &mut self.0 {
            Ways::One(fitting) => fitting.next(),
            Ways::Several(candidate) => candidate.take(),
        }
    }
}

/// All ways worth trying, best first.
///
/// There is at least one. A job that must lie in one partition gets one candidate for each partition that can
/// hold it; a job over several partitions gets the best one only.
///
/// # Errors
/// A [`Refusal`] when the policy allows no placement now.
pub fn candidates(partitions: &[Partition], request: &Request) -> Result<Candidates, Refusal> {
    let largest = partitions.iter().map(|p| p.trays).max().unwrap_or(0);
    match request.segment {
        Some(segment) if segment.get() < request.trays => {
            segments::candidate(partitions, request, segment.get(), largest)
        }
        _ if request.trays <= largest => {
            return single::candidates(partitions, request).map(|fitting| Candidates(Ways::One(fitting)));
        }
        _ => spanning::candidate(partitions, request),
    }
    .map(|candidate| Candidates(Ways::Several(Some(candidate))))
}

/// Puts shares of the same partition together and orders them by position.
fn merge(mut shares: Vec<Share>) -> Candidate {
    shares.sort_by_key(|share| share.partition);
    shares.dedup_by(|later, kept| {
        let same = later.partition == kept.partition;
        if same {
            kept.trays += later.trays;
        }
        same
    });
    Candidate { shares }
}
