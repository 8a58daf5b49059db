//! Means and percentiles.

use serde::Serialize;

/// A distribution in a few numbers; all 0 when there is nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Stats {
    /// How many values.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Half of them are no greater.
    pub p50: f64,
    /// 95 of 100 are no greater.
    pub p95: f64,
    /// The greatest.
    pub max: f64,
}

impl Stats {
    /// Of these values. Percentiles are values that occur (nearest rank).
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let count = values.len();
        let rank = |percent: usize| {
            values.get((count * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0.0)
        };
        Self {
            count,
            mean: mean(values.iter().copied()),
            p50: rank(50),
            p95: rank(95),
            max: values.last().copied().unwrap_or(0.0),
        }
    }
}

/// The mean; 0 of nothing.
pub fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 0.0 } else { sum / f64::from(count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let stats = Stats::of((1..=20).rev().map(f64::from).collect());
        assert_eq!(stats, Stats { count: 20, mean: 10.5, p50: 10.0, p95: 19.0, max: 20.0 });
        assert_eq!(Stats::of(vec![7.0]), Stats { count: 1, mean: 7.0, p50: 7.0, p95: 7.0, max: 7.0 });
        assert_eq!(Stats::of(Vec::new()), Stats::default());
    }
}
