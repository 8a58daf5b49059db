#![forbid(unsafe_code)]
//! What the plugin does, as metrics in the text form of Prometheus, for the textfile collector of a node exporter.
//!
//! Only where slurm.conf's `TopologyParam` says `nvlink_metrics=FOLDER`, and only in slurmctld. Nothing waits for it: the folder
//! is in memory ([`RunFolder`]), the file is written at most every [`EVERY`] seconds, when Slurm calls the plugin anyway
//! (to place a job, and to forward a message, as it does to look after its nodes), and by one thread at a time. What fails
//! is said once. Counters begin with the process.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use fabric::placement::metrics_folder;

use crate::host::process;
use crate::host::run_folder::RunFolder;
use crate::place::REASONS;
use crate::{slurm_log, wall};

/// Name of the file.
const FILE: &std::ffi::CStr = c"slurm_nvlink_plugin.prom";
/// Least seconds between two writes.
const EVERY: u64 = 10;
/// What all names begin with.
const PREFIX: &str = "slurm_nvlink_plugin_";

/// Name, kind and help of each metric, in the order of the file.
const METRICS: [(&str, &str, &str); 6] = [
    ("build_info", "gauge", "1, with the build of Slurm, and how its layout is known."),
    ("steering", "gauge", "1 while its jobs are steered, 0 while they are left to Slurm's plugin."),
    ("evaluations_total", "counter", "Questions where a job could run, also later, by outcome."),
    ("jobs_placed_total", "counter", "Jobs for which free trays were chosen, by their NVLink partitions."),
    ("jobs_refused_total", "counter", "Jobs that were told to wait, once for each reason."),
    ("last_write_timestamp_seconds", "gauge", "Time of this file."),
];

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There is a place.
    Placed,
    /// There is none.
    Refused,
    /// Slurm's own evaluator was asked.
    Delegated,
}

/// A topology in the metrics, until it is dropped.
#[derive(Debug)]
pub(crate) struct Topology(u64);

impl Topology {
    /// Begins with a topology of this name.
    pub(crate) fn new(name: &str, steered: bool) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        lock(&COUNTS).topologies.insert(id, (name.to_owned(), steered));
        Self(id)
    }

    /// It is not steered any more.
    pub(crate) fn is_left_to_slurm(&self) {
        if let Some((_, steered)) = lock(&COUNTS).topologies.get_mut(&self.0) {
            *steered = false;
        }
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        lock(&COUNTS).topologies.remove(&self.0);
    }
}

/// Everything that is counted.
#[derive(Debug, Clone)]
struct Counts {
    /// Placed, refused, delegated.
    evaluations: [u64; 3],
    /// In one partition, in several.
    placed: [u64; 2],
    refused: BTreeMap<&'static str, u64>,
    /// Name, and whether it is steered.
    topologies: BTreeMap<u64, (String, bool)>,
}

static COUNTS: Mutex<Counts> = Mutex::new(Counts {
    evaluations: [0; 3],
    placed: [0; 2],
    refused: BTreeMap::new(),
    topologies: BTreeMap::new(),
});
static SINK: OnceLock<Sink> = OnceLock::new();

/// Where the metrics go.
#[derive(Debug)]
struct Sink {
    folder: RunFolder,
    begin: Instant,
    /// The next write, in seconds from the begin.
    next: AtomicU64,
    /// Whether a failure was said.
    said: AtomicBool,
    /// Labels of the build.
    build: String,
}

