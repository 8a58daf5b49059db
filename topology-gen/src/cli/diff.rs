//! `topology-gen diff`: what changes for Slurm.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use fabric::{Blame, Topology};

use super::{Output, in_file, read_text};
use crate::controller::{Controller, ControllerError};
use crate::diff::diff;
use crate::emit::count;
use crate::failure::{Failure, OK, PROBLEMS};

/// Options of `diff`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The new topology.yaml, - for standard input; without it the file in use (with --live)
    #[arg(value_name = "FILE", default_value_os_t = super::default_topology_file())]
    file: PathBuf,
    /// Compare with this file
    #[arg(long, value_name = "FILE", default_value_os_t = super::default_topology_file(), conflicts_with = "live")]
    against: PathBuf,
    /// Compare with what the running controller has
    #[arg(long)]
    live: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    controller: ControllerArgs,
}

/// How the controller is reached.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ControllerArgs {
    /// The scontrol to run
    #[arg(long, value_name = "PATH", default_value = "scontrol", hide_short_help = true)]
    pub(super) scontrol: PathBuf,
    /// Longest time to wait for one answer of the controller, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(1..=3600),
        hide_short_help = true
    )]
    pub(super) timeout: u64,
}

impl ControllerArgs {
    pub(super) fn controller(&self) -> Controller {
        Controller { scontrol: self.scontrol.clone(), deadline: Duration::from_secs(self.timeout) }
    }
}

pub(super) fn run(args: &Args, output: &mut Output<'_>) -> Result<u8, Failure> {
    let after = topologies_of(&args.file)?;
    let (before, of) = if args.live {
        let controller = args.controller.controller();
        (controller.topologies().map_err(|error| not_answered(&error))?, "the controller".to_owned())
    } else {
        (topologies_of(&args.against)?, args.against.display().to_string())
    };
    let changes = diff(&before, &after);
    if args.json {
        let text = serde_json::to_string_pretty(&serde_json::json!({"version": 1, "changes": changes}))
            .map_err(|error| Failure::of(Blame::Bug, &error))?;
        output.data(&(text + "\n"))?;
    } else {
        let lines: String = changes.iter().map(|change| format!("{change}\n")).collect();
        output.data(&lines)?;
    }
    let file = args.file.display();
    if changes.is_empty() {
        output.say(format_args!("{file} means the same as {of}"));
        return Ok(OK);
    }
    output.say(format_args!("{file}: {} against {of}", count(changes.len(), "change")));
    Ok(PROBLEMS)
}

/// The topologies of a file that Slurm could read.
pub(super) fn topologies_of(path: &Path) -> Result<Vec<Topology>, Failure> {
    fabric::slurm_yaml::parse(&read_text(path)?)
        .map_err(|error| in_file(path, &error).hint(format!("see topology-gen check {}", path.display())))
}

/// The controller gave no answer.
pub(super) fn not_answered(error: &ControllerError) -> Failure {
    Failure::of(Blame::Config, error).hint("check that slurmctld answers: scontrol ping")
}
