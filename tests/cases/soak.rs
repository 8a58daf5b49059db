//! A few of the jobs that `cargo xtask soak imex` plays, and that what it looks for would be found.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case, Setup, explained};
use crate::imex::SMALL;
use anyhow::{Context as _, ensure};
use std::collections::BTreeSet;
use std::fs;
use tests::Cluster;
use tests::fault::{Fault, FaultKind};
use tests::soak::judge::{Counts, Violation};
use tests::soak::plan::{Deed, Phase, Plan};
use tests::soak::table::{self, Row};
use tests::soak::{Plant, Soak, random};

pub(crate) const CASES: &[Case] = &[
    Case { name: "soak::rows_of_the_table_and_random_jobs", body: Body::Own(SMALL, rows_and_random_jobs) },
    Case { name: "soak::planted_violations_are_found", body: Body::Own(SMALL, planted) },
    Case { name: "soak::a_tray_is_switched_off_and_on", body: Body::On(SMALL, switched) },
];

fn on_cluster(
    setup: &Setup,
    name: &str,
    play: fn(&Cluster, &Soak<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let cluster = Soak::prepare(setup.builder(name)).start()?;
    Soak::on(&cluster, |soak| play(&cluster, soak)).map_err(|error| explained(error, &cluster, name))
}

/// Rows that take a few seconds each; beside them some of the steps at which a hook can be killed.
const QUICK: [(&str, &str); 7] = [
    ("imex-refuse", "before start"),
    ("imex-die", "during forming"),
    ("imex-ignore-sigterm", "during the epilog"),
    ("slurmd restart", "during forming"),
    ("scancel", "during forming"),
    ("requeue", "during the job"),
    ("two jobs", "back to back"),
];

fn is_quick((number, row): &(usize, Row)) -> bool {
    let named = QUICK.iter().any(|(what, when)| row.what == *what && row.when == *when);
    // One side of each is enough here.
    let side =
        row.plan.events.first().is_none_or(|event| event.tray == number % 2 || event.deed == Deed::Cancel);
    (named && side) || (row.what.starts_with("SIGKILL") && number % 16 == 0)
}

fn rows_and_random_jobs(setup: &Setup) -> anyhow::Result<()> {
    /// Here always the same, so that the run takes the same time; `cargo xtask soak imex` takes others.
    const SEED: u64 = 5;
    on_cluster(setup, "rows", |_, soak| {
        let shares = soak.shares(4);
        let steps = soak.steps(shares.first().context("no trays")?)?;
        let chosen = table::rows(&steps).into_iter().enumerate().filter(is_quick);
        let mut plans: Vec<Plan> = chosen.map(|(_, row)| row.plan).collect();
        ensure!(plans.len() >= QUICK.len() + 2, "only {} rows", plans.len());
        let random = (0..6).map(|number| random::plan(SEED, number, &steps));
        plans.extend(random.filter(|plan| plan.trays < 4));
        // What a killed epilog left goes with the next job.
        plans.extend([Plan::quiet(3), Plan::quiet(3)]);
        let played = soak.play(&shares, &plans, false, |_, _| {});
        let broken: Vec<_> = played.iter().filter(|(.., found)| !found.is_empty()).collect();
        ensure!(broken.is_empty() && played.len() == plans.len(), "seed {SEED}: {broken:#?}");
        Ok(())
    })
}

/// Whether a planted violation is among those that were counted.
type Found = fn(Counts) -> bool;

/// Each rule is broken once on purpose, and exactly that is said.
fn planted(setup: &Setup) -> anyhow::Result<()> {
    on_cluster(setup, "planted", |cluster, soak| {
        let shares = soak.shares(4);
        let trays = shares.first().context("no trays")?;
        let quiet = Plan::quiet(3);
        let sick = Plan::one(Phase::Before, 1, Deed::Fault(Fault::new(FaultKind::ImexRefuse)));
        let plants: [(Plant, usize, &Plan, Found); 5] = [
            (Plant::NoEpilog, 1, &quiet, |c| c.left == 1),
            (Plant::FailingProlog, 2, &quiet, |c| c.healthy_drained == 1),
            (Plant::BlindProlog, 1, &sick, |c| c.faulty_in_service == 1),
            (Plant::HastyProlog, 0, &quiet, |c| c.half_formed == 1),
            (Plant::OwnMembers, 2, &quiet, |c| c.wrong_members == 1),
        ];
        for (plant, position, plan, found) in plants {
            plant.on(cluster, &trays[position])?;
            let played = soak.play(std::slice::from_ref(trays), std::slice::from_ref(plan), false, |_, _| {});
            let (_, seen, violations) = played.first().context("nothing was played")?;
            ensure!(found(Counts::of(violations)), "{plant:?}: {violations:#?}\n{seen:#?}");
            let said: Vec<String> = violations.iter().map(Violation::to_string).collect();
            ensure!(said.iter().any(|text| text.contains(&trays[position])), "{plant:?}: {said:?}");
        }
        // What the last ones left is gone with the next job.
        let played = soak.play(std::slice::from_ref(trays), &[quiet], true, |_, _| {});
        ensure!(played.iter().all(|(.., found)| found.is_empty()), "{played:#?}");
        Ok(())
    })
}

fn switched(cluster: &Cluster) -> anyhow::Result<()> {
    const TRAY: &str = "r02n03";
    let look = || -> anyhow::Result<(String, f64, BTreeSet<String>)> {
        let boot = cluster.tray(TRAY, &["cat", "/proc/sys/kernel/random/boot_id"])?;
        let uptime = cluster.tray(TRAY, &["cut", "-d ", "-f1", "/proc/uptime"])?;
        let files = fs::read_dir(cluster.root_of(TRAY)?.join("run"))?.flatten();
        let files = files.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        Ok((boot, uptime.trim().parse()?, files))
    };
    cluster.tray(TRAY, &["touch", "/run/of-this-boot", "/var/tmp/stays"])?;
    let before = look()?;
    cluster.switch_off(TRAY)?;
    ensure!(cluster.tray(TRAY, &["true"]).is_err(), "a tray that is switched off runs a command");
    cluster.switch_on(TRAY)?;
    let after = look()?;
    ensure!(before.0 != after.0 && after.1 < before.1 && after.1 < 120.0, "{before:?} {after:?}");
    ensure!(before.2.contains("of-this-boot") && !after.2.contains("of-this-boot"), "{after:?}");
    cluster.tray(TRAY, &["test", "-e", "/var/tmp/stays"])?;
    cluster.wait_idle(&cluster.nodes())
}
