//! Long runs in one process: memory stays what it was, and memcheck finds nothing.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use crate::diff::Pair;
use crate::host::{Host, Loads, Parts};
use crate::memcheck::Report;
use crate::random::{Random, Variety};
use crate::scene::{Change, Cluster};

/// Points at which memory is looked at.
const POINTS: u32 = 10;
/// How much the memory of the process with ours may grow after the first of them, in kilobytes.
const MOST_GROWTH_KB: u64 = 2048;
/// Memory of the two processes after so many evaluations, in kilobytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Evaluations so far.
    pub evaluations: u32,
    /// The process with Slurm's own plugin.
    pub stock_kb: u64,
    /// The process with ours.
    pub ours_kb: u64,
}

/// What came of a soak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Soak(Vec<Point>);

impl Soak {
    /// By how much the process with ours has grown since the first point, in kilobytes.
    pub fn growth_kb(&self) -> u64 {
        let first = self.0.first().map_or(0, |point| point.ours_kb);
        self.0.iter().map(|point| point.ours_kb).max().unwrap_or(0).saturating_sub(first)
    }

    /// Whether it stayed within the bound.
    pub fn is_flat(&self) -> bool {
        !self.0.is_empty() && self.growth_kb() <= MOST_GROWTH_KB
    }
}

impl fmt::Display for Soak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>12}{:>12}{:>12}  resident memory in kB", "evaluations", "stock", "ours")?;
        for point in &self.0 {
            writeln!(f, "{:>12}{:>12}{:>12}", point.evaluations, point.stock_kb, point.ours_kb)?;
        }
        let word = if self.is_flat() { "flat" } else { "NOT FLAT" };
        writeln!(
            f,
            "{word}: ours has grown by {} kB since the first point (at most {MOST_GROWTH_KB})",
            self.growth_kb()
        )
    }
}

/// One process with each plugin answers so many random questions, between which nodes move and models are built again.
///
/// # Errors
/// A host ends or gives no answer.
pub fn run(parts: &Parts, seed: u64, evaluations: u32) -> anyhow::Result<Soak> {
    let mut random = Random::new(seed);
    let mut cluster = mixed_cluster(&mut random);
    let mut pair = Pair::start(parts, &cluster, false)?;
    let mut points = Vec::new();
    for evaluation in 1..=evaluations {
        let changes = random.changes(&Variety::ALL, &cluster);
        pair.change(&mut cluster, &changes)?;
        forget_history(&mut cluster);
        pair.ask(&random.scene(&Variety::ALL, &cluster))?;
        if evaluation % evaluations.div_ceil(POINTS) == 0 || evaluation == evaluations {
            let (stock_kb, ours_kb) = (pair.stock.resident_kb()?, pair.ours.resident_kb()?);
            points.push(Point { evaluations: evaluation, stock_kb, ours_kb });
        }
    }
    Ok(Soak(points))
}

/// A cluster with GPUs and levels.
fn mixed_cluster(random: &mut Random) -> Cluster {
    loop {
        let cluster = random.cluster(&Variety::ALL, None, Some(8));
        if cluster.gpus > 1 && cluster.block_sizes.len() > 1 {
            return cluster;
        }
    }
}

/// Keeps of each node's moves the last one.
fn forget_history(cluster: &mut Cluster) {
    let all = std::mem::take(&mut cluster.changes);
    let node = |change: &Change| match change {
        Change::Move { node, .. } => Some(*node),
        Change::Rebuild => None,
    };
    for change in all {
        cluster.changes.retain(|earlier| node(earlier) != node(&change));
        cluster.changes.push(change);
    }
}

/// A process with ours answers so many random questions under valgrind's memcheck, between which nodes move and models are
/// built again. The tree of `parts` holds valgrind; the log is copied to `log`.
///
/// # Errors
/// The host ends or gives no answer, or memcheck's log has no end.
pub fn memcheck(parts: &Parts, seed: u64, evaluations: u32, log: &Path) -> anyhow::Result<Report> {
    let mut random = Random::new(seed);
    let mut cluster = mixed_cluster(&mut random);
    let mut host = Host::start_under_memcheck(parts, Loads::Ours, &cluster)?;
    host.ready(&cluster)?;
    for _ in 0..evaluations {
        let changes = random.changes(&Variety::ALL, &cluster);
        for change in changes {
            host.change(change)?;
            cluster.changes.push(change);
        }
        forget_history(&mut cluster);
        host.ask(&random.scene(&Variety::ALL, &cluster).question())?;
        host.answer()?;
    }
    // The leaks are written at its end.
    let text = host.end(Duration::from_secs(120))?;
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(log, &text).with_context(|| format!("cannot write {}", log.display()))?;
    let mut report = Report::default();
    report.take(&text).with_context(|| format!("in {}", log.display()))?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_counts_from_the_first_point() {
        let soak = |kb: &[u64]| {
            Soak(kb.iter().map(|&ours_kb| Point { evaluations: 1, stock_kb: 1, ours_kb }).collect())
        };
        assert_eq!(soak(&[20_000, 20_100, 20_050]).growth_kb(), 100);
        assert!(soak(&[20_000, 20_100]).is_flat());
        assert!(!soak(&[20_000, 22_100]).is_flat() && !soak(&[]).is_flat());
    }

    #[test]
    fn the_last_move_of_a_node_stays() {
        let moved = |node, rack| Change::Move { node, rack };
        let mut cluster = Cluster {
            racks: vec![2, 2],
            changes: vec![moved(0, Some(1)), Change::Rebuild, moved(1, None), moved(0, None)],
            ..Cluster::default()
        };
        let before = cluster.rack_of_nodes();
        forget_history(&mut cluster);
        assert_eq!(cluster.changes, [Change::Rebuild, moved(1, None), moved(0, None)]);
        assert_eq!(cluster.rack_of_nodes(), before);
    }
}
