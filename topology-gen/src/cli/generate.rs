//! `topology-gen generate`: all trays to blocks to a file.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use fabric::topology::cluster_default;
use fabric::{Blame, HostList, NodeName, Report, Topology};

use super::diff::ControllerArgs;
use super::{Output, in_file, read_text};
use crate::emit::{Racks, count, json, svg, table, yaml};
use crate::failure::{Failure, OK, PROBLEMS};
use crate::plan::{self, Names, Plan, PlanError, compose};
use crate::reconcile::{Reason, Trays, reconcile};
use crate::source::{Inventory, Observation, Seen, file, nvidia_smi, slurm};
use crate::write::{self, Written};

/// What to do about trays that hold the file back.
pub(super) const HELD: &str =
    "hint: mend the refused trays, drop them with --ignore, or leave them out with --accept-partial";
/// Topology for nodes without multi-node NVLink.
const FLAT: &str = "flat";

/// Options of `generate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    plan: PlanArgs,
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

/// Where facts come from and what is planned with them.
#[derive(Debug, clap::Args)]
pub(super) struct PlanArgs {
    /// Read the output of `scontrol show nodes --json` from a file, - for standard input, instead of asking Slurm
    #[arg(long, value_name = "FILE", group = "source")]
    nodes_json: Option<PathBuf>,
    /// Read a JSON object of node names and what `topology-gen probe` printed there, as `collect` writes it
    #[arg(long, value_name = "FILE", group = "source")]
    readings: Option<PathBuf>,
    /// Read the CSV of nvidia-smi from many nodes, each line with `node: ` in front, - for standard input
    #[arg(long, value_name = "FILE", group = "source")]
    nvidia_smi_csv: Option<PathBuf>,
    /// The fields that were asked of nvidia-smi, when its CSV has no header
    #[arg(long, value_name = "FIELDS", default_value = nvidia_smi::FIELDS)]
    csv_fields: String,
    /// Read a folder with the output of `nvidia-smi -q` in one file for each node: NODE or NODE.txt
    #[arg(long, value_name = "FOLDER", group = "source")]
    nvidia_smi_folder: Option<PathBuf>,
    #[command(flatten)]
    pub(super) controller: ControllerArgs,
    /// Base block size; without it the tray count of the largest NVLink partition, or a larger one of the previous file
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65535))]
    base_size: Option<u32>,
    /// GPUs each tray should have; without it what Slurm's Gres says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    expect_gpus: Option<u32>,
    /// Nodes to leave out of all blocks
    #[arg(long, value_name = "HOSTLIST")]
    ignore: Option<HostList>,
    /// Name of the block topology
    #[arg(long, value_name = "NAME", default_value = "nvlink")]
    topology: String,
    /// Forget block names and positions of the present file
    #[arg(long)]
    fresh: bool,
    /// Write the file though some trays are refused; these trays are left out
    #[arg(long)]
    accept_partial: bool,
}

/// What to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// topology.yaml
    Yaml,
    /// A table of blocks
    Table,
    /// Blocks and the reason of every node that is in none
    Json,
    /// A picture of the blocks
    Svg,
}

/// A plan and the file that says it.
pub(super) struct Planned {
    plan: Plan,
    trays: Trays,
    topologies: Vec<Topology>,
    /// The new topology.yaml.
    pub(super) text: String,
    /// Whether some trays are refused and nobody has said that the rest will do.
    pub(super) held: bool,
}

pub(super) fn run(args: &Args, output: &mut Output<'_>) -> Result<u8, Failure> {
    let previous = args.previous.as_deref().or(args.out.as_deref().filter(|out| out.exists()));
    let names = Names { block: &args.plan.topology, flat: FLAT };
    let Planned { plan, trays, topologies, text, held } = planned(&args.plan, previous, output)?;
    match (&args.out, args.format) {
        (Some(path), _) if held => output.say(format_args!("{} is not touched", path.display())),
        (Some(path), _) => put(path, &text, output)?,
        (None, Format::Yaml) if held => {}
        (None, Format::Yaml) => output.data(&text)?,
        (None, Format::Json) => output.data(&json::text(&plan, &trays, &topologies))?,
        (None, Format::Table) => output.data(&table::text(&racks(&plan, &topologies, names)))?,
        (None, Format::Svg) => {
            output.data(&svg::text(&racks(&plan, &topologies, names), "NVLink partitions"))?
        }
    }
    if held {
        output.say(HELD);
    }
    Ok(if trays.has_problems() { PROBLEMS } else { OK })
}

