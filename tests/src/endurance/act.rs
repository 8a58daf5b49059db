//! Doing to the cluster what a plan says.
#![forbid(unsafe_code)]

use super::plan::{Ask, Event, Kind, Shape};
use crate::cluster::{Cluster, Target};
use crate::fault::{Fault, FaultKind};
use crate::limits;
use crate::picture::{JobLine, Picture};
use crate::spec::CONTROLLER;
use anyhow::{Context as _, bail};
use fabric::JobId;
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

/// Where the readings of all trays are put for topology-gen.
const READINGS: &str = "/run/readings.json";

/// Whoever does it, and what must be undone at the end of the round.
pub(super) struct Actor<'a> {
    cluster: &'a Cluster,
    shape: Shape,
    nodes: &'a [String],
    /// In front of the names of this round's jobs.
    prefix: String,
    /// By the name under which it was submitted.
    pub(super) asked: BTreeMap<String, Ask>,
    newest: Option<JobId>,
    reservations: Vec<String>,
    /// Trays without power, and when they have it again, in milliseconds of the round.
    off: Vec<(u64, String)>,
    /// What Slurm would not do, in its words.
    pub(super) refused: Vec<String>,
    /// Some rack shows other partitions than in the beginning.
    pub(super) cut: bool,
    /// When slurmctld was back after it was killed last.
    pub(super) killed_controller: Option<SystemTime>,
}

impl<'a> Actor<'a> {
    pub(super) fn new(cluster: &'a Cluster, shape: Shape, nodes: &'a [String], round: u32) -> Self {
        Self {
            cluster,
            shape,
            nodes,
            prefix: format!("round{round}"),
            asked: BTreeMap::new(),
            newest: None,
            reservations: Vec::new(),
            off: Vec::new(),
            refused: Vec::new(),
            cut: false,
            killed_controller: None,
        }
    }

    /// Does it. `now` is in milliseconds of the round, `picture` the latest.
    pub(super) fn happen(&mut self, event: &Event, now: u64, picture: &Picture) -> anyhow::Result<()> {
        let dark = |tray: &usize| self.off.iter().any(|(_, off)| *off == self.nodes[*tray]);
        match event {
            Event::Fault { tray, .. } | Event::PowerLoss(tray) | Event::RestartSlurmd(tray) if dark(tray) => {
                self.refused.push(format!("{event:?}: the tray has no power"));
                Ok(())
            }
            Event::Submit(ask) => self.submit(ask),
            Event::Fault { tray, fault, ms } => {
                let time = Some(Duration::from_millis(*ms));
                match self.cluster.fault(&self.nodes[*tray], fault.clone(), time) {
                    // A job's daemon has the port.
                    Err(error)
                        if fault.kind == FaultKind::PortTaken
                            && format!("{error:#}").contains("Address already in use") =>
                    {
                        self.refused.push(format!("{event:?}: {error:#}"));
                        Ok(())
                    }
                    struck => struck,
                }
            }
            Event::PowerLoss(tray) => {
                self.cluster.switch_off(&self.nodes[*tray])?;
                let time = u64::try_from(limits::SWITCHED_OFF.as_millis())?;
                self.off.push((now + time, self.nodes[*tray].clone()));
                Ok(())
            }
            Event::RestartSlurmd(tray) => self.cluster.restart_slurmd(&self.nodes[*tray]),
            Event::RestartController => self.restart_controller(Signal::SIGTERM),
            Event::KillController => {
                let back = self.restart_controller(Signal::SIGKILL);
                self.killed_controller = Some(SystemTime::now());
                back
            }
            Event::Reconfigure => self.cluster.ctl(&["scontrol", "reconfigure"]).map(drop),
            Event::CutRack(rack) => self.cut(*rack),
            Event::Cancel => self.to_a_job(picture, |line| !line.has_ended(), &["scancel"]),
            Event::Requeue => self.to_a_job(picture, |line| line.is_running(), &["scontrol", "requeue"]),
        }
    }

