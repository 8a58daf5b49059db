//! The replay: events in their order, until nothing is left to happen.

use crate::agenda::{Agenda, Event};
use crate::cluster::{Cluster, Running};
use crate::cycle::Scheduler;
use crate::job::Job;
use crate::locality;
use crate::outages::outages;
use crate::placer::{Placer, PlacerFault};
use crate::queue::Queue;
use crate::record::Record;
use crate::scenario::{Scenario, Settings};
use crate::summary::Summary;
use crate::{HOUR, Seconds};

/// Why a replay could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The placer broke.
    #[error("the placer cannot go on")]
    Placer(#[source] PlacerFault),
    /// The placer chose trays that are not free, or too few or too many.
    #[error("the placer is wrong: {what}")]
    Choice {
        /// In words.
        what: String,
    },
}

/// Replays a scenario with a placer.
///
/// # Errors
/// [`Fault`] when the placer breaks or chooses what it may not.
pub fn run(scenario: &Scenario, placer: &mut dyn Placer) -> Result<Summary, Fault> {
    let mut replay = Replay::new(scenario);
    replay.play(placer)?;
    let mut record = replay.record;
    for number in replay.queue.iter() {
        let ask = scenario.jobs[number].ask();
        let outlook = placer.outlook(&scenario.site, &replay.cluster.up, ask).map_err(Fault::Placer)?;
        record.never_ran(number, outlook);
    }
    Ok(Summary::new(scenario, record))
}

struct Replay<'s> {
    jobs: &'s [Job],
    settings: Settings,
    agenda: Agenda,
    cluster: Cluster<'s>,
    queue: Queue,
    scheduler: Scheduler,
    record: Record,
    /// What is left to run of each job, after checkpoints.
    left: Vec<Seconds>,
    runs: Vec<u32>,
    /// When the next cycle is.
    cycle_at: Option<Seconds>,
}

impl<'s> Replay<'s> {
    fn new(scenario: &'s Scenario) -> Self {
        let jobs = &scenario.jobs[..];
        let mut agenda = Agenda::default();
        for (number, job) in jobs.iter().enumerate() {
            agenda.add(job.submit, Event::Submit(number));
        }
        let (begin, end) = scenario.window();
        for outage in outages(&scenario.site, scenario.failures, scenario.seed, end) {
            agenda.add(outage.begin, Event::Down(outage.tray));
            agenda.add(outage.end, Event::Up(outage.tray));
        }
        Self {
            jobs,
            settings: scenario.settings,
            agenda,
            cluster: Cluster::new(&scenario.site),
            queue: Queue::default(),
            scheduler: Scheduler::new(scenario.settings.depth),
            record: Record::new(jobs.len(), (begin, end), scenario.settings.sample),
            left: jobs.iter().map(|job| job.run).collect(),
            runs: vec![0; jobs.len()],
            cycle_at: None,
        }
    }

    fn play(&mut self, placer: &mut dyn Placer) -> Result<(), Fault> {
        while let Some((now, event)) = self.agenda.next() {
            self.record.advance(now, &self.cluster, self.queue.len());
            match event {
                Event::Submit(number) => self.queue.add(number, &self.jobs[number]),
                Event::Down(tray) => {
                    if let Some(job) = self.cluster.down(tray) {
                        self.requeue(job, now);
                    }
                }
                Event::Up(tray) => self.cluster.back(tray),
                Event::End(job, run) => {
                    let is_this_run =
                        self.cluster.running().get(&job).is_some_and(|running| running.number == run);
                    if !is_this_run {
                        continue;
                    }
                    self.cluster.end(job);
                    self.record.ended(job, now);
                }
                Event::Cycle => {
                    self.cycle_at = None;
                    self.cycle(now, placer)?;
                    continue;
                }
            }
            self.wake(now);
        }
        self.record.finish(&self.cluster, self.queue.len());
        Ok(())
    }

    /// Has the scheduler look at the queue at the next multiple of the interval.
    fn wake(&mut self, now: Seconds) {
        if self.cycle_at.is_none() {
            let at = now.div_ceil(self.settings.interval.max(1)) * self.settings.interval.max(1);
            self.cycle_at = Some(at);
            self.agenda.add(at, Event::Cycle);
        }
    }

    /// A job lost a tray: it goes on later from its last checkpoint.
    fn requeue(&mut self, job: usize, now: Seconds) {
        let Some(running) = self.cluster.end(job) else { return };
        let ran = now - running.since;
        let kept = match self.settings.checkpoint {
            0 => 0,
            every => ran / every * every,
        };
        self.left[job] = self.left[job].saturating_sub(kept).max(1);
        let lost = (ran - kept) * running.trays.len() as u64;
        self.record.requeued(job, lost as f64 / HOUR as f64);
        self.queue.add(job, &self.jobs[job]);
    }

    fn cycle(&mut self, now: Seconds, placer: &mut dyn Placer) -> Result<(), Fault> {
        let decision = self
            .scheduler
            .cycle(now, &self.cluster, &self.queue, self.jobs, placer)
            .map_err(Fault::Placer)?;
        for (number, trays) in decision.starts {
            let job = &self.jobs[number];
            if trays.len() != job.trays as usize {
                let what =
                    format!("{} trays for job {}, which asks for {}", trays.len(), job.name, job.trays);
                return Err(Fault::Choice { what });
            }
            let lie = locality::lie(self.cluster.site, &self.cluster.up, job.ask(), &trays);
            let run = self.runs[number];
            self.runs[number] += 1;
            let running = Running { trays, since: now, limit_end: now + job.limit, number: run };
            self.cluster.start(number, running).map_err(|what| Fault::Choice { what })?;
            self.queue.take(number, job);
            self.agenda.add(now + self.left[number], Event::End(number, run));
            self.record.started(number, now, lie);
        }
        self.record.blocked(decision.blocked, self.cluster.usable().count());
        Ok(())
    }
}
