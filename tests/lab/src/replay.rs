//! A workload replayed with Slurm's own code as the placer, and with others beside it.
//!
//! The same replay as `topology-gen simulate`, with two more placers: Slurm's topology/block (`stock`), and our plugin as
//! slurmctld loads it (`plugin`), which must place every job as the placement core alone does (`ours`). Slurm is real, the
//! cluster, time, jobs and failures are simulated.
#![forbid(unsafe_code)]

mod placer;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use fabric::placement::Rules;
use replay::placer::{Naive, Ours, Placer};
use replay::report::{Report, Run, page, table};
use replay::scenario::{Reference, Scenario, Settings};
use replay::workload::{csv, reference};

use crate::host::{Loads, Parts};
pub use placer::SlurmPlacer;

/// `lab replay`
#[derive(Debug, Args)]
pub struct Options {
    /// Jobs from a CSV file, as topology-gen simulate reads it; without it the reference scenario.
    #[arg(long)]
    workload: Option<PathBuf>,
    /// Seeds of jobs and failures.
    #[arg(long, value_delimiter = ',', default_values_t = [1])]
    seed: Vec<u64>,
    /// Racks.
    #[arg(long, default_value_t = Reference::default().racks)]
    racks: u32,
    /// Trays of a rack.
    #[arg(long, default_value_t = Reference::default().trays)]
    trays: u32,
    /// NVLink partitions of a rack.
    #[arg(long, default_value_t = Reference::default().parts)]
    split_racks: u32,
    /// Drained trays of each rack.
    #[arg(long, default_value_t = Reference::default().drained)]
    drained: u32,
    /// Jobs of the reference scenario.
    #[arg(long, default_value_t = Reference::default().jobs)]
    jobs: u32,
    /// Days over which they arrive.
    #[arg(long, default_value_t = Reference::default().days)]
    days: u64,
    /// Tray hours that they ask for, by those that there are.
    #[arg(long, default_value_t = Reference::default().load)]
    load: f64,
    /// Settings of ours, as in TopologyParam.
    #[arg(long, default_value = "")]
    topology_param: String,
    /// Who places the jobs.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Who::Stock, Who::Ours, Who::Naive])]
    placer: Vec<Who>,
    /// Name of the files with the numbers and the page, NAME.json and NAME.html, in target/lab.
    #[arg(long, default_value = "replay")]
    name: String,
}

/// A placer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Who {
    /// Slurm's own topology/block.
    Stock,
    /// Our plugin, loaded by Slurm.
    Plugin,
    /// Our placement core alone.
    Ours,
    /// The first free trays.
    Naive,
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Plugin => "plugin",
            Self::Ours => "ours",
            Self::Naive => "naive",
        }
    }
}

/// Replays, prints the tables, and writes the numbers.
///
/// # Errors
/// A host fails, or a file cannot be read or written.
pub fn run(parts: &Parts, options: &Options, folder: &Path) -> anyhow::Result<ExitCode> {
    let mut rules = Rules::default();
    let unknown = rules.read(&options.topology_param);
    if !unknown.is_empty() {
        bail!("no such settings of slurm-nvlink: {}", unknown.join(", "));
    }
    if options.placer.contains(&Who::Plugin) && rules != Rules::default() {
        bail!("the lab's Slurm has no TopologyParam; leave the plugin out, ours is the same choice");
    }
    let mut report = Report { title: title(options), assumptions: Vec::new(), runs: Vec::new() };
    for &seed in &options.seed {
        let scenario = scenario(options, seed)?;
        report.assumptions = scenario.assumptions();
        for who in &options.placer {
            report.assumptions.extend(match who {
                Who::Ours => Ours::assumptions(&rules, &scenario.site),
                Who::Naive => vec![Naive::ASSUMPTION.to_owned()],
                Who::Stock | Who::Plugin => Vec::new(),
            });
        }
        for &who in &options.placer {
            let begin = Instant::now();
            let (summary, asked) = place(parts, &scenario, who, &rules)?;
            eprintln!("seed {seed}, {}: {:.1} s{asked}", who.name(), begin.elapsed().as_secs_f64());
            report.runs.push(Run { placer: who.name().to_owned(), summary });
        }
    }
    if options.workload.is_none() {
        report.assumptions.extend(reference::assumptions());
    }
    print!("{}", table::text(&report));
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (ending, text) in [("json", report.json()?), ("html", page::text(&report))] {
        let file = folder.join(format!("{}.{ending}", options.name));
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        println!("wrote {}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn place(
    parts: &Parts,
    scenario: &Scenario,
    who: Who,
    rules: &Rules,
) -> anyhow::Result<(replay::summary::Summary, String)> {
    let mut other: Box<dyn Placer> = match who {
        Who::Ours => Box::new(Ours::new(rules.clone())),
        Who::Naive => Box::new(Naive),
        Who::Stock | Who::Plugin => {
            let loads = if who == Who::Stock { Loads::Stock } else { Loads::Ours };
            let mut slurm = SlurmPlacer::start(parts, loads, &scenario.site)?;
            let summary = replay::run(scenario, &mut slurm)?;
            let memory = slurm.resident_kb()? / 1024;
            let asked = format!(", Slurm was asked {} times, its process has {memory} MiB", slurm.asked());
            return Ok((summary, asked));
        }
    };
    Ok((replay::run(scenario, other.as_mut())?, String::new()))
}

fn reference(options: &Options, seed: u64) -> Reference {
    Reference {
        racks: options.racks,
        trays: options.trays,
        parts: options.split_racks,
        drained: options.drained,
        jobs: options.jobs,
        days: options.days,
        load: options.load,
        seed,
        ..Reference::default()
    }
}

fn scenario(options: &Options, seed: u64) -> anyhow::Result<Scenario> {
    let mut scenario = reference(options, seed).scenario(Settings::default())?;
    if let Some(file) = &options.workload {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        scenario.jobs = csv::parse(&text).with_context(|| format!("{}", file.display()))?;
        scenario.horizon = None;
    }
    Ok(scenario)
}

fn title(options: &Options) -> String {
    let reference = reference(options, 0);
    let jobs = match &options.workload {
        Some(file) => format!("jobs of {}", file.display()),
        None => reference.jobs_in_words(),
    };
    format!(
        "{}; {jobs} (Slurm's placement code is real; cluster, time, jobs and failures are simulated)",
        reference.racks_in_words()
    )
}
