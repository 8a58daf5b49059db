//! What an answer must be like, and how two answers to one question compare.

use std::collections::BTreeMap;

use crate::protocol::Answer;
use crate::scene::Scene;

/// How the answers of stock and ours compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Both place the job.
    BothPlace,
    /// Both refuse it.
    BothRefuse,
    /// Only ours places it.
    OursOnly,
    /// Only stock places it.
    StockOnly,
}

impl Class {
    /// All, in the order of the report.
    pub const ALL: [Self; 4] = [Self::BothPlace, Self::BothRefuse, Self::OursOnly, Self::StockOnly];

    /// The class as the report names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::BothPlace => "both place",
            Self::BothRefuse => "both refuse",
            Self::OursOnly => "ours places only",
            Self::StockOnly => "stock places only",
        }
    }
}

/// The comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The class.
    pub class: Class,
    /// Why the two differ, where they do.
    pub reason: String,
    /// What must not be, in sentences.
    pub violations: Vec<String>,
}

/// Compares stock's answer with ours.
pub fn compare(scene: &Scene, stock: &Answer, ours: &Answer) -> Verdict {
    let mut violations = Vec::new();
    if !ours.intact {
        violations.push("ours leaves the evaluation's arrays changed".to_owned());
    }
    let as_stock = stock.rc == 0 && ours.nodes == stock.nodes && left_to_stock(scene);
    if ours.rc == 0 && !as_stock {
        violations.extend(faults(scene, ours).into_iter().map(|fault| format!("ours: {fault}")));
        violations.extend(breaches(scene, ours).into_iter().map(|breach| format!("ours: {breach}")));
    }
    let (class, reason) = match (stock.rc == 0, ours.rc == 0) {
        (true, true) => {
            let (theirs, us) = (shares(scene, stock), shares(scene, ours));
            // Segments of uneven trays that are short of CPUs: the fewest partitions are a puzzle that neither solves.
            let puzzle = scene.job.asked.segment > 0 && scene.job.asked.min_cpus > scene.wanted();
            let comparable =
                !puzzle && ours.nodes.len() <= stock.nodes.len() && faults(scene, stock).is_empty();
            if us.len() > theirs.len() && comparable {
                violations.push(format!(
                    "ours: over {} partitions where stock needs {}",
                    us.len(),
                    theirs.len()
                ));
            }
            let reason = match us.len().cmp(&theirs.len()) {
                std::cmp::Ordering::Less => "ours uses fewer partitions",
                std::cmp::Ordering::Equal => "as many partitions",
                std::cmp::Ordering::Greater => "ours uses more partitions, for other nodes or CPUs",
            };
            (Class::BothPlace, reason.to_owned())
        }
        (false, false) => (Class::BothRefuse, String::new()),
        (false, true) => (Class::OursOnly, format!("stock refuses with {}", stock.rc)),
        (true, false) => match faults(scene, stock).iter().chain(&breaches(scene, stock)).next() {
            Some(breach) => (Class::StockOnly, format!("stock: {}", kind(breach))),
            None => {
                violations
                    .push(format!("ours refuses with {}; stock places the job within the rules", ours.rc));
                (Class::StockOnly, "not explained".to_owned())
            }
        },
    };
    Verdict { class, reason, violations }
}

/// Whether the plugin leaves the job to stock by design: such answers are as good and as bad as stock's.
pub fn left_to_stock(scene: &Scene) -> bool {
    let asked = &scene.job.asked;
    let segment = u32::from(asked.segment);
    let in_segments = segment > 0 && segment < scene.wanted();
    let larger = scene.wanted().max(asked.required.len() as u32) > scene.cluster.largest();
    let odd_segments = in_segments && (asked.consolidate || !asked.required.is_empty());
    let odd_span = !in_segments && larger && (!asked.required.is_empty() || scene.cluster.has_aggregates());
    // CPUs decide how many trays: stock divides them over the segments, and takes what weights say first.
    let by_cpus = asked.min_cpus > scene.wanted() && (in_segments || larger);
    let racks = scene.cluster.rack_of_nodes();
    let in_no_block = (0..).zip(&racks).all(|(node, rack)| rack.is_none() || scene.cpus(node) == 0);
    odd_segments || odd_span || by_cpus || in_no_block
}

/// A breach with its numbers left open, for counting.
fn kind(breach: &str) -> String {
    let mut kind = String::with_capacity(breach.len());
    for character in breach.chars() {
        match character {
            '0'..='9' if kind.ends_with('N') => {}
            '0'..='9' => kind.push('N'),
            other => kind.push(other),
        }
    }
    kind
}

/// Trays of each partition in an answer; nodes in no block count as a partition of their own each.
pub fn shares(scene: &Scene, answer: &Answer) -> BTreeMap<(usize, u32), u32> {
    let racks = scene.cluster.rack_of_nodes();
    let mut shares = BTreeMap::new();
    for &node in &answer.nodes {
        let key = racks[node as usize].map_or((usize::MAX, node), |rack| (rack, 0));
        *shares.entry(key).or_insert(0) += 1;
    }
    shares
}

/// Rules of Slurm that an answer breaks.
fn faults(scene: &Scene, answer: &Answer) -> Vec<String> {
    let asked = &scene.job.asked;
    let mut faults = Vec::new();
    let count = answer.nodes.len() as u32;
    if !(scene.wanted()..=asked.max_nodes).contains(&count) {
        faults.push(format!("{count} nodes instead of {} to {}", scene.wanted(), asked.max_nodes));
    }
    if let Some(&node) = answer.nodes.iter().find(|&&node| scene.cpus(node) == 0) {
        faults.push(format!("n{} is not usable", node + 1));
    }
    if let Some(&node) = asked.required.iter().find(|node| !answer.nodes.contains(node)) {
        faults.push(format!("n{} is required and left out", node + 1));
    }
    let cpus: u32 = answer.nodes.iter().map(|&node| u32::from(scene.cpus(node))).sum();
    if cpus < asked.min_cpus {
        faults.push(format!("{cpus} CPUs instead of {}", asked.min_cpus));
    }
    faults
}

