//! One job on trays of its own, from its submission until nothing of it may be left.
//!
//! ```text
//!   prepare ─▶ submit ─▶ forming ─▶ whole? ─▶ running ─▶ end ─▶ ending ─▶ over ─▶ heal ─▶ look ─▶ resume ─▶ next job
//!                 ▲                    requeued                             │
//!                 └──────────────────────────────────────────────────────────┘
//! ```
#![forbid(unsafe_code)]

use super::judge::Seen;
use super::plan::{Phase, Plan};
use super::watch::Watch;
use super::{deeds, tray};
use crate::cluster::Cluster;
use crate::domain::{log_lines, traces, view};
use crate::picture::JobLine;
use crate::wait::{act_for, wait_for};
use anyhow::{Context as _, bail};
use fabric::JobId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A job's prologs are over, one way or the other.
const SETTLED: Duration = Duration::from_secs(150);
/// A phase is reached.
const REACHED: Duration = Duration::from_secs(60);
/// A job is over, and its trays neither run nor end one.
const OVER: Duration = Duration::from_secs(150);
/// Slurm goes on saying that a prolog runs where slurmd or the tray went away under it. A script that has begun waits no longer
/// than this for Slurm to say that it does not, or to take the job back.
const TAKEN_BACK: Duration = Duration::from_secs(15);
/// An orphan that an epilog has overtaken ends within its next look.
const LAST_TRACES: Duration = Duration::from_secs(5);
/// A fault acts on a running job for so long.
const ACTS: Duration = Duration::from_millis(1_500);
/// A job starts at most so often: once more for a requeue, once more for a tray that was switched off.
const RUNS: u32 = 3;

/// Where jobs are played.
#[derive(Clone, Copy)]
pub(super) struct Stage<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) watch: &'a Watch,
    /// Trays that nobody else uses meanwhile, in Slurm's order.
    pub(super) trays: &'a [String],
}

/// How a start went.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Start {
    /// The script runs, and every tray is ready.
    Whole,
    /// The script runs with a channel, and some tray is not ready.
    Half,
    /// The script runs without a channel.
    NoDomain,
    /// Slurm has taken the job back and will start it again.
    Requeued,
    /// Slurm has taken the job back.
    Over(String),
}

/// What was seen of a job's starts.
#[derive(Default)]
struct Notes {
    /// Trays whose part was complete, by run.
    ready: BTreeMap<u32, BTreeSet<String>>,
    /// Lists of members, by tray; each list once.
    members: BTreeSet<(String, String)>,
}

/// A job, and the trays that it has.
struct Job<'a> {
    stage: Stage<'a>,
    id: JobId,
    trays: &'a [String],
    notes: Notes,
}

impl<'a> Stage<'a> {
    /// Plays one plan; `next` says whether a healthy job on the same trays follows. Whatever goes wrong is in what was seen.
    pub(super) fn play(&self, plan: &Plan, next: bool) -> Seen {
        let mut seen = Seen { trays: self.trays.to_vec(), ..Seen::default() };
        let note = |seen: &mut Seen, result: anyhow::Result<()>| {
            if let Err(error) = result {
                seen.stuck.push(format!("{error:#}"));
            }
        };
        let played = self.act(plan, &mut seen);
        note(&mut seen, played);
        let looked = self.look_after(&mut seen);
        note(&mut seen, looked);
        if next && seen.stuck.is_empty() {
            let later = self.next_job(plan, &mut seen);
            note(&mut seen, later.context("the next job on these trays"));
        }
        seen
    }

    fn act(&self, plan: &Plan, seen: &mut Seen) -> anyhow::Result<()> {
        deeds::prepare(self.cluster, plan, self.trays)?;
        let mut job = self.submit(self.trays.get(..plan.trays).context("too few trays")?)?;
        seen.job = job.id.get();
        let played = job.play(plan, seen);
        if played.is_err() {
            // Nobody else ends it.
            self.cluster.cancel(job.id)?;
        }
        let judged = job.note_into(seen);
        played.and(judged)
    }

