#![forbid(unsafe_code)]
//! Which large jobs wait, and so who stands behind one.
//!
//! Slurm does not tell a topology plugin what waits. But it asks for each job that waits, again and again, and most of all its
//! backfill scheduler does: a job that this process could not place, and that was asked for lately, waits, unless slurmctld's
//! record of it says otherwise.

use std::sync::{Mutex, MutexGuard, PoisonError};

use fabric::placement::{self, Outlook, Request, Rules, Standing};

use super::survey::Health;
use super::{Outcome, Question, is_about_now};
use crate::abi::TOPO_RC_SUCCESS;
use crate::host::eval::Eval;
use crate::host::job::{Job, Queued};
use crate::host::record::Records;
use crate::host::{process, queue};

/// Seconds between two looks at what a job waits for.
const LOOK: u64 = 60;
/// Seconds after which a job that nobody asks for any more does not count: a limit or a dependency keeps it, or its record
/// cannot be looked at.
const KEPT: u64 = 300;
/// The most jobs that are kept in mind. Further ones are not: they come later in the queue, as Slurm asks for the first ones first.
const MOST: usize = 1000;

/// Who waits ahead of a job. Only backfill's question whether it can start now counts: Slurm gives up a job that is refused
/// when it asks whether the job could ever run, and its main scheduler asks for nobody behind a job that waits.
pub(super) fn ahead(
    eval: &Eval<'_>,
    job: &Job<'_>,
    request: &Request,
    rules: &Rules,
    records: &Records,
) -> Ahead {
    let is_asked = job.backfill_test && is_about_now(eval) && request.required == 0;
    let Some(queued) = job.queued.filter(|_| is_asked && rules.patience > 0) else {
        return Ahead::default();
    };
    let mut line = Line::known();
    line.keep(|job| queue::waits(job, records) != Some(false));
    line.ahead(job.id, queued, process::now())
}

impl Question<'_> {
    /// Keeps in mind which large jobs wait for others to end, and where. Slurm asks about later times only after it has
    /// found that a job cannot start now.
    pub(super) fn note_in_line(&self, eval: &Eval<'_>, outcome: Outcome) {
        let (rules, id) = (&self.model.rules, self.job.id);
        let piece = self.request.piece();
        let (Some(queued), Outcome::Answered(rc)) = (self.job.queued, outcome) else { return };
        if rules.patience == 0 || piece < rules.room || id == 0 {
            return;
        }
        let (is_about_now, is_placed) = (is_about_now(eval), rc == TOPO_RC_SUCCESS);
        let now = process::now();
        let mut line = Line::known();
        if is_about_now && is_placed {
            line.starts(id);
            return;
        }
        if is_about_now && line.is_due(id, now) {
            let partitions = self.survey(eval, eval.usable()).partitions(self.request, Health::Read);
            let is_helped = placement::outlook(&partitions, self.request, rules) == Outlook::Later;
            line.waits(id, queued, if is_helped { piece } else { 0 }, now);
        } else if is_placed && self.job.backfill_test {
            line.waits(id, queued, piece, now);
        }
        line.may_have(id, queued, || self.model.blocks.iter().map(|block| block.overlap(eval.usable()) > 0));
    }
}

/// Who waits ahead of a job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Ahead {
    /// By partition, trays of the largest piece that waits for it; none are left out at the end.
    pieces: Vec<u32>,
    /// Seconds since the job could have started.
    waited: u64,
}

impl Ahead {
    /// Where the job stands in a partition.
    pub(super) fn standing(&self, partition: usize) -> Standing {
        Standing { ahead: self.pieces.get(partition).copied().unwrap_or(0), waited: self.waited }
    }

    #[cfg(test)]
    pub(super) fn of(pieces: &[u32]) -> Self {
        Self { pieces: pieces.to_vec(), waited: 0 }
    }

    /// Where it stands where most is ahead of it.
    pub(super) fn worst(&self) -> Standing {
        Standing { ahead: self.pieces.iter().copied().max().unwrap_or(0), waited: self.waited }
    }
}

