//! GPU hours by NVLink partition, Slurm partition, account and QOS, from the records of Slurm's accounting. Pure.
//!
//! A job's GPUs are shared evenly over its nodes, and its nodes belong to the blocks of the topology that is given: blocks
//! that have changed since the job ran are counted as they are in it. A job whose nodes are in several blocks spans; nodes in
//! no block count for themselves. What is outside the window is not counted; of a run that was suspended for a while, each part
//! is taken to have been suspended for its share of that.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use fabric::topology::BlockTopology;
use fabric::{BlockName, HostList, HostListError};
use replay::accounting::Record;

/// What the hours are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The NVLink partition.
    Block,
    /// The Slurm partition.
    Partition,
    /// The account.
    Account,
    /// The QOS; `topology-gen tiers` makes one for each tier.
    Qos,
}

/// Moments in seconds since 1970: from `since` to before `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The begin.
    pub since: u64,
    /// The end.
    pub until: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { since: 0, until: u64::MAX }
    }
}

/// Why a record cannot be counted.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The job ran, and the record does not say where.
    #[error("job {job} ran, and its nodes are not named")]
    NoNodes {
        /// The job.
        job: u64,
    },
    /// Its nodes are no host list.
    #[error("job {job}: its nodes cannot be read")]
    Nodes {
        /// The job.
        job: u64,
        /// The reason.
        source: HostListError,
    },
    /// Times that cannot be.
    #[error("job {job} {what}")]
    Times {
        /// The job.
        job: u64,
        /// What is wrong, in words.
        what: &'static str,
    },
    /// Two clusters with one topology.
    #[error("jobs of two clusters, {first:?} and {other:?}; the blocks are those of one")]
    Clusters {
        /// The cluster of the first job.
        first: String,
        /// The cluster of a later one.
        other: String,
    },
}

/// One line of the report: what it is about, as far as the report is divided by it, and the sums.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The NVLink partition: None where the report is not divided by it, Some(None) for nodes in no block.
    pub block: Option<Option<BlockName>>,
    /// The Slurm partition.
    pub partition: Option<String>,
    /// The account.
    pub account: Option<String>,
    /// The QOS.
    pub qos: Option<String>,
    /// The sums.
    pub sums: Sums,
}

/// Hours and jobs. A job that was requeued counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sums {
    /// GPU hours allocated.
    pub gpu_hours: f64,
    /// Jobs that had some of them.
    pub jobs: usize,
    /// Those of them whose nodes were in several NVLink partitions.
    pub spanning_jobs: usize,
}

/// The report.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuHours {
    /// In the order of the blocks, then of the names; nodes in no block last.
    pub rows: Vec<Row>,
    /// All together.
    pub total: Sums,
    /// Records that are not counted.
    pub left_out: LeftOut,
}

/// Records that are not counted, by the reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// They never ran.
    pub never_ran: usize,
    /// They ran outside the window.
    pub outside_window: usize,
    /// They had no GPUs.
    pub without_gpus: usize,
}

/// Where nodes are; a block by its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Block(usize),
    Outside,
}

/// What a row is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    place: Option<Place>,
    names: [Option<String>; 3],
}

#[derive(Debug, Default)]
struct Tally {
    gpu_seconds: f64,
    jobs: BTreeSet<u64>,
    spanning: BTreeSet<u64>,
}

impl Tally {
    fn add(&mut self, job: u64, gpu_seconds: f64, spans: bool) {
        self.gpu_seconds += gpu_seconds;
        self.jobs.insert(job);
        if spans {
            self.spanning.insert(job);
        }
    }

    fn sums(&self) -> Sums {
        Sums {
            gpu_hours: self.gpu_seconds / 3600.0,
            jobs: self.jobs.len(),
            spanning_jobs: self.spanning.len(),
        }
    }
}