    fn submit(&self, trays: &'a [String]) -> anyhow::Result<Job<'a>> {
        let (count, list) = (format!("--nodes={}", trays.len()), format!("--nodelist={}", trays.join(",")));
        let options = [count.as_str(), list.as_str(), "--exclusive", "--requeue", "--output=/dev/null"];
        let id = self.cluster.submit(&options, tray::SCRIPT)?;
        Ok(Job { stage: *self, id, trays, notes: Notes::default() })
    }

    /// Heals, waits until nothing happens on the trays any more, and notes what is left and who is out of service.
    fn look_after(&self, seen: &mut Seen) -> anyhow::Result<()> {
        deeds::heal(self.cluster, self.trays)?;
        let quiet = self.watch.wait("the trays are at rest", OVER, |picture| {
            let states = self.trays.iter().map(|tray| (tray, picture.nodes.get(tray)));
            match states.clone().find(|(_, node)| !node.is_some_and(|node| node.is_quiet())) {
                Some((tray, node)) => Err(format!("{tray}: {node:?}")),
                None => Ok(states
                    .filter_map(|(tray, node)| Some((tray.clone(), node?)))
                    .filter(|(_, node)| node.is_out())
                    .map(|(tray, node)| (tray, format!("{} {}", node.state, node.reason)))
                    .collect()),
            }
        });
        seen.left = self.left()?;
        seen.out = quiet?;
        Ok(())
    }

    /// What there is on the trays of any job.
    fn left(&self) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
        let mut left = BTreeMap::new();
        let gone = wait_for("nothing is left", LAST_TRACES, || {
            left.clear();
            for tray in self.trays {
                let found = traces(self.cluster, tray)?;
                if !found.is_empty() {
                    left.insert(tray.clone(), found);
                }
            }
            Ok(if left.is_empty() { Ok(()) } else { Err(String::new()) })
        });
        match gone {
            Err(error) if left.is_empty() => Err(error),
            _ => Ok(left),
        }
    }

    /// Returns trays to service, as an operator does, and runs a job on them.
    fn next_job(&self, plan: &Plan, seen: &mut Seen) -> anyhow::Result<()> {
        self.resume()?;
        let mut job = self.submit(self.trays.get(..plan.trays).context("too few trays")?)?;
        let played = job.play_quietly();
        if played.is_err() {
            self.cluster.cancel(job.id)?;
        }
        played?;
        let mut later = Seen { trays: self.trays.to_vec(), ..Seen::default() };
        job.note_into(&mut later)?;
        self.look_after(&mut later)?;
        seen.left_later = later.left;
        seen.strangers.extend(later.strangers);
        // A healthy job drains nobody.
        seen.stuck
            .extend(later.out.into_iter().map(|(tray, why)| format!("after the next job {tray} is {why}")));
        Ok(())
    }

    /// Returns what is out of service to service.
    pub(super) fn resume(&self) -> anyhow::Result<()> {
        let list = self.trays.join(",");
        let out = self.watch.wait("an answer", REACHED, |picture| {
            Ok(self.trays.iter().any(|tray| picture.nodes.get(tray).is_some_and(|node| node.is_out())))
        })?;
        if out {
            // Those that are in service already make it fail, after it has served the others.
            let argv = ["scontrol", "update", &format!("nodename={list}"), "state=resume"];
            self.cluster.capture(&crate::cluster::Target::controller(), &argv)?;
        }
        self.watch.wait("the trays are idle", OVER, |picture| {
            let late =
                self.trays.iter().find(|tray| !picture.nodes.get(*tray).is_some_and(|node| node.is_idle()));
            late.map_or(Ok(()), |tray| Err(format!("{tray}: {:?}", picture.nodes.get(tray))))
        })
    }
}

impl<'a> Job<'a> {
    fn play(&mut self, plan: &Plan, seen: &mut Seen) -> anyhow::Result<()> {
        self.events(plan, Phase::Forming)?;
        for run in 0..RUNS {
            let start = self.start(run)?;
            seen.outcome = match &start {
                Start::Whole if run == 0 => "ran".to_owned(),
                Start::Whole => format!("ran at start {}", run + 1),
                Start::Half => "began half-formed".to_owned(),
                Start::NoDomain => "began without a domain".to_owned(),
                Start::Requeued => "requeued".to_owned(),
                Start::Over(state) => state.clone(),
            };
            match start {
                Start::Over(_) => return self.over(),
                Start::Requeued => {
                    self.start_now()?;
                    continue;
                }
                Start::Whole | Start::Half | Start::NoDomain => {}
            }
            if run == 0 {
                self.running(plan)?;
            }
            let mut second = (plan.crowded && run == 0).then(|| self.second()).transpose()?;
            tray::let_end(self.stage.cluster, &self.trays[0], self.id, run)?;
            if run == 0 {
                self.ending(plan)?;
            }
            let over = self.over_or_requeued(run)?;
            if let Some(second) = &mut second {
                second.play_quietly().context("the second job")?;
                second.note_into(seen)?;
            }
            if over {
                return Ok(());
            }
        }
        bail!("job {} starts again and again", self.id)
    }

