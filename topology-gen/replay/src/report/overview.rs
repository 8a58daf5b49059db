//! The line of each replay, and the means of a placer over several seeds.

use super::Run;
use crate::stats::mean;
use crate::summary::Summary;

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// Who placed the jobs.
    pub(super) placer: String,
    /// The seed, or `mean`.
    pub(super) seed: String,
    /// Share of the tray time in service that had jobs, per cent.
    pub(super) occupancy: f64,
    /// NVLink partitions of a job.
    pub(super) used: f64,
    /// The fewest that its size needs.
    pub(super) fewest: f64,
    /// Jobs that had the fewest, per cent.
    pub(super) at_fewest: f64,
    /// Jobs that were split and should not be.
    pub(super) broken: f64,
    /// NVLink partitions without jobs.
    pub(super) free_partitions: f64,
    /// Idle trays in partitions with jobs, per cent.
    pub(super) fragmentation: f64,
    /// Jobs requeued.
    pub(super) requeues: f64,
}

/// One line for each replay, and below them one for each placer where there are several seeds.
pub(super) fn lines(runs: &[Run]) -> Vec<Line> {
    let mut lines: Vec<Line> =
        runs.iter().map(|run| line(&run.placer, &run.summary.seed.to_string(), &[&run.summary])).collect();
    let mut placers: Vec<&str> = Vec::new();
    for run in runs {
        if !placers.contains(&run.placer.as_str()) {
            placers.push(&run.placer);
        }
    }
    for placer in placers {
        let of: Vec<&Summary> =
            runs.iter().filter(|run| run.placer == placer).map(|run| &run.summary).collect();
        if of.len() > 1 {
            lines.push(line(placer, "mean", &of));
        }
    }
    lines
}

fn line(placer: &str, seed: &str, of: &[&Summary]) -> Line {
    let over = |value: fn(&Summary) -> f64| mean(of.iter().map(|summary| value(summary)));
    Line {
        placer: placer.to_owned(),
        seed: seed.to_owned(),
        occupancy: over(|s| s.occupancy * 100.0),
        used: over(|s| s.partitions_used),
        fewest: over(|s| s.partitions_fewest),
        at_fewest: over(|s| s.at_fewest * 100.0),
        broken: over(|s| s.broken as f64),
        free_partitions: over(|s| s.free_partitions),
        fragmentation: over(|s| s.fragmentation * 100.0),
        requeues: over(|s| f64::from(s.requeues)),
    }
}