    fn submit(&mut self, ask: &Ask) -> anyhow::Result<()> {
        let name = format!("{}-{}", self.prefix, self.asked.len());
        let mut options =
            vec![format!("--job-name={name}"), "--output=/dev/null".to_owned(), "--requeue".to_owned()];
        options.extend(self.options(ask, &name)?);
        match self.cluster.submit(&options, &script(ask, &name)) {
            Ok(id) => self.newest = Some(id),
            // While a rack is cut, segments may be larger than every partition.
            Err(error) => self.refused.push(format!("{ask:?}: {error:#}")),
        }
        self.asked.insert(name, ask.clone());
        Ok(())
    }

    fn options(&mut self, ask: &Ask, name: &str) -> anyhow::Result<Vec<String>> {
        let nodes = format!("--nodes={}", ask.trays);
        let exclusive = "--exclusive".to_owned();
        Ok(match ask.kind {
            Kind::Whole => vec![nodes, exclusive],
            Kind::Segments(segment) => vec![nodes, exclusive, format!("--segment={segment}")],
            Kind::Array(tasks) => vec![nodes, exclusive, format!("--array=1-{tasks}")],
            // Stands in the script.
            Kind::Heterogeneous(_) => Vec::new(),
            Kind::Shared => vec!["--nodes=1".to_owned(), "--ntasks=1".to_owned(), "--gres=gpu:1".to_owned()],
            Kind::Gpus => vec![nodes, exclusive, "--gpus-per-node=4".to_owned()],
            Kind::After => {
                let after = self.newest.map(|job| format!("--dependency=afterany:{job}"));
                [nodes, exclusive].into_iter().chain(after).collect()
            }
            Kind::Reserved => {
                let reservation = self.reserve(ask.trays, name)?;
                let reservation = reservation.map(|name| format!("--reservation={name}"));
                [nodes, exclusive].into_iter().chain(reservation).collect()
            }
            Kind::Limited => vec![nodes, exclusive, "--time=1".to_owned()],
        })
    }

    /// A reservation of so many trays; none when Slurm has not so many.
    fn reserve(&mut self, trays: usize, name: &str) -> anyhow::Result<Option<String>> {
        let argv = [
            "scontrol".to_owned(),
            "create".to_owned(),
            "reservation".to_owned(),
            format!("reservationname={name}"),
            "users=alice".to_owned(),
            "starttime=now".to_owned(),
            "duration=30".to_owned(),
            format!("nodecnt={trays}"),
            // Otherwise Slurm puts a tray of any rack in the place of one that is out, and the job fits no partition.
            "flags=static_alloc".to_owned(),
        ];
        let made = self.cluster.capture(&Target::controller(), &argv)?;
        if !made.status.success() {
            self.refused.push(format!("a reservation of {trays} trays: {}", made.stderr.trim()));
            return Ok(None);
        }
        self.reservations.push(name.to_owned());
        Ok(Some(name.to_owned()))
    }

    fn restart_controller(&self, signal: Signal) -> anyhow::Result<()> {
        self.cluster.stop_daemon(CONTROLLER, signal)?;
        self.cluster.start_daemon(CONTROLLER)
    }

    /// The second half of a rack shows another partition, and topology-gen is told.
    fn cut(&mut self, rack: usize) -> anyhow::Result<()> {
        for tray in &self.nodes[self.shape.second_half(rack)] {
            self.cluster.fault(tray, Fault::new(FaultKind::WrongClique), None)?;
        }
        self.cut = true;
        let applied = self.apply()?;
        if let Some(why) = applied {
            // A tray that says nothing, or nonsense: then nothing is changed.
            self.refused.push(format!("apply: {why}"));
        }
        Ok(())
    }

