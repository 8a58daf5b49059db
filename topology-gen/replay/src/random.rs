//! Numbers from a seed: the same on every machine.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};

/// A source of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Random(SplitMix64);

impl Random {
    /// A source for one purpose: another purpose has other numbers with the same seed.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut random = Self(SplitMix64::seed_from_u64(seed ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93)));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number of `0..1`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number of `low..high`.
    pub(crate) fn within(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// An exponentially distributed number.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// A number of the standard normal distribution (Box and Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// A position of a list of weights, as often as its weight says.
    pub(crate) fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f64>();
        for (position, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return position;
            }
        }
        weights.len().saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_means_are_as_they_should_be() {
        let mut random = Random::new(1, 1);
        let mean = |mut of: Box<dyn FnMut() -> f64>| (0..100_000).map(|_| of()).sum::<f64>() / 100_000.0;
        let mut other = random.clone();
        assert!((mean(Box::new(move || other.exponential(5.0))) - 5.0).abs() < 0.1);
        let mut other = random.clone();
        assert!(mean(Box::new(move || other.normal())).abs() < 0.02);
        let hits = (0..10_000).filter(|_| random.weighted(&[1.0, 3.0]) == 1).count();
        assert!((7_300..7_700).contains(&hits), "{hits}");
    }

    #[test]
    fn purposes_have_numbers_of_their_own() {
        assert_ne!(Random::new(1, 1).next(), Random::new(1, 2).next());
        assert_eq!(Random::new(7, 1).next(), Random::new(7, 1).next());
    }
}
