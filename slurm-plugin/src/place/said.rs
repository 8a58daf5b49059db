#![forbid(unsafe_code)]
//! What was said of which job, so that the log has it once and not in each scheduling cycle.
//!
//! The memory is a table of fixed size, made when the first job is spoken of. A job has one place in a small set of
//! places; one that was not evaluated for an hour gives its place up. When all places of a set are taken by jobs of now,
//! a further one is not spoken of: silence is the lesser evil.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

/// Sets of places; neighbouring job ids go to different ones.
const SETS: usize = 2048;
const PLACES: usize = 4;
/// Seconds after which a job that nobody asks about is forgotten.
const KEPT: u32 = 3600;
/// Seconds in which a sentence is worked out at most once for a job.
const QUIET: u32 = 60;

/// What is said of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    /// Why it waits.
    Waits,
    /// Over which partitions it lies.
    Spans,
    /// That it was placed, in the metrics.
    CountedPlaced,
    /// That it waits, in the metrics.
    CountedWaits,
}

/// What was said on one topic.
#[derive(Debug, Clone, Copy, Default)]
struct Spoken {
    /// When it was last looked at closely, in seconds; 0: never.
    looked: u32,
    /// What it was at first sight.
    glance: u64,
    /// What was said; 0: nothing.
    said: u64,
}

/// A place for a job.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// 0: nobody.
    job: u32,
    /// When it was last asked about, in seconds.
    seen: u32,
    topics: [Spoken; 4],
}

/// What was said of which job.
struct Said(Box<[[Place; PLACES]]>);

impl Said {
    fn new() -> Self {
        Self(vec![[Place::default(); PLACES]; SETS].into_boxed_slice())
    }

    /// The place of a job, if there is one for it.
    fn place(&mut self, job: u32, now: u32) -> Option<&mut Place> {
        let set = &mut self.0[job as usize % SETS];
        let own = set.iter().position(|place| place.job == job);
        let index = own.or_else(|| {
            let outdated = |place: &Place| place.job == 0 || now.saturating_sub(place.seen) > KEPT;
            let index = set.iter().position(outdated)?;
            set[index] = Place { job, ..Place::default() };
            Some(index)
        })?;
        set[index].seen = now;
        Some(&mut set[index])
    }

    fn is_due(&mut self, job: u32, topic: Topic, glance: u64, now: u32) -> bool {
        let Some(place) = self.place(job, now) else { return false };
        let spoken = &mut place.topics[topic as usize];
        let fresh = spoken.looked != 0 && now.saturating_sub(spoken.looked) < QUIET;
        if fresh && (spoken.glance == glance || topic == Topic::Spans) {
            return false;
        }
        (spoken.looked, spoken.glance) = (now, glance);
        true
    }

    fn is_news(&mut self, job: u32, topic: Topic, identity: u64, now: u32) -> bool {
        let Some(place) = self.place(job, now) else { return false };
        let said = &mut place.topics[topic as usize].said;
        std::mem::replace(said, identity) != identity
    }
}

static SAID: Mutex<Option<Said>> = Mutex::new(None);

/// Whether it is worth working out what to say of a job that looks, at first sight, like `glance`.
pub(super) fn is_due(job: u32, topic: Topic, glance: u64) -> bool {
    with(|said, now| said.is_due(job, topic, glance, now))
}

/// Whether what is to be said differs from what was said of the job before. It counts as said from now on.
pub(super) fn is_news(job: u32, topic: Topic, identity: u64) -> bool {
    with(|said, now| said.is_news(job, topic, identity, now))
}

fn with<R>(body: impl FnOnce(&mut Said, u32) -> R) -> R {
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    body(said.get_or_insert_with(Said::new), now())
}

/// Seconds, from 1 on.
fn now() -> u32 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    let seconds = BEGIN.get_or_init(Instant::now).elapsed().as_secs();
    u32::try_from(seconds).unwrap_or(u32::MAX - 1).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_news_once_and_again_when_it_changes() {
        let mut said = Said::new();
        assert!(said.is_news(7, Topic::Waits, 1, 10));
        assert!(!said.is_news(7, Topic::Waits, 1, 20));
        assert!(said.is_news(7, Topic::Spans, 1, 20), "topics are apart");
        assert!(said.is_news(7, Topic::Waits, 2, 30));
        assert!(said.is_news(8, Topic::Waits, 2, 30), "jobs are apart");
    }

    #[test]
    fn a_job_is_looked_at_closely_once_a_minute_and_when_it_looks_different() {
        let mut said = Said::new();
        assert!(said.is_due(7, Topic::Waits, 1, 1));
        assert!(!said.is_due(7, Topic::Waits, 1, 2));
        assert!(said.is_due(7, Topic::Waits, 2, 3));
        assert!(said.is_due(7, Topic::Waits, 2, 3 + QUIET));
        assert!(said.is_due(7, Topic::Spans, 1, 5));
        assert!(!said.is_due(7, Topic::Spans, 2, 6), "placements differ from cycle to cycle");
    }

    #[test]
    fn the_memory_is_bounded_and_forgets_the_old() {
        let mut said = Said::new();
        let all = (SETS * PLACES) as u32;
        for job in 1..=all {
            assert!(said.is_news(job, Topic::Waits, 1, 10));
        }
        assert!(!said.is_news(all + 1, Topic::Waits, 1, 11), "no place, no word");
        assert!(!said.is_news(1, Topic::Waits, 1, 3000));
        assert!(said.is_news(1 + all, Topic::Waits, 1, 12 + KEPT), "the places of its set are outdated");
        assert!(!said.is_news(1, Topic::Waits, 1, 13 + KEPT), "this one was asked about since");
    }
}
