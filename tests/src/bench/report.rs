//! Percentiles side by side. Pure.
#![forbid(unsafe_code)]

use super::start::Start;
use super::variant::Variant;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What was measured on one number of trays.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    /// How many trays.
    pub(super) trays: usize,
    /// The starts of each variant.
    pub(super) starts: BTreeMap<Variant, Vec<Start>>,
    /// Milliseconds from the start of a floor's daemon until it was connected to all others.
    pub(super) formed: Vec<f64>,
}

/// What ours may take beyond the floor at 18 trays, in milliseconds: at the median and at the 99th percentile.
pub(super) const TARGET: (f64, f64) = (150.0, 400.0);
/// The number of trays that the target is for.
pub(super) const TARGET_TRAYS: usize = 18;

/// The value below which this part of the values lie (nearest rank); 0 of none.
fn percentile(values: impl Iterator<Item = f64>, part: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let rank = (part * values.len() as f64).ceil().max(1.0) as usize;
    values.get(rank - 1).copied().unwrap_or(0.0)
}

impl Sizes {
    fn wait(&self, variant: Variant, part: f64) -> f64 {
        let starts = self.starts.get(&variant).into_iter().flatten();
        percentile(starts.map(|start| start.wait), part)
    }

    fn cpu(&self, variant: Variant) -> f64 {
        let starts = self.starts.get(&variant).map_or(&[][..], Vec::as_slice);
        starts.iter().map(|start| start.cpu).sum::<f64>() / starts.len().max(1) as f64
    }

    /// What ours takes beyond the floor, at the median and at the 99th percentile.
    pub(super) fn over_floor(&self) -> (f64, f64) {
        let over = |part| self.wait(Variant::Ours, part) - self.wait(Variant::Floor, part);
        (over(0.5), over(0.99))
    }

    /// The lines of the table for this number of trays.
    pub(super) fn lines(&self) -> String {
        let mut text = String::new();
        let floor = [0.5, 0.99].map(|part| self.wait(Variant::Floor, part));
        for (variant, starts) in &self.starts {
            let [p50, p99] = [0.5, 0.99].map(|part| self.wait(*variant, part));
            let _ = writeln!(
                text,
                "| {} | {} | {} | {p50:.0} | {p99:.0} | {:+.0} | {:+.0} | {:.2} | {:.1} |",
                self.trays,
                variant.name(),
                starts.len(),
                p50 - floor[0],
                p99 - floor[1],
                p50 / floor[0],
                self.cpu(*variant),
            );
        }
        let formed = |part| percentile(self.formed.iter().copied(), part);
        let _ = writeln!(
            text,
            "| {} | the floor's daemons alone | {} | {:.0} | {:.0} | | | | |",
            self.trays,
            self.formed.len(),
            formed(0.5),
            formed(0.99)
        );
        text
    }
}

/// The head of the table.
pub(super) const HEAD: &str = "Milliseconds from the allocation of a job until its script begins; CPU of one tray's prolog.\n\n\
    | trays | hooks | starts | p50 | p99 | p50 over the floor | p99 over the floor | ratio to the floor | CPU ms |\n\
    |---|---|---|---|---|---|---|---|---|\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let hundred = || (1..=100).map(f64::from);
        assert_eq!((percentile(hundred(), 0.5), percentile(hundred(), 0.99)), (50.0, 99.0));
        assert_eq!(percentile([7.0].into_iter(), 0.99), 7.0);
        assert_eq!(percentile(std::iter::empty(), 0.5), 0.0);
    }

    #[test]
    fn ours_stands_beside_the_floor() {
        let starts = |wait| vec![Start { wait, cpu: 12.0 }; 4];
        let sizes = Sizes {
            trays: 18,
            starts: [(Variant::Floor, starts(200.0)), (Variant::Ours, starts(300.0))].into(),
            formed: vec![150.0],
        };
        assert_eq!(sizes.over_floor(), (100.0, 100.0));
        assert_eq!(
            sizes.lines(),
            "| 18 | floor | 4 | 200 | 200 | +0 | +0 | 1.00 | 12.0 |\n\
             | 18 | ours | 4 | 300 | 300 | +100 | +100 | 1.50 | 12.0 |\n\
             | 18 | the floor's daemons alone | 1 | 150 | 150 | | | | |\n"
        );
    }
}
