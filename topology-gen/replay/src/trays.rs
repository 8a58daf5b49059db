//! Sets of trays, by their positions.

use std::ops::Range;

/// A set of trays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraySet(Vec<u64>);

const BITS: u32 = u64::BITS;

impl TraySet {
    /// The empty set, for so many trays.
    pub fn empty(trays: u32) -> Self {
        Self(vec![0; trays.div_ceil(BITS) as usize])
    }

    /// All of so many trays.
    pub fn full(trays: u32) -> Self {
        let mut set = Self::empty(trays);
        for tray in 0..trays {
            set.insert(tray);
        }
        set
    }

    /// Adds a tray.
    pub fn insert(&mut self, tray: u32) {
        self.0[(tray / BITS) as usize] |= 1 << (tray % BITS);
    }

    /// Takes a tray out.
    pub fn remove(&mut self, tray: u32) {
        self.0[(tray / BITS) as usize] &= !(1 << (tray % BITS));
    }

    /// Whether the tray is in the set.
    pub fn contains(&self, tray: u32) -> bool {
        self.0[(tray / BITS) as usize] & (1 << (tray % BITS)) != 0
    }

    /// Adds trays.
    pub fn insert_all(&mut self, trays: &[u32]) {
        for &tray in trays {
            self.insert(tray);
        }
    }

    /// Takes trays out.
    pub fn remove_all(&mut self, trays: &[u32]) {
        for &tray in trays {
            self.remove(tray);
        }
    }

    /// How many trays are in the set.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// How many of these trays are in the set.
    pub fn count_in(&self, trays: &Range<u32>) -> u32 {
        self.words_in(trays).map(|(_, word)| word.count_ones()).sum()
    }

    /// The trays of the set that are among these, ascending.
    pub fn ones_in(&self, trays: &Range<u32>) -> impl DoubleEndedIterator<Item = u32> + '_ {
        trays.clone().filter(|&tray| self.contains(tray))
    }

    /// The trays of the set, ascending.
    pub fn ones(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..).zip(&self.0).flat_map(|(place, &word)| {
            (0..BITS).filter(move |bit| word & (1 << bit) != 0).map(move |bit| place * BITS + bit)
        })
    }

    /// The words of a range of trays with only their bits, each with its place.
    fn words_in(&self, trays: &Range<u32>) -> impl Iterator<Item = (u32, u64)> + '_ {
        let (start, end) = (trays.start, trays.end.max(trays.start));
        (start / BITS..end.div_ceil(BITS)).map(move |place| {
            let first = start.saturating_sub(place * BITS);
            let last = (end - place * BITS).min(BITS);
            let mask = if first >= last { 0 } else { (u64::MAX << first) & (u64::MAX >> (BITS - last)) };
            (place, self.0[place as usize] & mask)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_set_is_a_set(trays in proptest::collection::btree_set(0u32..200, 0..60), start in 0u32..200, length in 0u32..90) {
            let mut set = TraySet::empty(200);
            set.insert_all(&trays.iter().copied().collect::<Vec<_>>());
            let range = start..(start + length).min(200);
            prop_assert_eq!(set.count() as usize, trays.len());
            prop_assert_eq!(set.ones().collect::<Vec<_>>(), trays.iter().copied().collect::<Vec<_>>());
            let inside: Vec<u32> = trays.iter().copied().filter(|tray| range.contains(tray)).collect();
            prop_assert_eq!(set.count_in(&range) as usize, inside.len());
            prop_assert_eq!(set.ones_in(&range).collect::<Vec<_>>(), inside.clone());
            set.remove_all(&inside);
            prop_assert_eq!(set.count() as usize, trays.len() - inside.len());
        }
    }

    #[test]
    fn a_full_set_has_all() {
        assert_eq!(TraySet::full(130).count(), 130);
        assert_eq!(TraySet::full(130).count_in(&(0..130)), 130);
    }
}