/// Plans from the facts and the file of before, and says what it found.
pub(super) fn planned(
    args: &PlanArgs,
    previous: Option<&Path>,
    output: &mut Output<'_>,
) -> Result<Planned, Failure> {
    let inventory = inventory(args)?;
    for note in &inventory.notes {
        output.say(format_args!("warning: {note}"));
    }
    let previous = self::previous(previous.filter(|_| !args.fresh), output)?;
    let ignored: BTreeSet<NodeName> = args.ignore.iter().flatten().cloned().collect();
    let trays = reconcile(&inventory, args.expect_gpus, &ignored);
    say_reasons(&trays, output);
    let before = previous.iter().find(|topology| topology.name == args.topology).and_then(Topology::block);
    let plan = plan::plan(&trays, before, args.base_size).map_err(|error| plan_failure(&error, &trays))?;
    say_plan(&plan, &trays, before.is_some(), output);
    let names = Names { block: &args.topology, flat: FLAT };
    let topologies = compose(&plan, &previous, names, !trays.outside.is_empty());
    if let Some(default) = cluster_default(&previous).filter(|topology| topology.name != args.topology) {
        output.say(format_args!(
            "note: the cluster default stays topology {:?} of the previous file",
            default.name
        ));
    }
    let text = checked(yaml::text(&topologies, &plan.guarantee()), &topologies)?;
    let held = trays.has_problems() && !args.accept_partial;
    Ok(Planned { plan, trays, topologies, text, held })
}

fn inventory(args: &PlanArgs) -> Result<Inventory, Failure> {
    let slurm_failure = |error: slurm::SlurmError| {
        let hint = error.hint();
        Failure::of(Blame::Config, &error).hint(hint)
    };
    if let Some(path) = &args.readings {
        return file::parse(&read_text(path)?).map_err(|error| in_file(path, &error));
    }
    if let Some(path) = &args.nvidia_smi_csv {
        return Ok(nvidia_smi::nodes(&read_text(path)?, &args.csv_fields));
    }
    if let Some(folder) = &args.nvidia_smi_folder {
        return from_folder(folder);
    }
    let text = match &args.nodes_json {
        Some(path) => read_text(path)?,
        None => {
            let ControllerArgs { scontrol, timeout } = &args.controller;
            slurm::ask(scontrol, Duration::from_secs(*timeout)).map_err(slurm_failure)?
        }
    };
    slurm::parse(&text).map_err(slurm_failure)
}

/// One file for each node; one that cannot be understood makes its node silent.
fn from_folder(folder: &Path) -> Result<Inventory, Failure> {
    let fault = |error: std::io::Error| {
        let report = Report::new(Blame::Config, format!("cannot read {}", folder.display()));
        Failure(report.with_detail(format!("because: {error}")))
    };
    let mut inventory = Inventory::default();
    for entry in std::fs::read_dir(folder).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let node = match NodeName::new(name.strip_suffix(".txt").unwrap_or(&name)) {
            Ok(node) if path.is_file() => node,
            _ => {
                inventory.notes.push(format!("{} is no file of a node", path.display()));
                continue;
            }
        };
        let seen = nvidia_smi::tray(&read_text(&path)?).map_or_else(Seen::Silent, Seen::Reading);
        inventory.observations.push(Observation { node, seen, stale: None, expected_gpus: None });
    }
    Ok(inventory)
}

