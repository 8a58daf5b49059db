//! How stock's answer and ours to one question compare, and what must not be.

use crate::protocol::{Answer, Gpus};
use crate::rules::{Breach, Rule, breaches, shares};
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

/// Why ours may leave a job to stock by design, where its own tries fail: such answers are as good and as bad as stock's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Left {
    /// It asks for a hierarchical resource.
    Hierarchical,
    /// No usable node is in a block.
    InNoBlock,
    /// GPUs decide.
    Gpus,
    /// CPUs decide.
    Cpus,
}

impl Left {
    /// The reason as the report names it.
    pub fn why(self) -> &'static str {
        match self {
            Self::Hierarchical => "a hierarchical resource: only stock counts what blocks have of it",
            Self::InNoBlock => "no usable node is in a block, so there is no border to keep",
            Self::Gpus => "GPUs as a whole: stock takes several partitions, or counts otherwise",
            Self::Cpus => "CPUs decide how many trays: stock divides them in its own way",
        }
    }

    /// Whether stock's answer may split what fits a partition: where only stock knows what fits, or there is no partition.
    fn may_split(self) -> bool {
        matches!(self, Self::Hierarchical | Self::InNoBlock)
    }
}

/// The comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The class.
    pub class: Class,
    /// Why the two differ, where they do.
    pub reason: String,
    /// Rules that stock's answer breaks.
    pub stock: Vec<Breach>,
    /// Rules that ours breaks.
    pub ours: Vec<Breach>,
    /// Why ours left the job to stock by design, and so gave stock's answer.
    pub left: Option<Left>,
    /// Partitions that stock and ours use, where that can be compared.
    pub partitions: Option<(usize, usize)>,
    /// What must not be, in sentences.
    pub violations: Vec<String>,
}

/// Compares stock's answer with ours.
pub fn compare(scene: &Scene, stock: &Answer, ours: &Answer) -> Verdict {
    let (of_stock, of_ours) = (breaches(scene, stock), breaches(scene, ours));
    let left = left_to_stock(scene).filter(|_| stock.rc == 0 && ours.nodes == stock.nodes);
    let mut violations: Vec<String> = Vec::new();
    // Also where the job is left to stock, a split of what fits a partition is not taken from it.
    let counts = |breach: &&Breach| match left {
        None => true,
        Some(left) => matches!(breach.rule, Rule::Whole | Rule::Segment) && !left.may_split(),
    };
    violations.extend(of_ours.iter().filter(counts).map(|breach| format!("ours: {}", breach.text)));
    let mut partitions = None;
    let (class, reason) = match (stock.rc == 0, ours.rc == 0) {
        (true, true) => {
            let (theirs, us) = (shares(scene, stock).len(), shares(scene, ours).len());
            if comparable(scene, stock, ours, &of_stock) {
                partitions = Some((theirs, us));
                if us > theirs {
                    violations.push(format!("ours: over {us} partitions where stock needs {theirs}"));
                }
            }
            (Class::BothPlace, String::new())
        }
        (false, false) => (Class::BothRefuse, String::new()),
        (false, true) => (Class::OursOnly, format!("stock refuses with {}", stock.rc)),
        (true, false) => match of_stock.iter().min_by_key(|breach| !breach.rule.is_border()) {
            Some(breach) => (Class::StockOnly, format!("stock: {}", breach.rule.broken())),
            // With more trays than a partition has, where fewer and better ones would do.
            None if shares(scene, stock).len() > 1 && scene.may_fit_a_partition() => (
                Class::StockOnly,
                "stock: over several partitions while one may have the job's CPUs when it is free".to_owned(),
            ),
            None => {
                violations
                    .push(format!("ours refuses with {}; stock places the job within the rules", ours.rc));
                (Class::StockOnly, "not explained".to_owned())
            }
        },
    };
    Verdict { class, reason, stock: of_stock, ours: of_ours, left, partitions, violations }
}

/// Whether the numbers of partitions mean the same: as many nodes, and an answer of stock that is one.
fn comparable(scene: &Scene, stock: &Answer, ours: &Answer, of_stock: &[Breach]) -> bool {
    // Segments of uneven trays that are short of CPUs: the fewest partitions are a puzzle that neither solves.
    let puzzle = scene.job.asked.segment > 0 && scene.job.asked.min_cpus > scene.wanted();
    let sound = |breach: &Breach| breach.rule.is_border() || breach.rule == Rule::Weights;
    !puzzle && ours.nodes.len() <= stock.nodes.len() && of_stock.iter().all(sound)
}

