//! The metrics of the service, in the text form of Prometheus, for the textfile collector of a node exporter.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use super::End;
use crate::write::{self, WriteError};

/// Name of the file.
pub const FILE: &str = "slurm_nvlink_topology.prom";
/// What all names begin with.
const PREFIX: &str = "slurm_nvlink_topology_";

/// Name, kind and help of each metric, in the order of the file.
const METRICS: [(&str, &str, &str); 9] = [
    ("looks_total", "counter", "Looks at the trays by outcome."),
    ("changes_total", "counter", "Changes that were tried, by outcome."),
    ("trays", "gauge", "Trays by what is known of them."),
    ("blocks", "gauge", "Blocks that have trays."),
    ("lost_trays", "gauge", "Trays that should speak and do not."),
    ("change_pending", "gauge", "1 while the trays say something else than the topology in force."),
    ("needs_human", "gauge", "1 while nothing is done until somebody has looked."),
    ("last_look_timestamp_seconds", "gauge", "Time of the last look that saw the trays."),
    ("last_change_timestamp_seconds", "gauge", "Time of the last change that was brought into force."),
];

/// The outcome of a look that saw the trays.
pub const SEEN: &str = "seen";
/// The outcome of a look that saw nothing.
pub const FAILED: &str = "failed";
/// The outcome of a change that was told only.
pub const DRY_RUN: &str = "dry_run";

/// The values. Counters begin with the service, all of them at once: of one that appears when it is 1 already, nobody can tell
/// that it has grown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics(BTreeMap<(&'static str, String), u64>);

impl Default for Metrics {
    fn default() -> Self {
        let looks = [SEEN, FAILED].map(|outcome| ("looks_total", outcome));
        let changes =
            End::ALL.map(End::word).into_iter().chain([DRY_RUN]).map(|outcome| ("changes_total", outcome));
        Self(looks.into_iter().chain(changes).map(|(name, outcome)| ((name, label(outcome)), 0)).collect())
    }
}

fn label(outcome: &str) -> String {
    format!("{{outcome=\"{outcome}\"}}")
}

impl Metrics {
    /// Counts one; the label is the outcome.
    pub fn count(&mut self, name: &'static str, outcome: &str) {
        *self.0.entry((name, label(outcome))).or_default() += 1;
    }

    /// Sets a value without a label.
    pub fn set(&mut self, name: &'static str, value: u64) {
        self.0.insert((name, String::new()), value);
    }

    /// Sets the number of trays of a kind.
    pub fn trays(&mut self, state: &str, number: usize) {
        let value = u64::try_from(number).unwrap_or(u64::MAX);
        self.0.insert(("trays", format!("{{state=\"{state}\"}}")), value);
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, kind, help) in METRICS {
            text.push_str(&format!("# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}\n"));
            for ((_, labels), value) in self.0.iter().filter(|((found, _), _)| *found == name) {
                text.push_str(&format!("{PREFIX}{name}{labels} {value}\n"));
            }
        }
        text
    }

    /// Replaces the file in the folder.
    ///
    /// # Errors
    /// It cannot be written; the old one stays.
    pub fn write(&self, folder: &Path) -> Result<(), WriteError> {
        write::replace(&folder.join(FILE), &self.text()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_stable_names() {
        let dir = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::default();
        metrics.count("looks_total", "seen");
        metrics.count("looks_total", "seen");
        metrics.count("changes_total", "applied");
        metrics.trays("member", 36);
        metrics.set("needs_human", 0);
        metrics.write(dir.path()).unwrap();
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "slurm_nvlink_topology_looks_total{outcome=\"failed\"} 0",
                "slurm_nvlink_topology_looks_total{outcome=\"seen\"} 2",
                "slurm_nvlink_topology_changes_total{outcome=\"applied\"} 1",
                "slurm_nvlink_topology_changes_total{outcome=\"busy\"} 0",
                "slurm_nvlink_topology_changes_total{outcome=\"dry_run\"} 0",
                "slurm_nvlink_topology_changes_total{outcome=\"failed\"} 0",
                "slurm_nvlink_topology_changes_total{outcome=\"refused\"} 0",
                "slurm_nvlink_topology_changes_total{outcome=\"rolled_back\"} 0",
                "slurm_nvlink_topology_trays{state=\"member\"} 36",
                "slurm_nvlink_topology_needs_human 0",
            ]
        );
        assert_eq!(text.matches("# TYPE").count(), METRICS.len());
        assert!(metrics.write(Path::new("/no/such/folder")).is_err());
    }
}
