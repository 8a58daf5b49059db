//! What Slurm says of all jobs and nodes, asked by one thread for all who wait: dozens of jobs that each asked for
//! themselves would keep slurmctld and this machine busy with questions.
#![forbid(unsafe_code)]

use crate::cluster::Cluster;
use crate::picture::{self, JobLine, Picture};
use anyhow::bail;
use fabric::JobId;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Distance between two questions.
const DISTANCE: Duration = Duration::from_millis(250);

/// An answer, and which one it is.
#[derive(Default)]
struct Answer {
    picture: Picture,
    serial: u64,
}

/// The latest answer, and who waits for the next.
pub(super) struct Watch {
    latest: Mutex<Answer>,
    new: Condvar,
    ended: Mutex<bool>,
    end: Condvar,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { latest: Mutex::default(), new: Condvar::new(), ended: Mutex::new(false), end: Condvar::new() }
    }

    /// Asks until [`Watch::end`].
    pub(super) fn run(&self, cluster: &Cluster) {
        let mut serial = 0;
        loop {
            // slurmctld may be busy, or restarting: then the old answer stays.
            if let Ok(picture) = picture::take(cluster) {
                serial += 1;
                *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Answer { picture, serial };
                self.new.notify_all();
            }
            let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.end.wait_timeout_while(ended, DISTANCE, |ended| !*ended);
            if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                return;
            }
        }
    }

    /// A job as it was in the latest answer.
    pub(super) fn now(&self, job: JobId) -> Option<JobLine> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).picture.jobs.get(&job).cloned()
    }

    /// Whether one of these trays was drained, in the latest answer.
    pub(super) fn is_drained(&self, trays: &[String]) -> bool {
        let picture = &self.latest.lock().unwrap_or_else(PoisonError::into_inner).picture;
        trays.iter().any(|tray| picture.nodes.get(tray).is_some_and(|node| node.state.starts_with("drain")))
    }

    /// Lets [`Watch::run`] return.
    pub(super) fn end(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.end.notify_all();
    }

    /// Waits for an answer that was given from now on and is as wanted; `look` says what is still missing.
    pub(super) fn wait<T>(
        &self,
        what: &str,
        deadline: Duration,
        mut look: impl FnMut(&Picture) -> Result<T, String>,
    ) -> anyhow::Result<T> {
        let end = Instant::now() + deadline;
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        // The question that is under way may have been asked before the caller did something.
        let fresh = latest.serial + 2;
        loop {
            let missing = match (latest.serial >= fresh).then(|| look(&latest.picture)) {
                Some(Ok(value)) => return Ok(value),
                Some(Err(missing)) => missing,
                None => "no answer yet".to_owned(),
            };
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{what}: not within {} s; {missing}", deadline.as_secs());
            }
            latest = self.new.wait_timeout(latest, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
