//! What today's drained and silent trays cost: the job sizes that cannot run before some of them are back.
#![forbid(unsafe_code)]

use fabric::{HostList, NodeName};

use super::{Plan, Tier};
use crate::check::sizes::{impossible, ranges};
use crate::natural;
use crate::reconcile::Trays;

/// Most ranges of job sizes that are told.
const RANGES_MAX: usize = 8;

/// The trays of the blocks that can run no job now, and what waits for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Today {
    /// These trays.
    pub away: HostList,
    /// Topology, its base size, and the job sizes that wait with Slurm's own topology/block, folded; empty for none.
    pub waiting: Vec<(String, u32, String)>,
}

/// What waits today in the topology called `name` and in the tiers; `None` when all trays are there.
pub fn today(plan: &Plan, tiers: &[Tier], trays: &Trays, name: &str) -> Option<Today> {
    let is_away = |block: &super::PlannedBlock, node: &NodeName| {
        block.stale.contains(node) || trays.unusable.contains(node)
    };
    let mut away: Vec<&NodeName> =
        plan.blocks.iter().flat_map(|block| block.nodes.iter().filter(|node| is_away(block, node))).collect();
    if away.is_empty() {
        return None;
    }
    away.sort_by(|a, b| natural::compare(a.as_str(), b.as_str()));
    let all: Vec<usize> = plan.blocks.iter().map(|block| block.nodes.len()).collect();
    let now: Vec<usize> = plan
        .blocks
        .iter()
        .map(|block| block.nodes.iter().filter(|node| !is_away(block, node)).count())
        .collect();
    let bases = std::iter::once((name, plan.sizes.base()))
        .chain(tiers.iter().map(|tier| (tier.name.as_str(), tier.sizes.base())));
    let waiting = bases.map(|(name, base)| {
        let ever = impossible(base, &all);
        // And those that need more trays than there are now.
        let sizes =
            impossible(base, &now).into_iter().chain(now.iter().sum::<usize>() + 1..=all.iter().sum());
        let today: Vec<usize> = sizes.filter(|size| ever.binary_search(size).is_err()).collect();
        (name.to_owned(), base, shortened(&today))
    });
    let waiting = waiting.collect();
    Some(Today { away: away.into_iter().cloned().collect(), waiting })
}

fn shortened(sizes: &[usize]) -> String {
    let words = ranges(sizes);
    let all: Vec<&str> = words.split(',').collect();
    match all.get(..RANGES_MAX) {
        Some(first) if all.len() > RANGES_MAX => {
            format!("{} and {} more ranges", first.join(","), all.len() - RANGES_MAX)
        }
        _ => words,
    }
}
