//! What was typed, and which part of the program answers it.
//!
//! Data goes to standard output, words to standard error. Exit code 0: done; 1: checked and found problems; 2: could not run.
#![forbid(unsafe_code)]

mod apply;
mod check;
mod collect;
mod convert;
mod diff;
mod facts;
mod generate;
mod gpu_hours;
mod plan;
mod probe;
mod show;
mod simulate;
mod tiers;
mod watch;
mod why;

use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fabric::{Blame, Report};

use crate::emit::screen::Screen;
use crate::failure::{self, COULD_NOT_RUN, Failure};

/// Largest file that is read.
const FILE_LEN_MAX: u64 = 1 << 30;

#[derive(Debug, Parser)]
#[command(
    name = "topology-gen",
    version,
    about = "Reads which compute trays share an NVLink partition and writes Slurm's topology.yaml",
    after_help = "Exit codes: 0 done, 1 checked and found problems, 2 could not run."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read this tray's GPUs through NVML and judge them
    Probe(probe::Args),
    /// Ask all trays by a command, in parallel, and keep their readings in a file
    Collect(collect::Args),
    /// Group all trays by NVLink partition and write topology.yaml
    Generate(generate::Args),
    /// Find everything in a topology.yaml that Slurm refuses, dies of, or takes in another sense
    Check(check::Args),
    /// Tell what a topology.yaml changes for Slurm: exit code 0 nothing, 1 something
    Diff(diff::Args),
    /// Bring a topology into force: check, back up, write, reload, verify; go back if Slurm refuses
    Apply(apply::ApplyArgs),
    /// Bring a backup into force, in the same way
    Rollback(apply::RollbackArgs),
    /// Look again and again, and apply what has become stable; as a service
    Watch(watch::Args),
    /// Tell whether a job fits now, where, and if not, why
    Why(why::Args),
    /// Turn a topology.conf into a topology.yaml, or back
    Convert(convert::Args),
    /// Print the lines of slurm.conf and the QOS that offer the topologies of a topology.yaml to users
    Tiers(tiers::Args),
    /// Draw racks, trays, jobs and what still fits: in the terminal, as SVG, as a page
    Show(show::Args),
    /// Add up the GPU hours of Slurm's accounting by NVLink partition, Slurm partition, account and QOS
    GpuHours(gpu_hours::Args),
    /// Replay jobs on racks: what the placement does to occupancy, waits and NVLink locality
    Simulate(simulate::Args),
}

/// The whole command line as clap knows it: for man pages and completions.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Where data and words go.
struct Output<'a> {
    data: &'a mut dyn Write,
    words: &'a mut dyn Write,
    /// The terminal behind the data.
    screen: Screen,
}

impl Output<'_> {
    /// Writes data. A reader that closed the pipe has what it wanted.
    fn data(&mut self, text: &str) -> Result<(), Failure> {
        match self.data.write_all(text.as_bytes()).and_then(|()| self.data.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                let report = Report::new(Blame::Config, "cannot write to standard output");
                Err(Failure(report.with_detail(format!("because: {error}"))))
            }
            _ => Ok(()),
        }
    }

    /// Says a line. Nobody to hear it is no reason to stop.
    fn say(&mut self, line: impl std::fmt::Display) {
        let _ = writeln!(self.words, "topology-gen: {line}");
    }
}

/// Runs the program and gives its exit code. `screen` is the terminal that `data` goes to.
pub fn run(
    args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    data: &mut dyn Write,
    words: &mut dyn Write,
    screen: Screen,
) -> ExitCode {
    ExitCode::from(run_to_code(args, data, words, screen))
}

fn run_to_code(
    args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    data: &mut dyn Write,
    words: &mut dyn Write,
    screen: Screen,
) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are data, everything else is a usage error.
            let text = error.render().to_string();
            let _ = if error.use_stderr() {
                words.write_all(text.as_bytes())
            } else {
                data.write_all(text.as_bytes())
            };
            return u8::try_from(error.exit_code()).unwrap_or(COULD_NOT_RUN);
        }
    };
    let mut output = Output { data, words, screen };
    let done = match &cli.command {
        Command::Probe(args) => probe::run(args, &mut output),
        Command::Generate(args) => generate::run(args, &mut output),
        Command::Check(args) => check::run(args, &mut output),
        Command::Diff(args) => diff::run(args, &mut output),
        Command::Apply(args) => apply::run(args, &mut output),
        Command::Rollback(args) => apply::rollback(args, &mut output),
        Command::Watch(args) => watch::run(args, &mut output),
        Command::Collect(args) => collect::run(args, &mut output),
        Command::Why(args) => why::run(args, &mut output),
        Command::Tiers(args) => tiers::run(args, &mut output),
        Command::Convert(args) => convert::run(args, &mut output),
        Command::Show(args) => show::run(args, &mut output),
        Command::GpuHours(args) => gpu_hours::run(args, &mut output),
        Command::Simulate(args) => simulate::run(args, &mut output),
    };
    match done {
        Ok(code) => code,
        Err(Failure(report)) => {
            failure::print(&report, output.words);
            COULD_NOT_RUN
        }
    }
}

/// A file, or standard input for `-`, as text.
fn read_text(path: &Path) -> Result<String, Failure> {
    let read = || -> std::io::Result<String> {
        let mut text = String::new();
        if path == Path::new("-") {
            std::io::stdin().lock().take(FILE_LEN_MAX).read_to_string(&mut text)?;
        } else {
            let file = std::fs::File::open(path)?;
            // A text that grows by doubling needs three times its memory for a moment.
            let len = file.metadata()?.len().min(FILE_LEN_MAX);
            text.reserve(usize::try_from(len).unwrap_or_default().saturating_add(1));
            file.take(FILE_LEN_MAX).read_to_string(&mut text)?;
        }
        Ok(text)
    };
    read().map_err(|error| {
        let report = Report::new(Blame::Config, format!("cannot read {}", path.display()));
        Failure(report.with_detail(format!("because: {error}")))
    })
}

/// Says which file an error is about.
fn in_file(path: &Path, error: &dyn std::error::Error) -> Failure {
    let mut report = Report::of_error(Blame::Config, error);
    report.message = format!("{}: {}", path.display(), report.message);
    Failure(report)
}

fn default_topology_file() -> PathBuf {
    PathBuf::from("/etc/slurm/topology.yaml")
}

#[cfg(test)]
mod tests;
