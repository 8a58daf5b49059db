//! One run of prolog or epilog: what surrounds it, its closing line, its panic wall.
#![forbid(unsafe_code)]

mod ending;
mod epilog;
mod guest;
mod orphan;
mod prolog;

use crate::config::{Owner, Settings};
use crate::daemon::{DirectOwner, Manager, TrayOwner};
use crate::deadline::Deadline;
use crate::giving_up;
use crate::helper::{self, Helper};
use crate::job::Environment;
use crate::job_end::JobEnd;
use crate::lifecycle::Begun;
use crate::metrics::{self, MetricsError, Run};
use crate::paths::Paths;
use crate::procfs::{Proc, ProcError, Started};
use crate::resolve::Lookup;
use crate::roll_call::Partition;
use crate::secure_fs::Dir;
use crate::tray::{Tray, TrayError};
use crate::verdict::Outcome;
use crate::watch::{self, Lifeline, PrologEnd};
use fabric::names::{BlockName, JobId, NodeName};
use fabric::nvml::NvmlError;
use fabric::reading::TrayReading;
use fabric::report::{Blame, Report};
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// What a run gets from outside.
#[derive(Debug)]
pub struct Surroundings {
    /// Where things lie.
    pub paths: Paths,
    /// What Slurm says.
    pub environment: Environment,
    /// Reads this tray's GPUs.
    pub read_tray: fn() -> Result<TrayReading, NvmlError>,
    /// Finds addresses.
    pub lookup: Lookup,
    /// Does what outlives a run.
    pub helper: Helper,
}

/// Which of the two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// slurmd's `Prolog`.
    Prolog,
    /// slurmd's `Epilog`.
    Epilog,
}

/// What the closing line tells, as far as the run came.
#[derive(Debug, Default)]
struct Summary {
    job: Option<JobId>,
    node: Option<NodeName>,
    partition: Option<NodeName>,
    block: Option<BlockName>,
    members: Option<usize>,
    /// Where metrics go.
    metrics: Option<PathBuf>,
    phases: Phases,
}

/// What the time went into, in the order of the run.
#[derive(Debug)]
struct Phases {
    since: Instant,
    done: Vec<(&'static str, u64)>,
}

impl Default for Phases {
    fn default() -> Self {
        Self { since: Instant::now(), done: Vec::new() }
    }
}

impl Phases {
    /// The time since the last phase was `name`'s, of which `inner` parts belong to others.
    fn end_with(&mut self, name: &'static str, inner: &[(&'static str, Duration)]) {
        let now = Instant::now();
        let span = now.saturating_duration_since(self.since);
        self.since = now;
        let mut rest = span;
        let mut parts = Vec::new();
        for (name, part) in inner {
            let part = *part.min(&rest);
            rest -= part;
            parts.push((*name, millis(part)));
        }
        self.done.push((name, millis(rest)));
        self.done.extend(parts);
    }

    fn end(&mut self, name: &'static str) {
        self.end_with(name, &[]);
    }

    /// As [`Phases::end`], with the parts of a start that succeeded.
    fn end_start(&mut self, begun: &Result<Begun, TrayError>) {
        match begun {
            Ok(Begun::Ready { after, agreed, .. }) => {
                self.end_with("start", &[("forming", *after), ("roll_call", *agreed)]);
            }
            _ => self.end("start"),
        }
    }

    fn get(&self, name: &str) -> Option<u64> {
        self.done.iter().find(|(found, _)| *found == name).map(|(_, millis)| *millis)
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Runs the hook and writes its closing line. Never panics and always comes back within the run's budget.
#[must_use]
pub fn run(hook: Hook, surroundings: &Surroundings) -> Outcome {
    let begin = Instant::now();
    let mut summary = Summary::default();
    let guarded = AssertUnwindSafe(|| match hook {
        Hook::Prolog => prolog::run(surroundings, &mut summary),
        Hook::Epilog => epilog::run(surroundings, &mut summary),
    });
    let outcome = catch_unwind(guarded).unwrap_or_else(|_| {
        let report =
            Report::new(Blame::Bug, "the program stopped at an internal fault; standard error has its place");
        Outcome::Refused(
            report.with_hint("report it with the log; what it left behind is removed by the next run"),
        )
    });
    let hook = match hook {
        Hook::Prolog => "prolog",
        Hook::Epilog => "epilog",
    };
    let elapsed = begin.elapsed();
    close(hook, &outcome, &summary, elapsed);
    if let Some(directory) = &summary.metrics {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |span| span.as_secs());
        let run = Run { hook, outcome: outcome.word(), elapsed, phases: &summary.phases.done, now };
        let state = Dir::create(&surroundings.paths.run_dir, 0o700).map_err(MetricsError::Directory);
        if let Err(error) = state.and_then(|state| metrics::add(directory, &state, run)) {
            let report = Report::of_error(Blame::Config, &error).to_string();
            tracing::warn!(
                "{}; correct metrics.directory or its owner and mode",
                report.replace("\n  ", "; ")
            );
        }
    }
    outcome
}

