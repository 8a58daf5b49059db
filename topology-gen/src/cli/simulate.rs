//! `topology-gen simulate`: what a placement policy does to a site's workload.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use fabric::placement::Rules;
use fabric::{Blame, BlockSizes, Report};
use replay::HOUR;
use replay::job::Job;
use replay::outages::Failures;
use replay::placer::{Naive, Ours, Placer};
use replay::report::{Run, page, table};
use replay::scenario::{Reference, Scenario, Settings};
use replay::segments::SegmentRules;
use replay::site::Site;
use replay::workload::swf::Trace;
use replay::workload::{csv, reference, sacct, swf};

use super::diff::topologies_of;
use super::{Output, in_file, read_text, show};
use crate::failure::{Failure, OK};
use crate::plan::BaseSize;
use crate::write;

/// Options of `simulate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Jobs from a file; without it the jobs of the reference scenario
    ///
    /// - for standard input.
    #[arg(long, value_name = "FILE")]
    workload: Option<PathBuf>,
    /// What the file is: csv, swf, sacct; without it by its ending
    ///
    /// csv has the columns submit,trays,run and, if wanted, limit,segment,priority,name. swf is the Standard Workload Format,
    /// .swf; sacct the output of `sacct --json`, .json. Every other ending is csv.
    #[arg(long, value_enum, value_name = "FORMAT", requires = "workload", hide_possible_values = true)]
    format: Option<Format>,
    /// Processors of the machine of an swf file that make one tray
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    processors_per_tray: u32,
    /// Write the jobs to this file as CSV
    #[arg(long, value_name = "FILE")]
    save_workload: Option<PathBuf>,
    /// Jobs of the reference scenario
    #[arg(long, value_name = "N", default_value_t = Reference::default().jobs, conflicts_with = "workload")]
    jobs: u32,
    /// Days over which they arrive
    #[arg(long, value_name = "N", default_value_t = Reference::default().days, value_parser = clap::value_parser!(u64).range(1..=3650), conflicts_with = "workload")]
    days: u64,
    /// Tray hours that they ask for, by those that the trays in service can give in that time
    #[arg(long, value_name = "RATIO", default_value_t = Reference::default().load, value_parser = positive, conflicts_with = "workload")]
    load: f64,
    #[command(flatten)]
    fabric: FabricArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Seeds of jobs and failures, each a replay of its own
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1])]
    seed: Vec<u64>,
    /// Share of the time that a tray is out of service
    #[arg(long, value_name = "SHARE", default_value_t = Reference::default().failures.unavailable, value_parser = share)]
    unavailable: f64,
    /// Mean hours until a tray is back
    #[arg(long, value_name = "HOURS", default_value_t = Reference::default().failures.repair_hours, value_parser = positive)]
    repair_hours: f64,
    /// Hours of a job's run between two checkpoints
    ///
    /// From the last one it goes on after the loss of a tray; 0: from its begin.
    #[arg(long, value_name = "HOURS", default_value_t = Settings::default().checkpoint / HOUR)]
    checkpoint_hours: u64,
    /// Hours at the begin, while the site fills up, that count for nothing
    ///
    /// At most half of the time is left out.
    #[arg(long, value_name = "HOURS", default_value_t = Settings::default().warm_up / HOUR)]
    warm_up_hours: u64,
    /// Jobs behind the first blocked one that a cycle looks at, as bf_max_job_test
    #[arg(long, value_name = "N", default_value_t = Settings::default().depth)]
    depth: usize,
    /// Seconds between two scheduling cycles at least
    #[arg(long, value_name = "SECONDS", default_value_t = Settings::default().interval, value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
    /// Write all numbers to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with tables and charts to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the charts as SVG into this folder, which is made if need be
    #[arg(long, value_name = "FOLDER")]
    svg: Option<PathBuf>,
}

/// The fabric.
#[derive(Debug, clap::Args)]
struct FabricArgs {
    /// Take the NVLink partitions from the blocks of this topology.yaml instead of alike racks
    #[arg(long, value_name = "FILE", conflicts_with_all = ["racks", "trays", "split_racks", "drained"])]
    file: Option<PathBuf>,
    /// Which block topology of the file; without it the default one, else the first
    #[arg(long, value_name = "NAME", requires = "file")]
    topology: Option<String>,
    /// Racks
    #[arg(long, value_name = "N", default_value_t = Reference::default().racks)]
    racks: u32,
    /// Trays of a rack
    #[arg(long, value_name = "N", default_value_t = Reference::default().trays)]
    trays: u32,
    /// NVLink partitions of a rack
    #[arg(long, value_name = "N", default_value_t = Reference::default().parts)]
    split_racks: u32,
    /// Trays of each rack that are drained all the time
    #[arg(long, value_name = "N", default_value_t = Reference::default().drained)]
    drained: u32,
}

