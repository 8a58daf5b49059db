//! Metrics in the text form of Prometheus, for the textfile collector of a node exporter.
//!
//! Each run reads the file that the last one wrote, adds itself and replaces it in one step. A file that is missing
//! or of another form begins anew, which readers of counters expect. Each counter is there from the first run on: of one that
//! appears when it is 1 already, nobody can tell that it has grown.
#![forbid(unsafe_code)]

use crate::deadline::Deadline;
use crate::lock::{LockError, TrayLock};
use crate::secure_fs::{Dir, FsError};
use crate::verdict::WORDS;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;
use thiserror::Error;

/// Name of the file.
pub const FILE: &str = "slurm_nvlink_imex.prom";
/// Largest file that is read back, in bytes.
const LEN_MAX: usize = 256 << 10;
/// Longest wait for another run that writes.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// What all names begin with.
const PREFIX: &str = "slurm_nvlink_imex_";

/// The metrics are not written. No run fails for it.
#[derive(Debug, Error)]
pub enum MetricsError {
    /// The directory cannot be used.
    #[error("cannot use the metrics directory")]
    Directory(#[source] FsError),
    /// Another run is writing.
    #[error("cannot take the lock of the metrics")]
    Lock(#[source] LockError),
    /// The file cannot be written.
    #[error("cannot write the metrics")]
    Write(#[source] FsError),
}

/// One run as the metrics see it.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// `prolog` or `epilog`.
    pub hook: &'static str,
    /// The word of the closing line.
    pub outcome: &'a str,
    /// How long it took.
    pub elapsed: Duration,
    /// Its phases in milliseconds.
    pub phases: &'a [(&'static str, u64)],
    /// Seconds since 1970.
    pub now: u64,
}

/// Something that happened between runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A daemon ended under its running job.
    DaemonLost,
}

/// Name, kind and help of each metric, in the order of the file.
const METRICS: [(&str, &str, &str); 7] = [
    ("runs_total", "counter", "Runs by program and outcome."),
    ("run_seconds_total", "counter", "Time spent in runs by program."),
    ("last_run_seconds", "gauge", "Length of the last run by program."),
    ("last_run_timestamp_seconds", "gauge", "End of the last run by program and outcome."),
    ("last_phase_seconds", "gauge", "Length of each phase of the last run by program."),
    ("events_total", "counter", "What went wrong between runs."),
    ("last_event_timestamp_seconds", "gauge", "When that happened last."),
];

/// The label of [`Event::DaemonLost`].
const DAEMON_LOST: &str = "event=\"daemon-lost\"";

/// Adds a run to the file in `directory`.
///
/// # Errors
/// [`MetricsError`].
pub fn add(directory: &Path, state: &Dir, run: Run<'_>) -> Result<(), MetricsError> {
    change(directory, state, |samples| count(samples, run))
}

/// Adds an event of the time `now`, in seconds since 1970.
///
/// # Errors
/// [`MetricsError`].
pub fn count_event(directory: &Path, state: &Dir, event: Event, now: u64) -> Result<(), MetricsError> {
    let labels = match event {
        Event::DaemonLost => DAEMON_LOST,
    };
    change(directory, state, |samples| {
        *samples.entry(("events_total".to_owned(), labels.to_owned())).or_default() += 1.0;
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
        samples.insert(("last_event_timestamp_seconds".to_owned(), labels.to_owned()), now as f64);
    })
}

fn change(directory: &Path, state: &Dir, change: impl FnOnce(&mut Samples)) -> Result<(), MetricsError> {
    let _lock = TrayLock::take_named(state, "metrics.lock", Deadline::after(LOCK_PATIENCE))
        .map_err(MetricsError::Lock)?;
    let dir = Dir::open_below_others(directory).map_err(MetricsError::Directory)?;
    let old = dir.read(FILE, LEN_MAX).unwrap_or_default().unwrap_or_default();
    let mut samples = parse(&String::from_utf8_lossy(&old));
    begin(&mut samples);
    change(&mut samples);
    // Read by a collector that does not run as root.
    dir.write_atomic(FILE, text(&samples).as_bytes(), 0o644).map_err(MetricsError::Write)
}

