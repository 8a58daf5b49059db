//! The cases that run on real Slurm in the test cluster.
//!
//! One after the other, each on a cluster of its own or on one that cases with the same [`Setup`] share. A case that
//! lacks something (root, a staged artifact) is skipped and says what; with `SLURM_NVLINK_NO_SKIP=1` that is a failure.
//! With `SLURM_NVLINK_CASES=own` or `shared` only that half runs: two runs beside each other do not meet.
#![forbid(unsafe_code)]

mod beside;
mod boot;
mod command_line;
mod confirmation;
mod documents;
mod drained;
mod endurance;
mod faults;
mod harness;
mod imex;
mod imex_modes;
mod imex_systemd;
mod jobs;
mod leftovers;
mod live;
mod meaning;
mod panics;
mod placement;
mod plugin_file;
mod plugin_metrics;
mod policy;
mod power;
mod requests;
mod restarts;
mod slurm_systemd;
mod soak;
mod submit_help;
mod tiers;
mod topology;
mod watch_systemd;

use harness::{Case, Half, Shared};
use libtest_mimic::Arguments;
use std::process::ExitCode;
use tests::domain;

/// All cases. Those that share a setup stand together, so that its cluster is started once.
const CASES: &[&[Case]] = &[
    boot::CASES,
    command_line::CASES,
    leftovers::CASES,
    jobs::CASES,
    faults::CASES,
    placement::CASES,
    meaning::CASES,
    policy::CASES,
    submit_help::CASES,
    plugin_metrics::CASES,
    beside::CASES,
    drained::CASES,
    power::CASES,
    plugin_file::CASES,
    confirmation::CASES,
    panics::CASES,
    live::CASES,
    imex::CASES,
    imex_modes::CASES,
    imex_systemd::CASES,
    watch_systemd::CASES,
    requests::CASES,
    restarts::CASES,
    slurm_systemd::CASES,
    soak::CASES,
    endurance::CASES,
    topology::CASES,
    tiers::CASES,
    documents::CASES,
];

fn main() -> ExitCode {
    if let Some(code) = tests::supervisor::take_over() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // Clusters are measured while they start, and share the machine.
    arguments.test_threads = Some(1);
    let shared = Shared::default();
    let halves = match Half::wanted() {
        Ok(halves) => halves,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut trials = Vec::new();
    for half in halves {
        match half {
            Half::Own => {
                trials.extend(harness::own(CASES.concat()).into_iter().chain(documents::not_typed()))
            }
            Half::Shared => trials.extend(harness::on_shared(CASES.concat(), &shared)),
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    shared.end();
    harness::print_times();
    placement::print_differences();
    conclusion.exit_code()
}