/// Adds up the records.
///
/// # Errors
/// [`RecordError`] for the first record that cannot be counted.
pub fn gpu_hours(
    records: &[Record],
    topology: &BlockTopology,
    window: Window,
    by: &[By],
) -> Result<GpuHours, RecordError> {
    let places: BTreeMap<&str, usize> = topology
        .blocks
        .iter()
        .enumerate()
        .rev()
        .flat_map(|(at, block)| block.nodes.iter().map(move |node| (node.as_str(), at)))
        .collect();
    let (mut tallies, mut total) = (BTreeMap::<Key, Tally>::new(), Tally::default());
    let mut left_out = LeftOut::default();
    let mut first_cluster: Option<&str> = None;
    for record in records {
        one_cluster(record, &mut first_cluster)?;
        if record.time.elapsed == 0 || record.time.start == 0 {
            left_out.never_ran += 1;
            continue;
        }
        let seconds = seconds_inside(record, window)?;
        let gpus = record.tres.gpus();
        if seconds == 0.0 {
            left_out.outside_window += 1;
            continue;
        }
        if gpus == 0 {
            left_out.without_gpus += 1;
            continue;
        }
        let job = record.job_id;
        let nodes = HostList::parse(&record.nodes).map_err(|source| RecordError::Nodes { job, source })?;
        if nodes.is_empty() || record.nodes == NO_NODES {
            return Err(RecordError::NoNodes { job });
        }
        let mut shares = BTreeMap::<Place, usize>::new();
        for node in &nodes {
            let place = places.get(node.as_str()).map_or(Place::Outside, |&at| Place::Block(at));
            *shares.entry(place).or_default() += 1;
        }
        let spans = shares.keys().filter(|place| **place != Place::Outside).count() > 1;
        let gpu_seconds = as_number(gpus) * seconds;
        total.add(job, gpu_seconds, spans);
        for (place, share) in shares {
            let share = share as f64 / nodes.len() as f64;
            let tally = tallies.entry(key(record, place, by)).or_default();
            tally.add(job, gpu_seconds * share, spans);
        }
    }
    let rows = tallies.into_iter().map(|(key, tally)| row(key, &tally, topology)).collect();
    Ok(GpuHours { rows, total: total.sums(), left_out })
}

/// What sacct says in the place of nodes.
const NO_NODES: &str = "None assigned";

fn one_cluster<'a>(record: &'a Record, first: &mut Option<&'a str>) -> Result<(), RecordError> {
    let first = *first.get_or_insert(&record.cluster);
    if first == record.cluster {
        return Ok(());
    }
    Err(RecordError::Clusters { first: first.to_owned(), other: record.cluster.clone() })
}

/// For how many seconds inside the window the job ran.
fn seconds_inside(record: &Record, window: Window) -> Result<f64, RecordError> {
    let (job, time) = (record.job_id, &record.time);
    let wrong = |what| RecordError::Times { job, what };
    // One that runs has no end yet: it lasted until sacct was asked.
    let end = match time.end {
        0 => time.start.checked_add(time.elapsed).and_then(|end| end.checked_add(time.suspended)),
        end => Some(end),
    };
    let end = end.ok_or_else(|| wrong("ran for longer than time lasts"))?;
    let span = end.checked_sub(time.start).ok_or_else(|| wrong("ended before it started"))?;
    let inside = end.min(window.until).saturating_sub(time.start.max(window.since));
    if span == 0 {
        return Ok(0.0);
    }
    Ok(as_number(time.elapsed.min(span)) * (as_number(inside) / as_number(span)))
}

#[expect(clippy::cast_precision_loss, reason = "counts of GPUs and seconds are far below 2^52")]
fn as_number(count: u64) -> f64 {
    count as f64
}

fn key(record: &Record, place: Place, by: &[By]) -> Key {
    let name = |wanted: By, name: &String| by.contains(&wanted).then(|| name.clone());
    Key {
        place: by.contains(&By::Block).then_some(place),
        names: [
            name(By::Partition, &record.partition),
            name(By::Account, &record.account),
            name(By::Qos, &record.qos),
        ],
    }
}

fn row(key: Key, tally: &Tally, topology: &BlockTopology) -> Row {
    let block = key.place.map(|place| match place {
        Place::Block(at) => topology.blocks.get(at).map(|block| block.name.clone()),
        Place::Outside => None,
    });
    let [partition, account, qos] = key.names;
    Row { block, partition, account, qos, sums: tally.sums() }
}

#[cfg(test)]
mod tests;
