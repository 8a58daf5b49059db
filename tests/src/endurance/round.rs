//! Plays a round: lets happen what the plan says while the rules are watched, then heals everything and looks what is left.
#![forbid(unsafe_code)]

use super::act::{Actor, without_channel};
use super::memory;

use super::plan::{Event, Kind, Plan, Shape};
use super::rules::{self, Blocks, Violation};
use crate::cluster::{Cluster, ClusterBuilder, Target};
use crate::domain::{self, traces};
use crate::picture::{self, JobLine, Picture};
use crate::soak;
use crate::wait::{act_for, wait_for};
use anyhow::{Context as _, ensure};
use fabric::JobId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant, SystemTime};

/// slurmctld forgets ended jobs soon, so that its memory can be compared; small jobs leave room to large ones,
/// and wait a minute for that.
const SLURM: [(&str, &str); 2] = [("MinJobAge", "30"), ("TopologyParam", "nvlink_room=16,nvlink_patience=1")];
/// Settings of the IMEX manager: waits shorter than the defaults, which suit hardware, and long enough for 72 trays that share
/// two cores.
const IMEX: &str = "[deadlines]\nready_seconds = 60\nown_ready_seconds = 20\nfabric_seconds = 4\n\
    peer_absent_seconds = 20\npeer_lost_seconds = 8\ncontrol_call_seconds = 5\nstop_seconds = 6\n";
/// Distance between two looks.
const LOOK: Duration = Duration::from_millis(400);
/// slurmctld answers again after a restart.
const ANSWERS: Duration = Duration::from_secs(60);
/// After a SIGKILL slurmctld believes of a job that has ended just before that it still runs, until the job's first tray
/// registers (Slurm 26.05 src/slurmctld/job_mgr.c, `_purge_missing_jobs`) more than BatchStartTimeout and 10 s, by default
/// 20 s, after slurmctld's last start or reconfigure. By themselves trays register every half hour or so; an operator
/// restarts slurmd there.
const BELIEVES: Duration = Duration::from_secs(30);
/// Every job ends when nothing is wrong any more: with their prologs, dozens of jobs one after the other. A batch job whose launch
/// was lost in a reconfigure is missed by slurmctld only when it asks the trays again, 210 s later, and is requeued to begin two
/// minutes after that.
const ALL_OVER: Duration = Duration::from_secs(480);
/// The trays are idle when no job is there.
const ALL_IDLE: Duration = Duration::from_secs(150);
/// What ends with the last epilog.
const LAST_TRACES: Duration = Duration::from_secs(8);
/// A job on each whole rack.
const SWEEP: Duration = Duration::from_secs(120);

/// A cluster on which rounds are played.
pub struct Stage<'a> {
    cluster: &'a Cluster,
    shape: Shape,
    nodes: Vec<String>,
    /// Addresses of the trays, as their daemons' lists name them.
    addresses: BTreeMap<String, String>,
    /// slurmctld's memory when the first round was over, in kilobytes.
    memory: Option<u64>,
}

/// What a round has shown.
#[derive(Debug, Default)]
pub struct Played {
    /// Rules that were broken.
    pub violations: BTreeSet<Violation>,
    /// The states in which its jobs were last seen.
    pub last_seen: Vec<String>,
    /// What Slurm or topology-gen would not do, in their words, and what Slurm did with jobs that it had forgotten.
    pub refused: Vec<String>,
    /// slurmctld's memory at its end, in kilobytes.
    pub memory: u64,
}

/// A job's start, with what was true of the fabric then.
struct Start {
    name: String,
    nodes: Vec<String>,
    /// None: the blocks changed while it started.
    blocks: Option<Blocks>,
    /// When it was seen first.
    seen: SystemTime,
}

impl Start {
    /// Whether a list of members that was written then is of a run that slurmctld has forgotten, as it was killed. It begins such a
    /// job once more, or gives its number to another one, and no slurmd runs a prolog again for a job that it knows.
    fn is_after_forgotten(&self, written: SystemTime, killed: Option<SystemTime>) -> bool {
        killed.is_some_and(|killed| written < killed && killed < self.seen)
    }
}

/// What was seen in a round so far.
#[derive(Default)]
struct Notes {
    /// By number and trays: a job may start again.
    starts: BTreeMap<(JobId, Vec<String>), Start>,
    /// The last state of each job.
    states: BTreeMap<(JobId, String), String>,
    violations: BTreeSet<Violation>,
    /// What Slurm did with jobs that slurmctld, killed, had forgotten.
    forgotten: BTreeSet<String>,
}

impl<'a> Stage<'a> {
    /// A builder made fit for rounds.
    #[must_use]
    pub fn prepare(builder: ClusterBuilder) -> ClusterBuilder {
        let builder =
            SLURM.iter().fold(builder.with_orders(), |builder, (key, value)| builder.set(key, value));
        builder.file(soak::SETTINGS_FILE, IMEX)
    }

