#![forbid(unsafe_code)]
//! What partitions that failed tell about those that were not tried yet.

use crate::host::eval::Eval;

/// GPUs and CPUs of a node.
type Riches = (u16, u16);

/// Partitions on which Slurm's evaluator could not place the job.
#[derive(Debug, Default)]
pub(super) struct Failed {
    /// What they offered: one that offers just the same fails as well.
    offers: Vec<Vec<u64>>,
    /// For jobs that ask for GPUs as a whole: nodes which the job could have had all together, the richest first, and
    /// which had too little. Where every node has as little or less, the job fails as well.
    richest: Vec<Vec<Riches>>,
}

impl Failed {
    /// Notes that the job cannot be placed on these usable nodes of a partition.
    pub(super) fn add(&mut self, eval: &Eval<'_>, nodes: &[usize]) {
        self.offers.push(eval.offer(nodes));
    }

    /// Notes that a job that asks for GPUs as a whole cannot be placed on these nodes, those of a partition with most GPUs
    /// and as many as the job may have. It says nothing of others when other jobs are on some of them: which cores are
    /// left matters then, too.
    pub(super) fn add_richest(&mut self, eval: &Eval<'_>, nodes: &[usize]) {
        if nodes.iter().all(|&node| eval.offers_all_cores(node)) {
            self.richest.push(riches(eval, nodes));
        }
    }

    /// Whether the job fails for sure on these usable nodes of a partition.
    pub(super) fn rules_out(&self, eval: &Eval<'_>, nodes: &[usize]) -> bool {
        self.has_richer(eval, nodes) || !self.offers.is_empty() && self.offers.contains(&eval.offer(nodes))
    }

    /// Whether nodes failed which have as much as any of these that the job may get, or more.
    pub(super) fn has_richer(&self, eval: &Eval<'_>, nodes: &[usize]) -> bool {
        if self.richest.is_empty() {
            return false;
        }
        let most = eval.most() as usize;
        let count = nodes.len().min(most);
        let best = nodes.iter().map(|&node| riches_of(eval, node)).fold((0, 0), best_of_both);
        // Nodes are alike most often: then the best that any of them has decides, without putting them in order.
        self.richest.iter().any(|failed| is_richer_than(failed, best, count)) || {
            let riches = riches(eval, nodes);
            self.richest.iter().any(|failed| is_richer(failed, &riches, most))
        }
    }
}

fn riches_of(eval: &Eval<'_>, node: usize) -> Riches {
    (eval.gpus(node), eval.cpus(node))
}

/// The richest first.
fn riches(eval: &Eval<'_>, nodes: &[usize]) -> Vec<Riches> {
    let mut riches: Vec<Riches> = nodes.iter().map(|&node| riches_of(eval, node)).collect();
    riches.sort_unstable_by(|a, b| b.cmp(a));
    riches
}

fn best_of_both(a: Riches, b: Riches) -> Riches {
    (a.0.max(b.0), a.1.max(b.1))
}

/// Whether `nodes` are at least so many of which each has no less than `best`.
fn is_richer_than(nodes: &[Riches], best: Riches, count: usize) -> bool {
    nodes.len() >= count && nodes[..count].iter().all(|&node| node.0 >= best.0 && node.1 >= best.1)
}

/// Whether each choice of up to `most` of the others can be matched, node by node, with `nodes` that have no less.
fn is_richer(nodes: &[Riches], others: &[Riches], most: usize) -> bool {
    let of_use = others.len().min(most);
    // Which of them are chosen is open: the k-th has at most the GPUs of the k-th richest, but CPUs of any.
    let cpus = others.iter().map(|&(_, cpus)| cpus).max().unwrap_or(0);
    let no_less = |(&node, &other): (&Riches, &Riches)| node.0 >= other.0 && node.1 >= cpus;
    nodes.len() >= of_use && nodes.iter().zip(others).take(of_use).all(no_less)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_more_in_any_choice_fails_too() {
        let failed = [(4, 64), (4, 64), (2, 64)];
        for poorer in [&[(4, 64), (4, 64), (2, 64)][..], &[(4, 64), (3, 60), (2, 8), (2, 8)], &[(4, 64)], &[]]
        {
            assert!(is_richer(&failed, poorer, 3), "{poorer:?}");
        }
        for other in [
            &[(4, 64), (4, 64), (3, 1)][..],
            &[(4, 64), (2, 65)],
            &[(4, 8), (4, 8), (2, 8), (1, 65)],
            &[(8, 1)],
        ] {
            assert!(!is_richer(&failed, other, 3), "{other:?}");
        }
        for others in [&[(2, 64), (1, 3)][..], &[(4, 64), (4, 64)], &[(4, 65)], &[(2, 8); 4]] {
            let best = others.iter().copied().fold((0, 0), best_of_both);
            assert!(!is_richer_than(&failed, best, others.len().min(3)) || is_richer(&failed, others, 3));
        }
        assert!(is_richer_than(&failed, (2, 64), 3) && is_richer_than(&failed, (4, 64), 2));
        assert!(!is_richer_than(&failed, (3, 1), 3) && !is_richer_than(&failed, (1, 1), 4));
        assert!(!is_richer(&failed[..2], &failed, 3), "one node more");
        assert!(is_richer(&failed[..2], &failed, 2), "one node more than the job may have");
    }
}
