//! What the base size means for jobs: which sizes stay in one block, and which can never run.
//!
//! Slurm's topology/block lets a job or segment of n nodes use at most ceil(n/B) base blocks (Slurm 26.05.3
//! src/plugins/topology/block/eval_nodes_block.c).
#![forbid(unsafe_code)]

use super::Sink;
use super::file::SeenBlocks;
use crate::site::Site;

/// The job sizes from 1 to all nodes that no choice of blocks can hold, with these node counts.
pub fn impossible(base: u32, counts: &[usize]) -> Vec<usize> {
    let mut counts = counts.to_vec();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let base = usize::try_from(base.max(1)).unwrap_or(usize::MAX);
    let total: usize = counts.iter().sum();
    let mut holds = 0;
    let mut used = 0;
    let mut found = Vec::new();
    for size in 1..=total {
        while used < size.div_ceil(base) {
            holds += counts.get(used).copied().unwrap_or(0);
            used += 1;
        }
        if holds < size {
            found.push(size);
        }
    }
    found
}

/// Ascending numbers with ranges folded: `4,7-8,10`.
pub fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let words: Vec<String> = runs
        .filter_map(|run| match (run.first(), run.last()) {
            (Some(first), Some(last)) if first < last => Some(format!("{first}-{last}")),
            (Some(first), _) => Some(first.to_string()),
            _ => None,
        })
        .collect();
    words.join(",")
}

pub(super) fn judge(blocks: &SeenBlocks, site: Option<&Site>, sink: &mut Sink) {
    let counts: Vec<usize> = blocks.blocks.iter().map(|block| block.nodes.len()).collect();
    let Some(largest) = counts.iter().copied().max().filter(|largest| *largest > 0) else { return };
    let first = counts.iter().copied().find(|count| *count > 0).unwrap_or(1);
    let base = blocks.sizes.first().copied().unwrap_or(u32::try_from(first).unwrap_or(u32::MAX));
    let wide = usize::try_from(base).unwrap_or(usize::MAX);
    let line = blocks.sizes_line;
    if wide > largest {
        let never = ranges(&(largest + 1..=wide).collect::<Vec<_>>());
        let what = format!(
            "base size {base} is larger than the largest block, which has {largest} nodes; jobs and segments of {never} nodes can never run"
        );
        return sink.wrong(line, what, format!("use base size {largest}"));
    }
    if wide < largest {
        let lost = ranges(&(wide + 1..=largest).collect::<Vec<_>>());
        let what = format!(
            "jobs and segments of {lost} nodes fit a block, but with base size {base} Slurm's own topology/block may split them over several"
        );
        let hint = format!("use base size {largest} unless this is meant to leave room for spare nodes");
        // One or two spare trays in a rack are a policy; half a rack is none.
        if wide * 2 <= largest { sink.wrong(line, what, hint) } else { sink.note(line, what, hint) }
    }
    let Some(site) = site else { return };
    let healthy: Vec<usize> = blocks
        .blocks
        .iter()
        .map(|block| {
            block.nodes.iter().filter(|node| site.nodes.get(*node).is_some_and(|n| n.is_healthy())).count()
        })
        .collect();
    let (all, now) = (impossible(base, &counts), impossible(base, &healthy));
    let today: Vec<usize> = now.into_iter().filter(|size| all.binary_search(size).is_err()).collect();
    if !today.is_empty() {
        let away = counts.iter().sum::<usize>() - healthy.iter().sum::<usize>();
        let what = format!(
            "with today's {away} drained or missing nodes, jobs of {} nodes wait for ever",
            ranges(&today)
        );
        sink.note(
            line,
            what,
            "a smaller base size leaves room for spare nodes; segments above it then lose their guarantee",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_real_slurm_left_waiting() {
        // Seen on Slurm 26.05.5: four racks of four, one node drained in each.
        assert_eq!(ranges(&impossible(4, &[3, 3, 3, 3])), "4,7-8,10-12");
        assert!(impossible(4, &[4, 4]).is_empty());
        assert_eq!(impossible(5, &[4, 4]), [5]);
        assert!(impossible(1, &[2, 2]).is_empty());
    }

    #[test]
    fn numbers_fold() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[1, 2, 3, 5, 7, 8]), "1-3,5,7-8");
    }
}
