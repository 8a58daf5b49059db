//! What the documents tell users to type when they submit jobs, and options of Slurm that stock answers.
#![forbid(unsafe_code)]

use super::step::{At, STEP, Step, succeeds};
use anyhow::{Context as _, ensure};
use tests::cluster::{Captured, Target};
use tests::documents::{self, Form};

/// A job that ends at once, of four whole trays; what follows is the option.
const JOB: &str = "srun --nodes=4 --exclusive --time=1";
const CONF: &str = "/etc/slurm/slurm.conf";
const FILTER: &str = "/etc/slurm/cli_filter.lua";

/// As a user, and it runs on four trays.
const RUNS: Step = Step {
    at: At::User,
    of: JOB,
    then: |_, said| {
        succeeds(said)?;
        ensure!(said.stdout.lines().count() == 4, "not on four trays");
        Ok(())
    },
    ..STEP
};

pub(super) const STEPS: &[Step] = &[
    Step {
        typed: "$ sbatch -N 32 train.sh",
        at: At::User,
        with: &[("$ ", "")],
        before: |cluster| {
            let filter = include_str!("../../../packaging/examples/cli_filter.lua");
            let whole = cluster.ctl(&["cat", CONF])?;
            let controller = Target::controller();
            cluster.write_file(&controller, FILTER, filter)?;
            cluster.write_file(&controller, CONF, &format!("CliFilterPlugins=cli_filter/lua\n{whole}"))?;
            let script = "printf '#!/bin/sh\\ntrue\\n' >train.sh";
            cluster.succeed(&controller.as_user(), &["sh", "-c", script]).map(drop)
        },
        then: |cluster, said| {
            let whole = cluster.ctl(&["cat", CONF])?;
            let (_, whole) = whole.split_once('\n').context("slurm.conf is empty")?;
            cluster.write_file(&Target::controller(), CONF, whole)?;
            cluster.ctl(&["rm", FILTER])?;
            cluster.succeed(&Target::controller().as_user(), &["rm", "train.sh"])?;
            succeeds(said)?;
            as_shown(said)
        },
        ..STEP
    },
    Step { typed: "--segment=N", with: &[("N", "2 hostname")], ..RUNS },
    Step { typed: "--exclusive=topo", with: &[("topo", "topo hostname")], ..RUNS },
    Step { typed: "--contiguous", with: &[("--contiguous", "--contiguous hostname")], ..RUNS },
    Step { typed: "--spread-job", with: &[("--spread-job", "--spread-job hostname")], ..RUNS },
    Step { typed: "-w", with: &[("-w", "-w r01n[01-04] hostname")], ..RUNS },
    Step { typed: "-x", with: &[("-x", "-x r01n[01-04] hostname")], ..RUNS },
    Step { typed: "--gpus", with: &[("--gpus", "--gpus=16 hostname")], ..RUNS },
    Step {
        typed: "--distribution=arbitrary",
        with: &[("arbitrary", "arbitrary hostname")],
        then: |_, said| {
            ensure!(!said.status.success(), "it is not refused");
            Ok(())
        },
        ..RUNS
    },
    Step {
        typed: "--segment=16",
        of: "srun --nodes=32 --exclusive --time=1",
        with: &[("16", "16 hostname")],
        then: |_, said| {
            succeeds(said)?;
            let of = |rack: &str| said.stdout.lines().filter(|line| line.starts_with(rack)).count();
            ensure!((of("r01"), of("r02")) == (16, 16), "not two groups of 16");
            Ok(())
        },
        ..RUNS
    },
];

/// What the filter said is what the guide shows below the command.
fn as_shown(said: &Captured) -> anyhow::Result<()> {
    let code = documents::named("docs/operating.md")?.code();
    let shown = code.iter().filter(|code| code.form == Form::Line && code.text.starts_with("sbatch: lua: "));
    let shown: Vec<&str> = shown.map(|code| code.text.as_str()).collect();
    let lines: Vec<&str> = said.stderr.lines().collect();
    ensure!(lines == shown && !shown.is_empty(), "the guide shows\n{}", shown.join("\n"));
    Ok(())
}
