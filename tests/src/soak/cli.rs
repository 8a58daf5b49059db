//! `cargo xtask soak imex`.
#![forbid(unsafe_code)]

use super::judge::Violation;
use super::plan::Plan;
use super::random;
use super::runner::{Played, Soak};
use super::table::{self, Row, Steps};
use crate::cluster::Cluster;
use anyhow::{Context as _, ensure};
use clap::Args;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

/// Trays of a row's job, and one to spare.
const ROW_SHARE: usize = 4;
/// Each so manieth random job is one over many trays.
const WIDE_EVERY: u32 = 20;

/// `soak imex`: without options the table and then 200 random jobs.
#[derive(Debug, Args)]
pub struct Options {
    /// Only the table of faults and outcomes.
    #[arg(long)]
    table: bool,
    /// Only rows of the table with this text in them.
    #[arg(long, value_name = "TEXT", requires = "table")]
    only: Option<String>,
    /// Only so many random jobs with random faults.
    #[arg(long, value_name = "N", conflicts_with = "table")]
    jobs: Option<u32>,
    /// Seed of the random jobs; another one each time if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// One plan alone, as a violation printed it.
    #[arg(long, value_name = "JSON", conflicts_with_all = ["table", "jobs"])]
    plan: Option<String>,
    /// Hardware shape: two racks of 18 trays if not given.
    #[arg(long, default_value = crate::profile::DEFAULT)]
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
        let cluster = Soak::prepare(Cluster::builder()).name(&name).profile(&self.profile).start()?;
        println!(
            "{} trays, Slurm {} is real; trays, GPUs and IMEX daemons are simulated.\n",
            cluster.nodes().len(),
            cluster.about().slurm
        );
        let broken = Soak::on(&cluster, |soak| self.play(soak))?;
        println!("\n{broken} rules broken, in {:.0} s", begin.elapsed().as_secs_f64());
        Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn play(&self, soak: &Soak<'_>) -> anyhow::Result<usize> {
        if let Some(text) = &self.plan {
            let plan: Plan = serde_json::from_str(text).context("--plan is not as a violation prints it")?;
            let shares = soak.shares(plan.trays + 1);
            let all = soak
                .play(&shares[..1.min(shares.len())], &[plan], true, |_, played| println!("{:#?}", played.1));
            ensure!(!all.is_empty(), "the racks have too few trays for this plan");
            return Ok(tell(&all, None));
        }
        let shares = soak.shares(ROW_SHARE);
        let first = shares.first().context("the racks have too few trays")?;
        let steps = soak.steps(first)?;
        println!("steps: {} of the prolog, {} of the epilog", steps.prolog.len(), steps.epilog.len());
        let mut broken = 0;
        if self.jobs.is_none() {
            broken += self.table(soak, &steps)?;
        }
        if !self.table {
            broken += self.random(soak, &steps);
        }
        Ok(broken)
    }

    fn table(&self, soak: &Soak<'_>, steps: &Steps) -> anyhow::Result<usize> {
        let wanted = |row: &Row| {
            let line = format!("{} {} {}", row.what, row.when, row.whom);
            self.only.as_ref().is_none_or(|text| line.contains(text.as_str()))
        };
        let rows: Vec<Row> = table::rows(steps).into_iter().filter(wanted).collect();
        let mut all = play_rows(soak, &soak.shares(ROW_SHARE), rows);
        let nodes = soak.nodes();
        let fits = |row: &Row| wanted(row) && row.plan.trays <= nodes.len();
        let wide: Vec<Row> = table::wide_rows().into_iter().filter(fits).collect();
        all.extend(play_rows(soak, &[nodes], wide));
        ensure!(!all.is_empty(), "no row has the text {:?} in it", self.only.as_deref().unwrap_or_default());
        println!("\n{}", table::print(&all));
        let all: Vec<Played> = all.into_iter().map(|(row, seen, found)| (row.plan, seen, found)).collect();
        Ok(tell(&all, None))
    }

    fn random(&self, soak: &Soak<'_>, steps: &Steps) -> usize {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seed = self.seed.unwrap_or_else(|| since.map_or(1, |since| since.as_secs()));
        let count = self.jobs.unwrap_or(200);
        println!("{count} random jobs with random faults, seed {seed}");
        let nodes = soak.nodes();
        let (mut small, mut wide) = (Vec::new(), Vec::new());
        for number in 0..count {
            let mut plan = random::plan(seed, number, steps);
            if number % WIDE_EVERY == WIDE_EVERY - 1 {
                plan.trays = nodes.len() - 1 - number as usize % (nodes.len() / 2);
                // A second job would lie across racks and fit into one, which the topology refuses.
                plan.crowded = false;
                wide.push(plan);
            } else {
                small.push(plan);
            }
        }
        let all_over = AtomicUsize::new(0);
        let told = |_: usize, (plan, seen, found): &Played| {
            let over = all_over.fetch_add(1, Ordering::Relaxed) + 1;
            eprintln!(
                "{over}/{count} job {} {}: {}, {} broken",
                seen.job,
                in_words(plan),
                seen.outcome,
                found.len()
            );
            found.iter().for_each(|violation| eprintln!("   {violation}"));
        };
        let mut all = soak.play(&soak.shares(random::TRAYS_MAX + 1), &small, false, told);
        all.extend(soak.play(&[nodes], &wide, true, told));
        tell(&all, Some(seed))
    }
}

fn play_rows(
    soak: &Soak<'_>,
    shares: &[Vec<String>],
    rows: Vec<Row>,
) -> Vec<(Row, super::judge::Seen, Vec<Violation>)> {
    let plans: Vec<Plan> = rows.iter().map(|row| row.plan.clone()).collect();
    let (all_over, count) = (AtomicUsize::new(0), plans.len());
    let played = soak.play(shares, &plans, true, |number, (plan, seen, found)| {
        let over = all_over.fetch_add(1, Ordering::Relaxed) + 1;
        let Row { what, when, whom, .. } = &rows[number];
        eprintln!("{over}/{count} {what} {when}, {whom}: {}, {} broken", seen.outcome, found.len());
        for violation in found {
            eprintln!("   job {} on {}: {violation}", seen.job, seen.trays[..plan.trays].join(","));
        }
    });
    rows.into_iter().zip(played).map(|(row, (_, seen, found))| (row, seen, found)).collect()
}

fn in_words(plan: &Plan) -> String {
    let mut words = format!("of {} trays", plan.trays);
    for event in &plan.events {
        words += &format!(", {event}");
    }
    if plan.crowded {
        words += ", another job waits for its trays";
    }
    words
}

/// Tells every broken rule with what is needed to see it again; gives their number.
fn tell(all: &[Played], seed: Option<u64>) -> usize {
    let mut broken = 0;
    for (plan, seen, found) in all.iter().filter(|(.., found)| !found.is_empty()) {
        broken += found.len();
        println!("\nBROKEN by job {} {}: {}", seen.job, in_words(plan), seen.outcome);
        found.iter().for_each(|violation| println!("   {violation}"));
        if let Some(seed) = seed {
            println!("   seed {seed}; this job alone:");
        }
        println!(
            "   cargo xtask soak imex --plan '{}'",
            serde_json::to_string(plan).unwrap_or_else(|error| error.to_string())
        );
    }
    broken
}
