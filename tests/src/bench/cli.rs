//! `cargo xtask bench prolog`.
#![forbid(unsafe_code)]

use super::report::{HEAD, Sizes, TARGET, TARGET_TRAYS};
use super::start::{Slurmds, start};
use super::variant::{Variant, lay_floor, take_formed};
use crate::cluster::Cluster;
use anyhow::{Context as _, ensure};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Each variant has its turn so often, so that a machine that is busy for a while is busy for all of them.
const ROUNDS: usize = 2;

/// The main scheduler at once, which says in slurmctld's log what it does; the backfill scheduler, which does not, seldom.
const SCHEDULING: &str = "batch_sched_delay=0,sched_interval=1,bf_interval=600";

/// `bench prolog`
#[derive(Debug, Args)]
pub struct Options {
    /// Starts of each variant on each number of trays.
    #[arg(long, default_value_t = 100)]
    starts: usize,
    /// Numbers of trays; those of the first rack come first.
    #[arg(long, value_delimiter = ',', default_values_t = [2, 18, 36])]
    trays: Vec<usize>,
    /// Another prolog to measure on the same trays; it must come back with 0.
    #[arg(long, value_name = "PATH")]
    prolog: Option<PathBuf>,
    /// Its epilog.
    #[arg(long, value_name = "PATH", requires = "prolog")]
    epilog: Option<PathBuf>,
    /// Hardware shape.
    #[arg(long, default_value = crate::profile::DEFAULT)]
    profile: String,
}

impl Options {
    /// Boots a cluster and measures. Exit code 1: ours takes more beyond the floor than it may.
    ///
    /// # Errors
    /// It could not run.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let begin = Instant::now();
        let name = format!("bench-{}", std::process::id());
        let builder = Cluster::builder().name(&name).profile(&self.profile).with_orders();
        let cluster = builder.set("SchedulerParameters", SCHEDULING).start()?;
        let nodes = cluster.nodes();
        ensure!(
            self.trays.iter().all(|trays| (1..=nodes.len()).contains(trays)),
            "--trays: the profile has {} trays",
            nodes.len()
        );
        let mut all: Vec<Sizes> =
            self.trays.iter().map(|trays| Sizes { trays: *trays, ..Sizes::default() }).collect();
        for round in 0..ROUNDS {
            for variant in self.variants() {
                self.measure(&cluster, variant, round, &mut all)?;
            }
        }
        println!(
            "Slurm {} is real, the IMEX daemons are simulated; load of the machine: {}\n",
            cluster.about().slurm,
            std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim()
        );
        print!("{HEAD}");
        all.iter().for_each(|sizes| print!("{}", sizes.lines()));
        println!("\nmeasured in {:.0} s", begin.elapsed().as_secs_f64());
        Ok(verdict(&all))
    }

    fn variants(&self) -> Vec<Variant> {
        let other = self.prolog.as_ref().map(|_| Variant::Other);
        [Variant::None, Variant::Floor, Variant::Ours].into_iter().chain(other).collect()
    }

    fn measure(
        &self,
        cluster: &Cluster,
        variant: Variant,
        round: usize,
        all: &mut [Sizes],
    ) -> anyhow::Result<()> {
        let nodes = cluster.nodes();
        variant.take(cluster, &[self.prolog.clone(), self.epilog.clone()])?;
        let slurmds = Slurmds::of(cluster)?;
        for sizes in all {
            let trays = nodes.get(..sizes.trays).context("too few trays")?;
            if variant == Variant::Floor {
                lay_floor(cluster, trays)?;
            }
            // The first round has one more where they cannot be halved; beside them one that warms up.
            let count = (self.starts + ROUNDS - 1 - round) / ROUNDS;
            eprintln!(
                "{} on {} trays, round {} of {ROUNDS}: {count} starts",
                variant.name(),
                sizes.trays,
                round + 1
            );
            // One warms up; of some slurmctld may not say when it allocated them.
            let wanted = sizes.starts.get(&variant).map_or(0, Vec::len) + count;
            let mut tries = 0..2 * count + 5;
            while sizes.starts.get(&variant).map_or(0, Vec::len) < wanted {
                let number = tries.next().context("slurmctld does not tell of allocations")?;
                let what = || format!("{} on {} trays", variant.name(), sizes.trays);
                let measured = start(cluster, &slurmds, trays).with_context(what)?;
                let formed =
                    if variant == Variant::Floor { take_formed(cluster, &trays[0])? } else { Vec::new() };
                if let Some(measured) = measured.filter(|_| number > 0) {
                    sizes.starts.entry(variant).or_default().push(measured);
                    sizes.formed.extend(formed);
                }
            }
        }
        Ok(())
    }
}

fn verdict(all: &[Sizes]) -> ExitCode {
    let Some(sizes) = all.iter().find(|sizes| sizes.trays == TARGET_TRAYS) else { return ExitCode::SUCCESS };
    let (p50, p99) = sizes.over_floor();
    let good = p50 <= TARGET.0 && p99 <= TARGET.1;
    println!(
        "{}: {p50:.0} ms over the floor at p50 (at most {}), {p99:.0} ms at p99 (at most {}), on {TARGET_TRAYS} trays",
        if good { "within the target" } else { "NOT within the target" },
        TARGET.0,
        TARGET.1
    );
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
