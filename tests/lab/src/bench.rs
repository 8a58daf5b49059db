//! How long a placement call takes: Slurm's own plugin, ours, and the least that any plugin costs.
//!
//! The three take turns in small rounds, so that a busy machine slows all of them alike. "Floor" is a choice without
//! any thought (the first usable nodes) handed to Slurm's flat evaluator with the cores of just these nodes.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::diff::Pair;
use crate::host::Parts;
use crate::plot;
use crate::protocol::{Answerer, JobQuestion};
use crate::random::Random;
use crate::scene::{Cluster, Job, Scene, Tray, idle_tray, plain_job};

/// Trays of a rack.
const RACK: u32 = 18;
/// CPUs of a tray.
const CPUS: u16 = 64;
/// Rounds in which the three take turns.
const ROUNDS: u32 = 8;
/// What one takes of a round, at most.
const ROUND_NS: u64 = 25_000_000;

/// The job that stock retries node by node, and the largest cluster on which it is asked about it.
const TOO_MANY_CPUS: (&str, usize) = ("16, too many CPUs", 20_000);

/// `bench eval`
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Sizes of the clusters, in nodes; rounded to whole racks of 18.
    #[arg(long, value_delimiter = ',', default_value = "1152,10008,50004")]
    nodes: Vec<u32>,
    /// Only situations whose name contains this text.
    #[arg(long)]
    only: Option<String>,
}

/// Which trays are busy.
#[derive(Debug, Clone, Copy)]
enum Fill {
    /// Every other rack.
    Half,
    /// Every other tray, at random.
    Random,
    /// All but one of twenty trays, at random, and but one of 32 racks.
    NearlyFull,
}

const FILLS: [(Fill, &str); 3] =
    [(Fill::Half, "half"), (Fill::Random, "random"), (Fill::NearlyFull, "nearly full")];

fn jobs() -> Vec<(&'static str, JobQuestion)> {
    let segments = |nodes, segment| JobQuestion { segment, ..plain_job(nodes) };
    vec![
        ("1", plain_job(1)),
        ("16", plain_job(16)),
        ("18", plain_job(18)),
        ("72 --segment=18", segments(72, 18)),
        ("72 --segment=8", segments(72, 8)),
        ("72", plain_job(72)),
        (TOO_MANY_CPUS.0, JobQuestion { min_cpus: 16 * (u32::from(CPUS) + 1), ..plain_job(16) }),
    ]
}

/// Nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Times {
    /// Half of the calls take no longer.
    pub median: u64,
    /// 99 of 100 calls take no longer.
    pub p99: u64,
}

/// One line of the result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Nodes of the cluster.
    pub nodes: u32,
    /// Which trays are busy.
    pub fill: String,
    /// The job.
    pub job: String,
    /// Slurm's return code from stock, 0 for a placement.
    pub stock_rc: i32,
    /// Slurm's return code from ours.
    pub ours_rc: i32,
    /// Slurm's own plugin.
    pub stock: Times,
    /// Ours.
    pub ours: Times,
    /// The least; None for jobs that ours refuses.
    pub floor: Option<Times>,
}

impl Row {
    /// How many times faster ours is than stock, by medians.
    pub fn gain(&self) -> f64 {
        self.stock.median as f64 / self.ours.median.max(1) as f64
    }

    /// How many times the floor ours takes, by medians.
    pub fn over_floor(&self) -> Option<f64> {
        self.floor.map(|floor| self.ours.median as f64 / floor.median.max(1) as f64)
    }
}

