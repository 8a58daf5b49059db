//! `topology-gen watch`: looks at the trays again and again and brings what they say into force. Runs until SIGTERM.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fabric::{Blame, NodeName, Report, Topology};
use nix::sys::signal::{SigSet, Signal};

use super::Output;
use super::apply::{ChangeArgs, told};
use super::diff::not_answered;
use super::plan::{PlanArgs, Planned};
use crate::apply::backup::BackupError;
use crate::apply::{ApplyError, Outcome};
use crate::diff::diff;
use crate::failure::{self, Failure, OK};
use crate::watch::metrics::{DRY_RUN, FAILED, Metrics, SEEN};
use crate::watch::notify::Notify;
use crate::watch::{Decision, End, Policy, Rest, Seen, State};

/// Options of `watch`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    watch: WatchArgs,
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

/// When something is done.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Watch")]
struct WatchArgs {
    /// Between two looks at the trays, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval: u64,
    /// Act on a change that was seen so often in a row
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    stable: u32,
    /// And for so long, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    settle: u64,
    /// Most changes in an hour
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=3600))]
    per_hour: u16,
    /// With so many trays lost at once, wait for them or for a human (SIGHUP)
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    lost: u16,
    /// Folder for metrics of Prometheus' node exporter
    #[arg(long, value_name = "FOLDER")]
    metrics: Option<PathBuf>,
}

/// Wait after a first try in vain.
const BACK_OFF: Duration = Duration::from_secs(60);

/// What comes from outside.
enum Call {
    /// A human has looked.
    GoOn,
    /// The end.
    Stop,
}

/// Turns signals into calls. `stop` is set at once, so that a long look ends soon.
fn signals(stop: Arc<AtomicBool>) -> Result<Receiver<Call>, Failure> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    // For this thread, those that it starts, and the programs that are run: these end by SIGKILL when they are late.
    set.thread_block().map_err(|error| {
        let report = Report::new(Blame::Bug, "cannot hold signals back");
        Failure(report.with_detail(format!("because: {error}")))
    })?;
    let (call, calls) = channel();
    std::thread::spawn(move || listen(&set, &stop, &call));
    Ok(calls)
}

fn listen(set: &SigSet, stop: &AtomicBool, call: &Sender<Call>) {
    while let Ok(signal) = set.wait() {
        let sent = if signal == Signal::SIGHUP {
            call.send(Call::GoOn)
        } else {
            stop.store(true, Ordering::Relaxed);
            call.send(Call::Stop)
        };
        if sent.is_err() {
            return;
        }
    }
}

pub(super) fn run(args: &Args, output: &mut Output<'_>) -> Result<u8, Failure> {
    if args.plan.is_fresh() {
        let report = Report::new(Blame::Config, "--fresh would give the blocks new names at each look");
        return Err(Failure(report).hint("run topology-gen apply --fresh once, then watch without it"));
    }
    let calls = signals(Arc::clone(&args.plan.source.stop))?;
    let notify = Notify::from_env();
    notify.ready();
    let every = Duration::from_secs(args.watch.interval);
    output.say(format_args!(
        "watching: a look every {} s, a change after {} looks and {} s, at most {} an hour, none with {} trays lost{}",
        every.as_secs(),
        args.watch.stable,
        args.watch.settle,
        args.watch.per_hour,
        args.watch.lost,
        if args.change.dry_run { "; dry run" } else { "" },
    ));
    let mut watcher = Watcher::new(args, notify);
    loop {
        let next = Instant::now() + every;
        watcher.look(output);
        match calls.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Call::GoOn) => {
                let silent = watcher.state.silent();
                watcher.state.go_on();
                let trays = if silent.is_empty() { "none".to_owned() } else { silent.to_string() };
                output.say(format_args!("told to go on; trays that are not waited for: {trays}"));
            }
            Ok(Call::Stop) | Err(RecvTimeoutError::Disconnected) => {
                watcher.notify.stopping();
                output.say("told to end");
                return Ok(OK);
            }
        }
    }
}

/// The state, and what was said last.
struct Watcher<'a> {
    args: &'a Args,
    state: State,
    metrics: Metrics,
    notify: Notify,
    begin: Instant,
    /// The words of the last look.
    words: Vec<u8>,
    rest: Option<Rest>,
}

/// A look that found something to think about.
struct Look {
    seen: Seen,
    text: String,
}

impl<'a> Watcher<'a> {
    fn new(args: &'a Args, notify: Notify) -> Self {
        let WatchArgs { stable, settle, per_hour, lost, .. } = args.watch;
        let policy = Policy {
            stable,
            settle: Duration::from_secs(settle),
            per_hour: per_hour.into(),
            lost: lost.into(),
            back_off: BACK_OFF,
        };
        Self {
            args,
            state: State::new(policy),
            metrics: Metrics::default(),
            notify,
            begin: Instant::now(),
            words: Vec::new(),
            rest: None,
        }
    }

    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Looks once and does what is to be done.
    fn look(&mut self, output: &mut Output<'_>) {
        let mut words = Vec::new();
        let look =
            self.see(&mut Output { data: &mut std::io::sink(), words: &mut words, screen: output.screen });
        // The same words each minute help nobody.
        if words != self.words {
            let _ = output.words.write_all(&words);
            self.words = words;
        }
        if self.args.plan.source.stop.load(Ordering::Relaxed) {
            return;
        }
        let now = self.now();
        let (decision, text) = match look {
            Ok(Look { seen, text }) => {
                self.metrics.count("looks_total", SEEN);
                self.metrics.set("last_look_timestamp_seconds", seconds_since_1970());
                self.metrics.set("change_pending", u64::from(seen.change.is_some()));
                (self.state.look(&seen, now), text)
            }
            Err(Failure(report)) => {
                self.metrics.count("looks_total", FAILED);
                (
                    self.state.blind(
                        std::iter::once(report.message).chain(report.detail).collect::<Vec<_>>().join("; "),
                    ),
                    String::new(),
                )
            }
        };
        let rest = match decision {
            Decision::Act => self.act(&text, output),
            Decision::Rest(rest) => Some(rest),
        };
        self.tell(rest, output);
    }

