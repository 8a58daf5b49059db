#![forbid(unsafe_code)]
//! Which NVLink partitions a job's trays come from: the pure choice.
//!
//! The caller describes each partition by counts ([`Partition`]), the job by a [`Request`], and gets an ordered
//! list of [`Candidate`]s or a [`Refusal`] that says in one sentence why there is none:
//!
//! ```text
//! partitions + request + rules ── candidates() ──> [best, next best, ...]  or  Refusal
//! ```
//!
//! Nothing here knows Slurm, nodes or bitmaps; turning shares into trays is the caller's part. The policy:
//!
//! 1. A job without segments that fits a partition by the partition's *full* size lies in one partition. If it is
//!    larger than the base size ([`Span::Degraded`]: any size), it is so only while a partition has so many healthy trays.
//! 2. A larger job takes the fewest partitions that the *healthy* trays allow, split evenly where that needs no
//!    more of them. With aggregated blocks it lies in one of the smallest that can hold it, if one can.
//! 3. A segment never leaves its partition; a job in segments takes as few partitions as the free trays allow.
//!    Consolidated segments lie in one of the smallest aggregated blocks that can hold them, if one can.
//! 4. Trays that the job names are in every candidate.
//! 5. Among equals low weights win, then, for a job smaller than the room that the site keeps, partitions where it does not
//!    delay that room ([`spare`]), then the least damage to whole free partitions (best fit), then, for jobs in one
//!    partition, those with drained trays, then the lowest position.
//! 6. A job that is held ([`Rules::leaves`]) takes nothing but spare trays, and so waits where there are too few.

mod refusal;
mod room;
mod rules;
mod segments;
mod single;
mod spanning;
mod split;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::ops::Range;
use std::vec;

pub use refusal::Refusal;
pub use room::{Leaves, Standing, spare};
pub use rules::{Levels, Rules, SETTINGS, Span, Split, metrics_folder};

/// The most candidates over several partitions that are worth trying.
const WAYS_MAX: usize = 8;

/// One NVLink partition as the choice sees it. All numbers are counts of trays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Trays that belong to the partition, drained and broken ones included.
    pub trays: u32,
    /// Trays that are not drained, down or failing, whether busy or free.
    pub healthy: u32,
    /// Trays that this job could use now.
    pub free: u32,
    /// Those of the free trays on which nothing runs: fewer than `free` only where jobs share trays.
    pub idle: u32,
    /// Trays that the job names and that lie here; all of them are free.
    pub required: u32,
    /// Lowest scheduling weight among the free trays. Lower is preferred, as Slurm's node weights are.
    pub weight: u64,
    /// Free trays of that weight. Slurm gives trays that are powered down or completing a higher one than the others.
    pub light: u32,
    /// Of the free trays, how many the job can have and not delay the room that it leaves to larger ones ([`spare`]); all of
    /// them where it leaves none, or where that is not known.
    pub spare: u32,
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
    /// `--consolidate-segments`: all segments in one aggregated block.
    pub consolidate: bool,
    /// Trays that the job names (`-w`), in all partitions together and outside of them.
    pub required: u32,
    /// Whether the job waits rather than delay room ([`Leaves::held`]).
    pub held: bool,
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

impl Partition {
    /// How many of its trays a job may have now, held or not.
    fn allowed(&self, held: bool) -> u32 {
        if held { self.spare.min(self.free) } else { self.free }
    }
}

impl Request {
    /// Trays that must share a partition: of a segment, or of a job without segments all of them.
    pub fn piece(&self) -> u32 {
        self.segments().unwrap_or(self.trays)
    }

    /// The segment size, when the job has more than one segment.
    fn segments(&self) -> Option<u32> {
        self.segment.map(NonZeroU32::get).filter(|&segment| segment < self.trays)
    }
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
    /// Over several.
    Several(vec::IntoIter<Candidate>),
}

impl Candidates {
    /// Whether each of them is one partition because the job must lie in one.
    pub fn in_one_partition(&self) -> bool {
        matches!(self.0, Ways::One(_))
    }
}

impl Iterator for Candidates {
    type Item = Candidate;

    fn next(&mut self) -> Option<Candidate> {
        match &mut self.0 {
            Ways::One(fitting) => fitting.next(),
            Ways::Several(candidates) => candidates.next(),
        }
    }
}

/// All ways worth trying, best first.
///
/// There is at least one. A job that must lie in one partition gets one candidate for each partition that can
/// hold it; a job over several partitions gets the best one of each group of partitions in which it may lie.
///
/// # Errors
/// A [`Refusal`] when the policy allows no placement now.
pub fn candidates(partitions: &[Partition], request: &Request, rules: &Rules) -> Result<Candidates, Refusal> {
    let found = ways(partitions, request, rules);
    if found.is_err() && request.held {
        ways(partitions, &Request { held: false, ..*request }, rules)?;
        return Err(Refusal::KeptForLarger);
    }
    found
}

fn ways(partitions: &[Partition], request: &Request, rules: &Rules) -> Result<Candidates, Refusal> {
    let ways = if let Some(segment) = request.segments() {
        segments::candidates(partitions, request, rules, segment)?
    } else if must_lie_in_one(partitions, request, rules) {
        return single::candidates(partitions, request).map(|fitting| Candidates(Ways::One(fitting)));
    } else {
        spanning::candidates(partitions, request, rules)?
    };
    Ok(Candidates(Ways::Several(ways.into_iter())))
}

/// The positions of the partitions of which a job in one partition takes the one with drained trays, the lowest of them, or
/// else the lowest: they are equal in all but that. A caller that does not know the health of all trays looks at these
/// only. Empty where there is no such choice.
pub fn tied(partitions: &[Partition], request: &Request, rules: &Rules) -> Vec<usize> {
    let one = request.segments().is_none() && must_lie_in_one(partitions, request, rules);
    if one { single::tied(partitions, request) } else { Vec::new() }
}

/// Whether a job without segments must lie in one partition.
fn must_lie_in_one(partitions: &[Partition], request: &Request, rules: &Rules) -> bool {
    let fits_by = |trays: fn(&Partition) -> u32| partitions.iter().any(|p| trays(p) >= request.trays);
    fits_by(|p| p.trays) && (!rules.may_span_degraded(request.trays) || fits_by(|p| p.healthy.max(p.free)))
}

/// When a job that is refused now could be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outlook {
    /// When jobs have ended.
    Later,
    /// When drained trays are back, too.
    WhenMended,
    /// Not with these partitions.
    Never,
}

/// When a job that is refused now could be placed, by the trays alone.
pub fn outlook(partitions: &[Partition], request: &Request, rules: &Rules) -> Outlook {
    let with = |free: fn(&Partition) -> u32| -> bool {
        let freed: Vec<Partition> =
            partitions.iter().map(|p| Partition { free: free(p), idle: free(p), ..*p }).collect();
        ways(&freed, &Request { held: false, ..*request }, rules).is_ok()
    };
    if with(|p| p.healthy.max(p.free)) {
        Outlook::Later
    } else if with(|p| p.trays) {
        Outlook::WhenMended
    } else {
        Outlook::Never
    }
}

/// The partitions in aligned groups of `size`; at least one group.
fn groups(partitions: &[Partition], size: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let count = partitions.len();
    (0..count.max(1)).step_by(size.max(1)).map(move |first| first..first.saturating_add(size).min(count))
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