/// Watches over a prolog and then over its daemon; `lifeline` is the end that the prolog does not have.
///
/// # Errors
/// The lifeline, the tray's state or the daemon's process cannot be looked at.
pub fn watch(paths: &Paths, job: JobId, prolog: Started, lifeline: impl Read) -> io::Result<()> {
    watch::take_name();
    match PrologEnd::wait(lifeline)? {
        PrologEnd::Nothing => Ok(()),
        PrologEnd::InService => {
            let metrics = Settings::load(&paths.settings).unwrap_or_default().metrics.directory;
            watch::over_daemon(paths, job, metrics.as_deref())
        }
        PrologEnd::Killed => {
            let begin = Instant::now();
            let (outcome, phases) = orphan::remove(paths, job, prolog);
            if !matches!(outcome, Outcome::Nothing(_)) {
                let summary = Summary { job: Some(job), phases, ..Summary::default() };
                close("watch: the prolog was killed", &outcome, &summary, begin.elapsed());
            }
            Ok(())
        }
    }
}

/// Asks Slurm to end the job, for a prolog that may have ended meanwhile: it is told on `answer`, and the log where it does not listen
/// any more. Whether it was done.
pub fn end_job(paths: &Paths, job: JobId, conf: &Path, mut answer: impl Write) -> bool {
    helper::take_name(c"imex-end-job");
    let settings = Settings::load(&paths.settings).unwrap_or_default();
    let done = giving_up::ask_slurm(&settings.slurm, conf, job);
    let words = match &done {
        Ok(words) | Err(words) => words,
    };
    if writeln!(answer, "{words}").is_err() {
        match &done {
            Ok(what) => tracing::warn!(%job, "Slurm has heard the request to end the job: {what}"),
            Err(why) => tracing::error!(%job, "cannot have Slurm end the job: {why}"),
        }
    }
    done.is_ok()
}

/// Has a watch begun over this prolog; without one it goes on.
fn begin_watch(helper: &Helper, job: JobId, started: Started) -> Option<Lifeline> {
    watch::begin(helper, job, started)
        .inspect_err(|error| tracing::warn!(%job, %error, "nobody watches this run and its IMEX daemon"))
        .ok()
}

/// Ends the watch over a prolog, which ends in order. The watch may be gone: its memory was needed, or an operator's `kill` took it.
fn let_go(lifeline: Option<Lifeline>, job: JobId, in_service: bool) {
    if let Some(lifeline) = lifeline
        && let Err(error) = lifeline.let_go(in_service)
    {
        tracing::warn!(%job, %error, "nobody watches the IMEX daemon");
    }
}

fn close(hook: &str, outcome: &Outcome, summary: &Summary, elapsed: Duration) {
    let words = match outcome {
        Outcome::Nothing(words) | Outcome::Done(_, words) => words.clone(),
        Outcome::Refused(report) => {
            for line in &report.detail {
                tracing::error!(job = summary.job.as_ref().map(tracing::field::display), "{hook}: {line}");
            }
            let hint = report.hint.as_ref().map(|hint| format!("; hint: {hint}")).unwrap_or_default();
            format!("{}{hint}", report.message)
        }
    };
    let Summary { job, node, partition, block, members, phases, .. } = summary;
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                outcome = outcome.word(),
                job = job.as_ref().map(tracing::field::display),
                node = node.as_ref().map(tracing::field::display),
                partition = partition.as_ref().map(tracing::field::display),
                block = block.as_ref().map(tracing::field::display),
                members = members,
                read_ms = phases.get("read"),
                fabric_ms = phases.get("fabric"),
                resolve_ms = phases.get("resolve"),
                lock_ms = phases.get("lock"),
                start_ms = phases.get("start"),
                forming_ms = phases.get("forming"),
                roll_call_ms = phases.get("roll_call"),
                remove_ms = phases.get("remove"),
                elapsed_ms = millis(elapsed),
                exit = outcome.exit_code(),
                "{hook}: {words}"
            )
        };
    }
    match outcome {
        Outcome::Nothing(_) | Outcome::Done(..) => line!(info),
        Outcome::Refused(_) => line!(error),
    }
}

