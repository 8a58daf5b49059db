//! Numbers that look random and are the same for the same seed, everywhere.
#![forbid(unsafe_code)]

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};

/// A source of numbers.
#[derive(Debug, Clone)]
pub struct Dice(SplitMix64);

impl Dice {
    /// The numbers of a seed and, below it, of one of many things.
    #[must_use]
    pub fn new(seed: u64, number: u32) -> Self {
        let mut dice = Self(SplitMix64::seed_from_u64(seed ^ (u64::from(number) << 32)));
        // The first numbers of close seeds would be close.
        dice.0.next_u64();
        dice
    }

    /// A number below `end`, which is small; 0 below 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.0.next_u64() % end.max(1) as u64) as usize
    }

    /// One of them.
    ///
    /// # Panics
    /// There is none.
    pub fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::Dice;

    #[test]
    fn a_seed_and_a_number_give_the_same_again_and_others_give_others() {
        let first = |seed, number| {
            let mut dice = Dice::new(seed, number);
            (0..8).map(|_| dice.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(first(1, 2), first(1, 2));
        assert_ne!(first(1, 2), first(2, 2));
        assert_ne!(first(1, 2), first(1, 3));
        assert!(first(7, 7).iter().all(|number| *number < 1000));
    }
}
