//! Plays many plans side by side, each on trays of its own of one cluster.
#![forbid(unsafe_code)]

use super::judge::{Seen, Violation, judge};
use super::plan::Plan;
use super::play::Stage;
use super::table::Steps;
use super::watch::Watch;
use crate::cluster::{Cluster, ClusterBuilder};
use anyhow::{Context as _, ensure};
use std::collections::VecDeque;
use std::fs;
use std::sync::{Mutex, PoisonError};

/// Settings of the IMEX manager while jobs are played: waits of seconds, where the defaults suit hardware.
pub const SETTINGS: &str = "[deadlines]\nready_seconds = 24\nown_ready_seconds = 8\nfabric_seconds = 2\n\
    peer_absent_seconds = 6\npeer_lost_seconds = 4\ncontrol_call_seconds = 3\nstop_seconds = 4\n";
/// Where the IMEX manager finds them.
pub const SETTINGS_FILE: &str = "/etc/slurm-nvlink/imex.toml";

/// The step of a prolog after which it waits for its domain: the second version of the record names the daemon.
const DAEMON_IS_RECORDED: &str = "rename to job-N.record (2)";

/// A plan that was played, what was seen, and which rules were broken.
pub type Played = (Plan, Seen, Vec<Violation>);

/// A cluster on which plans are played.
pub struct Soak<'a> {
    cluster: &'a Cluster,
    watch: &'a Watch,
}

impl Soak<'_> {
    /// A builder made fit for plans.
    #[must_use]
    pub fn prepare(builder: ClusterBuilder) -> ClusterBuilder {
        builder.with_orders().file(SETTINGS_FILE, SETTINGS)
    }

    /// Runs `work` while Slurm is watched.
    pub fn on<T>(cluster: &Cluster, work: impl FnOnce(&Soak<'_>) -> T) -> T {
        let watch = Watch::new();
        std::thread::scope(|scope| {
            let _asking = scope.spawn(|| watch.run(cluster));
            let end = EndOnDrop(&watch);
            let result = work(&Soak { cluster, watch: &watch });
            drop(end);
            result
        })
    }

    /// All trays.
    #[must_use]
    pub fn nodes(&self) -> Vec<String> {
        self.cluster.nodes()
    }

    /// Trays by racks in shares of this many; what does not make a whole share stays idle.
    #[must_use]
    pub fn shares(&self, size: usize) -> Vec<Vec<String>> {
        let mut racks: Vec<Vec<String>> = Vec::new();
        for node in self.cluster.nodes() {
            let rack = node.split_once('n').map(|(rack, _)| rack.to_owned());
            let same = |last: &&mut Vec<String>| {
                last.first().and_then(|first| first.split_once('n')).map(|(r, _)| r.to_owned()) == rack
            };
            match racks.last_mut().filter(|last| same(last)) {
                Some(last) => last.push(node),
                None => racks.push(vec![node]),
            }
        }
        racks.iter().flat_map(|rack| rack.chunks_exact(size)).map(<[String]>::to_vec).collect()
    }

    /// Plays the plans, as many at a time as there are shares. `told` hears of each as soon as it is over; what comes back is in
    /// the order of the plans.
    pub fn play(
        &self,
        shares: &[Vec<String>],
        plans: &[Plan],
        next: bool,
        told: impl Fn(usize, &Played) + Sync,
    ) -> Vec<Played> {
        let waiting: Mutex<VecDeque<usize>> = Mutex::new((0..plans.len()).collect());
        let done: Mutex<Vec<(usize, Played)>> = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for trays in shares {
                scope.spawn(|| {
                    let stage = Stage { cluster: self.cluster, watch: self.watch, trays };
                    let take = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    while let Some(number) = take() {
                        let played = one(&stage, &plans[number], next);
                        told(number, &played);
                        done.lock().unwrap_or_else(PoisonError::into_inner).push((number, played));
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(number, _)| *number);
        done.into_iter().map(|(_, played)| played).collect()
    }

    /// The steps of prolog and epilog on a healthy member of a domain of three.
    ///
    /// # Errors
    /// The job does not run.
    pub fn steps(&self, trays: &[String]) -> anyhow::Result<Steps> {
        let place = trays.get(1).context("steps are taken from a job of three trays")?;
        let noting = sim::hook::Orders { note_steps: true, ..sim::hook::Orders::default() };
        let noting = sim::hook::Settings { prolog: noting.clone(), epilog: noting };
        let stage = Stage { cluster: self.cluster, watch: self.watch, trays };
        // The first one makes directories that stay.
        for orders in [sim::hook::Settings::default(), noting] {
            self.cluster.order(place, &orders)?;
            let (_, seen, violations) = one(&stage, &Plan::quiet(3), false);
            ensure!(violations.is_empty(), "a healthy job does not run: {violations:?}; {seen:?}");
        }
        let steps = |name: &str| -> anyhow::Result<Vec<String>> {
            let dir = self.cluster.root_of(place)?.join(sim::DEFAULT_DIR.trim_start_matches('/'));
            let text = fs::read_to_string(dir.join(sim::hook::steps_file(name)))
                .with_context(|| format!("{place}: {name} has left no steps"))?;
            Ok(text.lines().map(str::to_owned).collect())
        };
        Ok(Steps { prolog: that_always_come(steps("imex-prolog")?), epilog: steps("imex-epilog")? })
    }
}

/// Leaves out what a prolog does while it waits for its domain: how often it asks is different each time.
fn that_always_come(steps: Vec<String>) -> Vec<String> {
    let waits_from = steps.iter().position(|step| step == DAEMON_IS_RECORDED).unwrap_or(steps.len());
    let asks = |step: &str| ["start a process", "send a signal"].iter().any(|word| step.starts_with(word));
    steps
        .into_iter()
        .enumerate()
        .filter(|(position, step)| *position <= waits_from || !asks(step))
        .map(|(_, step)| step)
        .collect()
}

fn one(stage: &Stage<'_>, plan: &Plan, next: bool) -> Played {
    // What a killed epilog has left goes with the next job on its tray, and must not be taken for another plan's.
    let next = next || !plan.allowed().may_leave.is_empty();
    let mut seen = stage.play(plan, next);
    let mut violations = judge(plan, &seen);
    // The next plan on these trays begins on healthy ones.
    if let Err(error) = stage.resume() {
        seen.stuck.push(format!("{error:#}"));
        violations = judge(plan, &seen);
    }
    (plan.clone(), seen, violations)
}

/// Lets the watch end also when the work panics: the scope would wait for it for ever.
struct EndOnDrop<'a>(&'a Watch);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
