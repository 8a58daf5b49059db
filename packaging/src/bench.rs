//! `cargo xtask bench`: how long things take, and how much memory.

#![forbid(unsafe_code)]

mod gen_bench;
mod inventory;
mod measure;

use std::process::ExitCode;

use clap::Subcommand;
use lab::cli::BenchCommand;

use crate::workspace::Workspace;
use crate::{artifacts, setup};

pub(crate) use measure::Measure;

/// `bench ...`
#[derive(Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Lab(BenchCommand),
    /// Time and memory of topology-gen on large clusters: collect, generate, check, diff, show.
    Gen(gen_bench::Options),
    /// How long jobs wait for their prologs: ours, none, the least possible one, and another script.
    Prolog(tests::bench::Options),
}

/// Measures; exit code 1 when a target is missed.
///
/// # Errors
/// It could not be measured.
pub(crate) fn run(workspace: &Workspace, command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Lab(command) => {
            setup::ensure()?;
            artifacts::build(workspace)?;
            let program = lab::cli::build(workspace.cargo(), workspace.target())?;
            command.run(&program, workspace.target())
        }
        Command::Gen(options) => gen_bench::run(workspace, options),
        Command::Prolog(options) => {
            setup::ensure()?;
            artifacts::build(workspace)?;
            options.run()
        }
    }
}