/// Measures, prints a table, and writes `eval.json` and `eval.svg` into `folder`.
///
/// # Errors
/// A host fails or a file cannot be written.
pub fn run(parts: &Parts, options: &Options, folder: &Path) -> anyhow::Result<Vec<Row>> {
    println!("microseconds per call: median (p99); Slurm is real, the cluster synthetic");
    let mut rows = Vec::new();
    for &nodes in &options.nodes {
        let racks = nodes.div_ceil(RACK).max(1);
        let cluster =
            Cluster { racks: vec![RACK; racks as usize], block_sizes: vec![RACK], ..Cluster::default() };
        let mut pair = Pair::start(parts, &cluster, false)?;
        println!(
            "\n{} nodes in {racks} partitions; model built in {:.1} ms by stock, {:.1} ms by ours (with stock's beside it)",
            cluster.nodes(),
            pair.stock.build_ns as f64 / 1e6,
            pair.ours.build_ns as f64 / 1e6
        );
        println!(
            "{:<12}{:<20}{:>20}{:>20}{:>20}{:>9}{:>9}  answers",
            "trays busy", "job", "stock", "ours", "floor", "gain", "x floor"
        );
        for (fill, fill_name) in FILLS {
            let trays = trays(fill, racks);
            for (job_name, asked) in jobs() {
                if options.only.as_ref().is_some_and(|only| !format!("{fill_name} {job_name}").contains(only))
                {
                    continue;
                }
                if job_name == TOO_MANY_CPUS.0 && cluster.nodes() > TOO_MANY_CPUS.1 {
                    println!(
                        "{fill_name:<12}{job_name:<20}  not measured: stock alone takes minutes for one answer"
                    );
                    continue;
                }
                let job = Job { asked, excluded: Vec::new() };
                let scene = Scene { cluster: cluster.clone(), trays: trays.clone(), job };
                let row = measure(&mut pair, &scene, fill_name, job_name)?;
                println!("{}", line(&row));
                rows.push(row);
            }
        }
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, text) in [("eval.json", serde_json::to_string_pretty(&rows)?), ("eval.svg", plot::svg(&rows))]
    {
        let file = folder.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        println!("wrote {}", file.display());
    }
    Ok(rows)
}

fn measure(pair: &mut Pair, scene: &Scene, fill: &str, job: &str) -> anyhow::Result<Row> {
    let (stock, ours) = pair.ask(scene)?;
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for (which, times) in times.iter_mut().enumerate() {
            let (host, answerer) = match which {
                0 => (&mut pair.stock, Answerer::Plugin),
                1 => (&mut pair.ours, Answerer::Plugin),
                _ if ours.rc != 0 => continue,
                _ => (&mut pair.stock, Answerer::Floor),
            };
            if round == 0 {
                // The first answer warms the caches and says how many fit a round.
                times.extend(host.time(answerer, 1)?);
            }
            let one = times[0].max(1);
            let repetitions = (ROUND_NS / one).clamp(1, 300) as u32;
            let measured = host.time(answerer, repetitions)?;
            if round == 0 {
                times.clear();
            }
            times.extend(measured);
        }
    }
    let [of_stock, of_ours, of_floor] = times;
    Ok(Row {
        nodes: scene.cluster.nodes() as u32,
        fill: fill.to_owned(),
        job: job.to_owned(),
        stock_rc: stock.rc,
        ours_rc: ours.rc,
        stock: summary(of_stock).unwrap_or(Times { median: 0, p99: 0 }),
        ours: summary(of_ours).unwrap_or(Times { median: 0, p99: 0 }),
        floor: summary(of_floor),
    })
}

fn summary(mut times: Vec<u64>) -> Option<Times> {
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
    Some(Times { median: *at(50)?, p99: *at(99)? })
}

fn line(row: &Row) -> String {
    let cell = |times: Times| format!("{:.1} ({:.1})", times.median as f64 / 1e3, times.p99 as f64 / 1e3);
    let answer = |rc: i32| if rc == 0 { "placed".to_owned() } else { format!("refused {rc}") };
    format!(
        "{:<12}{:<20}{:>20}{:>20}{:>20}{:>8.1}x{:>9}  stock {}, ours {}",
        row.fill,
        row.job,
        cell(row.stock),
        cell(row.ours),
        row.floor.map_or("-".to_owned(), cell),
        row.gain(),
        row.over_floor().map_or("-".to_owned(), |times| format!("{times:.2}")),
        answer(row.stock_rc),
        answer(row.ours_rc)
    )
}

fn trays(fill: Fill, racks: u32) -> Vec<Tray> {
    let mut random = Random::new(1);
    (0..racks * RACK)
        .map(|node| {
            let rack = node / RACK;
            let busy = match fill {
                Fill::Half => rack % 2 == 1,
                Fill::Random => random.percent(50),
                Fill::NearlyFull => random.percent(95) && rack % 32 != 31,
            };
            Tray { busy, ..idle_tray(CPUS) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_99th_of_a_hundred() {
        assert_eq!(summary((0..100).rev().collect()), Some(Times { median: 50, p99: 99 }));
        assert_eq!(summary(vec![7]), Some(Times { median: 7, p99: 7 }));
        assert_eq!(summary(Vec::new()), None);
    }

    #[test]
    fn fills_leave_what_they_say() {
        let free = |fill| trays(fill, 64).iter().filter(|tray| !tray.busy).count();
        assert_eq!(free(Fill::Half), 32 * 18);
        assert!((500..650).contains(&free(Fill::Random)));
        assert!((60..140).contains(&free(Fill::NearlyFull)));
    }
}