/// Takes the folder from `TopologyParam`. `build` has the build id of Slurm and how its layout is known.
pub(crate) fn begin(parameters: &str, build: (&str, &str)) {
    static SAID: AtomicBool = AtomicBool::new(false);
    let Some(path) = metrics_folder(parameters).filter(|_| SINK.get().is_none()) else { return };
    match RunFolder::open(Path::new(path)) {
        Ok(folder) => {
            let sink = Sink {
                folder,
                begin: Instant::now(),
                next: AtomicU64::new(0),
                said: AtomicBool::new(false),
                build: labels(build),
            };
            if SINK.set(sink).is_ok() {
                slurm_log!(Info, "nvlink_metrics: {path}/{} is written", FILE.to_string_lossy());
            }
        }
        Err(why) if !SAID.swap(true, Ordering::Relaxed) => {
            slurm_log!(
                Error,
                "TopologyParam=nvlink_metrics={path}: the folder {why}; no metrics are written"
            );
        }
        Err(_) => {}
    }
}

fn labels((build_id, layout): (&str, &str)) -> String {
    format!(
        "version=\"{}\",slurm=\"{}\",build_id=\"{build_id}\",layout=\"{layout}\"",
        env!("CARGO_PKG_VERSION"),
        crate::abi::confirmation::release(crate::abi::SLURM_VERSION_NUMBER)
    )
}

/// Whether anybody wants to know.
pub(crate) fn are_wanted() -> bool {
    SINK.get().is_some()
}

/// Counts a question of Slurm.
pub(crate) fn count(outcome: Outcome) {
    if are_wanted() {
        lock(&COUNTS).evaluations[outcome as usize] += 1;
    }
}

/// Counts a job for which free trays were chosen.
pub(crate) fn count_placed(several_partitions: bool) {
    lock(&COUNTS).placed[usize::from(several_partitions)] += 1;
}

/// Counts a job that waits, for a reason in one word.
pub(crate) fn count_refused(reason: &'static str) {
    *lock(&COUNTS).refused.entry(reason).or_default() += 1;
}

