//! How long a placement call takes: Slurm's own plugin, ours, and a choice without any thought.
//!
//! The three take turns in short slices. A machine that does other things disturbs some slices more than others, so each
//! one's figure is the median of its quietest slice; the 99th percentile is that of all. The first call of a slice finds
//! the caches of whoever ran before and is left out: slurmctld has walked over all nodes just before it asks a plugin.
//! "Floor" is that choice: the first usable nodes, handed to Slurm's flat evaluator with the cores of just these nodes. Ours
//! can be below it, because the flat evaluator walks over the whole cluster, and ours asks it only where its answer is not
//! clear beforehand.

mod goals;

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::diff::Pair;
use crate::host::Parts;
use crate::plot;
use crate::protocol::{Answerer, Gpus, JobQuestion};
use crate::random::Random;
use crate::scene::{Cluster, Job, Scene, Tray, idle_tray, plain_job};

/// Trays of a rack.
const RACK: u32 = 18;
/// CPUs of a tray.
const CPUS: u16 = 64;
/// GPUs of a tray, where jobs ask for GPUs.
const GPUS: u16 = 4;
/// Rounds in which the three take turns.
const ROUNDS: u32 = 16;
/// How long a slice is, at most; one call may take longer.
const SLICE_NS: u64 = 12_000_000;
/// Calls of a slice, at most; where jobs ask for GPUs, fewer: all nodes' GPUs are made anew for each call.
const SLICE_CALLS: u64 = 200;
const SLICE_CALLS_GRES: u64 = 5;

/// Jobs that stock retries node by node, and the largest cluster on which it is asked about them.
const RETRIED: ([&str; 3], usize) = (["16, too many CPUs", "16, one CPU too many", "16 --gpus=66"], 20_000);

/// `bench eval`
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Sizes of the clusters, in nodes; rounded to whole racks of 18.
    #[arg(long, value_delimiter = ',', default_value = "1152,10008,50004")]
    nodes: Vec<u32>,
    /// Only situations whose name contains this text.
    #[arg(long)]
    only: Option<String>,
    /// In the place of stock: ours with these settings in slurm.conf's TopologyParam, to see what they cost.
    #[arg(long, value_name = "PARAM")]
    against: Option<String>,
}

impl Options {
    /// What stands in the first column.
    fn first(&self) -> &'static str {
        if self.against.is_some() { "with it" } else { "stock" }
    }
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

fn jobs(gpus: bool) -> Vec<(&'static str, JobQuestion)> {
    let segments = |nodes, segment| JobQuestion { segment, ..plain_job(nodes) };
    let with = |gpus| JobQuestion { gpus: Some(gpus), ..plain_job(16) };
    if gpus {
        return vec![
            ("16 --gpus-per-node=4", with(Gpus::PerNode(GPUS))),
            ("16 --gpus=64", with(Gpus::PerJob(64))),
            ("16 --gpus=66", with(Gpus::PerJob(66))),
        ];
    }
    vec![
        ("1", plain_job(1)),
        ("16", plain_job(16)),
        ("18", plain_job(18)),
        ("72 --segment=18", segments(72, 18)),
        ("72 --segment=8", segments(72, 8)),
        ("72", plain_job(72)),
        ("16, too many CPUs", JobQuestion { min_cpus: 16 * (u32::from(CPUS) + 1), ..plain_job(16) }),
        ("16, one CPU too many", JobQuestion { min_cpus: 16 * u32::from(CPUS) + 1, ..plain_job(16) }),
    ]
}

/// Nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Times {
    /// Half of the calls take no longer, in the quietest slice.
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
    /// A choice without any thought; None for jobs that ours refuses.
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

/// Measures, prints a table, and writes `eval.json` and `eval.svg` into `folder`, unless ours was held against itself.
///
/// # Errors
/// A host fails or a file cannot be written.
pub fn run(parts: &Parts, options: &Options, folder: &Path) -> anyhow::Result<Vec<Row>> {
    println!(
        "microseconds per call: median (p99); Slurm is real, the cluster synthetic; load average {}",
        load_average()
    );
    let mut rows = Vec::new();
    for &nodes in &options.nodes {
        for gpus in [0, GPUS] {
            size(parts, options, nodes, gpus, &mut rows)?;
        }
    }
    if options.against.is_some() {
        println!("\nload average {}", load_average());
        return Ok(rows);
    }
    println!("\n{}load average {}", goals::text(&rows), load_average());
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, text) in [("eval.json", serde_json::to_string_pretty(&rows)?), ("eval.svg", plot::svg(&rows))]
    {
        let file = folder.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        println!("wrote {}", file.display());
    }
    Ok(rows)
}