/// A large job that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    job: u32,
    queued: Queued,
    /// Trays that it needs together; 0 where no job that ends lets it start, so that it keeps nobody waiting.
    piece: u32,
    /// When it was last asked for, in seconds since 1970.
    seen: u64,
    /// By position, the partitions of which it was ever offered a tray: no constraint and no reservation keeps it out.
    partitions: Vec<bool>,
}

/// The large jobs that wait.
#[derive(Debug, Default)]
struct Line(Vec<Waiting>);

static LINE: Mutex<Line> = Mutex::new(Line(Vec::new()));

impl Line {
    /// What is known. A panic while it is held leaves it whole.
    fn known() -> MutexGuard<'static, Self> {
        LINE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is worth a look what a job waits for that could not be placed.
    fn is_due(&self, job: u32, now: u64) -> bool {
        !self.0.iter().any(|known| known.job == job && now.abs_diff(known.seen) < LOOK)
    }

    /// A job of such a piece waits.
    fn waits(&mut self, job: u32, queued: Queued, piece: u32, now: u64) {
        if let Some(known) = self.of(job) {
            if known.queued.slurm_partition != queued.slurm_partition {
                // Its topology may be another one.
                known.partitions.clear();
            }
            (known.queued, known.piece, known.seen) = (queued, piece, now);
            return;
        }
        if self.0.len() >= MOST {
            self.0.retain(|known| known.is_kept(now));
        }
        if self.0.len() < MOST {
            self.0.push(Waiting { job, queued, piece, seen: now, partitions: Vec::new() });
        }
    }

    /// A job that waits was offered trays of these partitions.
    fn may_have<P: Iterator<Item = bool>>(
        &mut self,
        job: u32,
        queued: Queued,
        partitions: impl FnOnce() -> P,
    ) {
        let known = self.of(job).filter(|known| known.queued.slurm_partition == queued.slurm_partition);
        let Some(known) = known else { return };
        for (position, is_offered) in partitions().enumerate() {
            match known.partitions.get_mut(position) {
                Some(known) => *known |= is_offered,
                None => known.partitions.push(is_offered),
            }
        }
    }

    fn of(&mut self, job: u32) -> Option<&mut Waiting> {
        self.0.iter_mut().find(|known| known.job == job)
    }

    /// A job was placed, and waits no longer.
    fn starts(&mut self, job: u32) {
        self.0.retain(|known| known.job != job);
    }

    /// Forgets the jobs that do not wait.
    fn keep(&mut self, waits: impl Fn(u32) -> bool) {
        self.0.retain(|known| waits(known.job));
    }

    /// Who is ahead of a job: those of the same Slurm partition that have a higher priority, or the same and a lower number.
    fn ahead(&self, job: u32, queued: Queued, now: u64) -> Ahead {
        let is_ahead = |other: &&Waiting| {
            other.queued.slurm_partition == queued.slurm_partition
                && (other.queued.priority, job) > (queued.priority, other.job)
                && other.is_kept(now)
        };
        let mut pieces = Vec::new();
        for other in self.0.iter().filter(is_ahead) {
            pieces.resize(other.partitions.len().max(pieces.len()), 0);
            let its_own = pieces.iter_mut().zip(&other.partitions).filter(|(_, may_have)| **may_have);
            its_own.for_each(|(piece, _)| *piece = other.piece.max(*piece));
        }
        Ahead { pieces, waited: now.saturating_sub(queued.eligible) }
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
        line.ahead(job, queued, now).worst().ahead
    }

    /// A job waits that may have each of two partitions.
    fn waits(line: &mut Line, job: u32, queued: Queued, piece: u32, now: u64) {
        line.waits(job, queued, piece, now);
        line.may_have(job, queued, || [true; 2].into_iter());
    }

