#![forbid(unsafe_code)]
//! Which large jobs wait, and so who stands behind one.
//!
//! Slurm does not tell a topology plugin what waits. But it asks for each job that waits, again and again, and most of all its
//! backfill scheduler does: a job that this process could not place, and that was asked for lately, waits.

use std::sync::{Mutex, MutexGuard, PoisonError};

use fabric::placement::Standing;

use crate::host::job::Queued;

/// Seconds between two looks at what a job waits for.
const LOOK: u64 = 60;
/// Seconds after which a job that nobody asks for any more does not count: it has been cancelled, or is held.
const KEPT: u64 = 300;
/// The most jobs that are kept in mind. Further ones are not: they come later in the queue, as Slurm asks for the first ones first.
const MOST: usize = 1000;

/// A large job that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    job: u32,
    queued: Queued,
    /// Trays that it needs together.
    piece: u32,
    /// When it was last asked for, in seconds since 1970.
    seen: u64,
}

/// The large jobs that wait.
#[derive(Debug, Default)]
pub(super) struct Line(Vec<Waiting>);

static LINE: Mutex<Line> = Mutex::new(Line(Vec::new()));

impl Line {
    /// What is known. A panic while it is held leaves it whole.
    pub(super) fn known() -> MutexGuard<'static, Self> {
        LINE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is worth a look what a job waits for that could not be placed.
    pub(super) fn is_due(&self, job: u32, now: u64) -> bool {
        !self.0.iter().any(|known| known.job == job && now.abs_diff(known.seen) < LOOK)
    }

    /// A job of such a piece waits for others to end.
    pub(super) fn waits(&mut self, job: u32, queued: Queued, piece: u32, now: u64) {
        let waiting = Waiting { job, queued, piece, seen: now };
        if let Some(known) = self.0.iter_mut().find(|known| known.job == job) {
            *known = waiting;
            return;
        }
        if self.0.len() >= MOST {
            self.0.retain(|known| known.is_kept(now));
        }
        if self.0.len() < MOST {
            self.0.push(waiting);
        }
    }

    /// A job was placed, or nothing that ends lets it start.
    pub(super) fn leaves(&mut self, job: u32) {
        self.0.retain(|known| known.job != job);
    }

    /// Where a job stands: behind those of the same Slurm partition that have a higher priority, or the same and a lower
    /// number.
    pub(super) fn standing(&self, job: u32, queued: Queued, now: u64) -> Standing {
        let is_ahead = |other: &&Waiting| {
            other.queued.slurm_partition == queued.slurm_partition
                && (other.queued.priority, job) > (queued.priority, other.job)
                && other.is_kept(now)
        };
        let ahead = self.0.iter().filter(is_ahead).map(|other| other.piece).max().unwrap_or(0);
        Standing { ahead, waited: now.saturating_sub(queued.eligible) }
    }
}

impl Waiting {
    fn is_kept(&self, now: u64) -> bool {
        now.abs_diff(self.seen) < KEPT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(slurm_partition: usize, priority: u32) -> Queued {
        Queued { slurm_partition, priority, eligible: 900 }
    }

    fn ahead(line: &Line, job: u32, queued: Queued, now: u64) -> u32 {
        line.standing(job, queued, now).ahead
    }

    #[test]
    fn a_job_stands_behind_what_is_earlier_in_its_slurm_partition() {
        let mut line = Line::default();
        line.waits(10, queued(1, 50), 16, 1_000);
        line.waits(11, queued(1, 40), 18, 1_000);
        line.waits(12, queued(2, 90), 64, 1_000);
        let of = |job, priority| ahead(&line, job, queued(1, priority), 1_000);
        assert_eq!(
            [of(20, 60), of(20, 50), of(9, 50), of(20, 45), of(20, 40), of(20, 1)],
            [0, 16, 0, 16, 18, 18]
        );
        assert_eq!(ahead(&line, 20, queued(3, 1), 1_000), 0, "another Slurm partition");
        assert_eq!(line.standing(20, queued(1, 1), 1_060).waited, 160);
        assert_eq!(line.standing(20, queued(1, 1), 800).waited, 0, "the clock was set back");
    }

    #[test]
    fn who_was_placed_or_is_not_asked_for_any_more_waits_no_longer() {
        let mut line = Line::default();
        let small = queued(1, 1);
        line.waits(10, queued(1, 50), 16, 1_000);
        line.waits(11, queued(1, 50), 18, 1_100);
        assert_eq!([1_299, 1_300, 1_399, 1_400].map(|now| ahead(&line, 20, small, now)), [18, 18, 18, 0]);
        assert_eq!(ahead(&line, 20, small, 700), 0, "neither when the clock was set back");
        line.leaves(11);
        assert_eq!([1_299, 1_300].map(|now| ahead(&line, 20, small, now)), [16, 0]);
        assert!(line.is_due(10, 1_300));
        line.waits(10, queued(1, 50), 17, 1_300);
        assert_eq!([1_359, 1_360].map(|now| line.is_due(10, now)), [false, true]);
        assert_eq!((ahead(&line, 20, small, 1_300), line.0.len()), (17, 1));
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut line = Line::default();
        for job in 0..=u32::try_from(MOST).unwrap() {
            line.waits(job, queued(1, 50), 16 + job, 1_000);
        }
        assert_eq!((line.0.len(), ahead(&line, 5_000, queued(1, 1), 1_000)), (MOST, 15 + MOST as u32));
        line.waits(5_000, queued(1, 50), 16, 1_000 + KEPT);
        assert_eq!(line.0.len(), 1);
    }
}
