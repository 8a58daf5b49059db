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

/// Bounds a command that compiles the workspace and runs its tests, on two slow cores that others use as well, with nothing cached.
pub(crate) const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Runs a command whose success is the check.
///
/// # Errors
/// As [`child::run`].
pub(crate) fn check(command: &mut Command, log: &Path, limit: Duration) -> Result<Outcome> {
    let status = child::run(command, log, limit, &mut Progress::new())?;
    Ok(Outcome::check(status.success(), shorten(&fs::read_to_string(log)?, log)))
}

/// Runs a command that prints as `cargo test` does, with `arguments` for the test programs.
///
/// # Errors
/// As [`child::run`], and when no test ran although there is no argument.
pub(crate) fn count(command: &mut Command, arguments: &[&str], log: &Path) -> Result<Outcome> {
    command.arg("--").args(arguments);
    let mut watch = Counting { tally: Tally::default(), progress: Progress::new() };
    let status = child::run(command, log, LIMIT, &mut watch)?;
    let mut tally = watch.tally;
    tally.end(status.success());
    if tally.passed == 0 && tally.failed == 0 && arguments.is_empty() {
        bail!("`{}` ran no test", child::show(command));
    }
    let mut output = shorten(&fs::read_to_string(log)?, log);
    output.push_str("\nfailed:\n");
    for name in &tally.failures {
        output.push_str(&format!("  {name}\n"));
    }
    let Tally { passed, failed, skipped, remarks, .. } = tally;
    Ok(Outcome { passed, failed, skipped, remarks, output })
}

/// What is worth showing of a failure: not what went well, and of the rest the last lines.
fn shorten(output: &str, log: &Path) -> String {
    const LINES: usize = 150;
    let went_well = |line: &str| line.starts_with("test ") && line.ends_with(" ok");
    let lines: Vec<&str> = output.lines().filter(|line| !went_well(line)).collect();
    let left_out = lines.len().saturating_sub(LINES);
    let mut text = lines[left_out..].join("\n");
    if left_out > 0 {
        text.insert_str(0, &format!("({left_out} lines before these are in {})\n", log.display()));
    }
    text
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

#[cfg(test)]
mod tests {
    use super::shorten;
    use std::path::Path;

    #[test]
    fn a_failure_is_shown_without_what_went_well_and_not_longer_than_needed() {
        let log = Path::new("x.log");
        assert_eq!(shorten("test a ... ok\ntest b ... FAILED\nwhy\n", log), "test b ... FAILED\nwhy");
        let long: String = (0..200).map(|number| format!("line {number}\n")).collect();
        let short = shorten(&long, log);
        assert!(
            short.starts_with("(50 lines before these are in x.log)\nline 50\n")
                && short.ends_with("line 199")
        );
    }
}