/// The topologies of the previous file; none without one.
fn previous(path: Option<&Path>, output: &mut Output<'_>) -> Result<Vec<Topology>, Failure> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let (topologies, notes) = fabric::slurm_yaml::parse_with_notes(&read_text(path)?).map_err(|error| {
        in_file(path, &error)
            .hint("mend the file, or give --fresh to plan without it: block names and positions then change")
    })?;
    for note in notes {
        output.say(format_args!("warning: {}: {note}", path.display()));
    }
    Ok(topologies)
}

fn plan_failure(error: &PlanError, trays: &Trays) -> Failure {
    let failure = Failure::of(Blame::Config, error);
    match error {
        PlanError::NothingValid if trays.silent.is_empty() => {
            failure.hint("without multi-node NVLink Slurm needs no topology.yaml; else see the reasons above")
        }
        PlanError::NothingValid => failure.hint(
            "start slurmd on the trays with --extra \"$(topology-gen probe --extra)\", or collect topology-gen probe into \
             --readings FILE",
        ),
        PlanError::BaseTooLarge { .. } => failure.hint("give a base size up to the trays of the largest NVLink partition"),
        PlanError::Base { .. } => failure,
    }
}

/// What is written must read back as what was planned; anything else is our fault and must not reach Slurm.
fn checked(text: String, topologies: &[Topology]) -> Result<String, Failure> {
    match fabric::slurm_yaml::parse(&text) {
        Ok(read) if read == topologies => Ok(text),
        Ok(_) => Err(Failure(Report::new(Blame::Bug, "the new topology.yaml does not read back as planned"))),
        Err(error) => {
            let mut failure = Failure::of(Blame::Bug, &error);
            failure.0.message = format!("the new topology.yaml cannot be read back: {}", failure.0.message);
            Err(failure)
        }
    }
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

fn racks(plan: &Plan, topologies: &[Topology], names: Names<'_>) -> Racks {
    let stale = plan.blocks.iter().flat_map(|block| &block.stale).cloned().collect();
    let ours = topologies.iter().find(|topology| topology.name == names.block).and_then(Topology::block);
    match ours {
        Some(block) => Racks::new(block, Vec::new(), &stale),
        None => Racks { base: None, columns: Vec::new(), outside: Vec::new(), jobs: Vec::new() },
    }
}

/// One line for all nodes with the same reason.
fn say_reasons(trays: &Trays, output: &mut Output<'_>) {
    let groups: [(&str, &[Reason]); 5] = [
        ("refused", &trays.rejected),
        ("refused, not ready", &trays.pending),
        ("warning", &trays.warnings),
        ("no reading", &trays.silent),
        ("outside NVLink", &trays.outside),
    ];
    for (label, reasons) in groups {
        let mut nodes: BTreeMap<&str, HostList> = BTreeMap::new();
        for reason in reasons {
            nodes.entry(&reason.why).or_default().push(reason.node.clone());
        }
        for (why, nodes) in nodes {
            output.say(format_args!("{label}: {nodes}: {why}"));
        }
    }
}

fn say_plan(plan: &Plan, trays: &Trays, known: bool, output: &mut Output<'_>) {
    let total: usize = plan.blocks.iter().map(|block| block.nodes.len()).sum();
    output.say(format_args!(
        "{}, {} in blocks, {} outside NVLink",
        count(trays.partitions.len(), "NVLink partition"),
        count(total, "tray"),
        count(trays.outside.len(), "node"),
    ));
    for block in plan.blocks.iter().filter(|block| !block.stale.is_empty()) {
        let stale: HostList =
            block.nodes.iter().filter(|node| block.stale.contains(*node)).cloned().collect();
        output.say(format_args!("stale: {stale}: kept in {} where it was last", block.name));
    }
    if !plan.unplaced.is_empty() {
        let nodes: HostList = plan.unplaced.iter().cloned().collect();
        output.say(format_args!("warning: {nodes}: in no block, nothing is known of it"));
    }
    if known {
        for change in &plan.changes {
            output.say(format_args!("change: {change}"));
        }
    }
    if !trays.outside.is_empty() {
        output
            .say(format_args!("hint: give partitions of nodes outside NVLink Topology={FLAT} in slurm.conf"));
    }
    output.say(plan.guarantee());
}
