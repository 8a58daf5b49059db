//! Runs commands as checks: `cargo test`, whose tests are counted one by one, and others, which are one check each.

#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::child::{self, Watch};
use crate::console::Progress;
use crate::libtest::Tally;
use crate::outcome::Outcome;

/// Bounds a command that compiles the workspace and runs its tests, on two slow cores with nothing cached.
pub(crate) const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Runs a command whose success is the check.
///
/// # Errors
/// As [`child::run`].
pub(crate) fn check(command: &mut Command, log: &Path, limit: Duration) -> Result<Outcome> {
    let status = child::run(command, log, limit, &mut Progress::new())?;
    Ok(Outcome::check(status.success(), fs::read_to_string(log)?))
}

/// Runs a command that prints as `cargo test` does, with `filter` as the last argument.
///
/// # Errors
/// As [`child::run`], and when no test ran although there is no filter.
pub(crate) fn count(command: &mut Command, filter: Option<&str>, log: &Path) -> Result<Outcome> {
    if let Some(filter) = filter {
        command.args(["--", filter]);
    }
    let mut watch = Counting { tally: Tally::default(), progress: Progress::new() };
    let status = child::run(command, log, LIMIT, &mut watch)?;
    let mut tally = watch.tally;
    tally.end(status.success());
    if tally.passed == 0 && tally.failed == 0 && filter.is_none() {
        bail!("`{}` ran no test", child::show(command));
    }
    let mut output = fs::read_to_string(log)?;
    output.push_str("failed:\n");
    for name in &tally.failures {
        output.push_str(&format!("  {name}\n"));
    }
    Ok(Outcome { passed: tally.passed, failed: tally.failed, skipped: tally.skipped, output })
}

/// Counts tests and says when a binary has ended.
struct Counting {
    tally: Tally,
    progress: Progress,
}

impl Watch for Counting {
    fn line(&mut self, line: &str) {
        if let Some(binary) = self.tally.line(line)
            && binary.passed + binary.failed > 0
        {
            let failed =
                if binary.failed > 0 { format!(", {} FAILED", binary.failed) } else { String::new() };
            self.progress.say(&format!("{}: {} passed{failed}", binary.name, binary.passed));
        }
        self.progress.line(line);
    }

    fn quiet(&mut self) {
        self.progress.quiet();
    }
}
