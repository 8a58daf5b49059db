//! `topology-gen why`: does a job fit, where, and if not, why?
#![forbid(unsafe_code)]

use std::num::NonZeroU32;
use std::path::PathBuf;

use fabric::placement::{Rules, Standing};
use fabric::{Blame, HostList, Report};

use super::diff::{ControllerArgs, not_answered, topologies_of};
use super::{Output, check, show};
use crate::controller::Controller;
use crate::failure::{Failure, OK, PROBLEMS};
use crate::why::{Answer, Question, stock_objection, why};

/// Options of `why`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Nodes of the job, as for sbatch
    #[arg(short = 'N', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    nodes: u32,
    /// Nodes of one segment, as for sbatch
    #[arg(long, value_name = "N")]
    segment: Option<NonZeroU32>,
    /// No two segments in one block
    #[arg(long, requires = "segment")]
    spread_segments: bool,
    /// All segments in one aggregated block
    #[arg(long, requires = "segment")]
    consolidate_segments: bool,
    /// Nodes that must be in the job
    #[arg(short = 'w', long, value_name = "HOSTLIST")]
    nodelist: Option<HostList>,
    /// Nodes that must not be in the job
    #[arg(short = 'x', long, value_name = "HOSTLIST")]
    exclude: Option<HostList>,
    /// Slurm partition of the job
    #[arg(short = 'p', long, value_name = "NAME")]
    partition: Option<String>,
    /// Blocks of this topology.yaml; without it those that the controller has
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Which block topology; without it the default one, else the first
    #[arg(long, value_name = "NAME")]
    topology: Option<String>,
    /// Read the output of `scontrol show nodes --json` from a file instead of asking Slurm
    ///
    /// - for standard input.
    #[arg(long, value_name = "FILE")]
    nodes_json: Option<PathBuf>,
    /// Settings of the plugin as in slurm.conf's TopologyParam
    ///
    /// Without it those of the controller.
    #[arg(long, value_name = "PARAMETERS")]
    topology_param: Option<String>,
    #[command(flatten)]
    controller: ControllerArgs,
}

pub(super) fn run(args: &Args, output: &mut Output<'_>) -> Result<u8, Failure> {
    let controller = args.controller.controller();
    let topologies = match &args.file {
        Some(path) => topologies_of(path)?,
        None => controller.topologies().map_err(|error| not_answered(&error))?,
    };
    let topology = show::chosen(&topologies, args.topology.as_deref())?;
    let site = match &args.nodes_json {
        Some(path) => check::site_of(path)?,
        None => controller.site().map_err(|error| not_answered(&error))?,
    };
    let mut settings = Rules::default();
    for unknown in settings.read(&parameters(args, &controller)?) {
        output.say(format_args!(
            "warning: TopologyParam={unknown}: no such setting of slurm-nvlink; it is ignored"
        ));
    }
    let question = Question {
        nodes: args.nodes,
        segment: args.segment,
        spread: args.spread_segments,
        consolidate: args.consolidate_segments,
        settings,
        required: args.nodelist.iter().flatten().cloned().collect(),
        excluded: args.exclude.iter().flatten().cloned().collect(),
        partition: args.partition.clone(),
    };
    if question.required.len() > usize::try_from(args.nodes).unwrap_or(usize::MAX) {
        return Err(Failure(Report::new(Blame::Job, "the job names more nodes than it asks for")));
    }
    let (code, text) = match why(&question, topology, &site) {
        Answer::Now(places) => {
            let lines = places.iter().map(|place| {
                format!("  {}: {} of {} free: {}\n", place.block, place.trays, place.free.len(), place.free)
            });
            (OK, format!("fits now\n{}", lines.collect::<String>()))
        }
        Answer::Later(why) => (PROBLEMS, format!("waits for running jobs: {why}\n")),
        Answer::WhenMended(why) => (PROBLEMS, format!("waits for drained or missing nodes: {why}\n")),
        Answer::Never(why) => (PROBLEMS, format!("can never run: {why}\n")),
    };
    output.data(&text)?;
    if code == OK && may_be_held(&question) {
        let minutes = question.settings.patience;
        output.say(format_args!(
            "note: nvlink_patience={minutes}: behind a larger job it may wait all the same, up to {minutes} minutes; slurmctld's log \
             says so"
        ));
    }
    if let Some(objection) = stock_objection(&question, topology, &site) {
        output.say(format_args!("note: {objection}"));
    }
    Ok(code)
}

/// Whether the plugin may hold such a job back behind larger ones.
fn may_be_held(question: &Question) -> bool {
    let behind = Standing { ahead: u32::MAX, waited: 0 };
    question.required.is_empty()
        && question.settings.leaves(question.nodes, behind).is_some_and(|leaves| leaves.held)
}

/// The settings in force: as given, else those of the controller, unless the answer needs no controller at all.
fn parameters(args: &Args, controller: &Controller) -> Result<String, Failure> {
    if let Some(given) = &args.topology_param {
        return Ok(given.clone());
    }
    if args.file.is_some() && args.nodes_json.is_some() {
        return Ok(String::new());
    }
    let settings = controller.settings().map_err(|error| not_answered(&error))?;
    Ok(settings.get("TopologyParam").unwrap_or_default().to_owned())
}
