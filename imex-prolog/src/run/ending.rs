//! The end of a prolog whose domain was given up for a peer's sake: what becomes of the job.
#![forbid(unsafe_code)]

use crate::daemon::TrayOwner;
use crate::deadline::Pauses;
use crate::giving_up::{self, Fate, Site, wait_for_end};
use crate::helper::Helper;
use crate::lifecycle::{Begun, World};
use crate::procfs::Started;
use crate::readiness::Readiness;
use crate::tray::{Tray, TrayError};
use fabric::names::JobId;
use std::path::Path;
use std::time::{Duration, Instant};

/// The run whose domain was given up.
#[derive(Debug)]
pub(super) struct Run {
    /// The job.
    pub(super) job: JobId,
    /// When its prolog was started.
    pub(super) started: Started,
    /// This tray's position among the members.
    pub(super) own: usize,
}

/// What becomes of the job, where its domain was not begun for another reason than this tray's own fault; else `None`.
pub(super) fn fate(
    tray: &mut Tray<TrayOwner>,
    run: &Run,
    begun: &Result<Begun, TrayError>,
    conf: &Path,
    helper: &Helper,
) -> Option<Fate> {
    let missing = match begun {
        Ok(Begun::NoDomain(Readiness::PeersMissing { missing, .. } | Readiness::Refused { missing })) => {
            missing.as_slice()
        }
        // Also where other partitions are missing: the members are here.
        Ok(Begun::NoDomain(_) | Begun::ChannelTaken(_) | Begun::Outdated(_)) => &[],
        Ok(Begun::Ready { .. } | Begun::AlreadyReady | Begun::RunEnded | Begun::Failed(_)) | Err(_) => {
            return None;
        }
    };
    let is_missing = |index: &usize| missing.iter().any(|(other, _)| other == index);
    let rank = (0..run.own).filter(|index| !is_missing(index)).count();
    let rank = tray.settings.slurm.end_half_formed_jobs.then_some(rank);
    let longest = Duration::from_secs(tray.settings.deadlines.job_end_seconds);
    tray.forming = tray.budget.within(longest);
    tracing::warn!(job = %run.job, "the domain was given up; waiting for Slurm to end the job");
    let pauses = Pauses::new(Duration::from_millis(50), Duration::from_millis(250));
    Some(wait_for_end(&mut Ending { tray, run, conf, helper, begin: Instant::now(), pauses }, rank))
}

struct Ending<'a> {
    tray: &'a mut Tray<TrayOwner>,
    run: &'a Run,
    conf: &'a Path,
    helper: &'a Helper,
    begin: Instant,
    pauses: Pauses,
}

impl Site for Ending<'_> {
    fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    fn remaining(&self) -> Duration {
        self.tray.forming.remaining()
    }

    fn pause(&mut self) {
        self.pauses.pause(self.tray.forming);
    }

    fn has_ended(&mut self) -> bool {
        self.tray.has_ended(self.run.job, self.run.started).unwrap_or(false)
    }

    fn ask(&mut self) -> Result<Option<String>, String> {
        let answer = giving_up::ask(self.helper, self.conf, self.run.job, self.tray.budget);
        match &answer {
            Ok(Some(what)) => tracing::warn!(job = %self.run.job, "asked Slurm to end the job, which {what}"),
            Ok(None) => {
                tracing::warn!(job = %self.run.job, "asked Slurm to end the job; no answer yet, and the request stands");
            }
            Err(why) => tracing::warn!(job = %self.run.job, "cannot have Slurm end the job yet: {why}"),
        }
        answer
    }
}
