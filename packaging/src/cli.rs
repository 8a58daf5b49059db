//! The command line of `cargo xtask`.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lab::cli::LabCommand;
use tests::cli::ClusterCommand;
use tests::{endurance, soak};

use crate::workspace::Workspace;
use crate::{artifacts, bench, cross, demo, dist, fuzz, install, memcheck, monitoring, setup, test};

/// Set up, build, test and demonstrate slurm-nvlink.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boot two simulated racks with real Slurm, run jobs, and show where they and their IMEX domains lie.
    Demo(demo::Options),
    /// Run all checks and tests; ends with `N passed, N failed, N skipped`.
    Test(test::Options),
    /// Start, use and end a test cluster: real Slurm, simulated NVLink trays.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Slurm's own placement code in one process, with our plugin and with Slurm's: compare them on synthetic clusters.
    #[command(subcommand)]
    Lab(LabCommand),
    /// Measure.
    #[command(subcommand)]
    Bench(bench::Command),
    /// Jobs, faults, restarts and changed racks on a test cluster for as long as one likes, and rules that must hold.
    #[command(args_conflicts_with_subcommands = true)]
    Soak {
        #[command(subcommand)]
        only: Option<SoakCommand>,
        #[command(flatten)]
        all: endurance::Options,
    },
    /// Build the release artifacts and put them into target/stage.
    Build,
    /// Build the plugin, put it where Slurm loads it from, in one step that cannot leave a part of a file, and confirm the
    /// layout of the installed Slurm.
    InstallPlugin {
        /// The folder that `PluginDir` names before Slurm's own.
        #[arg(default_value = "/usr/lib/slurm-nvlink")]
        folder: PathBuf,
        /// The folder for slurm-nvlink-confirm, which is wanted again after each upgrade of Slurm.
        #[arg(long, default_value = "/usr/sbin")]
        programs: PathBuf,
    },
    /// Make .deb and .rpm packages, for this machine's architecture and for arm64, in target/dist.
    Dist(dist::Options),
    /// Fuzz the parsers; needs cargo-fuzz and a C++ compiler.
    Fuzz(fuzz::Options),
    /// A real slurmctld with the plugin under valgrind's memcheck, through jobs, moved nodes and reconfigures.
    Memcheck(memcheck::Options),
    /// A real Prometheus and node exporters over a test cluster: metrics, alerts, the dashboard's panels, and its picture.
    Monitoring(monitoring::Options),
    /// Build for aarch64 and test that under emulation.
    Arm {
        /// Run only the tests whose name contains this text.
        filter: Option<String>,
    },
    /// Run a program and print its cost; `bench` uses it.
    #[command(hide = true)]
    Measure(bench::Measure),
    /// Install what the machine lacks for building and testing (by apt, as root).
    Setup,
}

#[derive(Subcommand)]
enum SoakCommand {
    /// The IMEX manager alone: the table of faults and outcomes, and random jobs with random faults.
    Imex(soak::Options),
}

/// The whole command line as clap knows it: what documents say is held to it.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Parses the command line and runs the command: exit code 0 on success, 1 when something was found wrong or failed.
pub fn main() -> ExitCode {
    // This program may have been started as the supervisor of a cluster.
    if let Some(code) = tests::supervisor::take_over() {
        return code;
    }
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::locate()?;
    match command {
        Command::Test(options) => return test::run(&workspace, &options),
        Command::Demo(options) => return demo::run(&workspace, &options),
        Command::Cluster(command) => return command.run(),
        Command::Lab(command) => {
            // The lab loads what is staged: it must be what is in the sources.
            setup::ensure()?;
            artifacts::build(&workspace)?;
            let program = lab::cli::build(workspace.cargo(), workspace.target())?;
            return command.run(&program, workspace.target());
        }
        Command::Bench(command) => return bench::run(&workspace, &command),
        Command::Measure(measure) => measure.run()?,
        Command::Soak { only, all } => {
            setup::ensure()?;
            artifacts::build(&workspace)?;
            return match only {
                Some(SoakCommand::Imex(options)) => options.run(),
                None => all.run(),
            };
        }
        Command::Build => {
            setup::ensure()?;
            let staged = artifacts::build(&workspace)?;
            println!("staged in {}", staged.display());
        }
        Command::InstallPlugin { folder, programs } => {
            setup::ensure()?;
            install::plugin(&artifacts::build(&workspace)?, &folder, &programs)?;
        }
        Command::Dist(options) => dist::run(&workspace, &options)?,
        Command::Fuzz(options) => return fuzz::run(&workspace, &options),
        Command::Memcheck(options) => return memcheck::run(&workspace, &options),
        Command::Monitoring(options) => return monitoring::run(&workspace, &options),
        Command::Arm { filter } => {
            setup::ensure()?;
            let outcome = cross::test(&workspace, filter.as_deref(), &workspace.fresh_log("arm")?)?;
            println!("{}{}{}", outcome.failure_text(), outcome.skip_text(), outcome.counts());
            return Ok(outcome.exit_code());
        }
        Command::Setup => setup::run(true)?,
    }
    Ok(ExitCode::SUCCESS)
}