/// Writes the file when it is time.
pub(crate) fn tick() {
    let Some(sink) = SINK.get() else { return };
    let now = sink.begin.elapsed().as_secs();
    let next = sink.next.load(Ordering::Relaxed);
    let is_ours = || {
        sink.next
            .compare_exchange(next, now.saturating_add(EVERY), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    };
    if now < next || !is_ours() {
        return;
    }
    let why = match wall::again(|| sink.folder.replace(FILE, sink.text().as_bytes())) {
        Some(Ok(())) => return,
        Some(Err(error)) => error.to_string(),
        None => "a mistake in the plugin".to_owned(),
    };
    if !sink.said.swap(true, Ordering::Relaxed) {
        slurm_log!(
            Error,
            "nvlink_metrics: {} cannot be written: {why}; this is said once",
            FILE.to_string_lossy()
        );
    }
}

impl Sink {
    fn text(&self) -> String {
        // Others count on meanwhile.
        let counts = lock(&COUNTS).clone();
        counts.text(&self.build, !wall::is_breached(), process::now())
    }
}

impl Counts {
    fn text(&self, build: &str, sound: bool, now: u64) -> String {
        let [placed, refused, delegated] = self.evaluations;
        let [one, several] = self.placed;
        // Of topologies of one name the newest counts: a reload makes it before the old one goes.
        let topologies: BTreeMap<&str, bool> =
            self.topologies.values().map(|(name, steered)| (name.as_str(), *steered && sound)).collect();
        let mut text = String::new();
        for (name, kind, help) in METRICS {
            let samples: Vec<(String, u64)> = match name {
                "build_info" => vec![(format!("{{{build}}}"), 1)],
                "steering" => {
                    let sample =
                        |(name, steered): (&&str, &bool)| (label("topology", name), u64::from(*steered));
                    topologies.iter().map(sample).collect()
                }
                "evaluations_total" => vec![
                    (label("outcome", "placed"), placed),
                    (label("outcome", "refused"), refused),
                    (label("outcome", "delegated"), delegated),
                ],
                "jobs_placed_total" => {
                    vec![(label("partitions", "one"), one), (label("partitions", "several"), several)]
                }
                // Each is there from the beginning: of one that appears when it is 1 already, nobody can tell that it has grown.
                "jobs_refused_total" => {
                    let mut all: BTreeMap<&str, u64> = REASONS.map(|reason| (reason, 0)).into();
                    all.extend(&self.refused);
                    all.into_iter().map(|(reason, count)| (label("reason", reason), count)).collect()
                }
                _ => vec![(String::new(), now)],
            };
            // Writing to a String cannot fail.
            let _infallible = writeln!(text, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}");
            for (labels, value) in samples {
                let _infallible = writeln!(text, "{PREFIX}{name}{labels} {value}");
            }
        }
        text
    }
}

/// A label; its value may be anybody's text.
fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{{{name}=\"{value}\"}}")
}

/// A panic while this is held leaves it whole.
fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_stable_names() {
        let topologies = [("nvlink", false), ("a\"b\\", true), ("nvlink", true)];
        let topologies =
            topologies.into_iter().zip(0..).map(|((name, steered), id)| (id, (name.to_owned(), steered)));
        let counts = Counts {
            evaluations: [30, 12, 1],
            placed: [20, 2],
            refused: [("no-partition-free", 3), ("segment-too-large", 1)].into(),
            topologies: topologies.collect(),
        };
        let samples = |sound: bool| -> Vec<String> {
            let text = counts.text(&labels(("abcd", "known")), sound, 1_790_000_000);
            assert_eq!(text.matches("# TYPE").count(), METRICS.len());
            assert_eq!(text.matches("jobs_refused_total{").count(), REASONS.len());
            let is_zero = |line: &str| line.contains("jobs_refused_total") && line.ends_with(" 0");
            let told = |line: &&str| !line.starts_with('#') && !is_zero(line);
            text.lines().filter(told).map(str::to_owned).collect()
        };
        let version = env!("CARGO_PKG_VERSION");
        let slurm = crate::abi::confirmation::release(crate::abi::SLURM_VERSION_NUMBER);
        let build = format!("version=\"{version}\",slurm=\"{slurm}\",build_id=\"abcd\",layout=\"known\"");
        assert_eq!(
            samples(true),
            [
                format!("slurm_nvlink_plugin_build_info{{{build}}} 1"),
                "slurm_nvlink_plugin_steering{topology=\"a\\\"b\\\\\"} 1".to_owned(),
                "slurm_nvlink_plugin_steering{topology=\"nvlink\"} 1".to_owned(),
                "slurm_nvlink_plugin_evaluations_total{outcome=\"placed\"} 30".to_owned(),
                "slurm_nvlink_plugin_evaluations_total{outcome=\"refused\"} 12".to_owned(),
                "slurm_nvlink_plugin_evaluations_total{outcome=\"delegated\"} 1".to_owned(),
                "slurm_nvlink_plugin_jobs_placed_total{partitions=\"one\"} 20".to_owned(),
                "slurm_nvlink_plugin_jobs_placed_total{partitions=\"several\"} 2".to_owned(),
                "slurm_nvlink_plugin_jobs_refused_total{reason=\"no-partition-free\"} 3".to_owned(),
                "slurm_nvlink_plugin_jobs_refused_total{reason=\"segment-too-large\"} 1".to_owned(),
                "slurm_nvlink_plugin_last_write_timestamp_seconds 1790000000".to_owned(),
            ]
        );
        assert!(samples(false).iter().all(|line| !line.contains("_steering{") || line.ends_with(" 0")));
    }

    #[test]
    fn without_a_folder_nothing_is_wanted() {
        begin("BlockAsNodeRank,nvlink_metrics=/etc", ("abcd", "known"));
        begin("BlockAsNodeRank", ("abcd", "known"));
        tick();
        count(Outcome::Placed);
        assert!(!are_wanted() && lock(&COUNTS).evaluations == [0; 3]);
        let topology = Topology::new("t", true);
        topology.is_left_to_slurm();
        assert_eq!(lock(&COUNTS).topologies.get(&topology.0), Some(&("t".to_owned(), false)));
        let id = topology.0;
        drop(topology);
        assert!(!lock(&COUNTS).topologies.contains_key(&id));
    }
}
