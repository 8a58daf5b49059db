//! `cargo xtask test`: every check and test of the project, in stages.
//!
//! Each stage prints one line when it has ended; a stage that fails prints its output. The last line of all is the sum:
//! `N passed, N failed, N skipped`. What was skipped stands before it with its reason, and before that each difference
//! between Slurm's own plugin and ours that the cases saw. A stage that cannot run has
//! failed; it is skipped only where the command line asked for that.
//!
//! The cases wait for much and compute little. While they run, what the stage `arm` needs is compiled, on what they leave.

#![forbid(unsafe_code)]

mod stages;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use anyhow::Result;

use crate::console::seconds;
use crate::cross;
use crate::outcome::Outcome;
use crate::setup;
use crate::workspace::Workspace;

/// Options of `test`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave out the packages and their life.
    #[arg(long)]
    no_packages: bool,
    /// Leave out the build and the tests for aarch64.
    #[arg(long)]
    no_arm: bool,
    /// Run only the tests whose name contains this text (and no format or lint check).
    filter: Option<String>,
}

/// Runs the stages.
///
/// # Errors
/// Only when no stage can start at all (setup); a stage's own error counts as its failure.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let started = Instant::now();
    setup::ensure()?;
    let mut total = Outcome::default();
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut ahead = None;
        for stage in stages::ALL {
            let outcome = match stage.left_out(options) {
                Some(why) => Outcome::skip(stage.name, why),
                None => {
                    if stage.leaves_time() && stages::arm_runs(options) {
                        ahead = Some(scope.spawn(|| cross::compile_ahead(workspace, &enough)));
                    }
                    if stage.is_arm() {
                        enough.store(true, Ordering::Relaxed);
                        // What it has not done, and why, the stage itself will meet.
                        let _ = ahead.take().map(ScopedJoinHandle::join);
                    }
                    run_stage(workspace, options, stage)
                }
            };
            total.add(outcome);
        }
    });
    println!("{:<9} {:>41} {:>9}", "all", "", seconds(started.elapsed()));
    println!("{}{}{}", total.remark_text(), total.skip_text(), total.counts());
    Ok(total.exit_code())
}

fn run_stage(workspace: &Workspace, options: &Options, stage: &stages::Stage) -> Outcome {
    let started = Instant::now();
    eprintln!("{} ...", stage.name);
    let outcome =
        stage.run(workspace, options).unwrap_or_else(|error| Outcome::check(false, format!("{error:#}")));
    println!("{:<9} {:>41} {:>9}", stage.name, outcome.counts(), seconds(started.elapsed()));
    print!("{}", outcome.failure_text());
    outcome
}
