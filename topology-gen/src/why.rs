//! Whether a job fits now, where, and in one sentence why not: the choice of our plugin, from Slurm's nodes and the blocks.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use fabric::placement::{Candidate, Levels, Partition, Request, Rules, candidates};
use fabric::topology::BlockTopology;
use fabric::{HostList, NodeName};

use crate::check::sizes::impossible;
use crate::site::{Site, SlurmNode};

/// What a user would ask of sbatch.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// `-N`.
    pub nodes: u32,
    /// `--segment`.
    pub segment: Option<NonZeroU32>,
    /// `--spread-segments`.
    pub spread: bool,
    /// `--consolidate-segments`.
    pub consolidate: bool,
    /// The site's settings; the aggregated blocks come from the topology.
    pub settings: Rules,
    /// `-w`.
    pub required: BTreeSet<NodeName>,
    /// `-x`.
    pub excluded: BTreeSet<NodeName>,
    /// `-p`; nodes outside count for nothing.
    pub partition: Option<String>,
}

/// Trays that would be taken from a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The block.
    pub block: String,
    /// How many of its trays.
    pub trays: u32,
    /// Its free trays, of which these are taken.
    pub free: HostList,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It fits now.
    Now(Vec<Place>),
    /// It fits when running jobs have ended; why not now.
    Later(String),
    /// It fits when drained or missing nodes are back; why not before.
    WhenMended(String),
    /// It fits never.
    Never(String),
}

/// Which nodes count as free.
#[derive(Clone, Copy)]
enum As {
    Now,
    AllHealthyIdle,
    AllThere,
}

/// Answers, for whole nodes.
pub fn why(question: &Question, topology: &BlockTopology, site: &Site) -> Answer {
    if let Some(segment) =
        question.segment.filter(|s| question.nodes > s.get() && !question.nodes.is_multiple_of(s.get()))
    {
        return Answer::Never(format!(
            "{} nodes are no multiple of the segment of {segment}",
            question.nodes
        ));
    }
    let lost: Vec<&NodeName> =
        question.required.iter().filter(|node| topology.block_of(node.as_str()).is_none()).collect();
    if let Some(node) = lost.first() {
        return Answer::Never(format!("{node} is in no block"));
    }
    let now = match place(question, topology, site, As::Now) {
        Ok(places) => return Answer::Now(places),
        Err(why) => why,
    };
    if place(question, topology, site, As::AllHealthyIdle).is_ok() {
        return Answer::Later(now);
    }
    match place(question, topology, site, As::AllThere) {
        Ok(_) => Answer::WhenMended(now),
        Err(why) => Answer::Never(why),
    }
}

fn place(question: &Question, topology: &BlockTopology, site: &Site, how: As) -> Result<Vec<Place>, String> {
    let usable = |node: &NodeName| -> Option<&SlurmNode> {
        let facts = site.nodes.get(node)?;
        let here = question.partition.as_ref().is_none_or(|name| facts.partitions.contains(name));
        here.then_some(facts)
    };
    let is_free = |node: &&NodeName| {
        !question.excluded.contains(*node)
            && usable(node).is_some_and(|facts| match how {
                As::Now => facts.is_free(),
                As::AllHealthyIdle => facts.is_healthy(),
                As::AllThere => true,
            })
    };
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let free: Vec<Vec<&NodeName>> =
        topology.blocks.iter().map(|block| block.nodes.iter().filter(is_free).collect()).collect();
    if let Some(node) = question.required.iter().find(|node| !free.iter().flatten().any(|free| free == node))
    {
        return Err(format!("{node}, which the job names, is not free"));
    }
    let partitions: Vec<Partition> = topology
        .blocks
        .iter()
        .zip(&free)
        .map(|(block, free)| Partition {
            trays: count(block.nodes.iter().filter(|node| usable(node).is_some()).count()),
            healthy: count(
                block.nodes.iter().filter(|node| usable(node).is_some_and(SlurmNode::is_healthy)).count(),
            ),
            free: count(free.len()),
            idle: count(free.len()),
            required: count(free.iter().filter(|node| question.required.contains(**node)).count()),
            weight: 0,
            light: count(free.len()),
            // When jobs end decides which partition a job gets, not whether it gets one.
            spare: count(free.len()),
        })
        .collect();
    let request = Request {
        trays: question.nodes,
        segment: question.segment,
        spread: question.spread,
        consolidate: question.consolidate,
        required: count(question.required.len()),
        held: false,
    };
    let levels = match (&topology.sizes, topology.base_size()) {
        (Some(sizes), _) => Levels::new(sizes),
        (None, base) => Levels::by_default(base.unwrap_or(1)),
    };
    let rules = Rules { levels, ..question.settings.clone() };
    let found = candidates(&partitions, &request, &rules).map_err(|refusal| refusal.to_string())?;
    let Some(Candidate { shares }) = found.into_iter().next() else {
        return Err("no choice of blocks fits".to_owned());
    };
    let place = |share: &fabric::placement::Share| {
        Some(Place {
            block: topology.blocks.get(share.partition)?.name.to_string(),
            trays: share.trays,
            free: free.get(share.partition)?.iter().map(|node| (*node).clone()).collect(),
        })
    };
    Ok(shares.iter().filter_map(place).collect())
}

