//! One line for each check.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Result;

/// Counts what held and what did not.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    passed: u32,
    failed: u32,
}

impl Ledger {
    /// Says how a check went: what was found, or why it failed.
    pub(super) fn check(&mut self, what: &str, outcome: Result<String>) {
        match outcome {
            Ok(found) => {
                self.passed += 1;
                println!("ok     {what}{}{found}", if found.is_empty() { "" } else { ": " });
            }
            Err(why) => {
                self.failed += 1;
                println!("WRONG  {what}: {}", format!("{why:#}").trim().replace('\n', "\n       "));
            }
        }
    }

    /// The sum in words.
    pub(super) fn counts(&self) -> String {
        format!("{} passed, {} failed", self.passed, self.failed)
    }

    /// Success when something was checked and nothing failed.
    pub(super) fn exit_code(&self) -> ExitCode {
        if self.failed == 0 && self.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_is_enough_and_nothing_checked_is_no_success() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.exit_code(), ExitCode::FAILURE);
        ledger.check("a", Ok(String::new()));
        assert_eq!(ledger.exit_code(), ExitCode::SUCCESS);
        ledger.check("b", Err(anyhow::anyhow!("no")));
        assert_eq!((ledger.exit_code(), ledger.counts().as_str()), (ExitCode::FAILURE, "1 passed, 1 failed"));
    }
}
