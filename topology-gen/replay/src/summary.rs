//! A replay in numbers.

use std::collections::BTreeMap;

use fabric::placement::Outlook;
use serde::Serialize;

use crate::Seconds;
use crate::job::Job;
use crate::locality;
use crate::record::{Cost, Fate, Record, Sample};
use crate::scenario::Scenario;
use crate::stats::{Stats, mean};

pub use crate::record::{Cost as RefusalCost, Sample as SiteSample};

/// Up to so many sizes of jobs each is a class of its own.
const SIZES_MAX: usize = 16;

/// What came out of a replay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The seed.
    pub seed: u64,
    /// Trays.
    pub trays: u32,
    /// NVLink partitions.
    pub partitions: usize,
    /// Jobs of the workload.
    pub jobs: usize,
    /// Share of the tray seconds in service that had jobs, in the window that is counted.
    pub occupancy: f64,
    /// The window, in seconds from the begin.
    pub window: (Seconds, Seconds),
    /// When the last job ended.
    pub end: Seconds,
    /// By size, ascending.
    pub classes: Vec<Class>,
    /// NVLink partitions of a job, the mean over all jobs that ran.
    pub partitions_used: f64,
    /// The same if each had the fewest that its size needs on a site that is empty and whole.
    pub partitions_fewest: f64,
    /// Share of the jobs that had the fewest.
    pub at_fewest: f64,
    /// Jobs whose trays did not share a partition though they were to: a job that fits one in several, or a segment.
    pub broken: usize,
    /// NVLink partitions without jobs, the mean over time in the window.
    pub free_partitions: f64,
    /// Fragmentation: share of the idle trays that are in partitions with jobs, the mean over time in the window.
    pub fragmentation: f64,
    /// How often jobs lost a tray and were requeued.
    pub requeues: u32,
    /// Tray hours since the last checkpoints that were lost by that.
    pub lost_tray_hours: f64,
    /// Jobs that never ran.
    pub never: Vec<Never>,
    /// What refusing the first job in line has cost, the dearest reason first.
    pub costs: Vec<Cost>,
    /// The site over time.
    pub samples: Vec<Sample>,
}

/// Jobs of one size, or of several.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Class {
    /// Trays of the smallest and of the largest job.
    pub trays: (u32, u32),
    /// Jobs that ran.
    pub ran: usize,
    /// Jobs that never did.
    pub never: usize,
    /// Waits of those submitted in the window, in seconds, from the submission to the first start.
    pub wait: Stats,
    /// NVLink partitions of a job, the mean.
    pub partitions_used: f64,
    /// The fewest that its size needs, the mean.
    pub partitions_fewest: f64,
    /// Jobs whose locality was broken.
    pub broken: usize,
}

/// Jobs of one kind that never ran.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Never {
    /// Trays.
    pub trays: u32,
    /// Trays of a segment, 0 for none.
    pub segment: u32,
    /// How many jobs.
    pub jobs: usize,
    /// Why, in words.
    pub why: &'static str,
}

impl Class {
    /// Its sizes in words.
    pub fn name(&self) -> String {
        match self.trays {
            (low, high) if low == high => low.to_string(),
            (low, high) => format!("{low}-{high}"),
        }
    }
}

impl Summary {
    pub(crate) fn new(scenario: &Scenario, record: Record) -> Self {
        let jobs = &scenario.jobs;
        let window = scenario.window();
        let pairs: Vec<(&Job, &Fate)> = jobs.iter().zip(&record.fates).collect();
        let fewest = fewest(scenario);
        let (used, least, at_fewest) = partitions(&pairs, &fewest);
        let counted = || record.samples.iter().filter(|s| s.at >= window.0 && s.at < window.1);
        let fragments = counted().filter_map(|sample| {
            let idle = sample.up - sample.busy.min(sample.up);
            (idle > 0).then(|| f64::from(sample.scattered) / f64::from(idle))
        });
        Self {
            seed: scenario.seed,
            trays: scenario.site.trays(),
            partitions: scenario.site.partitions().len(),
            jobs: jobs.len(),
            occupancy: record.usage.busy as f64 / (record.usage.up as f64).max(1.0),
            window,
            end: record.fates.iter().filter_map(|fate| fate.ended).max().unwrap_or(0),
            classes: classes(jobs).into_iter().map(|trays| class(trays, &pairs, &fewest, window)).collect(),
            partitions_used: used,
            partitions_fewest: least,
            at_fewest,
            broken: record.fates.iter().filter(|fate| fate.broken).count(),
            free_partitions: mean(counted().map(|sample| f64::from(sample.free_partitions))),
            fragmentation: mean(fragments),
            requeues: record.fates.iter().map(|fate| fate.requeues).sum(),
            lost_tray_hours: record.lost_tray_hours,
            never: never(&pairs),
            costs: record.costs(),
            samples: record.samples,
        }
    }