    /// Reads, plans and compares; says what the plan says.
    fn see(&mut self, output: &mut Output<'_>) -> Result<Look, Failure> {
        let target = &self.args.change.target;
        let previous = Some(target.as_path()).filter(|target| target.exists());
        let Planned { trays, topologies, text, held, plan, .. } = self.args.plan.planned(previous, output)?;
        let controller = self.args.plan.source.controller.controller();
        let live = controller.topologies().map_err(|error| not_answered(&error))?;
        let on_disk = std::fs::read_to_string(target).ok();
        let on_disk = on_disk.and_then(|text| fabric::slurm_yaml::parse(&text).ok());
        let same = diff(&live, &topologies).is_empty()
            && on_disk.is_some_and(|old| diff(&old, &topologies).is_empty());
        for (state, number) in [
            ("member", trays.partitions.values().map(Vec::len).sum()),
            ("silent", trays.silent.len()),
            ("refused", trays.rejected.len()),
            ("not_ready", trays.pending.len()),
        ] {
            self.metrics.trays(state, number);
        }
        let blocks = plan.blocks.iter().filter(|block| !block.nodes.is_empty()).count();
        self.metrics.set("blocks", u64::try_from(blocks).unwrap_or(u64::MAX));
        let speaking: BTreeSet<NodeName> =
            trays.partitions.values().flatten().filter(|node| !trays.away.contains(*node)).cloned().collect();
        let ours = live.iter().find(|topology| topology.name == self.args.plan.topology());
        let in_force =
            ours.and_then(Topology::block).map(|block| block.blocks.as_slice()).unwrap_or_default();
        let in_force = in_force.iter().flat_map(|block| &block.nodes).cloned().collect();
        let seen = Seen { speaking, in_force, change: (!same).then(|| text.clone()), held };
        Ok(Look { seen, text })
    }

    /// Brings the text into force; afterwards there is a reason to rest, unless all went well.
    fn act(&mut self, text: &str, output: &mut Output<'_>) -> Option<Rest> {
        self.notify.status("bringing a change into force");
        let done = match self.args.change.apply(&self.args.plan.source.controller, text, output) {
            Ok(done) => done,
            Err(Failure(report)) => {
                failure::print(&report, output.words);
                self.state.ended(End::Refused, self.now());
                self.metrics.count("changes_total", End::Refused.word());
                return Some(Rest::BackOff { wait: BACK_OFF });
            }
        };
        let end = match &done {
            Ok(Outcome::Applied { .. } | Outcome::Unchanged) => End::Applied,
            // A dry run has told what it would do, and tells it again later.
            Ok(Outcome::WouldChange(_) | Outcome::Refused(_)) => End::Refused,
            Ok(Outcome::RolledBack { .. }) => End::RolledBack,
            Err(ApplyError::Backup(BackupError::Busy { .. })) => End::Busy,
            Err(_) => End::Failed,
        };
        let target = self.args.change.target.display().to_string();
        // The data of `apply` are words here.
        let mut changes = Vec::new();
        let told = told(
            done,
            &target,
            &mut Output { data: &mut changes, words: output.words, screen: output.screen },
        );
        for line in String::from_utf8_lossy(&changes).lines() {
            output.say(line);
        }
        if let Err(Failure(report)) = told {
            failure::print(&report, output.words);
        }
        let word = if self.args.change.dry_run { DRY_RUN } else { end.word() };
        self.metrics.count("changes_total", word);
        self.state.ended(end, self.now());
        match end {
            End::Applied => {
                self.metrics.set("change_pending", 0);
                self.metrics.set("last_change_timestamp_seconds", seconds_since_1970());
                Some(Rest::InForce)
            }
            End::Busy => None,
            _ => Some(Rest::BackOff { wait: BACK_OFF }),
        }
    }

    /// Says why nothing is done, when that is new; to systemd and the metrics always.
    fn tell(&mut self, rest: Option<Rest>, output: &mut Output<'_>) {
        let Some(rest) = rest else { return };
        self.notify.status(&rest.to_string());
        let is_passing = matches!(rest, Rest::Missing(_));
        if !is_passing && !self.rest.as_ref().is_some_and(|last| last.is_like(&rest)) {
            output.say(&rest);
            match &rest {
                Rest::Lost(_) => output.say(
                    "hint: look at these trays; if they are to stay away, say so with `systemctl reload topology-gen-watch` (SIGHUP)",
                ),
                Rest::Blind(_) => output.say("hint: check that slurmctld answers: scontrol ping"),
                _ => {}
            }
        }
        self.metrics.set("needs_human", u64::from(rest.needs_human()));
        if !is_passing {
            let lost = u64::try_from(self.state.silent().len()).unwrap_or(u64::MAX);
            self.metrics.set("lost_trays", lost);
            self.rest = Some(rest);
        }
        if let Some(folder) = &self.args.watch.metrics
            && let Err(error) = self.metrics.write(folder)
        {
            output.say(format_args!("warning: the metrics are not written: {error}"));
        }
    }
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
