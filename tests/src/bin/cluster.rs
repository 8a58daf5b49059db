//! The test cluster's command line on its own, for trying it without the task runner.
#![forbid(unsafe_code)]

use clap::Parser;
use std::process::ExitCode;
use tests::cli::ClusterCommand;

/// Real Slurm in namespaces on this machine, with simulated NVLink trays.
#[derive(Parser)]
#[command(name = "cluster")]
struct Arguments {
    #[command(subcommand)]
    command: ClusterCommand,
}

fn main() -> ExitCode {
    if let Some(code) = tests::supervisor::take_over() {
        return code;
    }
    match Arguments::parse().command.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cluster: {error:#}");
            ExitCode::from(2)
        }
    }
}
