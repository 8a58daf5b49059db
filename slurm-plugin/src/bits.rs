#![forbid(unsafe_code)]
//! Sets of nodes as words of 64 bits, lowest first: the form in which Slurm keeps them.

use std::iter;
use std::ops::Range;

const WORD_BITS: usize = u64::BITS as usize;

/// How many nodes are in both.
pub(crate) fn overlap(a: &[u64], b: &[u64]) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a & b).count_ones()).sum()
}

/// How many nodes there are.
pub(crate) fn count(words: &[u64]) -> u32 {
    words.iter().map(|word| word.count_ones()).sum()
}

/// Whether each node of `inner` is in `outer`.
pub(crate) fn is_subset(inner: &[u64], outer: &[u64]) -> bool {
    inner.iter().enumerate().all(|(i, word)| word & !outer.get(i).copied().unwrap_or(0) == 0)
}

/// The nodes of both, in ascending order.
pub(crate) fn common<'a>(a: &'a [u64], b: &'a [u64]) -> impl Iterator<Item = usize> + 'a {
    a.iter().zip(b).enumerate().flat_map(|(index, (a, b))| ones_of(a & b, index * WORD_BITS))
}

/// The bits of one word, of which the lowest is `first`.
fn ones_of(mut word: u64, first: usize) -> impl Iterator<Item = usize> {
    iter::from_fn(move || {
        (word != 0).then(|| {
            let bit = word.trailing_zeros() as usize;
            word &= word - 1;
            first + bit
        })
    })
}

/// The first and the last word that are not zero, as a range.
pub(crate) fn span(words: &[u64]) -> Range<usize> {
    let first = words.iter().position(|&word| word != 0).unwrap_or(0);
    let end = words.iter().rposition(|&word| word != 0).map_or(0, |last| last + 1);
    first..end
}

/// A set of nodes that are neighbours in the node table, most often: only the words in which they lie are kept. A
/// cluster has thousands of such sets, and each placement looks at all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Neighbours {
    /// Position of the first word.
    first: usize,
    words: Box<[u64]>,
}

impl Neighbours {
    /// The nodes of a bitmap.
    pub(crate) fn new(words: &[u64]) -> Self {
        let span = span(words);
        Self { first: span.start, words: words[span].into() }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        count(&self.words)
    }

    /// How many of the given nodes are in the set.
    pub(crate) fn overlap(&self, nodes: &[u64]) -> u32 {
        overlap(&self.words, self.part_of(nodes))
    }

    /// Those of the given nodes that are in the set, in ascending order.
    pub(crate) fn common<'a>(&'a self, nodes: &'a [u64]) -> impl Iterator<Item = usize> + 'a {
        let first = self.first * WORD_BITS;
        common(&self.words, self.part_of(nodes)).map(move |node| first + node)
    }

    /// Those of the set that are not among the given nodes, in ascending order.
    pub(crate) fn others<'a>(&'a self, nodes: &'a [u64]) -> impl Iterator<Item = usize> + 'a {
        let given = self.part_of(nodes).iter().chain(iter::repeat(&0));
        let words = self.words.iter().zip(given).zip((self.first * WORD_BITS..).step_by(WORD_BITS));
        words.flat_map(|((word, given), first)| ones_of(word & !given, first))
    }

    /// The nodes in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let first = self.first * WORD_BITS;
        ones(&self.words).map(move |node| first + node)
    }

    /// Whether the node is in the set.
    pub(crate) fn contains(&self, node: usize) -> bool {
        node.checked_sub(self.first * WORD_BITS).is_some_and(|node| contains(&self.words, node))
    }

    /// Puts the node in or takes it out.
    pub(crate) fn put(&mut self, node: usize, present: bool) {
        let mut words = vec![0; (self.first + self.words.len()).max(node / WORD_BITS + 1)];
        words[self.first..][..self.words.len()].copy_from_slice(&self.words);
        put(&mut words, node, present);
        *self = Self::new(&words);
    }

    /// The words of `nodes` in which the set lies.
    fn part_of<'a>(&self, nodes: &'a [u64]) -> &'a [u64] {
        nodes.get(self.first..).unwrap_or(&[])
    }
}

/// The nodes, in ascending order.
pub(crate) fn ones(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    common(words, words)
}

/// Whether the node is in the set. One beyond the end is not.
pub(crate) fn contains(words: &[u64], node: usize) -> bool {
    words.get(node / WORD_BITS).is_some_and(|word| word >> (node % WORD_BITS) & 1 == 1)
}

/// Puts the node in or takes it out. One beyond the end is left out.
pub(crate) fn put(words: &mut [u64], node: usize, present: bool) {
    if let Some(word) = words.get_mut(node / WORD_BITS) {
        let bit = 1 << (node % WORD_BITS);
        if present { *word |= bit } else { *word &= !bit }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(nodes: &BTreeSet<usize>) -> Vec<u64> {
        let mut words = vec![0; 4];
        for &node in nodes {
            put(&mut words, node, true);
        }
        words
    }

    fn nodes() -> impl Strategy<Value = BTreeSet<usize>> {
        proptest::collection::btree_set(0usize..256, 0..60)
    }

    proptest! {
        #[test]
        fn agree_with_sets(a in nodes(), b in nodes(), node in 0usize..300) {
            let (wa, wb) = (set(&a), set(&b));
            let both: Vec<usize> = a.intersection(&b).copied().collect();
            prop_assert_eq!(common(&wa, &wb).collect::<Vec<_>>(), both.clone());
            prop_assert_eq!(overlap(&wa, &wb) as usize, both.len());
            prop_assert_eq!(count(&wa) as usize, a.len());
            prop_assert_eq!(ones(&wa).collect::<BTreeSet<_>>(), a.clone());
            prop_assert_eq!(is_subset(&wa, &wb), a.is_subset(&b));
            prop_assert_eq!(contains(&wa, node), a.contains(&node));
            let span = span(&wa);
            prop_assert_eq!(count(&wa[span.clone()]), count(&wa));
            prop_assert!(span.is_empty() || wa[span.start] != 0 && wa[span.end - 1] != 0);
            let mut less = wa.clone();
            put(&mut less, node, false);
            prop_assert!(!contains(&less, node));
        }

        #[test]
        fn neighbours_are_the_same_set(a in nodes(), b in nodes(), node in 0usize..300, present: bool) {
            let (wa, wb) = (set(&a), set(&b));
            let mut kept = Neighbours::new(&wa);
            prop_assert_eq!(kept.iter().collect::<BTreeSet<_>>(), a.clone());
            prop_assert_eq!(kept.count() as usize, a.len());
            prop_assert_eq!(kept.overlap(&wb), overlap(&wa, &wb));
            prop_assert_eq!(kept.common(&wb).collect::<Vec<_>>(), common(&wa, &wb).collect::<Vec<_>>());
            for given in [&wb[..], &wb[..1], &[]] {
                let others = a.iter().copied().filter(|&node| !contains(given, node));
                prop_assert_eq!(kept.others(given).collect::<Vec<_>>(), others.collect::<Vec<_>>());
            }
            prop_assert_eq!(kept.contains(node), a.contains(&node));
            let mut changed = a.clone();
            if present { changed.insert(node); } else { changed.remove(&node); }
            kept.put(node, present);
            prop_assert_eq!(kept.iter().collect::<BTreeSet<_>>(), changed);
        }
    }
}
