//! What an answer must be like, worked out from the situation alone: nothing here asks a plugin.

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::{Answer, Gpus};
use crate::scene::Scene;

/// A rule that an answer can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A job that fits a partition by its full size lies in one.
    Whole,
    /// A segment lies in one partition.
    Segment,
    /// `--spread-segments`: no two segments in one partition.
    Spread,
    /// A larger job is over the fewest partitions that the healthy trays allow, in aggregated blocks where there are any.
    Fewest,
    /// A larger job lies in one aggregated block of the smallest level for it, where one has room.
    Level,
    /// The job gets as many nodes as it may.
    Count,
    /// It gets usable nodes only.
    Usable,
    /// It gets every node that it names.
    Required,
    /// It gets its CPUs.
    Cpus,
    /// It gets its GPUs.
    Gpus,
    /// It takes no more of a hierarchical resource than each leaf has.
    Hres,
    /// Lighter partitions come first, and in them lighter nodes.
    Weights,
    /// Everything that Slurm goes on using is left as it should be.
    Intact,
}

impl Rule {
    /// All, in the order of the report.
    pub const ALL: [Self; 13] = [
        Self::Whole,
        Self::Segment,
        Self::Spread,
        Self::Fewest,
        Self::Level,
        Self::Count,
        Self::Usable,
        Self::Required,
        Self::Cpus,
        Self::Gpus,
        Self::Hres,
        Self::Weights,
        Self::Intact,
    ];

    /// How the report names answers that break it.
    pub fn broken(self) -> &'static str {
        match self {
            Self::Whole => "jobs that fit a partition, split",
            Self::Segment => "segments split",
            Self::Spread => "segments in one partition against --spread-segments",
            Self::Fewest => "larger jobs over more partitions than healthy trays need",
            Self::Level => "larger jobs outside of an aggregated block that has room",
            Self::Count => "too few or too many nodes",
            Self::Usable => "nodes that the job may not use",
            Self::Required => "required nodes left out",
            Self::Cpus => "too few CPUs",
            Self::Gpus => "too few GPUs",
            Self::Hres => "more of a hierarchical resource than there is",
            Self::Weights => "heavier nodes taken before lighter ones",
            Self::Intact => "arrays of the evaluation left changed",
        }
    }

    /// Whether it is about the borders of partitions, which Slurm's own plugin breaks without a word.
    pub fn is_border(self) -> bool {
        matches!(self, Self::Whole | Self::Segment | Self::Spread | Self::Fewest | Self::Level)
    }
}

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// Which.
    pub rule: Rule,
    /// How, in one sentence.
    pub text: String,
}

fn breach(rule: Rule, text: String) -> Breach {
    Breach { rule, text }
}