/// Why the plugin may leave the job to stock; None where it may not.
pub fn left_to_stock(scene: &Scene) -> Option<Left> {
    let asked = &scene.job.asked;
    let segment = u32::from(asked.segment);
    let in_segments = segment > 0 && segment < scene.wanted();
    let larger = scene.wanted().max(asked.required.len() as u32) > scene.cluster.largest();
    // CPUs or GPUs decide how many trays: stock divides them over the segments, and takes what weights say first.
    let larger = larger || !scene.may_fit_a_partition();
    let by_cpus = asked.min_cpus > scene.wanted() && (in_segments || larger);
    // Stock looks in several partitions at once for jobs of more trays than a base block has.
    let spans = in_segments || larger || scene.wanted() > scene.cluster.base();
    let by_gpus = spans && asked.gpus.is_some_and(|gpus| !matches!(gpus, Gpus::PerNode(_)));
    let racks = scene.cluster.rack_of_nodes();
    let in_no_block = (0..).zip(&racks).all(|(node, rack)| rack.is_none() || scene.cpus(node) == 0);
    let reasons = [
        (Left::Hierarchical, asked.hres > 0),
        (Left::InNoBlock, in_no_block),
        (Left::Gpus, by_gpus),
        (Left::Cpus, by_cpus),
    ];
    reasons.into_iter().find_map(|(left, holds)| holds.then_some(left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{Cluster, Job, idle_tray, plain_job};

    fn scene(racks: &[u32], nodes: u32) -> Scene {
        let cluster = Cluster { racks: racks.to_vec(), loose: 1, ..Cluster::default() };
        let trays = vec![idle_tray(4); cluster.nodes()];
        Scene {
            cluster,
            trays,
            job: Job { asked: plain_job(nodes), excluded: Vec::new(), hres_left: Vec::new() },
        }
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
        assert_eq!(verdict.reason, "stock: jobs that fit a partition, split");
    }

    #[test]
    fn a_job_that_stock_places_well_may_not_be_refused() {
        let verdict = compare(&scene(&[2, 2], 2), &placed(&[0, 1]), &REFUSED);
        assert_eq!(verdict.violations, ["ours refuses with 7203; stock places the job within the rules"]);
    }

    #[test]
    fn a_job_whose_cpus_a_partition_may_have_later_may_be_refused_by_ours() {
        let mut scene = scene(&[2, 2], 2);
        scene.job.asked.max_nodes = 4;
        scene.job.asked.min_cpus = 8;
        scene.trays[0].busy = true;
        scene.trays[2].cpus = 2;
        let verdict = compare(&scene, &placed(&[1, 2, 3]), &REFUSED);
        assert_eq!(verdict.violations, [""; 0]);
        scene.job.asked.min_cpus = 9;
        let verdict = compare(&scene, &placed(&[1, 2, 3]), &REFUSED);
        assert_eq!(verdict.violations, ["ours refuses with 7203; stock places the job within the rules"]);
    }

    #[test]
    fn of_jobs_left_to_stock_only_those_without_a_partition_may_be_split() {
        let mut scene = scene(&[2, 2, 2], 4);
        scene.job.asked.segment = 2;
        scene.job.asked.min_cpus = 16;
        let split = placed(&[0, 2, 4, 5]);
        let verdict = compare(&scene, &split, &split);
        assert_eq!(verdict.left, Some(Left::Cpus));
        assert_eq!(verdict.violations.len(), 2, "{:?}", verdict.violations);
        scene.job.asked.hres = 1;
        scene.job.hres_left = vec![9; 4];
        let verdict = compare(&scene, &split, &split);
        assert_eq!((verdict.left, verdict.violations), (Some(Left::Hierarchical), vec![]));
    }

    #[test]
    fn a_breach_of_ours_is_a_violation() {
        let verdict = compare(&scene(&[2, 2], 2), &REFUSED, &placed(&[1, 4]));
        assert_eq!(verdict.violations, ["ours: a job of 2 that fits one partition is over 2"]);
        let changed = Answer { intact: false, ..REFUSED };
        assert_eq!(
            compare(&scene(&[2, 2], 2), &REFUSED, &changed).violations,
            ["ours: the evaluation's arrays are left changed"]
        );
    }

    #[test]
    fn more_partitions_than_stock_are_a_violation() {
        let mut scene = scene(&[4, 3, 3], 5);
        scene.trays[2].drained = true;
        let verdict = compare(&scene, &placed(&[0, 1, 3, 4, 5]), &placed(&[0, 1, 4, 5, 7]));
        assert_eq!(verdict.partitions, Some((2, 3)));
        assert!(verdict.violations.contains(&"ours: over 3 partitions where stock needs 2".to_owned()));
    }
}
