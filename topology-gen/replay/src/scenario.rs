//! All that a replay needs, and the reference scenario.

use serde::Serialize;

use crate::job::Job;
use crate::outages::Failures;
use crate::site::{Site, SiteError};
use crate::workload::reference;
use crate::{DAY, HOUR, Seconds};

/// How the scheduler and the records work; all times in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// A scheduling cycle runs at the next multiple of it after something has changed.
    pub interval: Seconds,
    /// How many jobs behind the first blocked one are looked at in a cycle.
    pub depth: usize,
    /// A job that lost a tray goes on from its last checkpoint, one each so many seconds of its run; 0: from its begin.
    pub checkpoint: Seconds,
    /// Time between two samples of the site.
    pub sample: Seconds,
    /// What happens before counts neither for occupancy nor for waits: the site begins empty. At most half of the time.
    pub warm_up: Seconds,
}

impl Default for Settings {
    /// A cycle a minute at most, 500 jobs deep (Slurm's default for `bf_max_job_test`), checkpoints each hour, a day to warm up.
    fn default() -> Self {
        Self { interval: 60, depth: 500, checkpoint: HOUR, sample: 600, warm_up: DAY }
    }
}

/// What is replayed.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// The fabric.
    pub site: Site,
    /// The jobs.
    pub jobs: Vec<Job>,
    /// How trays fail.
    pub failures: Failures,
    /// The seed of the failures.
    pub seed: u64,
    /// When the records end; without it at the last submission.
    pub horizon: Option<Seconds>,
    /// The scheduler.
    pub settings: Settings,
}

/// The reference scenario and its variants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reference {
    /// Racks.
    pub racks: u32,
    /// Trays of a rack.
    pub trays: u32,
    /// NVLink partitions of a rack.
    pub parts: u32,
    /// Drained trays of each rack.
    pub drained: u32,
    /// Jobs.
    pub jobs: u32,
    /// Days over which they arrive.
    pub days: u64,
    /// What they ask for in tray hours, by what the trays in service can give in that time.
    pub load: f64,
    /// How trays fail.
    pub failures: Failures,
    /// The seed of jobs and failures.
    pub seed: u64,
}

impl Default for Reference {
    /// 278 racks of 18 trays, 15,000 jobs in 7 days, 1 % of the trays out of service at any time.
    fn default() -> Self {
        Self {
            racks: 278,
            trays: 18,
            parts: 1,
            drained: 0,
            jobs: 15_000,
            days: 7,
            load: 1.0,
            failures: Failures { unavailable: 0.01, repair_hours: 48.0 },
            seed: 1,
        }
    }
}

/// `1 day`, `7 days`.
fn counted(number: impl Into<u64>, noun: &str) -> String {
    match number.into() {
        1 => format!("1 {noun}"),
        many => format!("{many} {noun}s"),
    }
}

impl Reference {
    /// The racks, in words.
    pub fn racks_in_words(&self) -> String {
        let mut words = format!("{} of {}", counted(self.racks, "rack"), counted(self.trays, "tray"));
        if self.parts > 1 {
            words += &format!(" in {} NVLink partitions each", self.parts);
        }
        if self.drained > 0 {
            words += &format!(", {} drained in each", self.drained);
        }
        words
    }

    /// The jobs, in words.
    pub fn jobs_in_words(&self) -> String {
        let Self { jobs, days, load, .. } = *self;
        format!("{} in {}, load {load}", counted(jobs, "job"), counted(days, "day"))
    }

    /// The scenario.
    ///
    /// # Errors
    /// [`SiteError`] when there is no such site.
    pub fn scenario(&self, settings: Settings) -> Result<Scenario, SiteError> {
        let site = Site::racks(self.racks, self.trays, self.parts, self.drained)?;
        Ok(self.on(site, settings))
    }

    /// The same jobs and failures on another site: its numbers of racks and trays do not count.
    pub fn on(&self, site: Site, settings: Settings) -> Scenario {
        let served = f64::from(site.trays() - u32::try_from(site.drained().len()).unwrap_or(0))
            * (1.0 - self.failures.unavailable);
        let horizon = self.days * DAY;
        let tray_seconds = served * horizon as f64 * self.load;
        let jobs = reference::jobs(self.seed, self.jobs, horizon, tray_seconds, site.largest());
        Scenario { site, jobs, failures: self.failures, seed: self.seed, horizon: Some(horizon), settings }
    }
}

impl Scenario {
    /// The time for which occupancy and waits are counted.
    pub fn window(&self) -> (Seconds, Seconds) {
        let last = self.jobs.iter().map(|job| job.submit).max().unwrap_or(0);
        let end = self.horizon.unwrap_or(last);
        (self.settings.warm_up.min(end / 2), end)
    }

    /// What was taken for granted, in sentences.
    pub fn assumptions(&self) -> Vec<String> {
        let Settings { interval, depth, checkpoint, .. } = self.settings;
        let (begin, end) = self.window();
        let hours = |seconds: Seconds| format!("{:.1} h", seconds as f64 / HOUR as f64);
        let mut said = vec![
            "Jobs have whole trays. All trays are alike. Placement is real code; time, jobs and failures are simulated.".to_owned(),
            "Queue: higher priority first, then earlier submission. The first blocked job that can start later gets a \
             reservation (earliest moment by time limits, trays chosen by the placer); jobs behind it start if they end \
             before or use other trays."
                .to_owned(),
            format!(
                "A scheduling cycle at the next full {interval} s after a change, {depth} jobs deep behind the first \
                 blocked one."
            ),
            format!(
                "The site is empty at the begin. Counted: occupancy and costs from {} to {}, waits of jobs submitted in that time.",
                hours(begin),
                hours(end)
            ),
        ];
        if self.failures.unavailable > 0.0 {
            let after = match checkpoint {
                0 => "begins anew".to_owned(),
                every => format!("goes on from its last checkpoint, one each {}", hours(every)),
            };
            said.push(format!(
                "Each tray is out of service {} % of the time, {} h at a time (exponential), independent of the others. \
                 A job that loses a tray is requeued at its old place in the queue and {after}.",
                self.failures.unavailable * 100.0,
                self.failures.repair_hours
            ));
        }
        if !self.site.drained().is_empty() {
            said.push(format!("{} trays are drained from begin to end.", self.site.drained().len()));
        }
        if let Some(base) = self.site.levels().promised().filter(|&base| base < self.site.largest()) {
            said.push(format!(
                "Base size {base}: jobs of more trays may span while no NVLink partition has so many in service."
            ));
        }
        if self.site.spares() > 0 {
            said.push(format!("{} trays of each NVLink partition are kept as spares.", self.site.spares()));
        }
        said
    }
}