/// What both hooks need once they touch the tray.
struct Ground {
    proc: Proc,
    state: Dir,
    boot: String,
    started: Started,
    /// Tells a prolog that Slurm is ending its job.
    job_end: Option<JobEnd>,
    /// See [`Tray::partitions`].
    partitions: Vec<Partition>,
}

impl Ground {
    /// Opens the state directory and finds out in which boot we are. `started` was asked first thing.
    fn prepare(paths: &Paths, started: Result<Started, ProcError>) -> Result<Self, Outcome> {
        let hint = "imex-prolog must be run by slurmd as root with /proc mounted";
        let node = |error: &dyn std::error::Error| Outcome::refused(Blame::Node, error, hint);
        let proc = Proc::new(&paths.proc_dir);
        let boot = proc.boot_id().map_err(|error| node(&error))?;
        let started = started.map_err(|error| node(&error))?;
        let state = Dir::create(&paths.run_dir, 0o700).map_err(|error| node(&error))?;
        Ok(Self { proc, state, boot, started, job_end: None, partitions: Vec::new() })
    }

    fn tray(self, paths: &Paths, settings: Settings, times: Times) -> Result<Tray<TrayOwner>, Outcome> {
        let logs = Dir::create(&paths.log_dir, 0o755).map_err(|error| {
            Outcome::refused(Blame::Node, &error, "check owner and mode of the log directory")
        })?;
        let proc = self.proc;
        let manager = match settings.daemon.owner {
            Owner::Auto | Owner::Systemd => Manager::of_system(),
            Owner::Direct => None,
        };
        if settings.daemon.owner == Owner::Systemd && manager.is_none() {
            let report =
                Report::new(Blame::Config, "daemon.owner is systemd, but systemd does not run this node");
            return Err(Outcome::Refused(report.with_hint("set daemon.owner to auto or direct")));
        }
        let direct = DirectOwner::new(proc.clone(), logs);
        let owner = TrayOwner::new(direct, paths.log_dir.clone(), manager);
        self.state.forget_dead_writers(&proc);
        Ok(Tray {
            paths: paths.clone(),
            state: self.state,
            settings,
            owner,
            boot: self.boot,
            budget: times.whole,
            forming: times.forming,
            job_end: self.job_end,
            partitions: self.partitions,
            roll: None,
        })
    }
}

/// The deadlines of a run.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// Of all of it.
    whole: Deadline,
    /// Of the forming of a domain; the rest is for the end of a job whose domain did not form.
    forming: Deadline,
}

impl Times {
    /// From now, with `end` for the end of the job, as far as that leaves enough for the rest.
    fn of(whole: Duration, end: Duration) -> Self {
        let forming = whole.saturating_sub(end.min(whole / 4));
        Self { whole: Deadline::after(whole), forming: Deadline::after(forming) }
    }
}

/// The budget of a run: `wanted`, cut so that it ends before slurmd would end it.
fn budget(wanted: Duration, slurm_limit: Option<Duration>) -> Duration {
    /// Time to write down the outcome and to exit.
    const MARGIN_MAX: Duration = Duration::from_secs(5);
    match slurm_limit {
        Some(limit) if !limit.is_zero() => wanted.min(limit - MARGIN_MAX.min(limit / 4)),
        _ => wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_each_other_and_an_inner_one_is_not_counted_twice() {
        let mut phases = Phases::default();
        phases.since -= Duration::from_millis(300);
        phases.end("read");
        phases.since -= Duration::from_millis(1000);
        let parts = [("forming", Duration::from_millis(700)), ("roll_call", Duration::from_millis(200))];
        phases.end_with("start", &parts);
        assert!((300..400).contains(&phases.get("read").unwrap()), "{phases:?}");
        assert!((100..200).contains(&phases.get("start").unwrap()), "{phases:?}");
        assert_eq!((phases.get("forming"), phases.get("roll_call")), (Some(700), Some(200)));
        assert_eq!(phases.get("lock"), None);
        // A clock that was read too late makes no negative time.
        phases.end_with("remove", &[("late", Duration::from_secs(900))]);
        assert_eq!(phases.get("remove"), Some(0));
    }

    #[test]
    fn a_run_ends_before_slurmd_would_end_it() {
        let seconds = Duration::from_secs;
        assert_eq!(budget(seconds(150), None), seconds(150));
        assert_eq!(budget(seconds(150), Some(seconds(600))), seconds(150));
        assert_eq!(budget(seconds(150), Some(seconds(60))), seconds(55));
        assert_eq!(budget(seconds(150), Some(seconds(8))), seconds(6));
    }
}