/// Whether Slurm's own topology/block would leave such a job waiting for ever with the healthy nodes of now, in words.
pub fn stock_objection(question: &Question, topology: &BlockTopology, site: &Site) -> Option<String> {
    let base = topology.base_size()?;
    let healthy: Vec<usize> = topology
        .blocks
        .iter()
        .map(|block| {
            block.nodes.iter().filter(|node| site.nodes.get(*node).is_some_and(SlurmNode::is_healthy)).count()
        })
        .collect();
    let size = usize::try_from(question.nodes).ok()?;
    (question.segment.is_none() && impossible(base, &healthy).contains(&size)).then(|| {
        let blocks = question.nodes.div_ceil(base);
        format!("Slurm's own topology/block allows {blocks} blocks for {size} nodes (base size {base}); no {blocks} have so many healthy nodes")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{RACK_A, node, node_list, rack, silent};

    const EXTRA: &str = "";

    fn site() -> (BlockTopology, Site) {
        let busy = |name: &str| vec![node(name, EXTRA, "gpu:4", &["ALLOCATED"])];
        let nodes = [rack("n[1-3]", RACK_A), busy("n4"), rack("n[5-6]", RACK_A), silent("n7"), busy("n8")];
        let text = "topology: t\nblock: {block_sizes: [4], blocks: [{block: a, nodes: 'n[1-4]'}, {block: b, nodes: 'n[5-8]'}]}";
        let block = fabric::slurm_yaml::parse(text).unwrap()[0].block().unwrap().clone();
        (block, crate::site::parse(&node_list(&nodes)).unwrap())
    }

    fn answer(nodes: u32, segment: u32, more: impl FnOnce(&mut Question)) -> Answer {
        let mut question = Question { nodes, segment: NonZeroU32::new(segment), ..Question::default() };
        more(&mut question);
        let (topology, site) = site();
        why(&question, &topology, &site)
    }

    #[test]
    fn a_job_fits_now_later_when_mended_or_never() {
        let Answer::Now(places) = answer(3, 0, |_| {}) else { panic!() };
        assert_eq!(
            (places[0].block.as_str(), places[0].trays, places[0].free.to_string().as_str()),
            ("a", 3, "n[1-3]")
        );
        let later =
            "needs 4 trays in one NVLink partition; the best partition has 3 free and 0 drained or down";
        assert_eq!(answer(4, 0, |_| {}), Answer::Later(later.into()));
        assert!(matches!(answer(8, 0, |_| {}), Answer::WhenMended(_)));
        assert!(matches!(answer(9, 0, |_| {}), Answer::Never(_)));
        assert_eq!(answer(8, 3, |_| {}), Answer::Never("8 nodes are no multiple of the segment of 3".into()));
        let Answer::Now(places) = answer(4, 2, |_| {}) else { panic!() };
        assert_eq!(places.iter().map(|place| place.trays).sum::<u32>(), 4);
    }

    #[test]
    fn named_and_excluded_nodes_count() {
        let named =
            |name: &'static str| move |q: &mut Question| q.required = [NodeName::new(name).unwrap()].into();
        let Answer::Now(places) = answer(2, 0, named("n5")) else { panic!() };
        assert_eq!(places[0].block, "b");
        assert_eq!(answer(2, 0, named("n4")), Answer::Later("n4, which the job names, is not free".into()));
        assert_eq!(answer(2, 0, named("zz")), Answer::Never("zz is in no block".into()));
        let none = |q: &mut Question| q.partition = Some("other".into());
        assert!(matches!(answer(1, 0, none), Answer::Never(_)));
    }

    #[test]
    fn the_sites_settings_count() {
        let (topology, _) = site();
        let idle = crate::site::parse(&node_list(&[rack("n[1-8]", RACK_A)])).unwrap();
        let trays = |parameters: &str| {
            let mut question = Question { nodes: 5, ..Question::default() };
            assert_eq!(question.settings.read(parameters), [""; 0]);
            let answer = why(&question, &topology, &idle);
            let Answer::Now(places) = answer else { panic!("{answer:?}") };
            places.iter().map(|place| place.trays).collect::<Vec<_>>()
        };
        assert_eq!(trays(""), [3, 2]);
        assert_eq!(trays("nvlink_split=packed"), [4, 1]);
    }

    #[test]
    fn what_stock_would_do_is_told() {
        let (topology, site) = site();
        let ask = |nodes| stock_objection(&Question { nodes, ..Question::default() }, &topology, &site);
        assert_eq!(ask(4), None);
        assert_eq!(ask(7), None);
    }
}