    /// The second job of a crowded plan: it waits for the later half of the first one's trays and one more.
    fn second(&self) -> anyhow::Result<Job<'a>> {
        let from = self.trays.len().div_ceil(2);
        let trays =
            self.stage.trays.get(from..=self.trays.len()).context("a crowded plan needs one tray more")?;
        self.stage.submit(trays)
    }

    /// A job to which nothing happens: it must run with its whole domain.
    fn play_quietly(&mut self) -> anyhow::Result<()> {
        match self.start(0)? {
            Start::Whole => {}
            other => bail!("job {} did not start whole: {other:?}", self.id),
        }
        let first = &self.trays[0];
        wait_for(&format!("{first}: the domain is UP"), REACHED, || {
            let view = view(self.stage.cluster, first, self.id)?;
            let group: Vec<String> =
                self.trays.iter().filter(|tray| rack(tray) == rack(first)).cloned().collect();
            Ok(view.shows_up(&group).map_err(|why| format!("{why}; {view:?}")))
        })?;
        tray::let_end(self.stage.cluster, first, self.id, 0)?;
        match self.over_or_requeued(0)? {
            true => Ok(()),
            false => bail!("job {} was requeued", self.id),
        }
    }

    /// Waits for each event's moment, and lets it happen.
    fn events(&mut self, plan: &Plan, phase: Phase) -> anyhow::Result<()> {
        for event in plan.at(phase) {
            let place = self.trays.get(event.tray).context("the plan names a tray that it has not")?;
            let reached = wait_for(&format!("{place}: {phase}"), REACHED, || {
                self.note_files(0)?;
                let reached = match phase {
                    Phase::Forming => {
                        tray::record(self.stage.cluster, place, self.id)?.is_some_and(|r| r.is_forming())
                    }
                    _ => tray::epilog_began(self.stage.cluster, place, self.id)?,
                };
                // Another event may have kept the domain from forming, or have outlasted that.
                let line = self.line();
                let past = plan.events.len() > 1
                    && line
                        .as_ref()
                        .is_some_and(|line| line.has_begun() || line.is_over() || line.restarts > 0);
                match (reached, past) {
                    (true, _) => Ok(Ok(true)),
                    (false, true) if phase == Phase::Forming => Ok(Ok(false)),
                    (false, _) => Ok(Err(format!("{line:?}"))),
                }
            })?;
            if !reached {
                continue;
            }
            deeds::happen(self.stage.cluster, self.id, place, event)?;
        }
        Ok(())
    }

    fn running(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let mut any = false;
        self.note_files(0)?;
        for event in plan.at(Phase::Running) {
            any = true;
            deeds::happen(self.stage.cluster, self.id, &self.trays[event.tray], event)?;
        }
        if any {
            act_for(ACTS);
        }
        Ok(())
    }

    fn ending(&mut self, plan: &Plan) -> anyhow::Result<()> {
        self.events(plan, Phase::Ending)
    }

    fn line(&self) -> Option<JobLine> {
        self.stage.watch.now(self.id)
    }

    /// Waits until the run's prologs are over, and says how that went.
    fn start(&mut self, run: u32) -> anyhow::Result<Start> {
        let (stage, id) = (self.stage, self.id);
        let mut alone = None;
        wait_for(&format!("job {id} starts or does not"), SETTLED, || {
            self.note_files(run)?;
            let ready = self.notes.ready.get(&run).map_or(0, BTreeSet::len);
            let began = tray::began(stage.cluster, &self.trays[0], id, run)?;
            let line = stage.watch.now(id);
            Ok(match (began, line) {
                (_, Some(line)) if line.restarts > run && line.may_start_again() => Ok(Start::Requeued),
                (_, Some(line)) if line.is_held() => Ok(Start::Over("requeued and held".to_owned())),
                (_, Some(line)) if line.is_over() => Ok(Start::Over(line.state.to_lowercase())),
                // It names its trays, and one of them was drained by the run before: it would wait for ever.
                (_, Some(line)) if line.is_pending() && stage.watch.is_drained(self.trays) => {
                    Ok(Start::Over("waits for a tray that is out of service".to_owned()))
                }
                (Some(channels), Some(line)) if line.restarts == run => {
                    let since = *alone.get_or_insert_with(Instant::now);
                    let whole = ready == self.trays.len();
                    let settled =
                        line.has_begun() || (since.elapsed() > TAKEN_BACK && (whole || channels.is_empty()));
                    match (settled, channels.is_empty()) {
                        (false, _) => Err(format!(
                            "ready on {ready} trays, script began: {channels:?}, Slurm: {line:?}"
                        )),
                        (true, true) => Ok(Start::NoDomain),
                        (true, false) if whole => Ok(Start::Whole),
                        (true, false) => Ok(Start::Half),
                    }
                }
                (began, line) => {
                    Err(format!("ready on {ready} trays, script began: {began:?}, Slurm: {line:?}"))
                }
            })
        })
    }

    /// Notes what the files on the trays say now.
    fn note_files(&mut self, run: u32) -> anyhow::Result<()> {
        for place in self.trays {
            if tray::is_complete(self.stage.cluster, place, self.id)? {
                self.notes.ready.entry(run).or_default().insert(place.clone());
            }
            if let Some((list, _)) = tray::members(self.stage.cluster, place, self.id)? {
                self.notes.members.insert((place.clone(), list));
            }
        }
        Ok(())
    }

    fn over(&self) -> anyhow::Result<()> {
        if self.line().is_some_and(|line| line.is_held() || line.is_pending()) {
            self.stage.cluster.cancel(self.id)?;
        }
        self.over_or_requeued(u32::MAX).map(drop)
    }

    /// Waits until the job is over (true), or has been requeued after this run (false) and may start at once.
    fn over_or_requeued(&self, run: u32) -> anyhow::Result<bool> {
        let what = format!("job {} is over", self.id);
        let over = self.stage.watch.wait(&what, OVER, |picture| match picture.jobs.get(&self.id) {
            Some(line) if line.is_held() => Ok(None),
            Some(line) if line.is_over() => Ok(Some(true)),
            Some(line) if line.restarts > run && line.may_start_again() => Ok(Some(false)),
            line => Err(format!("{line:?}")),
        })?;
        match over {
            Some(true) => Ok(true),
            Some(false) => self.start_now().map(|()| false),
            None => {
                self.stage.cluster.cancel(self.id)?;
                Ok(true)
            }
        }
    }

    /// Slurm lets a requeued job wait for two minutes. It may run already.
    fn start_now(&self) -> anyhow::Result<()> {
        let argv = ["scontrol", "update", &format!("jobid={}", self.id), "starttime=now"];
        self.stage.cluster.capture(&crate::cluster::Target::controller(), &argv).map(drop)
    }

    /// What the notes say about the rules.
    fn note_into(&self, seen: &mut Seen) -> anyhow::Result<()> {
        let cluster = self.stage.cluster;
        let mut expected: BTreeMap<&str, String> = BTreeMap::new();
        for place in self.trays {
            // A tray's rack is its NVLink partition in the profiles that are played on.
            let line = format!("{}\n", cluster.address(place)?);
            expected.entry(rack(place)).or_default().push_str(&line);
        }
        for (place, list) in &self.notes.members {
            // A list that is just being written is no list yet; the daemon is started later.
            if expected.get(rack(place)).is_none_or(|wanted| wanted != list) && !list.is_empty() {
                seen.strangers.insert(place.clone(), list.clone());
            }
        }
        let mut begun = 0;
        for run in 0..RUNS {
            let Some(channels) = tray::began(cluster, &self.trays[0], self.id, run)? else { continue };
            if channels.is_empty() {
                continue;
            }
            begun += 1;
            let seen_ready = self.notes.ready.get(&run);
            let mut unready = BTreeSet::new();
            for place in self.trays {
                let said = log_lines(cluster, place, self.id).unwrap_or_default();
                let said = said
                    .iter()
                    .filter(|line| line.contains(" prolog: ") && line.contains("outcome=\"ready\""));
                if !seen_ready.is_some_and(|ready| ready.contains(place)) && said.count() < begun {
                    unready.insert(place.clone());
                }
            }
            seen.unready.entry(run).or_default().extend(unready);
        }
        Ok(())
    }
}

/// The part of a tray's name that is its rack's.
fn rack(tray: &str) -> &str {
    tray.split_once('n').map_or(tray, |(rack, _)| rack)
}