    /// The class that holds jobs of so many trays, if there are such jobs.
    pub fn class(&self, trays: u32) -> Option<&Class> {
        self.classes.iter().find(|class| (class.trays.0..=class.trays.1).contains(&trays))
    }
}

/// The fewest partitions of each kind of job.
fn fewest(scenario: &Scenario) -> BTreeMap<crate::job::Ask, u32> {
    let mut fewest = BTreeMap::new();
    for job in &scenario.jobs {
        let ask = job.ask();
        fewest.entry(ask).or_insert_with(|| locality::fewest(&scenario.site, ask).unwrap_or(0));
    }
    fewest
}

/// Mean partitions, mean of the fewest, and the share of jobs that have the fewest.
fn partitions(pairs: &[(&Job, &Fate)], fewest: &BTreeMap<crate::job::Ask, u32>) -> (f64, f64, f64) {
    let least = |job: &Job| fewest.get(&job.ask()).copied().unwrap_or(0);
    let ran = || pairs.iter().filter(|(_, fate)| fate.started.is_some());
    (
        mean(ran().map(|(_, fate)| f64::from(fate.partitions))),
        mean(ran().map(|(job, _)| f64::from(least(job)))),
        mean(ran().map(|(job, fate)| f64::from(u8::from(fate.partitions <= least(job))))),
    )
}

/// Each size, or ranges of sizes up to powers of two.
fn classes(jobs: &[Job]) -> Vec<(u32, u32)> {
    let mut sizes: Vec<u32> = jobs.iter().map(|job| job.trays).collect();
    sizes.sort_unstable();
    sizes.dedup();
    if sizes.len() <= SIZES_MAX {
        return sizes.into_iter().map(|size| (size, size)).collect();
    }
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for size in sizes {
        match ranges.last_mut() {
            Some((low, high)) if low.next_power_of_two() == size.next_power_of_two() => *high = size,
            _ => ranges.push((size, size)),
        }
    }
    ranges
}

fn class(
    trays: (u32, u32),
    pairs: &[(&Job, &Fate)],
    fewest: &BTreeMap<crate::job::Ask, u32>,
    window: (Seconds, Seconds),
) -> Class {
    let mine: Vec<(&Job, &Fate)> =
        pairs.iter().copied().filter(|(job, _)| (trays.0..=trays.1).contains(&job.trays)).collect();
    let waits = mine
        .iter()
        .filter(|(job, _)| job.submit >= window.0 && job.submit <= window.1)
        .filter_map(|(job, fate)| Some((fate.started? - job.submit) as f64))
        .collect();
    let ran = mine.iter().filter(|(_, fate)| fate.started.is_some()).count();
    let (partitions_used, partitions_fewest, _) = partitions(&mine, fewest);
    Class {
        trays,
        ran,
        never: mine.len() - ran,
        wait: Stats::of(waits),
        partitions_used,
        partitions_fewest,
        broken: mine.iter().filter(|(_, fate)| fate.broken).count(),
    }
}

fn never(pairs: &[(&Job, &Fate)]) -> Vec<Never> {
    let mut kinds: BTreeMap<(u32, u32, &'static str), usize> = BTreeMap::new();
    for (job, fate) in pairs {
        let Some(outlook) = fate.never else { continue };
        let ask = job.ask();
        *kinds.entry((ask.trays, ask.segment, in_words(outlook))).or_default() += 1;
    }
    kinds.into_iter().map(|((trays, segment, why), jobs)| Never { trays, segment, jobs, why }).collect()
}

fn in_words(outlook: Outlook) -> &'static str {
    match outlook {
        Outlook::Later => "was still to come",
        Outlook::WhenMended => "waits for drained trays",
        Outlook::Never => "fits no site of this shape",
    }
}