    /// Collects readings and applies them; what topology-gen says where it refuses.
    pub(super) fn apply(&self) -> anyhow::Result<Option<String>> {
        self.cluster.write_readings(READINGS, |node| Ok(self.cluster.reading(node).ok()))?;
        let argv = ["topology-gen", "apply", "--readings", READINGS, "--move-running-jobs"];
        let done = self.cluster.capture(&Target::controller().within(Duration::from_secs(120)), &argv)?;
        match done.status.code() {
            Some(0) => Ok(None),
            Some(1) => Ok(Some(done.stderr)),
            _ => bail!("{}: {}\n{}{}", argv.join(" "), done.status, done.stderr, done.stdout),
        }
    }

    fn to_a_job(
        &self,
        picture: &Picture,
        wanted: impl Fn(&JobLine) -> bool,
        argv: &[&str],
    ) -> anyhow::Result<()> {
        let mine = |name: &str| self.asked.contains_key(name);
        let newest = picture.jobs.iter().rev().find(|(_, line)| mine(&line.name) && wanted(line));
        let Some((job, line)) = newest else { return Ok(()) };
        // All components of a heterogeneous job, by the first one: without a component that was cancelled alone Slurm never starts
        // the others again when a tray of theirs is lost ("Bad het_job_list").
        let is_heterogeneous = matches!(self.asked[&line.name].kind, Kind::Heterogeneous(_));
        let mut components = picture.jobs.iter().filter(|(_, other)| other.name == line.name);
        let job = components.next().filter(|_| is_heterogeneous).map_or(job, |(first, _)| first);
        // It may have ended meanwhile.
        self.cluster.capture(&Target::controller(), &[argv, &[&job.to_string()]].concat()).map(drop)
    }

    /// Gives power to the trays whose time has come, or to all.
    pub(super) fn power_on(&mut self, now: Option<u64>) -> anyhow::Result<()> {
        let due = |at: u64| now.is_none_or(|now| at <= now);
        for (_, tray) in self.off.extract_if(.., |(at, _)| due(*at)) {
            self.cluster.switch_on(&tray)?;
        }
        Ok(())
    }

    /// Whether some tray has no power.
    pub(super) fn is_dark(&self) -> bool {
        !self.off.is_empty()
    }

    /// Deletes the reservations of all jobs but these: others may wait for what they hold.
    pub(super) fn free_reservations_but(&mut self, jobs: &BTreeSet<&str>) -> anyhow::Result<()> {
        for name in self.reservations.extract_if(.., |name| !jobs.contains(name.as_str())) {
            // One that has ended is gone already.
            let argv = ["scontrol", "delete", &format!("reservationname={name}")];
            self.cluster.capture(&Target::controller(), &argv)?;
        }
        Ok(())
    }

    /// Names of trays that events of a plan touch.
    pub(super) fn struck(&self, events: &[super::plan::Timed]) -> BTreeSet<String> {
        let touched = events.iter().flat_map(|timed| timed.event.touches(self.shape));
        touched.filter_map(|tray| self.nodes.get(tray).cloned()).collect()
    }
}

/// Where a script says that it began without a channel, below the root of its tray.
pub(super) const NO_CHANNEL: &str = "tmp/no-channel";

fn script(ask: &Ask, name: &str) -> String {
    let Ask { kind, trays, seconds } = ask;
    let looks = format!("[ -c /dev/nvidia-caps-imex-channels/channel0 ] || echo {name} >> /{NO_CHANNEL}");
    match kind {
        Kind::Heterogeneous(second) => format!(
            "#SBATCH --nodes={trays} --exclusive\n#SBATCH hetjob\n#SBATCH --nodes={second} --exclusive\nsleep {seconds}"
        ),
        Kind::Shared => format!("sleep {seconds}"),
        Kind::Limited => format!("{looks}\nsleep 1000"),
        _ => format!("{looks}\nsleep {seconds}"),
    }
}

/// Names that scripts of a tray have written, each time they began without a channel.
pub(super) fn without_channel(cluster: &Cluster, tray: &str) -> anyhow::Result<Vec<String>> {
    let file = cluster.root_of(tray)?.join(NO_CHANNEL);
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}
