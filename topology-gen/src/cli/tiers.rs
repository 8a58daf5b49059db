//! `topology-gen tiers`: the lines that offer the topologies of a file to users.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::ValueEnum;
use fabric::{Blame, Report};

use super::Output;
use super::diff::topologies_of;
use crate::emit::tiers::{Options, conf, sacctmgr};
use crate::failure::{Failure, OK};

/// Options of `tiers`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The topology.yaml, - for standard input
    #[arg(value_name = "FILE", default_value_os_t = super::default_topology_file())]
    file: PathBuf,
    /// What to print: conf, lines to include in slurm.conf; sacctmgr, commands for the QOS that --qos names
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Conf, hide_possible_values = true)]
    format: Format,
    /// One more Slurm partition for each NVLink partition
    #[arg(long)]
    blocks: bool,
    /// A QOS for each of them
    ///
    /// A job of a tier then gets no more nodes than its base size, so that none needs a second NVLink partition.
    #[arg(long)]
    qos: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Conf,
    Sacctmgr,
}

pub(super) fn run(args: &Args, output: &mut Output<'_>) -> Result<u8, Failure> {
    let topologies = topologies_of(&args.file)?;
    if !topologies.iter().any(|topology| topology.block().is_some() && !topology.name.is_empty()) {
        let report = Report::new(Blame::Config, "there is no block topology with a name in this file");
        return Err(
            Failure(report).hint("topology-gen generate --tier NAME=-1 makes one with a tray to spare")
        );
    }
    let options = Options { blocks: args.blocks, qos: args.qos };
    output.data(&match args.format {
        Format::Conf => conf(&topologies, options),
        Format::Sacctmgr => sacctmgr(&topologies, options),
    })?;
    if args.qos && args.format == Format::Conf {
        output.say("hint: make the QOS first: topology-gen tiers --format sacctmgr; slurm.conf needs AccountingStorageEnforce=limits");
    }
    Ok(OK)
}