    /// All racks of the cluster must be alike.
    ///
    /// # Errors
    /// They are not, or slurmctld does not answer.
    pub fn on(cluster: &'a Cluster) -> anyhow::Result<Self> {
        let blocks = blocks(cluster)?;
        let sizes: BTreeSet<usize> = blocks.values().map(BTreeSet::len).collect();
        let nodes = cluster.nodes();
        let shape = Shape { racks: blocks.len(), rack: sizes.first().copied().unwrap_or(0) };
        ensure!(
            sizes.len() == 1 && shape.trays() == nodes.len() && shape.rack > 1,
            "the racks are not alike: {blocks:?}"
        );
        let address = |node: &String| Ok((node.clone(), cluster.address(node)?.to_string()));
        let addresses = nodes.iter().map(address).collect::<anyhow::Result<_>>()?;
        Ok(Self { cluster, shape, nodes, addresses, memory: None })
    }

    /// What the cluster is like.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Plays one. Whatever goes wrong is among the violations.
    pub fn play(&mut self, plan: &Plan, number: u32) -> Played {
        let cluster = self.cluster;
        let nodes = self.nodes.clone();
        let mut actor = Actor::new(cluster, self.shape, &nodes, number);
        let mut notes = Notes::default();
        let done = self
            .events(plan, &mut actor, &mut notes)
            .and_then(|()| self.settle(plan, &mut actor, &mut notes));
        let memory = match done {
            Ok(memory) => memory,
            Err(error) => {
                notes.violations.insert(Violation::Stuck(format!("{error:#}")));
                0
            }
        };
        let refused = actor.refused.into_iter().chain(notes.forgotten).collect();
        Played {
            violations: notes.violations,
            last_seen: notes.states.into_values().collect(),
            refused,
            memory,
        }
    }

    fn events(&self, plan: &Plan, actor: &mut Actor<'_>, notes: &mut Notes) -> anyhow::Result<()> {
        let begin = Instant::now();
        let now = || u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut due: VecDeque<_> = plan.events.iter().collect();
        let mut known = Some(blocks(self.cluster)?);
        while !due.is_empty() || actor.is_dark() {
            let picture = self.look()?;
            self.watch(&picture, known.as_ref(), actor, notes)?;
            // What starts from now on starts in these.
            known = Some(blocks(self.cluster)?);
            actor.power_on(Some(now()))?;
            while let Some(timed) = due.front().filter(|timed| timed.at_ms <= now()) {
                actor.happen(&timed.event, now(), &picture).with_context(|| timed.to_string())?;
                if matches!(timed.event, Event::CutRack(_)) {
                    known = None;
                }
                due.pop_front();
            }
            let next = due
                .front()
                .map_or(LOOK, |timed| Duration::from_millis(timed.at_ms.saturating_sub(now())).min(LOOK));
            act_for(next);
        }
        Ok(())
    }

    /// The latest picture; slurmctld may be busy, or have been restarted.
    fn look(&self) -> anyhow::Result<Picture> {
        wait_for("slurmctld answers", ANSWERS, || {
            Ok(picture::take(self.cluster).map_err(|error| format!("{error:#}")))
        })
    }

    /// Holds the rules of running jobs against a picture.
    fn watch(
        &self,
        picture: &Picture,
        known: Option<&Blocks>,
        actor: &Actor<'_>,
        notes: &mut Notes,
    ) -> anyhow::Result<()> {
        for (job, line) in &picture.jobs {
            let Some(ask) = actor.asked.get(&line.name) else { continue };
            notes.states.insert((*job, line.name.clone()), line.state.clone());
            if !line.is_running() {
                continue;
            }
            let start = notes.starts.entry((*job, line.nodes.clone())).or_insert_with(|| {
                if let Some(broken) =
                    known.and_then(|blocks| rules::locality(job.get(), ask, &line.nodes, blocks))
                {
                    notes.violations.insert(broken);
                }
                let (name, nodes) = (line.name.clone(), line.nodes.clone());
                Start { name, nodes, blocks: known.cloned(), seen: SystemTime::now() }
            });
            let broken = self.members(*job, ask.kind == Kind::Shared, start, actor.killed_controller);
            notes.violations.extend(broken);
        }
        Ok(())
    }

