#![forbid(unsafe_code)]
//! Stock and ours on every entry point that is not the choice of nodes: the answers must be the same, letter by letter,
//! before and after nodes were moved between blocks.

use anyhow::ensure;

use crate::diff::Pair;
use crate::host::Parts;
use crate::protocol::EntryQuestion;
use crate::random::{Random, Variety};
use crate::scene::Cluster;

/// Compares the answers on so many random clusters. Returns how many lines were compared.
///
/// # Errors
/// Two answers differ, or the hosts cannot run.
pub fn compare(parts: &Parts, seed: u64, clusters: u32) -> anyhow::Result<usize> {
    let mut random = Random::new(seed);
    let mut lines = 0;
    for _ in 0..clusters {
        let cluster = random.cluster(&[Variety::Levels], Some(60), None);
        let Pair { stock, ours } = &mut Pair::start(parts, &cluster, false)?;
        for round in 0..3 {
            let moves = if round == 0 { Vec::new() } else { moves(&mut random, &cluster) };
            let says = || format!("seed {seed}, {cluster:?}, {moves:?}");
            for (node, block) in &moves {
                let theirs = stock.move_node(*node, block.clone())?;
                let us = ours.move_node(*node, block.clone())?;
                ensure!(theirs == us, "{}: {theirs} and {us}", says());
            }
            let question = EntryQuestion { seed: round, blocks: blocks(&cluster) };
            let (theirs, us) = (stock.entries(question.clone())?, ours.entries(question)?);
            lines += theirs.lines().count();
            let differs = theirs.lines().zip(us.lines()).find(|(theirs, us)| theirs != us);
            ensure!(theirs == us, "{}: stock and ours say {differs:?}", says());
        }
    }
    Ok(lines)
}

/// Base blocks, aggregated ones as Slurm names them, and one that does not exist.
fn blocks(cluster: &Cluster) -> Vec<String> {
    let base = (1..=cluster.racks.len()).map(|rack| format!("b{rack}"));
    base.chain(["b[1-2]", "b[1-4]", "b[3-4]", "nowhere"].map(str::to_owned)).collect()
}

/// Nodes, and the block to which each goes; None: out of every block.
fn moves(random: &mut Random, cluster: &Cluster) -> Vec<(u32, Option<String>)> {
    let racks = cluster.racks.len() as u32;
    let one = |_| {
        let node = random.between(0, cluster.nodes() as u32 - 1);
        let place = match random.between(0, 9) {
            0 => None,
            1 => Some("nowhere".to_owned()),
            _ => Some(format!("b{}", random.between(1, racks))),
        };
        (node, place)
    };
    (0..4).map(one).collect()
}
