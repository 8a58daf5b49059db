#![forbid(unsafe_code)]
//! Sets of nodes as words of 64 bits, lowest first: the form in which Slurm keeps them.

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
    a.iter().zip(b).enumerate().flat_map(|(index, (a, b))| {
        let mut word = a & b;
        std::iter::from_fn(move || {
            (word != 0).then(|| {
                let bit = word.trailing_zeros() as usize;
                word &= word - 1;
                index * WORD_BITS + bit
            })
        })
    })
}

/// The first and the last word that are not zero, as a range.
pub(crate) fn span(words: &[u64]) -> Range<usize> {
    let first = words.iter().position(|&word| word != 0).unwrap_or(0);
    let end = words.iter().rposition(|&word| word != 0).map_or(0, |last| last + 1);
    first..end
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
    }
}
