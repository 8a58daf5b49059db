//! The commands, as the task runner offers them.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand, ValueEnum as _};
use tests::stage::Artifact;
use tests::tree::{Recipe, Tree};

use crate::bench;
use crate::check;
use crate::diff::{self, Pair, Plan};
use crate::host::Parts;
use crate::random::Variety;
use crate::replay;
use crate::scene_file;
use crate::soak;

/// `lab ...`
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// Ask stock and ours about random situations, and check ours.
    Diff(DiffOptions),
    /// Ask both about one situation from a file, and show why ours answers so.
    Case {
        /// The situation, as `lab diff` writes it.
        file: PathBuf,
    },
    /// Replay the reference scenario, or a workload, with Slurm's own plugin as the placer, and others beside it.
    Replay(replay::Options),
    /// Ask one process with each plugin very often, and look whether its memory grows.
    Soak {
        /// Seed of the situations.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many evaluations.
        #[arg(long, default_value_t = 100_000)]
        evaluations: u32,
    },
    /// Ask a process with ours under valgrind's memcheck.
    Memcheck {
        /// Seed of the situations.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many evaluations.
        #[arg(long, default_value_t = 1000)]
        evaluations: u32,
    },
}

/// `lab diff`
#[derive(Debug, Args)]
pub struct DiffOptions {
    /// Seed of the situations.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many situations.
    #[arg(long, default_value_t = 10_000)]
    cases: u32,
    /// Most nodes of a cluster.
    #[arg(long)]
    nodes: Option<u32>,
    /// Racks of each cluster.
    #[arg(long)]
    racks: Option<u32>,
    /// What situations have beside racks and whole trays; `--with ""` for nothing.
    #[arg(long, value_delimiter = ',', default_value = "gres,shared,levels,hres,dynamic", value_parser = variety)]
    with: Vec<Option<Variety>>,
}

/// A variety by its name; None for an empty one.
fn variety(name: &str) -> Result<Option<Variety>, String> {
    if name.is_empty() { Ok(None) } else { Variety::from_str(name, true).map(Some) }
}

/// `bench ...`
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Time placement calls: stock, ours, and a choice without any thought.
    Eval(bench::Options),
}

impl LabCommand {
    /// Runs the command with the given host program. Exit code 1: something was found wrong.
    ///
    /// # Errors
    /// It could not run.
    pub fn run(&self, program: &Path, target: &Path) -> anyhow::Result<ExitCode> {
        let parts = parts(program)?;
        match self {
            Self::Diff(options) => {
                let plan = Plan {
                    seed: options.seed,
                    cases: options.cases,
                    nodes: options.nodes,
                    racks: options.racks,
                    with: options.with.iter().copied().flatten().collect(),
                };
                println!("seed {}, {} situations", plan.seed, plan.cases);
                let report = diff::run(&parts, &plan, &target.join("lab"))?;
                print!("{report}");
                Ok(if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            Self::Case { file } => case(&parts, file),
            Self::Replay(options) => replay::run(&parts, options, &target.join("lab")),
            Self::Soak { seed, evaluations } => {
                let soak = soak::run(&parts, *seed, *evaluations)?;
                print!("{soak}");
                Ok(if soak.is_flat() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            Self::Memcheck { seed, evaluations } => {
                let parts = Parts { tree: Tree::made(&Recipe::for_memcheck()?)?, ..parts };
                let log = target.join("lab/memcheck.log");
                let report = soak::memcheck(&parts, *seed, *evaluations, &log)?;
                print!("{evaluations} evaluations: {report}");
                println!("log: {}", log.display());
                Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
        }
    }
}

impl BenchCommand {
    /// Runs the command with the given host program; results go to `target/bench`.
    ///
    /// # Errors
    /// It could not run.
    pub fn run(&self, program: &Path, target: &Path) -> anyhow::Result<ExitCode> {
        let Self::Eval(options) = self;
        bench::run(&parts(program)?, options, &target.join("bench"))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Builds the host program, optimised, with the given cargo command in the workspace's root, and gives its path.
///
/// # Errors
/// The build fails; cargo has said why.
pub fn build(mut cargo: Command, target: &Path) -> anyhow::Result<PathBuf> {
    let status = cargo
        .args(["build", "--quiet", "--release", "--locked", "--package", "lab", "--bin", "lab-host"])
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "the lab's host program could not be built ({status})");
    Ok(target.join("release/lab-host"))
}

fn parts(program: &Path) -> anyhow::Result<Parts> {
    Ok(Parts { program: program.to_owned(), plugin: Artifact::Plugin.need()?, tree: Tree::ensure()? })
}

fn case(parts: &Parts, file: &Path) -> anyhow::Result<ExitCode> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let scene = scene_file::parse(&text).with_context(|| format!("{}", file.display()))?;
    let mut pair = Pair::start(parts, &scene.cluster, true)?;
    let (stock, ours) = pair.ask(&scene)?;
    println!("stock {}", diff::describe(&scene, &stock));
    println!("ours  {}", diff::describe(&scene, &ours));
    let explained = |log: &str| -> Vec<String> {
        let interesting = |line: &&str| line.contains("JobId=") || line.contains("left to Slurm");
        log.lines().filter(interesting).map(|line| format!("      {line}")).collect()
    };
    let log = pair.ours.log();
    let lines = explained(&log);
    println!("{}", if lines.is_empty() { log } else { lines.join("\n") });
    let verdict = check::compare(&scene, &stock, &ours);
    println!(
        "{}{}{}",
        verdict.class.name(),
        if verdict.reason.is_empty() { "" } else { ": " },
        verdict.reason
    );
    for violation in &verdict.violations {
        println!("violation: {violation}");
    }
    Ok(if verdict.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
