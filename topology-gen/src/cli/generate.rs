//! `topology-gen generate`: all trays to blocks to a file.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use fabric::topology::BlockTopology;
use fabric::{Blame, Report, Topology};

use super::Output;
use super::plan::{HELD, PlanArgs, Planned};
use crate::convert::to_conf;
use crate::emit::{Facts, Racks, State, json, labels, svg, table};
use crate::failure::{Failure, OK, PROBLEMS};
use crate::plan::Plan;
use crate::write::{self, Written};

/// Options of `generate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    result: ResultArgs,
}

/// What is done with the plan.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Result")]
struct ResultArgs {
    /// Write topology.yaml here; without it print to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Keep block names and positions of this file; without it of the output file
    #[arg(long, value_name = "FILE", conflicts_with = "fresh")]
    previous: Option<PathBuf>,
    /// What to print when there is no output file
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Yaml, conflicts_with = "out")]
    format: Format,
}

/// What to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// topology.yaml
    Yaml,
    /// topology.conf, for Slurm before 25.05
    Conf,
    /// A table of blocks
    Table,
    /// Blocks and the reason of every node that is in none
    Json,
    /// A picture of the blocks
    Svg,
    /// NodeSet lines for slurm.conf, one for each block
    Nodesets,
    /// scontrol commands that give each tray its block as a Feature, beside those that it has
    Features,
    /// scontrol commands that give Slurm each tray's reading (Extra)
    Extra,
    /// kubectl commands that label nodes with their NVLink partition (nvidia.com/gpu.clique)
    Labels,
    /// kubectl commands that annotate nodes for Slinky's slurm-operator (topology.slinky.slurm.net/spec)
    Slinky,
}

pub(super) fn run(args: &Args, output: &mut Output<'_>) -> Result<u8, Failure> {
    let ResultArgs { out, previous, format } = &args.result;
    let previous = previous.as_deref().or(out.as_deref().filter(|out| out.exists()));
    let planned = args.plan.planned(previous, output)?;
    match out {
        Some(path) if planned.held => output.say(format_args!("{} is not touched", path.display())),
        Some(path) => put(path, &planned.text, output)?,
        None => print(&planned, *format, args.plan.topology(), output)?,
    }
    if planned.held {
        output.say(HELD);
    }
    Ok(if planned.trays.has_problems() { PROBLEMS } else { OK })
}

fn print(planned: &Planned, format: Format, ours: &str, output: &mut Output<'_>) -> Result<(), Failure> {
    let Planned { plan, tiers, trays, today, topologies, inventory, text, held } = planned;
    let conf = || {
        let ours = topologies.iter().find(|topology| topology.name == ours);
        ours.map_or_else(|| Ok(String::new()), to_conf).map_err(|error| Failure::of(Blame::Bug, &error))
    };
    output.data(&match format {
        // What can be fed to Slurm or Kubernetes is not printed with trays missing.
        Format::Json => json::text(plan, tiers, trays, today.as_ref(), topologies),
        Format::Table => table::text(&racks(plan, topologies, ours)),
        Format::Svg => svg::text(&racks(plan, topologies, ours), "NVLink partitions"),
        _ if *held => return Ok(()),
        Format::Yaml => text.clone(),
        Format::Conf => conf()?,
        Format::Nodesets => labels::node_sets(plan),
        Format::Features if !inventory.complete => {
            let report = Report::new(Blame::Config, "which Features the nodes have is known to Slurm only");
            return Err(Failure(report).hint("take Slurm's own list as the source"));
        }
        Format::Features => labels::features(plan, inventory),
        Format::Extra => labels::extra(inventory),
        Format::Labels => labels::cliques(plan),
        Format::Slinky => labels::slinky(topologies).map_err(|error| Failure::of(Blame::Config, &error))?,
    })
}

fn put(path: &Path, text: &str, output: &mut Output<'_>) -> Result<(), Failure> {
    match write::replace(path, text).map_err(|error| Failure::of(Blame::Config, &error))? {
        Written::Replaced => {
            output.say(format_args!("wrote {}", path.display()));
            output.say("hint: load it with scontrol reconfigure");
        }
        Written::Unchanged => output.say(format_args!("{} is up to date", path.display())),
    }
    Ok(())
}

fn racks(plan: &Plan, topologies: &[Topology], ours: &str) -> Racks {
    let stale = plan.blocks.iter().flat_map(|block| &block.stale);
    let facts =
        Facts { states: stale.map(|node| (node.clone(), State::Stale)).collect(), ..Facts::default() };
    let ours = topologies.iter().find(|topology| topology.name == ours).and_then(Topology::block);
    match ours {
        Some(block) => Racks::new(block, Vec::new(), &facts),
        None => Racks::new(&BlockTopology { sizes: None, blocks: Vec::new() }, Vec::new(), &facts),
    }
}