/// The policy.
#[derive(Debug, clap::Args)]
struct PolicyArgs {
    /// Who places the jobs: ours, naive
    ///
    /// ours is the plugin's choice; naive takes the first free trays wherever they are.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Who::Ours, Who::Naive], hide_possible_values = true, value_name = "WHO")]
    placer: Vec<Who>,
    /// Settings of the plugin as in slurm.conf's TopologyParam
    ///
    /// nvlink_split=packed, nvlink_span=degraded, nvlink_room=16, nvlink_patience=180.
    #[arg(long, value_name = "PARAMETERS", default_value = "")]
    topology_param: String,
    /// Base size, or -N for N trays to spare: larger jobs span while trays are away
    ///
    /// To spare in the largest NVLink partition. Without it only jobs larger than every partition span.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    base_size: Option<BaseSize>,
    /// Trays of each NVLink partition that jobs do not get, to stand in for broken ones
    #[arg(long, value_name = "N", default_value_t = 0)]
    spares: u32,
    /// Segments of jobs that have none, by their trays
    ///
    /// 17-:16,8-16:4 gives jobs of 17 trays and more segments of 16, those of 8 to 16 segments of 4.
    #[arg(long, value_name = "RULES", default_value = "")]
    segments: SegmentRules,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Who {
    Ours,
    Naive,
}

/// What a file of jobs is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Csv,
    Swf,
    Sacct,
}

fn number(text: &str, fits: impl Fn(f64) -> bool, what: &str) -> Result<f64, String> {
    text.parse().ok().filter(|&number| fits(number)).ok_or_else(|| format!("not {what}"))
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, |number| number > 0.0 && number <= 1e6, "a number above 0, up to a million")
}

fn share(text: &str) -> Result<f64, String> {
    number(text, |number| (0.0..=0.9).contains(&number), "a number from 0 to 0.9")
}

pub(super) fn run(args: &Args, output: &mut Output<'_>) -> Result<u8, Failure> {
    let mut rules = Rules::default();
    for unknown in rules.read(&args.policy.topology_param) {
        output.say(format_args!("warning: {unknown}: no such setting of slurm-nvlink; it is ignored"));
    }
    let mut report = replay::report::Report { title: title(args), assumptions: Vec::new(), runs: Vec::new() };
    let workload = args.workload.as_deref().map(|path| read(path, args, output)).transpose()?;
    for &seed in &args.seed {
        let scenario = scenario(args, seed, workload.as_deref())?;
        if let Some(path) = &args.save_workload {
            put(path, &csv::emit(&scenario.jobs), output)?;
        }
        for &who in &args.policy.placer {
            output.say(format_args!("seed {seed}: {} jobs placed by {}", scenario.jobs.len(), who.name()));
            let mut placer: Box<dyn Placer> = match who {
                Who::Ours => Box::new(Ours::new(rules.clone())),
                Who::Naive => Box::new(Naive),
            };
            let summary =
                replay::run(&scenario, placer.as_mut()).map_err(|error| Failure::of(Blame::Bug, &error))?;
            report.runs.push(Run { placer: who.name().to_owned(), summary });
        }
        report.assumptions = assumptions(args, &scenario, &rules);
    }
    output.data(&table::text(&report))?;
    if let Some(path) = &args.json {
        put(path, &report.json().map_err(|error| Failure::of(Blame::Bug, &error))?, output)?;
    }
    if let Some(path) = &args.html {
        put(path, &page::text(&report), output)?;
    }
    if let Some(folder) = &args.svg {
        std::fs::create_dir_all(folder).map_err(|error| {
            Failure(Report::new(
                Blame::Config,
                format!("cannot make the folder {}: {error}", folder.display()),
            ))
        })?;
        for (name, chart) in report.charts() {
            put(&folder.join(format!("{name}.svg")), &chart, output)?;
        }
    }
    Ok(OK)
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Naive => "naive",
        }
    }
}