/// Measures on a cluster of one size.
fn size(parts: &Parts, options: &Options, nodes: u32, gpus: u16, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let racks = nodes.div_ceil(RACK).max(1);
    let cores = if gpus > 0 { CPUS } else { 0 };
    let cluster = Cluster {
        racks: vec![RACK; racks as usize],
        block_sizes: vec![RACK],
        gpus,
        cores,
        ..Cluster::default()
    };
    let mut pair = None;
    for (fill, fill_name) in FILLS {
        for (job_name, asked) in jobs(gpus > 0) {
            let name = format!("{fill_name} {job_name}");
            if options.only.as_ref().is_some_and(|only| !name.contains(only)) {
                continue;
            }
            if pair.is_none() {
                let started = match &options.against {
                    None => Pair::start(parts, &cluster, false)?,
                    Some(param) => Pair::of_ours(parts, &cluster, param)?,
                };
                heading(&started, &cluster, options);
                pair = Some(started);
            }
            let Some(pair) = &mut pair else { continue };
            if options.against.is_none() && RETRIED.0.contains(&job_name) && cluster.nodes() > RETRIED.1 {
                println!(
                    "{fill_name:<12}{job_name:<22}  not measured: stock alone takes minutes for one answer"
                );
                continue;
            }
            let job = Job { asked, excluded: Vec::new(), hres_left: Vec::new() };
            let scene = Scene { cluster: cluster.clone(), trays: trays(fill, racks), job };
            let row = measure(pair, &scene, fill_name, job_name)?;
            println!("{}", line(&row, options.first()));
            rows.push(row);
        }
    }
    Ok(())
}

fn heading(pair: &Pair, cluster: &Cluster, options: &Options) {
    if let Some(param) = &options.against {
        println!("\n\"{}\" is ours with TopologyParam={param}", options.first());
    }
    println!(
        "\n{} nodes in {} partitions{}; model built in {:.1} ms by {}, {:.1} ms by ours (with stock's beside it)",
        cluster.nodes(),
        cluster.racks.len(),
        if cluster.gpus > 0 { ", with GPUs" } else { "" },
        pair.stock.build_ns as f64 / 1e6,
        options.first(),
        pair.ours.build_ns as f64 / 1e6
    );
    println!(
        "{:<12}{:<22}{:>20}{:>20}{:>20}{:>9}{:>9}  answers",
        "trays busy",
        "job",
        options.first(),
        "ours",
        "floor",
        "gain",
        "x floor"
    );
}

/// The machine's load, as the kernel says it.
fn load_average() -> String {
    let all = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    all.split_whitespace().next().unwrap_or("unknown").to_owned()
}

/// The slices of one of the three.
#[derive(Default)]
struct Slices {
    /// The median of each slice.
    medians: Vec<u64>,
    all: Vec<u64>,
    one: u64,
}

impl Slices {
    fn add(&mut self, mut times: Vec<u64>) {
        if times.len() > 1 {
            times.remove(0);
        }
        self.all.extend(&times);
        if let Some(Times { median, .. }) = summary(times) {
            self.medians.push(median);
        }
    }

    fn times(self) -> Option<Times> {
        let median = self.medians.into_iter().min()?;
        Some(Times { median, p99: summary(self.all)?.p99 })
    }
}

fn measure(pair: &mut Pair, scene: &Scene, fill: &str, job: &str) -> anyhow::Result<Row> {
    let (stock, ours) = pair.ask(scene)?;
    let most = if scene.job.asked.gpus.is_some() { SLICE_CALLS_GRES } else { SLICE_CALLS };
    let mut slices = [Slices::default(), Slices::default(), Slices::default()];
    for round in 0..ROUNDS {
        for (which, slices) in slices.iter_mut().enumerate() {
            let (host, answerer) = match which {
                0 => (&mut pair.stock, Answerer::Plugin),
                1 => (&mut pair.ours, Answerer::Plugin),
                _ if ours.rc != 0 => continue,
                _ => (&mut pair.stock, Answerer::Floor),
            };
            if round == 0 {
                slices.one = host.time(answerer, 1)?.first().copied().unwrap_or(1).max(1);
            }
            // What takes a second is seen well enough in a few slices.
            if slices.one > 200_000_000 && round >= 3 {
                continue;
            }
            slices.add(host.time(answerer, (1 + SLICE_NS / slices.one).min(most) as u32)?);
        }
    }
    let [of_stock, of_ours, of_floor] = slices;
    Ok(Row {
        nodes: scene.cluster.nodes() as u32,
        fill: fill.to_owned(),
        job: job.to_owned(),
        stock_rc: stock.rc,
        ours_rc: ours.rc,
        stock: of_stock.times().unwrap_or(Times { median: 0, p99: 0 }),
        ours: of_ours.times().unwrap_or(Times { median: 0, p99: 0 }),
        floor: of_floor.times(),
    })
}

fn summary(mut times: Vec<u64>) -> Option<Times> {
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
    Some(Times { median: *at(50)?, p99: *at(99)? })
}

fn line(row: &Row, first: &str) -> String {
    let cell = |times: Times| format!("{:.1} ({:.1})", times.median as f64 / 1e3, times.p99 as f64 / 1e3);
    let answer = |rc: i32| if rc == 0 { "placed".to_owned() } else { format!("refused {rc}") };
    format!(
        "{:<12}{:<22}{:>20}{:>20}{:>20}{:>8.1}x{:>9}  {first} {}, ours {}",
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