    #[test]
    fn a_job_stands_behind_what_is_earlier_in_its_slurm_partition() {
        let mut line = Line::default();
        waits(&mut line, 10, queued(1, 50), 16, 1_000);
        waits(&mut line, 11, queued(1, 40), 18, 1_000);
        waits(&mut line, 12, queued(2, 90), 64, 1_000);
        let of = |job, priority| ahead(&line, job, queued(1, priority), 1_000);
        assert_eq!(
            [of(20, 60), of(20, 50), of(9, 50), of(20, 45), of(20, 40), of(20, 1)],
            [0, 16, 0, 16, 18, 18]
        );
        assert_eq!(ahead(&line, 20, queued(3, 1), 1_000), 0, "another Slurm partition");
        assert_eq!(line.ahead(20, queued(1, 1), 1_060).waited, 160);
        assert_eq!(line.ahead(20, queued(1, 1), 800).waited, 0, "the clock was set back");
    }

    #[test]
    fn who_was_placed_or_is_not_asked_for_any_more_waits_no_longer() {
        let mut line = Line::default();
        let small = queued(1, 1);
        waits(&mut line, 10, queued(1, 50), 16, 1_000);
        waits(&mut line, 11, queued(1, 50), 18, 1_100);
        assert_eq!([1_299, 1_300, 1_399, 1_400].map(|now| ahead(&line, 20, small, now)), [18, 18, 18, 0]);
        assert_eq!(ahead(&line, 20, small, 700), 0, "neither when the clock was set back");
        line.starts(11);
        assert_eq!([1_299, 1_300].map(|now| ahead(&line, 20, small, now)), [16, 0]);
        assert!(line.is_due(10, 1_300));
        waits(&mut line, 10, queued(1, 50), 17, 1_300);
        assert_eq!([1_359, 1_360].map(|now| line.is_due(10, now)), [false, true]);
        assert_eq!((ahead(&line, 20, small, 1_300), line.0.len()), (17, 1));
    }

    #[test]
    fn a_job_is_ahead_only_where_it_was_offered_trays() {
        let mut line = Line::default();
        for (job, piece, offered) in [(10, 16, [true, false, false]), (11, 18, [false, true, false])] {
            line.waits(job, queued(1, 50), piece, 1_000);
            line.may_have(job, queued(1, 50), || offered.into_iter());
        }
        let standing = |line: &Line| {
            let ahead = line.ahead(20, queued(1, 1), 1_000);
            ([0, 1, 2, 3].map(|partition| ahead.standing(partition).ahead), ahead.worst().ahead)
        };
        assert_eq!(standing(&line), ([16, 18, 0, 0], 18));
        // What it was offered once is not forgotten, also when it is asked for again.
        line.may_have(11, queued(1, 50), || [true, false, false, true].into_iter());
        line.waits(11, queued(1, 50), 18, 1_030);
        assert_eq!(standing(&line), ([18, 18, 0, 18], 18));
        // Who does not wait is not kept in mind.
        line.may_have(12, queued(1, 50), || [true; 3].into_iter());
        line.keep(|job| job != 11);
        assert_eq!(standing(&line), ([16, 0, 0, 0], 16));
        // In another Slurm partition, of which the topology may be another one, the job begins anew.
        line.may_have(10, queued(2, 50), || [true; 3].into_iter());
        assert_eq!(standing(&line), ([16, 0, 0, 0], 16));
        line.waits(10, queued(2, 50), 16, 1_060);
        line.waits(10, queued(1, 50), 16, 1_090);
        line.may_have(10, queued(1, 50), || [false, true].into_iter());
        assert_eq!(standing(&line), ([0, 16, 0, 0], 16));
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut line = Line::default();
        for job in 0..=u32::try_from(MOST).unwrap() {
            waits(&mut line, job, queued(1, 50), 16 + job, 1_000);
        }
        assert_eq!((line.0.len(), ahead(&line, 5_000, queued(1, 1), 1_000)), (MOST, 15 + MOST as u32));
        waits(&mut line, 5_000, queued(1, 50), 16, 1_000 + KEPT);
        assert_eq!(line.0.len(), 1);
    }
}
