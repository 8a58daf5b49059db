//! The epilog: end what the prolog of this run began, from the record alone.
//!
//! It needs the job id and nothing else of Slurm's environment, works the same in every mode and with settings that have
//! become unreadable meanwhile, and is a no-op where nothing was begun.
#![forbid(unsafe_code)]

use super::{Ground, Summary, Surroundings, Times, budget};
use crate::config::{Mode, Settings};
use crate::lifecycle::{Closed, end};
use crate::lock::TrayLock;
use crate::mark::{Mark, forget_old};
use crate::procfs::Proc;
use crate::slurm_conf::SlurmConf;
use crate::verdict::{Outcome, of_end, of_lock};
use crate::watch;
use fabric::report::Blame;
use std::time::{Duration, SystemTime};

/// Reserved for SIGKILL and removal behind the wait for the daemon.
pub(super) const KILL_RESERVE: Duration = Duration::from_secs(10);

pub(super) fn run(around: &Surroundings, summary: &mut Summary) -> Outcome {
    match steps(around, summary) {
        Ok(outcome) | Err(outcome) => outcome,
    }
}

fn steps(around: &Surroundings, summary: &mut Summary) -> Result<Outcome, Outcome> {
    let started = Proc::new(&around.paths.proc_dir).my_start();
    let job = around.environment.job_id().map_err(|error| {
        Outcome::refused(Blame::Config, &error, "imex-epilog must be slurm.conf's Epilog")
    })?;
    summary.job = Some(job);
    summary.node = around.environment.node();
    let settings = Settings::load(&around.paths.settings).unwrap_or_else(|error| {
        tracing::warn!(%job, %error, "settings cannot be used, going on with the defaults");
        Settings::default()
    });
    summary.metrics = settings.metrics.directory.clone();
    if settings.mode == Mode::Off && !around.paths.run_dir.exists() {
        return Ok(Outcome::Nothing("mode is off".to_owned()));
    }
    // Without slurm.conf only the cut to slurmd's own timeout is missing.
    let conf =
        around.environment.conf().ok().and_then(|path| SlurmConf::load(&path).ok()).unwrap_or_default();
    let wanted = settings.deadlines.epilog_lock()
        + Duration::from_secs(settings.deadlines.stop_seconds)
        + KILL_RESERVE;
    let total = budget(wanted, conf.epilog_timeout());
    let times = Times::of(total.saturating_sub(KILL_RESERVE.min(total / 2)), Duration::ZERO);

    let ground = Ground::prepare(&around.paths, started)?;
    let (epilog_started, boot) = (ground.started, ground.boot.clone());
    let state_fault =
        |error| Outcome::refused(Blame::Node, &error, "check owner and mode of the state directory");
    // Before the lock: the job's own prolog may hold it, and waits only until it sees this.
    Mark { epilog_started, boot: boot.clone() }.leave(&ground.state, job).map_err(state_fault)?;
    let limit = times.whole.within(settings.deadlines.epilog_lock());
    summary.phases.end("read");
    let _lock = TrayLock::take(&ground.state, limit).map_err(|error| of_lock(&error))?;
    summary.phases.end("lock");
    forget_old(&ground.state, epilog_started.ticks, &boot).map_err(state_fault)?;
    let mut tray = ground.tray(&around.paths, settings, times)?;
    let lost_at = watch::lost_at(&tray.state, job).ok().flatten();
    let result = end(&mut tray, job, epilog_started);
    if let Ok(Closed::Gone { lost: true, .. }) = &result {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |span| span.as_secs());
        let ago = lost_at.map(|at| now.saturating_sub(at));
        tracing::warn!(%job, lost_at, seconds_ago = ago, "the IMEX daemon had ended before its job did: look at the daemon's log");
    }
    summary.phases.end("remove");
    Ok(of_end(result))
}
