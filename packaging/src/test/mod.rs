//! `cargo xtask test`: every check and test of the project, in stages.
//!
//! Each stage prints one line when it has ended; a stage that fails prints its output. The last line of all is the sum:
//! `N passed, N failed, N skipped`. What was skipped stands before it with its reason. A stage that cannot run has
//! failed; it is skipped only where the command line asked for that.

#![forbid(unsafe_code)]

mod stages;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use crate::console::seconds;
use crate::setup;
use crate::workspace::Workspace;

/// Options of `test`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave out the build and the tests for aarch64.
    #[arg(long)]
    no_arm: bool,
    /// Run only the tests whose name contains this text (and no format or lint check).
    filter: Option<String>,
}

/// What a stage came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    passed: u32,
    failed: u32,
    skipped: Vec<(String, String)>,
    /// Shown below the stage's line when something failed.
    output: String,
}

impl Outcome {
    /// A check that is one thing: passed, or failed with its output.
    pub(crate) fn check(success: bool, output: String) -> Self {
        if success {
            Self { passed: 1, ..Self::default() }
        } else {
            Self { failed: 1, output, ..Self::default() }
        }
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
    }

    /// The counts in words.
    fn counts(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped.len())
    }
}

/// Runs the stages.
///
/// # Errors
/// Only when no stage can start at all (setup); a stage's own error counts as its failure.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let started = Instant::now();
    setup::ensure()?;
    let mut total = Outcome::default();
    for stage in stages::ALL {
        let outcome = match stage.left_out(options) {
            Some(why) => {
                Outcome { skipped: vec![(stage.name.to_owned(), why.to_owned())], ..Outcome::default() }
            }
            None => run_stage(workspace, options, stage),
        };
        total.add(outcome);
    }
    println!("{:<9} {:>41} {:>9}", "all", "", seconds(started.elapsed()));
    for (name, why) in &total.skipped {
        println!("skipped: {name}: {why}");
    }
    let ran_nothing = total.passed == 0 && total.failed == 0;
    if ran_nothing {
        println!("no test ran");
    }
    println!("{}", total.counts());
    Ok(if total.failed == 0 && !ran_nothing { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_stage(workspace: &Workspace, options: &Options, stage: &stages::Stage) -> Outcome {
    let started = Instant::now();
    eprintln!("{} ...", stage.name);
    let outcome =
        stage.run(workspace, options).unwrap_or_else(|error| Outcome::check(false, format!("{error:#}")));
    println!("{:<9} {:>41} {:>9}", stage.name, outcome.counts(), seconds(started.elapsed()));
    if outcome.failed > 0 {
        for line in outcome.output.lines() {
            println!("  | {line}");
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn the_sum_has_the_agreed_form() {
        let mut total = Outcome { passed: 3, ..Outcome::default() };
        total.add(Outcome::check(true, String::new()));
        total.add(Outcome::check(false, "why".to_owned()));
        total.add(Outcome { skipped: vec![("arm".to_owned(), "--no-arm".to_owned())], ..Outcome::default() });
        assert_eq!(total.counts(), "4 passed, 1 failed, 1 skipped");
    }
}