/// Values by metric and labels, both as in the file.
type Samples = BTreeMap<(String, String), f64>;

/// Begins counters that are not there yet.
fn begin(samples: &mut Samples) {
    for (hook, words) in WORDS {
        for word in words {
            let labels = format!("hook=\"{hook}\",outcome=\"{word}\"");
            samples.entry(("runs_total".to_owned(), labels)).or_default();
        }
        samples.entry(("run_seconds_total".to_owned(), format!("hook=\"{hook}\""))).or_default();
    }
    samples.entry(("events_total".to_owned(), DAEMON_LOST.to_owned())).or_default();
    // As an earlier release wrote it.
    samples.retain(|(name, labels), _| name != "last_run_timestamp_seconds" || labels.contains(",outcome="));
}

fn count(samples: &mut Samples, run: Run<'_>) {
    let hook = run.hook;
    let seconds = run.elapsed.as_secs_f64();
    let only_hook = format!("hook=\"{hook}\"");
    let key = |name: &str, labels: &str| (name.to_owned(), labels.to_owned());
    let outcome = format!("hook=\"{hook}\",outcome=\"{}\"", run.outcome);
    *samples.entry(key("runs_total", &outcome)).or_default() += 1.0;
    *samples.entry(key("run_seconds_total", &only_hook)).or_default() += seconds;
    samples.insert(key("last_run_seconds", &only_hook), seconds);
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
    samples.insert(key("last_run_timestamp_seconds", &outcome), run.now as f64);
    samples.retain(|(name, labels), _| name != "last_phase_seconds" || !labels.starts_with(&only_hook));
    for (phase, millis) in run.phases {
        let labels = format!("{only_hook},phase=\"{phase}\"");
        let span = Duration::from_millis(*millis).as_secs_f64();
        samples.insert(key("last_phase_seconds", &labels), span);
    }
}

fn text(samples: &Samples) -> String {
    let mut text = String::new();
    for (name, kind, help) in METRICS {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}");
        for ((_, labels), value) in samples.iter().filter(|((found, _), _)| found == name) {
            let _infallible = writeln!(text, "{PREFIX}{name}{{{labels}}} {value}");
        }
    }
    text
}

