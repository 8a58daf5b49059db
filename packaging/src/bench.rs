//! `cargo xtask bench`: how long things take, and how much memory.

#![forbid(unsafe_code)]

mod gen_bench;
mod inventory;
mod measure;

use std::process::ExitCode;

use clap::Subcommand;
use lab::cli::BenchCommand;

use crate::workspace::Workspace;

pub(crate) use measure::Measure;

/// `bench ...`
#[derive(Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Lab(BenchCommand),
    /// Time and memory of topology-gen on large clusters: collect, generate, check, diff, show.
    Gen(gen_bench::Options),
}

/// Measures; exit code 1 when a target is missed.
///
/// # Errors
/// It could not be measured.
pub(crate) fn run(workspace: &Workspace, command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Lab(command) => {
            let program = lab::cli::build(workspace.cargo(), workspace.target())?;
            command.run(&program, workspace.target())
        }
        Command::Gen(options) => gen_bench::run(workspace, options),
    }
}
