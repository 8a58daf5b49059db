//! Which job sizes run on four racks of 18 with one tray drained in each, on ours and on stock: those at which something
//! changes, or every size from 1 to all 72 with `SLURM_NVLINK_SIZES=all`.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case, Setup};
use crate::placement::{clear, drain, note_difference, outcome, per_block, submit};
use anyhow::ensure;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use tests::Cluster;

/// Four racks of 18 trays, without prologs.
const RACKS: Setup = Setup { profile: "gb200-4x18", stock: false, imex: false };
const DRAINED: &str = "r01n01,r02n05,r03n09,r04n18";
/// Trays of a partition, and those of them that are healthy.
const SIZE: usize = 18;
const HEALTHY: usize = SIZE - 1;
const PARTITIONS: usize = 4;
/// Sizes of a quick run: the ends of what fits one, two, three and four partitions, drained trays counted or not.
const SIZES: [usize; 20] = [1, 2, 9, 17, 18, 19, 20, 34, 35, 36, 37, 51, 52, 53, 54, 55, 67, 68, 69, 72];

pub(crate) const CASES: &[Case] =
    &[Case { name: "drained::every_size_that_can_run_runs", body: Body::OnBoth(RACKS, every_size) }];

/// Trays per partition of a job that runs, most first; None for one that waits.
type Shape = Option<Vec<usize>>;
/// The shape of a job of so many trays, for each of several sizes.
type Shapes = Vec<(usize, Shape)>;

/// What ours does with a job of so many trays: whole in a partition while it fits one by its full size, else spread
/// evenly over the fewest partitions that the healthy trays allow.
fn wanted(trays: usize) -> Shape {
    if trays <= SIZE {
        return (trays <= HEALTHY).then(|| vec![trays]);
    }
    let partitions = trays.div_ceil(HEALTHY);
    (partitions <= PARTITIONS)
        .then(|| (0..partitions).map(|place| (trays + partitions - 1 - place) / partitions).collect())
}

fn every_size(cluster: &Cluster) -> anyhow::Result<()> {
    drain(cluster, DRAINED)?;
    let seen = sizes(cluster);
    clear(cluster, DRAINED)?;
    let seen = seen?;
    if cluster.about().plugin == "stock" {
        // Where stock runs a job on more partitions than ours, or ours not at all, ours would be the worse one.
        for (trays, shape) in &seen {
            let (Some(stock), ours) = (shape, wanted(*trays)) else { continue };
            let as_good = ours.as_ref().is_some_and(|ours| ours.len() <= stock.len());
            ensure!(as_good, "{trays} trays: stock {stock:?}, ours {ours:?}");
        }
    } else {
        for (trays, shape) in &seen {
            let wanted = wanted(*trays);
            ensure!(*shape == wanted, "{trays} trays: expected {wanted:?}, saw {shape:?}");
        }
    }
    compare(cluster.about().plugin == "stock", seen);
    Ok(())
}

/// The outcome for each size, each on the empty cluster.
fn sizes(cluster: &Cluster) -> anyhow::Result<Shapes> {
    let sizes: Vec<usize> = match std::env::var("SLURM_NVLINK_SIZES") {
        Ok(all) if all == "all" => (1..=SIZE * PARTITIONS).collect(),
        Ok(other) => anyhow::bail!("SLURM_NVLINK_SIZES={other}: only `all` is known"),
        Err(_) => SIZES.to_vec(),
    };
    let blocks = cluster.blocks()?;
    let healthy: Vec<String> = cluster
        .nodes()
        .into_iter()
        .filter(|node| !DRAINED.split(',').any(|drained| drained == node))
        .collect();
    sizes
        .into_iter()
        .map(|trays| {
            let job = submit(cluster, &[&format!("-N{trays}")])?;
            let nodes = outcome(cluster, job)?;
            cluster.cancel(job)?;
            cluster.wait_idle(&healthy)?;
            let shape = nodes.map(|nodes| {
                let mut shape: Vec<usize> = per_block(&nodes, &blocks).into_values().collect();
                shape.sort_unstable_by(|a, b| b.cmp(a));
                shape
            });
            Ok((trays, shape))
        })
        .collect()
}

/// Notes the two tables side by side once both are there.
fn compare(stock: bool, shapes: Shapes) {
    static SEEN: Mutex<[Option<Shapes>; 2]> = Mutex::new([None, None]);
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    seen[usize::from(stock)] = Some(shapes);
    if let [Some(ours), Some(stock)] = &*seen {
        note_difference(format!(
            "drained::every_size_that_can_run_runs: one tray of 18 drained in each of four racks; jobs of so \
             many trays by the partitions they take: stock {}; ours {}: drained trays are gone for ours, busy for stock, \
             whose limit of partitions counts them",
            in_words(stock),
            in_words(ours)
        ));
    }
}

/// `1 2 9 17 in 1, 18 waits, ...`
fn in_words(shapes: &[(usize, Shape)]) -> String {
    let partitions = |(_, shape): &(usize, Shape)| shape.as_ref().map(Vec::len);
    let mut text = String::new();
    for run in shapes.chunk_by(|a, b| partitions(a) == partitions(b)) {
        let comma = if text.is_empty() { "" } else { ", " };
        let sizes: Vec<String> = run.iter().map(|(trays, _)| trays.to_string()).collect();
        let sizes = sizes.join(" ");
        let _ = match partitions(&run[0]) {
            Some(partitions) => write!(text, "{comma}{sizes} in {partitions}"),
            None => write!(text, "{comma}{sizes} wait"),
        };
    }
    text
}