/// Reads the jobs of a file.
fn read(path: &Path, args: &Args, output: &mut Output<'_>) -> Result<Vec<Job>, Failure> {
    let by_ending = || match path.extension().and_then(|ending| ending.to_str()) {
        Some("swf") => Format::Swf,
        Some("json") => Format::Sacct,
        _ => Format::Csv,
    };
    let text = read_text(path)?;
    let trace = match args.format.unwrap_or_else(by_ending) {
        Format::Csv => csv::parse(&text).map(|jobs| Trace { jobs, left_out: 0 }),
        Format::Swf => swf::parse(&text, args.processors_per_tray),
        Format::Sacct => sacct::parse(&text),
    };
    let trace = trace.map_err(|error| in_file(path, &error))?;
    if trace.left_out > 0 {
        output.say(format_args!(
            "{}: {} jobs never ran there and are left out",
            path.display(),
            trace.left_out
        ));
    }
    Ok(trace.jobs)
}

fn put(path: &Path, text: &str, output: &mut Output<'_>) -> Result<(), Failure> {
    write::replace(path, text).map_err(|error| Failure::of(Blame::Config, &error))?;
    output.say(format_args!("wrote {}", path.display()));
    Ok(())
}

fn scenario(args: &Args, seed: u64, workload: Option<&[Job]>) -> Result<Scenario, Failure> {
    let wrong = |error: &dyn std::error::Error| Failure(Report::of_error(Blame::Config, error));
    let reference = reference(args, seed);
    let settings = Settings {
        interval: args.interval,
        depth: args.depth,
        checkpoint: args.checkpoint_hours.saturating_mul(HOUR),
        warm_up: args.warm_up_hours.saturating_mul(HOUR),
        ..Settings::default()
    };
    let site = match &args.fabric.file {
        Some(path) => {
            let topologies = topologies_of(path)?;
            let chosen = show::chosen(&topologies, args.fabric.topology.as_deref())?;
            Site::of_topology(chosen).map_err(|error| in_file(path, &error))?
        }
        None => Site::racks(reference.racks, reference.trays, reference.parts, reference.drained)
            .map_err(|error| wrong(&error))?,
    };
    let site = match args.policy.base_size {
        Some(base) => {
            let sizes = block_size(base, site.largest())?;
            site.with_base_size(&sizes)
        }
        None => site,
    };
    let failures = reference.failures;
    let mut scenario = match workload {
        Some(jobs) => Scenario { site, jobs: jobs.to_vec(), failures, seed, horizon: None, settings },
        None => reference.on(site, settings),
    };
    args.policy.segments.apply(&mut scenario.jobs);
    scenario.site = scenario.site.with_spares(args.policy.spares).map_err(|error| wrong(&error))?;
    Ok(scenario)
}

/// A base size as the only one.
fn block_size(asked: BaseSize, largest: u32) -> Result<BlockSizes, Failure> {
    let wrong = |error: &dyn std::error::Error| Failure(Report::of_error(Blame::Config, error));
    let base = asked.resolve(largest).map_err(|error| wrong(&error))?;
    BlockSizes::new(vec![base]).map_err(|error| wrong(&error))
}

/// The reference scenario with what the command line says.
fn reference(args: &Args, seed: u64) -> Reference {
    let Args { jobs, days, load, unavailable, repair_hours, .. } = *args;
    let FabricArgs { racks, trays, split_racks, drained, .. } = args.fabric;
    let failures = Failures { unavailable, repair_hours };
    Reference { racks, trays, parts: split_racks, drained, jobs, days, load, failures, seed }
}

fn title(args: &Args) -> String {
    let reference = reference(args, 0);
    let fabric = match &args.fabric.file {
        Some(path) => path.display().to_string(),
        None => reference.racks_in_words(),
    };
    let jobs = match &args.workload {
        Some(path) => format!("jobs of {}", path.display()),
        None => reference.jobs_in_words(),
    };
    format!("{fabric}; {jobs} (simulated time, real placement)")
}

fn assumptions(args: &Args, scenario: &Scenario, rules: &Rules) -> Vec<String> {
    let mut said = scenario.assumptions();
    if args.workload.is_none() {
        said.extend(reference::assumptions());
    }
    said.extend(Ours::assumptions(rules, &scenario.site));
    said.push(Naive::ASSUMPTION.to_owned());
    let rules = args.policy.segments.to_string();
    if !rules.is_empty() {
        said.push(format!("Segments of jobs that have none: {rules}."));
    }
    said
}