/// Partition boundaries that an answer breaks.
fn breaches(scene: &Scene, answer: &Answer) -> Vec<String> {
    let shares = shares(scene, answer);
    let count = answer.nodes.len() as u32;
    let segment = u32::from(scene.job.asked.segment);
    if segment > 0 && segment < scene.wanted() {
        return segment_breaches(scene, &shares, segment);
    }
    let mut breaches = Vec::new();
    if count <= scene.cluster.largest() {
        if shares.len() > 1 {
            breaches.push(format!("a job of {count} that fits one partition is over {}", shares.len()));
        }
    } else {
        let fewest = fewest(scene, count);
        if shares.len() > fewest {
            breaches.push(format!("a job of {count} is over {} partitions, not {fewest}", shares.len()));
        }
    }
    breaches
}

fn segment_breaches(scene: &Scene, shares: &BTreeMap<(usize, u32), u32>, segment: u32) -> Vec<String> {
    let mut breaches = Vec::new();
    for (&(rack, _), &count) in shares {
        if rack == usize::MAX {
            breaches.push("a segment has a node in no block".to_owned());
        } else if count % segment != 0 {
            breaches.push(format!("a segment of {segment} is split: {count} trays in block b{}", rack + 1));
        } else if scene.job.asked.spread && count > segment {
            breaches.push(format!("{} segments share block b{}", count / segment, rack + 1));
        }
    }
    breaches
}

/// The fewest partitions that can hold so many trays when all that is running has ended: drained trays stay drained.
fn fewest(scene: &Scene, count: u32) -> usize {
    let mut healthy = vec![0u32; scene.cluster.racks.len()];
    for (rack, tray) in scene.cluster.rack_of_nodes().into_iter().zip(&scene.trays) {
        if let (Some(rack), false) = (rack, tray.drained) {
            healthy[rack] += 1;
        }
    }
    healthy.sort_unstable_by_key(|&trays| std::cmp::Reverse(trays));
    let mut sum = 0;
    let reaches = |&trays: &u32| {
        sum += trays;
        sum >= count
    };
    healthy.iter().position(reaches).map_or(healthy.len(), |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{Cluster, Job, Tray, plain_job};

    fn scene(racks: &[u32], nodes: u32) -> Scene {
        let cluster = Cluster { racks: racks.to_vec(), loose: 1, block_sizes: Vec::new() };
        let trays = vec![Tray { busy: false, drained: false, cpus: 4, weight: 1 }; cluster.nodes()];
        Scene { cluster, trays, job: Job { asked: plain_job(nodes), excluded: Vec::new() } }
    }

    fn placed(nodes: &[u32]) -> Answer {
        Answer { rc: 0, nodes: nodes.to_vec(), intact: true }
    }

    const REFUSED: Answer = Answer { rc: 7203, nodes: Vec::new(), intact: true };

    #[test]
    fn a_job_that_stock_splits_may_be_refused_by_ours() {
        let verdict = compare(&scene(&[2, 2], 2), &placed(&[1, 2]), &REFUSED);
        assert_eq!(verdict.class, Class::StockOnly);
        assert_eq!(verdict.violations, [""; 0]);
        assert_eq!(verdict.reason, "stock: a job of N that fits one partition is over N");
    }

    #[test]
    fn a_job_that_stock_places_well_may_not_be_refused() {
        let verdict = compare(&scene(&[2, 2], 2), &placed(&[0, 1]), &REFUSED);
        assert_eq!(verdict.violations, ["ours refuses with 7203; stock places the job within the rules"]);
    }

    #[test]
    fn a_split_job_is_a_violation() {
        let verdict = compare(&scene(&[2, 2], 2), &REFUSED, &placed(&[1, 4]));
        assert_eq!(verdict.violations, ["ours: a job of 2 that fits one partition is over 2"]);
    }

    #[test]
    fn a_split_segment_is_a_violation() {
        let mut scene = scene(&[3, 3], 4);
        scene.job.asked.segment = 2;
        assert_eq!(compare(&scene, &REFUSED, &placed(&[0, 1, 3, 4])).violations, [""; 0]);
        assert_eq!(
            compare(&scene, &REFUSED, &placed(&[0, 1, 2, 4])).violations,
            [
                "ours: a segment of 2 is split: 3 trays in block b1",
                "ours: a segment of 2 is split: 1 trays in block b2"
            ]
        );
    }

    #[test]
    fn busy_nodes_wrong_counts_and_missing_cpus_are_faults() {
        let mut scene = scene(&[3], 2);
        scene.trays[0].busy = true;
        scene.job.asked.min_cpus = 9;
        scene.job.asked.required = vec![2];
        assert_eq!(
            faults(&scene, &placed(&[0])),
            [
                "1 nodes instead of 2 to 2",
                "n1 is not usable",
                "n3 is required and left out",
                "0 CPUs instead of 9"
            ]
        );
    }

    #[test]
    fn drained_trays_count_for_the_fewest_partitions() {
        let mut scene = scene(&[4, 4, 4], 8);
        assert_eq!(fewest(&scene, 8), 2);
        scene.trays[0].drained = true;
        assert_eq!((fewest(&scene, 8), fewest(&scene, 12)), (2, 3));
        scene.trays[5].drained = true;
        assert_eq!(fewest(&scene, 8), 3);
    }
}