    /// Looks at each list of members of a job.
    fn members(&self, job: JobId, shared: bool, start: &Start, killed: Option<SystemTime>) -> Vec<Violation> {
        let Some(blocks) = start.blocks.as_ref().filter(|_| !shared) else { return Vec::new() };
        let mut broken = Vec::new();
        for tray in &start.nodes {
            // Not there yet, not there any more, or on a tray that has lost its power.
            let Ok(Some((list, written))) = soak::tray::members(self.cluster, tray, job) else { continue };
            if start.is_after_forgotten(written, killed) {
                continue;
            }
            let wanted = rules::domain(&start.nodes, tray, blocks);
            let wanted = wanted.into_iter().filter_map(|node| self.addresses.get(node).cloned()).collect();
            broken.extend(rules::members(job.get(), tray, &list, &wanted));
        }
        broken
    }

    /// Heals, lets every job end, and looks. Gives slurmctld's memory.
    fn settle(&mut self, plan: &Plan, actor: &mut Actor<'_>, notes: &mut Notes) -> anyhow::Result<u64> {
        let struck = actor.struck(&plan.events);
        actor.power_on(None)?;
        self.cluster.heal(None)?;
        if actor.cut {
            let refused = actor.apply()?;
            ensure!(
                refused.is_none(),
                "topology-gen does not join the rack again: {}",
                refused.unwrap_or_default()
            );
            // What is seen first now may have started before that.
            self.watch(&self.look()?, None, actor, notes)?;
        }
        self.let_all_end(&struck, actor, notes)?;
        self.idle()?;
        // A slurmctld that is killed forgets jobs of its last moments, and nothing tells the trays that have no step of theirs. The
        // next job there removes what is left of them.
        if actor.killed_controller.is_none() {
            let left = self.left()?;
            let healthy = left.into_iter().filter(|(tray, _)| !struck.contains(tray));
            notes.violations.extend(healthy.map(|(tray, what)| Violation::Left { tray, what }));
        }
        self.sweep(actor.killed_controller.is_some(), notes)?;
        let fabric: Vec<BTreeSet<String>> =
            self.nodes.chunks(self.shape.rack).map(|rack| rack.iter().cloned().collect()).collect();
        notes.violations.extend(rules::blocks(&blocks(self.cluster)?, &fabric));
        self.channels(actor.killed_controller.is_some(), notes)?;
        let now = memory::resident(self.cluster)?;
        let first = *self.memory.get_or_insert(now);
        notes.violations.extend(rules::memory(first, now));
        Ok(now)
    }

    /// Returns trays to service and releases jobs, as an operator does, until no job is there any more.
    fn let_all_end(
        &self,
        struck: &BTreeSet<String>,
        actor: &mut Actor<'_>,
        notes: &mut Notes,
    ) -> anyhow::Result<()> {
        let known = blocks(self.cluster)?;
        let mut registers_at = actor.killed_controller.map(|_| Instant::now() + BELIEVES);
        let over = wait_for("all jobs are over", ALL_OVER, || {
            let picture = self.look()?;
            self.watch(&picture, Some(&known), actor, notes)?;
            let mine: Vec<_> =
                picture.jobs.iter().filter(|(_, line)| actor.asked.contains_key(&line.name)).collect();
            self.tend(&picture, &mine, struck, actor.killed_controller.is_some(), notes)?;
            if registers_at.take_if(|at| *at <= Instant::now()).is_some() {
                let running = mine.iter().filter(|(_, line)| line.is_running());
                let first: BTreeSet<&String> = running.filter_map(|(_, line)| line.nodes.first()).collect();
                first.into_iter().try_for_each(|tray| self.cluster.restart_slurmd(tray))?;
            }
            let going = || mine.iter().filter(|(_, line)| !line.has_ended());
            let names = going().map(|(_, line)| line.name.as_str()).collect();
            let there: Vec<String> =
                going().map(|(job, line)| format!("{job} {} {}", line.state, line.reason)).collect();
            actor.free_reservations_but(&names)?;
            Ok(if there.is_empty() { Ok(()) } else { Err(there.join("; ")) })
        });
        if over.is_err() {
            // The next round begins without them.
            self.capture(&["scancel", "--user=alice"])?;
            actor.free_reservations_but(&BTreeSet::new())?;
        }
        over
    }

    /// Returns trays to service and releases these jobs, as an operator does.
    fn tend(
        &self,
        picture: &Picture,
        jobs: &[(&JobId, &JobLine)],
        struck: &BTreeSet<String>,
        controller_was_killed: bool,
        notes: &mut Notes,
    ) -> anyhow::Result<()> {
        let out: BTreeMap<String, String> = picture
            .nodes
            .iter()
            .filter(|(_, node)| node.is_out())
            .map(|(tray, node)| (tray.clone(), format!("{} {}", node.state, node.reason)))
            .collect();
        notes.violations.extend(rules::drained(&out, struck, controller_was_killed));
        let twice = out.iter().filter(|(_, why)| rules::is_number_given_twice(why));
        notes.forgotten.extend(twice.map(|(tray, why)| format!("{tray}: {why}")));
        if !out.is_empty() {
            let list = out.into_keys().collect::<Vec<_>>().join(",");
            // Some may be in service again already, which it calls an error.
            self.capture(&["scontrol", "update", &format!("nodename={list}"), "state=resume"])?;
        }
        for (job, _) in jobs.iter().filter(|(_, line)| line.is_held()) {
            self.capture(&["scontrol", "release", &job.to_string()])?;
        }
        Ok(())
    }

