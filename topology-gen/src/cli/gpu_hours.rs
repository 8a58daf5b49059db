//! `topology-gen gpu-hours`: who had how many GPU hours in which NVLink partition.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use fabric::{Blame, Report};
use replay::accounting;

use super::diff::topologies_of;
use super::{Output, in_file, read_text, show};
use crate::emit::gpu_hours as emit;
use crate::failure::{Failure, OK};
use crate::gpu_hours::{By, Window, gpu_hours};
use crate::time;

/// Options of `gpu-hours`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The output of `sacct --json`, - for standard input
    ///
    /// sacct --allusers --duplicates --starttime=2026-11-01 --endtime=2026-12-01 --json
    #[arg(value_name = "FILE")]
    records: PathBuf,
    /// The topology.yaml with the NVLink partitions
    #[arg(long, value_name = "FILE", default_value_os_t = super::default_topology_file())]
    file: PathBuf,
    /// Which block topology; without it the default one, else the first
    #[arg(long, value_name = "NAME")]
    topology: Option<String>,
    /// Count only what was from this moment on
    ///
    /// 2026-11-01 or 2026-11-01T08:30:00 in UTC, or @1793491200 in seconds since 1970, as `date +@%s` writes it.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    since: Option<u64>,
    /// Count only what was before this moment
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    until: Option<u64>,
    /// What the hours are divided by: block, partition, account, qos
    #[arg(
        long,
        value_name = "NAMES",
        value_enum,
        value_delimiter = ',',
        hide_possible_values = true,
        default_values_t = [By::Block, By::Partition, By::Account, By::Qos]
    )]
    by: Vec<By>,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV
    #[arg(long)]
    csv: bool,
}

impl ValueEnum for By {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Block, Self::Partition, Self::Account, Self::Qos]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Block => "block",
            Self::Partition => "partition",
            Self::Account => "account",
            Self::Qos => "qos",
        }))
    }
}

pub(super) fn run(args: &Args, output: &mut Output<'_>) -> Result<u8, Failure> {
    let whole = Window::default();
    let window =
        Window { since: args.since.unwrap_or(whole.since), until: args.until.unwrap_or(whole.until) };
    if window.since >= window.until {
        return Err(Failure(Report::new(Blame::Config, "--since is not before --until")));
    }
    let topologies = topologies_of(&args.file)?;
    let topology = show::chosen(&topologies, args.topology.as_deref())?;
    let records = accounting::records(&read_text(&args.records)?).map_err(|error| {
        in_file(&args.records, &error).hint("give it what `sacct --json` of Slurm 23.11 or later prints")
    })?;
    let report =
        gpu_hours(&records, topology, window, &args.by).map_err(|error| in_file(&args.records, &error))?;
    output.data(&match (args.json, args.csv) {
        (true, _) => emit::json(&report, window),
        (_, true) => emit::csv(&report),
        _ => emit::table(&report),
    })?;
    for line in emit::words(&report, window) {
        output.say(line);
    }
    if report.rows.is_empty() && report.left_out.without_gpus > 0 {
        output.say("hint: Slurm keeps GPUs only with AccountingStorageTRES=gres/gpu in slurm.conf");
    }
    Ok(OK)
}