/// The samples of a file of ours; lines of any other form are left out.
fn parse(text: &str) -> Samples {
    let sample = |line: &str| {
        let (name, rest) = line.strip_prefix(PREFIX)?.split_once('{')?;
        let (labels, value) = rest.split_once("} ")?;
        let known = METRICS.iter().any(|(known, ..)| *known == name);
        let value: f64 = value.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0)?;
        let plain = labels.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"=\",_-".contains(&byte));
        (known && plain).then(|| ((name.to_owned(), labels.to_owned()), value))
    };
    text.lines().filter_map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    fn run(outcome: &str) -> Run<'_> {
        let phases = &[("read", 2), ("forming", 410)];
        Run { hook: "prolog", outcome, elapsed: Duration::from_millis(500), phases, now: 1_790_000_000 }
    }

    #[test]
    fn runs_add_up_in_one_file_that_others_may_read() {
        let temp = tempfile::tempdir().unwrap();
        let state = Dir::create(&temp.path().join("run"), 0o700).unwrap();
        let dir = temp.path().join("metrics");
        assert!(matches!(add(&dir, &state, run("ready")), Err(MetricsError::Directory(_))));
        std::fs::create_dir(&dir).unwrap();
        for outcome in ["ready", "fault", "ready"] {
            add(&dir, &state, run(outcome)).unwrap();
        }
        let file = dir.join(FILE);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o644);
        let text = std::fs::read_to_string(file).unwrap();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "slurm_nvlink_imex_runs_total{hook=\"epilog\",outcome=\"fault\"} 0",
                "slurm_nvlink_imex_runs_total{hook=\"epilog\",outcome=\"no-domain\"} 0",
                "slurm_nvlink_imex_runs_total{hook=\"epilog\",outcome=\"nothing-to-do\"} 0",
                "slurm_nvlink_imex_runs_total{hook=\"epilog\",outcome=\"removed\"} 0",
                "slurm_nvlink_imex_runs_total{hook=\"prolog\",outcome=\"ended\"} 0",
                "slurm_nvlink_imex_runs_total{hook=\"prolog\",outcome=\"fault\"} 1",
                "slurm_nvlink_imex_runs_total{hook=\"prolog\",outcome=\"no-domain\"} 0",
                "slurm_nvlink_imex_runs_total{hook=\"prolog\",outcome=\"nothing-to-do\"} 0",
                "slurm_nvlink_imex_runs_total{hook=\"prolog\",outcome=\"ready\"} 2",
                "slurm_nvlink_imex_run_seconds_total{hook=\"epilog\"} 0",
                "slurm_nvlink_imex_run_seconds_total{hook=\"prolog\"} 1.5",
                "slurm_nvlink_imex_last_run_seconds{hook=\"prolog\"} 0.5",
                "slurm_nvlink_imex_last_run_timestamp_seconds{hook=\"prolog\",outcome=\"fault\"} 1790000000",
                "slurm_nvlink_imex_last_run_timestamp_seconds{hook=\"prolog\",outcome=\"ready\"} 1790000000",
                "slurm_nvlink_imex_last_phase_seconds{hook=\"prolog\",phase=\"forming\"} 0.41",
                "slurm_nvlink_imex_last_phase_seconds{hook=\"prolog\",phase=\"read\"} 0.002",
                "slurm_nvlink_imex_events_total{event=\"daemon-lost\"} 0",
            ]
        );
        assert_eq!(text.matches("# TYPE").count(), METRICS.len());
        count_event(&dir, &state, Event::DaemonLost, 1_790_000_007).unwrap();
        add(&dir, &state, run("ready")).unwrap();
        let text = std::fs::read_to_string(dir.join(FILE)).unwrap();
        assert!(text.contains("slurm_nvlink_imex_events_total{event=\"daemon-lost\"} 1\n"), "{text}");
    }

    #[test]
    fn phases_of_an_earlier_run_and_foreign_lines_do_not_stay() {
        let mut samples = parse(
            "slurm_nvlink_imex_last_phase_seconds{hook=\"prolog\",phase=\"lock\"} 9\n\
             slurm_nvlink_imex_last_phase_seconds{hook=\"epilog\",phase=\"lock\"} 9\n\
             slurm_nvlink_imex_runs_total{hook=\"x\"} NaN\nother{a=\"b\"} 1\nslurm_nvlink_imex_none{} 1\n",
        );
        count(&mut samples, run("ready"));
        let phases: Vec<&str> = samples
            .keys()
            .filter(|(name, _)| name == "last_phase_seconds")
            .map(|(_, labels)| labels.as_str())
            .collect();
        assert_eq!(
            phases,
            [
                "hook=\"epilog\",phase=\"lock\"",
                "hook=\"prolog\",phase=\"forming\"",
                "hook=\"prolog\",phase=\"read\""
            ]
        );
        assert_eq!(samples.keys().filter(|(name, _)| name == "runs_total").count(), 1);
    }

    #[test]
    fn the_time_that_an_earlier_release_wrote_goes() {
        let mut samples = parse("slurm_nvlink_imex_last_run_timestamp_seconds{hook=\"prolog\"} 5\n");
        begin(&mut samples);
        assert!(samples.keys().all(|(name, _)| name != "last_run_timestamp_seconds"), "{samples:?}");
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_in_a_form_that_is_read_again(text in "(slurm_nvlink_imex_runs_total\\{.{0,20}\\} .{0,8}\n){0,4}") {
            let samples = parse(&text);
            prop_assert_eq!(parse(&super::text(&samples)), samples);
        }
    }
}
