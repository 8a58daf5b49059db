//! `cargo xtask soak`.
#![forbid(unsafe_code)]

use super::plan::{self, Plan};
use super::reduce;
use super::report::Report;
use super::round::{Played, Stage};
use crate::cluster::{Cluster, Plugin};
use crate::soak::Plant;
use crate::{lost_packets, paths};
use anyhow::Context as _;
use clap::Args;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

/// Events of a round are spread over this time, in milliseconds.
const ROUND_MS: u64 = 45_000;

/// `soak`: rounds of random jobs, faults, restarts and changed racks, until the time is over.
#[derive(Debug, Args)]
pub struct Options {
    /// For how long; the round that is under way then is played to its end.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Seed of the rounds; another one each time if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Only the round with this number.
    #[arg(long, value_name = "N")]
    round: Option<u32>,
    /// One plan alone, from a file that a violation has written.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["round", "seed"])]
    replay: Option<PathBuf>,
    /// How often a plan that breaks a rule is played again to make it smaller.
    #[arg(long, value_name = "N", default_value_t = 8)]
    tries: usize,
    /// A violation that is planted on one tray.
    #[arg(long)]
    plant: Option<Plant>,
    /// Slurm's own topology/block instead of ours.
    #[arg(long)]
    stock: bool,
    /// Hardware shape, of racks that are alike.
    #[arg(long, default_value = "gb200-4x18")]
    profile: String,
}

impl Options {
    /// Boots a cluster and plays. Exit code 1: a rule was broken.
    ///
    /// # Errors
    /// It could not run.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let begin = Instant::now();
        let name = format!("soak-{}", std::process::id());
        let plugin = if self.stock { Plugin::Stock } else { Plugin::Ours };
        let cluster =
            Stage::prepare(Cluster::builder()).name(&name).profile(&self.profile).plugin(plugin).start()?;
        println!(
            "{} trays, Slurm {} is real; trays, GPUs and IMEX daemons are simulated.",
            cluster.nodes().len(),
            cluster.about().slurm
        );
        if let Some(plant) = self.plant {
            let tray = cluster.nodes().into_iter().next().context("no trays")?;
            println!("planted on {tray}: {plant:?}");
            plant.on(&cluster, &tray)?;
        }
        let mut stage = Stage::on(&cluster)?;
        let mut report = Report::default();
        let mut broken = 0;
        for (number, plan) in self.plans(&stage)? {
            let before = lost_packets::since_first_asked();
            let played = stage.play(&plan, number);
            report.add(&plan, played.last_seen.iter().map(String::as_str));
            tell(number, begin, &plan, &played);
            let lost = lost_packets::in_words(lost_packets::since_first_asked() - before);
            if !lost.is_empty() {
                print!("   {lost}");
            }
            if !played.violations.is_empty() {
                broken += played.violations.len();
                let logs =
                    paths::workspace().join(format!("target/soak/{}-round-{number}", std::process::id()));
                cluster.keep_logs(&logs)?;
                println!("   logs: {}", logs.display());
                self.keep_smallest(&mut stage, &plan, number)?;
            }
            if begin.elapsed() >= Duration::from_secs(60 * self.minutes) {
                break;
            }
        }
        println!(
            "\n{report}{} deeds, {broken} rules broken, in {:.0} s",
            report.deeds(),
            begin.elapsed().as_secs_f64()
        );
        Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn plans(&self, stage: &Stage<'_>) -> anyhow::Result<Box<dyn Iterator<Item = (u32, Plan)>>> {
        if let Some(file) = &self.replay {
            let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            let plan: Plan =
                serde_json::from_str(&text).with_context(|| format!("{} is no plan", file.display()))?;
            anyhow::ensure!(plan.shape == stage.shape(), "the plan is for {:?}", plan.shape);
            return Ok(Box::new(std::iter::once((0, plan))));
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seed = self.seed.unwrap_or_else(|| since.map_or(1, |since| since.as_secs()));
        println!("seed {seed}");
        let shape = stage.shape();
        let numbers = self.round.map_or(1..=u32::MAX, |round| round..=round);
        Ok(Box::new(numbers.map(move |number| (number, plan::random(seed, number, shape, ROUND_MS)))))
    }

    /// Makes the plan as small as a few tries allow, and writes it where `--replay` takes it from.
    fn keep_smallest(&self, stage: &mut Stage<'_>, plan: &Plan, number: u32) -> anyhow::Result<()> {
        let smallest =
            reduce::smallest(plan, self.tries, |plan| !stage.play(plan, number).violations.is_empty());
        let folder = paths::workspace().join("target/soak");
        let file = folder.join(format!("{}-round-{number}.json", std::process::id()));
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&file, serde_json::to_vec_pretty(&smallest)?))
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("   {} of {} events are enough:", smallest.events.len(), plan.events.len());
        println!("   cargo xtask soak --profile {} --replay {}", self.profile, file.display());
        Ok(())
    }
}

fn tell(number: u32, begin: Instant, plan: &Plan, played: &Played) {
    println!(
        "{:>5.0} s round {number}: {} events, {} jobs, slurmctld {} kB, {} refused, {} broken",
        begin.elapsed().as_secs_f64(),
        plan.events.len(),
        played.last_seen.len(),
        played.memory,
        played.refused.len(),
        played.violations.len()
    );
    for violation in &played.violations {
        println!("   BROKEN: {violation}");
    }
}
