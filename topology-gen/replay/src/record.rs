//! What is written down during a replay.

use std::collections::{BTreeMap, HashSet};

use fabric::placement::Outlook;
use serde::Serialize;

use crate::Seconds;
use crate::cluster::Cluster;
use crate::cycle::Blocked;
use crate::locality::Lie;

/// What became of a job.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Fate {
    pub(crate) started: Option<Seconds>,
    pub(crate) ended: Option<Seconds>,
    /// NVLink partitions of its last run.
    pub(crate) partitions: u32,
    /// Whether a run of it broke its locality.
    pub(crate) broken: bool,
    pub(crate) requeues: u32,
    pub(crate) never: Option<Outlook>,
}

/// The site at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sample {
    /// When, in seconds from the begin.
    pub at: Seconds,
    /// Trays with jobs.
    pub busy: u32,
    /// Trays in service.
    pub up: u32,
    /// NVLink partitions in which no job is and some tray is up.
    pub free_partitions: u32,
    /// Idle trays that are not in such a partition.
    pub scattered: u32,
    /// Jobs that wait.
    pub waiting: u32,
}

/// What a reason to refuse the first job in line has cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Why, without numbers.
    pub reason: String,
    /// One of the refusals in full.
    pub example: String,
    /// Jobs that were first in line and refused for this reason.
    pub jobs: u32,
    /// How long a job waited first in line for this reason, in seconds, all jobs together.
    pub seconds: Seconds,
    /// Tray hours that were idle meanwhile.
    pub idle_tray_hours: f64,
}

/// Tray seconds in the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) busy: u128,
    pub(crate) up: u128,
}

#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) fates: Vec<Fate>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) usage: Use,
    pub(crate) lost_tray_hours: f64,
    /// When the last thing happened.
    pub(crate) end: Seconds,
    window: (Seconds, Seconds),
    sample: Seconds,
    next_sample: Seconds,
    now: Seconds,
    head: Option<(Blocked, u32)>,
    costs: BTreeMap<String, (Cost, HashSet<usize>)>,
}

impl Record {
    pub(crate) fn new(jobs: usize, window: (Seconds, Seconds), sample: Seconds) -> Self {
        Self {
            fates: vec![Fate::default(); jobs],
            samples: Vec::new(),
            usage: Use::default(),
            lost_tray_hours: 0.0,
            end: 0,
            window,
            sample: sample.max(1),
            next_sample: 0,
            now: 0,
            head: None,
            costs: BTreeMap::new(),
        }
    }

    /// Time goes on to `now`; until then all was as `cluster` still is.
    pub(crate) fn advance(&mut self, now: Seconds, cluster: &Cluster<'_>, waiting: usize) {
        if now == self.now {
            return;
        }
        let inside = now.min(self.window.1).saturating_sub(self.now.max(self.window.0));
        self.usage.busy += u128::from(cluster.busy()) * u128::from(inside);
        self.usage.up += u128::from(cluster.up.count()) * u128::from(inside);
        if let Some((head, idle)) = self.head.filter(|_| inside > 0) {
            let kind = head.why.kind();
            let (cost, jobs) = self.costs.entry(kind.clone()).or_default();
            if jobs.insert(head.job) {
                cost.jobs += 1;
            }
            if cost.example.is_empty() {
                (cost.reason, cost.example) = (kind, head.why.to_string());
            }
            cost.seconds += inside;
            cost.idle_tray_hours += f64::from(idle) * inside as f64 / 3600.0;
        }
        while self.next_sample < now {
            self.samples.push(sample(self.next_sample, cluster, waiting));
            self.next_sample += self.sample;
        }
        self.now = now;
        self.end = now;
    }

    /// Nothing happens any more: the rest of the window is as the cluster is now.
    pub(crate) fn finish(&mut self, cluster: &Cluster<'_>, waiting: usize) {
        let end = self.end;
        if self.window.1 > self.now {
            self.advance(self.window.1, cluster, waiting);
        }
        self.end = end;
    }

    pub(crate) fn started(&mut self, job: usize, now: Seconds, lie: Lie) {
        let fate = &mut self.fates[job];
        fate.started.get_or_insert(now);
        fate.partitions = lie.partitions;
        fate.broken |= lie.broken;
    }

    pub(crate) fn ended(&mut self, job: usize, now: Seconds) {
        self.fates[job].ended = Some(now);
    }

    pub(crate) fn requeued(&mut self, job: usize, lost_tray_hours: f64) {
        self.fates[job].requeues += 1;
        self.lost_tray_hours += lost_tray_hours;
    }

    pub(crate) fn never_ran(&mut self, job: usize, outlook: Outlook) {
        self.fates[job].never = Some(outlook);
    }

    /// From now on this job is the first that waits, while so many trays are usable and idle.
    pub(crate) fn blocked(&mut self, head: Option<Blocked>, idle: u32) {
        self.head = head.map(|head| (head, idle));
    }

    /// What each reason has cost, the dearest first.
    pub(crate) fn costs(&self) -> Vec<Cost> {
        let mut costs: Vec<Cost> = self.costs.values().map(|(cost, _)| cost.clone()).collect();
        costs.sort_by(|a, b| b.idle_tray_hours.total_cmp(&a.idle_tray_hours));
        costs
    }
}

fn sample(at: Seconds, cluster: &Cluster<'_>, waiting: usize) -> Sample {
    let (mut free_partitions, mut scattered) = (0, 0);
    for partition in cluster.site.partitions() {
        let (idle, up) = (cluster.idle().count_in(partition), cluster.up.count_in(partition));
        if idle == up && up > 0 {
            free_partitions += 1;
        } else {
            scattered += idle;
        }
    }
    Sample {
        at,
        busy: cluster.busy(),
        up: cluster.up.count(),
        free_partitions,
        scattered,
        waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
    }
}