/// The rules that an answer breaks. A refusal can only leave something changed.
pub fn breaches(scene: &Scene, answer: &Answer) -> Vec<Breach> {
    let mut broken = Vec::new();
    if !answer.intact {
        broken.push(breach(Rule::Intact, "the evaluation's arrays are left changed".to_owned()));
    }
    if answer.rc == 0 {
        broken.extend(shortages(scene, answer));
        broken.extend(borders(scene, answer));
        broken.extend(weights(scene, answer));
    }
    broken
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

/// Nodes, CPUs and GPUs.
fn shortages(scene: &Scene, answer: &Answer) -> Vec<Breach> {
    let asked = &scene.job.asked;
    let mut broken = Vec::new();
    let count = answer.nodes.len() as u32;
    if !(scene.wanted()..=asked.max_nodes).contains(&count) {
        let text = format!("{count} nodes instead of {} to {}", scene.wanted(), asked.max_nodes);
        broken.push(breach(Rule::Count, text));
    }
    if let Some(&node) = answer.nodes.iter().find(|&&node| scene.cpus(node) == 0) {
        broken.push(breach(Rule::Usable, format!("n{} is not usable", node + 1)));
    }
    if let Some(&node) = asked.required.iter().find(|node| !answer.nodes.contains(node)) {
        broken.push(breach(Rule::Required, format!("n{} is required and left out", node + 1)));
    }
    let cpus: u32 = answer.nodes.iter().map(|&node| u32::from(scene.cpus(node))).sum();
    if cpus < asked.min_cpus {
        broken.push(breach(Rule::Cpus, format!("{cpus} CPUs instead of {}", asked.min_cpus)));
    }
    let gpus = answer.nodes.iter().map(|&node| u32::from(scene.free_gpus(node)));
    match asked.gpus {
        Some(Gpus::PerJob(wanted)) => {
            let free: u32 = gpus.sum();
            if free < wanted {
                broken.push(breach(Rule::Gpus, format!("{free} GPUs instead of {wanted}")));
            }
        }
        Some(Gpus::PerTask(each)) if each > 0 => {
            let tasks: u32 = gpus.map(|free| free / u32::from(each)).sum();
            if tasks < asked.num_tasks {
                let text = format!("GPUs for {tasks} tasks instead of {}", asked.num_tasks);
                broken.push(breach(Rule::Gpus, text));
            }
        }
        // Per node: a node without them is not usable.
        _ => {}
    }
    let leaves = scene.cluster.leaf_of_nodes();
    for (leaf, &left) in (0..).zip(&scene.job.hres_left) {
        let nodes = answer.nodes.iter().filter(|&&node| leaves[node as usize] == leaf).count() as u32;
        if nodes * asked.hres > left {
            let text = format!(
                "{} of a hierarchical resource on leaf {}, which has {left}",
                nodes * asked.hres,
                leaf + 1
            );
            broken.push(breach(Rule::Hres, text));
        }
    }
    broken
}

/// Borders of partitions.
fn borders(scene: &Scene, answer: &Answer) -> Vec<Breach> {
    let shares = shares(scene, answer);
    let count = answer.nodes.len() as u32;
    let segment = u32::from(scene.job.asked.segment);
    if segment > 0 && segment < scene.wanted() {
        return borders_of_segments(scene, &shares, segment);
    }
    // Above the base size a job may span while no partition can hold it.
    let must_be_whole =
        count <= scene.cluster.promised() || healthy(scene).iter().any(|&trays| trays >= count);
    if count <= scene.cluster.largest() && must_be_whole {
        // One whose CPUs or GPUs no partition has does not fit any.
        if shares.len() > 1 && scene.may_fit_a_partition() {
            let text = format!("a job of {count} that fits one partition is over {}", shares.len());
            return vec![breach(Rule::Whole, text)];
        }
        return Vec::new();
    }
    let mut broken = Vec::new();
    let racks: Vec<usize> = shares.keys().map(|&(rack, _)| rack).collect();
    let fewest = fewest(scene, count, &racks);
    if shares.len() > fewest {
        let text = format!("a job of {count} is over {} partitions, not {fewest}", shares.len());
        broken.push(breach(Rule::Fewest, text));
    }
    if let Some(group) = level_with_room(scene, count) {
        let groups: BTreeSet<usize> = shares.keys().map(|&(rack, _)| rack / group).collect();
        if groups.len() > 1 {
            let text = format!("a job of {count} is over {} groups of {group} partitions", groups.len());
            broken.push(breach(Rule::Level, text));
        }
    }
    broken
}

/// The smallest level whose groups hold so many trays by their size, if one of the groups has that many usable now and
/// nothing but their number matters.
fn level_with_room(scene: &Scene, count: u32) -> Option<usize> {
    let asked = &scene.job.asked;
    let counted = asked.gpus.is_some() || asked.hres > 0;
    let any_node = asked.required.is_empty() && !counted && asked.min_cpus <= scene.wanted();
    let blocks = count.div_ceil(scene.cluster.base().max(1)) as usize;
    let group = scene.cluster.levels().into_iter().find(|&group| group >= blocks)?;
    let mut room = vec![0; scene.cluster.racks.len().div_ceil(group)];
    for (node, rack) in (0..).zip(scene.cluster.rack_of_nodes()) {
        if let (Some(rack), true) = (rack, scene.cpus(node) > 0) {
            room[rack / group] += 1;
        }
    }
    (any_node && room.iter().any(|&trays| trays >= count)).then_some(group)
}

/// Segments that have trays for their CPUs beside the ones asked for are whole where each partition has all trays of the
/// segments in it.
fn borders_of_segments(scene: &Scene, shares: &BTreeMap<(usize, u32), u32>, segment: u32) -> Vec<Breach> {
    let segments = scene.wanted() / segment;
    let whole: u32 = shares.values().map(|count| count / segment).sum();
    let mut broken = Vec::new();
    for (&(rack, _), &count) in shares {
        let is_split = count < segment || whole < segments && count % segment != 0;
        if rack == usize::MAX {
            broken.push(breach(Rule::Segment, "a segment has a node in no block".to_owned()));
        } else if is_split {
            let text = format!("a segment of {segment} is split: {count} trays in block b{}", rack + 1);
            broken.push(breach(Rule::Segment, text));
        }
    }
    let partitions = shares.len() as u32;
    if broken.is_empty() && scene.job.asked.spread && partitions < segments {
        let text = format!("{segments} segments are in {partitions} blocks");
        broken.push(breach(Rule::Spread, text));
    }
    broken
}

/// The fewest partitions that can hold so many trays when all that is running has ended: drained trays stay drained. Where
/// there are aggregated blocks, those of the smallest one in which the job lies with all of its racks.
fn fewest(scene: &Scene, count: u32, racks: &[usize]) -> usize {
    let healthy = healthy(scene);
    let all = healthy.len().max(1);
    let mut levels = scene.cluster.levels().into_iter().chain([all]);
    let place = |group: &usize| racks.first().map_or(0, |rack| rack / group);
    let around = levels.find(|group| racks.iter().all(|rack| rack / group == place(group))).unwrap_or(all);
    healthy.chunks(around).nth(place(&around)).and_then(|group| fewest_of(group, count)).unwrap_or(all)
}

/// Trays of each partition that are not drained.
fn healthy(scene: &Scene) -> Vec<u32> {
    let mut healthy = vec![0; scene.cluster.racks.len()];
    for (rack, tray) in scene.cluster.rack_of_nodes().into_iter().zip(&scene.trays) {
        if let (Some(rack), false) = (rack, tray.drained) {
            healthy[rack] += 1;
        }
    }
    healthy
}

/// The fewest of these partitions that hold so many trays.
fn fewest_of(healthy: &[u32], count: u32) -> Option<usize> {
    let mut healthy = healthy.to_vec();
    healthy.sort_unstable_by_key(|&trays| std::cmp::Reverse(trays));
    let mut sum = 0;
    let reaches = |&trays: &u32| {
        sum += trays;
        sum >= count
    };
    healthy.iter().position(reaches).map(|last| last + 1)
}

/// Weights, where any usable node would do for the job: in one partition, without GPUs, CPUs or counts that decide.
fn weights(scene: &Scene, answer: &Answer) -> Vec<Breach> {
    let asked = &scene.job.asked;
    let (shares, wanted) = (shares(scene, answer), scene.wanted());
    let in_one = shares.len() == 1 && u32::from(asked.segment) % wanted.max(1) == 0;
    let any_node = asked.gpus.is_none()
        && asked.hres == 0
        && asked.min_cpus <= wanted
        && asked.cpus_per_task == 1
        && asked.num_tasks <= wanted
        && answer.nodes.len() as u32 == wanted;
    let Some((&(rack, _), _)) = shares.first_key_value().filter(|((rack, _), _)| *rack != usize::MAX) else {
        return Vec::new();
    };
    if !in_one || !any_node {
        return Vec::new();
    }
    let racks = scene.cluster.rack_of_nodes();
    let usable = |of: usize| -> Vec<u32> {
        let inside = |&node: &u32| racks[node as usize] == Some(of) && scene.cpus(node) > 0;
        (0..scene.trays.len() as u32).filter(inside).collect()
    };
    let weight = |node: &u32| scene.trays[*node as usize].weight;
    let mut broken = Vec::new();
    let ours = usable(rack).iter().map(weight).min();
    for other in 0..scene.cluster.racks.len() {
        let nodes = usable(other);
        let fits = nodes.len() as u32 >= wanted && asked.required.iter().all(|node| nodes.contains(node));
        let lightest = nodes.iter().map(weight).min();
        if fits && lightest < ours {
            let text = format!("block b{} has lighter nodes than b{}", other + 1, rack + 1);
            broken.push(breach(Rule::Weights, text));
        }
    }
    let free = answer.nodes.iter().filter(|node| !asked.required.contains(node));
    let heaviest = free.map(weight).max();
    let left: Vec<u32> = usable(rack).into_iter().filter(|node| !answer.nodes.contains(node)).collect();
    if let Some(lighter) = left.iter().find(|node| Some(weight(node)) < heaviest) {
        let text = format!("n{} is lighter than a node that was taken", lighter + 1);
        broken.push(breach(Rule::Weights, text));
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{Cluster, Job, idle_tray, plain_job};

    fn scene(racks: &[u32], nodes: u32) -> Scene {
        let block_sizes = racks.first().copied().into_iter().collect();
        let cluster = Cluster { racks: racks.to_vec(), loose: 1, block_sizes, ..Cluster::default() };
        let trays = vec![idle_tray(4); cluster.nodes()];
        Scene {
            cluster,
            trays,
            job: Job { asked: plain_job(nodes), excluded: Vec::new(), hres_left: Vec::new() },
        }
    }

    fn broken(scene: &Scene, nodes: &[u32]) -> Vec<String> {
        let answer = Answer { rc: 0, nodes: nodes.to_vec(), intact: true };
        breaches(scene, &answer).into_iter().map(|breach| breach.text).collect()
    }

    #[test]
    fn a_split_job_and_split_segments_are_found() {
        let mut scene = scene(&[3, 3], 2);
        assert_eq!(broken(&scene, &[2, 3]), ["a job of 2 that fits one partition is over 2"]);
        scene.job.asked = plain_job(4);
        scene.job.asked.segment = 2;
        assert_eq!(broken(&scene, &[0, 1, 3, 4]), [""; 0]);
        assert_eq!(
            broken(&scene, &[0, 1, 2, 4]),
            ["a segment of 2 is split: 3 trays in block b1", "a segment of 2 is split: 1 trays in block b2"]
        );
        scene.job.asked.spread = true;
        scene.cluster.changes.push(crate::scene::Change::Move { node: 6, rack: Some(0) });
        assert_eq!(broken(&scene, &[0, 1, 2, 6]), ["2 segments are in 1 blocks"]);
    }

    #[test]
    fn segments_with_more_trays_than_asked_for_are_whole_where_none_has_a_tray_elsewhere() {
        let mut scene = scene(&[5, 5, 5], 4);
        (scene.job.asked.segment, scene.job.asked.max_nodes) = (2, 7);
        assert_eq!(broken(&scene, &[0, 1, 2, 5, 6, 7]), [""; 0]);
        assert_eq!(broken(&scene, &[0, 1, 2, 3, 4]), [""; 0]);
        assert_eq!(broken(&scene, &[0, 1, 2, 3, 5]), ["a segment of 2 is split: 1 trays in block b2"]);
        scene.job.asked.spread = true;
        assert_eq!(broken(&scene, &[0, 1, 2, 5, 6]), [""; 0]);
        assert_eq!(broken(&scene, &[0, 1, 2, 3, 4]), ["2 segments are in 1 blocks"]);
    }

    #[test]
    fn busy_nodes_wrong_counts_and_missing_cpus_are_found() {
        let mut scene = scene(&[3], 2);
        scene.trays[0].busy = true;
        scene.job.asked.min_cpus = 9;
        scene.job.asked.required = vec![2];
        assert_eq!(
            broken(&scene, &[0]),
            [
                "1 nodes instead of 2 to 2",
                "n1 is not usable",
                "n3 is required and left out",
                "0 CPUs instead of 9"
            ]
        );
    }

    #[test]
    fn gpus_of_other_jobs_are_not_there() {
        let mut scene = scene(&[3], 2);
        scene.cluster.gpus = 4;
        scene.job.asked.exclusive = false;
        scene.trays[0].gpus_taken = 3;
        scene.job.asked.gpus = Some(Gpus::PerJob(6));
        assert_eq!(broken(&scene, &[0, 1]), ["5 GPUs instead of 6"]);
        scene.job.asked.gpus = Some(Gpus::PerNode(2));
        assert!(broken(&scene, &[0, 1]).contains(&"n1 is not usable".to_owned()));
        scene.job.asked.gpus = Some(Gpus::PerTask(1));
        scene.job.asked.num_tasks = 6;
        assert_eq!(broken(&scene, &[0, 1]), ["GPUs for 5 tasks instead of 6"]);
        scene.job.asked.exclusive = true;
        assert!(broken(&scene, &[0, 1]).contains(&"n1 is not usable".to_owned()), "it is shared");
    }

    #[test]
    fn a_leaf_gives_no_more_of_a_hierarchical_resource_than_it_has() {
        let mut scene = scene(&[2, 2], 2);
        scene.job.asked.hres = 2;
        scene.job.hres_left = vec![3, 4, 0];
        assert_eq!(broken(&scene, &[0, 1]), ["4 of a hierarchical resource on leaf 1, which has 3"]);
        assert_eq!(broken(&scene, &[2, 3]), [""; 0]);
        assert_eq!(scene.cpus(4), 0, "its leaf has not even enough for one node");
    }

    #[test]
    fn weights_order_partitions_and_the_nodes_inside() {
        let mut scene = scene(&[3, 3], 2);
        scene.trays[4].weight = 0;
        assert_eq!(broken(&scene, &[0, 1]), ["block b2 has lighter nodes than b1"]);
        assert_eq!(broken(&scene, &[3, 5]), ["n5 is lighter than a node that was taken"]);
        assert_eq!(broken(&scene, &[3, 4]), [""; 0]);
        scene.job.asked.required = vec![0];
        assert_eq!(broken(&scene, &[0, 1]), [""; 0], "only b1 has the required node");
    }

    #[test]
    fn drained_trays_count_for_the_fewest_partitions() {
        let mut scene = scene(&[4, 4, 4], 8);
        assert_eq!(fewest(&scene, 8, &[0, 1]), 2);
        scene.trays[0].drained = true;
        assert_eq!((fewest(&scene, 8, &[0, 1]), fewest(&scene, 12, &[0, 1, 2])), (2, 3));
        scene.trays[5].drained = true;
        assert_eq!(fewest(&scene, 8, &[0, 1, 2]), 3);
    }

    #[test]
    fn the_fewest_partitions_are_those_of_the_aggregated_block_in_which_the_job_lies() {
        let mut scene = scene(&[2, 2, 4, 4], 6);
        scene.cluster.block_sizes = vec![2, 4, 8];
        scene.trays[4].drained = true;
        // Position 1 of two is not looked at: racks 3 and 4 have seven healthy trays in two.
        assert_eq!((fewest(&scene, 6, &[2, 3]), fewest(&scene, 4, &[0, 1])), (2, 2));
        assert_eq!((fewest(&scene, 4, &[2]), fewest(&scene, 6, &[0, 1, 2])), (1, 2));
    }

    #[test]
    fn an_aggregated_block_with_room_is_not_left() {
        let mut scene = scene(&[2, 2, 2, 2], 3);
        assert_eq!(broken(&scene, &[2, 3, 4]), [""; 0], "without levels any two partitions do");
        scene.cluster.block_sizes.push(4);
        assert_eq!(scene.cluster.levels(), [2]);
        assert_eq!(broken(&scene, &[2, 3, 4]), ["a job of 3 is over 2 groups of 2 partitions"]);
        assert_eq!(broken(&scene, &[4, 5, 6]), [""; 0]);
        scene.trays[0].busy = true;
        scene.trays[1].busy = true;
        scene.trays[6].busy = true;
        scene.trays[7].busy = true;
        assert_eq!(broken(&scene, &[2, 3, 4]), [""; 0], "no aggregated block has room");
    }
}