    fn capture(&self, argv: &[&str]) -> anyhow::Result<()> {
        self.cluster.capture(&Target::controller(), argv).map(drop)
    }

    fn idle(&self) -> anyhow::Result<()> {
        wait_for("the trays are idle", ALL_IDLE, || {
            let picture = self.look()?;
            let late: Vec<String> = picture
                .nodes
                .iter()
                .filter(|(_, node)| !node.is_idle())
                .map(|(tray, node)| format!("{tray} {} {}", node.state, node.reason))
                .collect();
            Ok(if late.is_empty() { Ok(()) } else { Err(late.join("; ")) })
        })
    }

    /// What there is of any job on the trays.
    fn left(&self) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
        let mut left = BTreeMap::new();
        let end = Instant::now() + LAST_TRACES;
        loop {
            left.clear();
            for tray in &self.nodes {
                let found = traces(self.cluster, tray)?;
                if !found.is_empty() {
                    left.insert(tray.clone(), found);
                }
            }
            if left.is_empty() || Instant::now() >= end {
                return Ok(left);
            }
            act_for(LOOK);
        }
    }

    /// A job on each whole rack runs and leaves nothing, also of what was there before.
    fn sweep(&self, controller_was_killed: bool, notes: &mut Notes) -> anyhow::Result<()> {
        let nodes = format!("--nodes={}", self.shape.rack);
        let options = [nodes.as_str(), "--exclusive", "--output=/dev/null", "--job-name=sweep"];
        for rack in self.nodes.chunks(self.shape.rack) {
            let list = format!("--nodelist={}", rack.join(","));
            let job = self.cluster.submit(&[&options[..], &[&list]].concat(), "true")?;
            let state = wait_for("a job on a whole rack after all was healed", SWEEP, || {
                let picture = self.look()?;
                let it: Vec<_> = picture.jobs.iter().filter(|(number, _)| **number == job).collect();
                // Its number may be that of a job which a killed slurmctld has forgotten.
                self.tend(&picture, &it, &BTreeSet::new(), controller_was_killed, notes)?;
                Ok(match it.first() {
                    Some((_, line)) if line.has_ended() => Ok(line.state.clone()),
                    Some((_, line)) => Err(format!("{job} {} {}", line.state, line.reason)),
                    None => Err(format!("{job} is not there")),
                })
            })?;
            ensure!(state == "COMPLETED", "after all was healed job {job} on a whole rack is {state}");
        }
        self.idle()?;
        let left = self.left()?;
        notes.violations.extend(left.into_iter().map(|(tray, what)| Violation::Left { tray, what }));
        Ok(())
    }

    /// Scripts that began without a channel although their tray was one of several in a partition.
    fn channels(&self, controller_was_killed: bool, notes: &mut Notes) -> anyhow::Result<()> {
        for tray in &self.nodes {
            for name in without_channel(self.cluster, tray)? {
                let needs_one = |start: &Start| {
                    let blocks = start.blocks.as_ref();
                    blocks.is_some_and(|blocks| rules::domain(&start.nodes, tray, blocks).len() > 1)
                };
                // The tasks of an array have one name.
                let on_this = notes.starts.iter().filter(|(_, start)| start.name == name);
                let on_this =
                    on_this.filter(|(_, start)| start.nodes.first() == Some(tray) && needs_one(start));
                let jobs: Vec<u32> = on_this.map(|((job, _), _)| job.get()).collect();
                let Some(&first) = jobs.first() else { continue };
                let log = domain::log(self.cluster, tray)?;
                let forgotten = jobs.iter().find(|job| rules::is_start_without_prolog(&log, **job));
                match forgotten.filter(|_| controller_was_killed) {
                    Some(job) => notes.forgotten.insert(format!(
                        "job {job} began on {tray} without an IMEX channel: slurmd, which knew its forgotten start, ran no prolog"
                    )),
                    None => notes.violations.insert(Violation::NoChannel { job: first, tray: tray.clone() }),
                };
            }
        }
        Ok(())
    }
}

/// The blocks that slurmctld has now.
fn blocks(cluster: &Cluster) -> anyhow::Result<Blocks> {
    let blocks = wait_for("slurmctld tells its blocks", ANSWERS, || {
        Ok(cluster.blocks().map_err(|error| format!("{error:#}")))
    })?;
    Ok(blocks.into_iter().map(|block| (block.name, block.nodes.into_iter().collect())).collect())
}
