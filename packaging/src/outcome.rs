//! What a stage of the tests came to.

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Counts, reasons and, for a failure, the output to show.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Tests or checks that passed.
    pub(crate) passed: u32,
    /// Tests or checks that failed.
    pub(crate) failed: u32,
    /// What did not run, and why.
    pub(crate) skipped: Vec<(String, String)>,
    /// What tests want people to know.
    pub(crate) remarks: Vec<String>,
    /// Shown below the stage's line when something failed.
    pub(crate) output: String,
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

    /// Something that did not run because `why`.
    pub(crate) fn skip(what: &str, why: &str) -> Self {
        Self { skipped: vec![(what.to_owned(), why.to_owned())], ..Self::default() }
    }

    /// Takes the counts of `other` in; the output only where something failed.
    pub(crate) fn add(&mut self, other: Self) {
        if other.failed > 0 {
            self.output.push_str(&other.output);
        }
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
        self.remarks.extend(other.remarks);
    }

    /// The output of what failed, set off from the lines of the runner; empty when nothing did.
    pub(crate) fn failure_text(&self) -> String {
        if self.failed == 0 {
            String::new()
        } else {
            self.output.lines().map(|line| format!("  | {line}\n")).collect()
        }
    }

    /// One line for each thing that did not run.
    pub(crate) fn skip_text(&self) -> String {
        self.skipped.iter().map(|(what, why)| format!("skipped: {what}: {why}\n")).collect()
    }

    /// One line for each remark.
    pub(crate) fn remark_text(&self) -> String {
        self.remarks.iter().map(|remark| format!("{remark}\n")).collect()
    }

    /// Success when something ran and nothing failed.
    pub(crate) fn exit_code(&self) -> ExitCode {
        if self.failed == 0 && self.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// The counts in words.
    pub(crate) fn counts(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped.len())
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn the_sum_has_the_agreed_form() {
        let mut total = Outcome { passed: 3, ..Outcome::default() };
        total.add(Outcome::check(true, "never shown".to_owned()));
        total.add(Outcome::check(false, "why".to_owned()));
        total.add(Outcome::skip("arm", "--no-arm was given"));
        assert_eq!(total.counts(), "4 passed, 1 failed, 1 skipped");
        assert_eq!(total.output, "why");
        assert_eq!(total.skip_text(), "skipped: arm: --no-arm was given\n");
    }
}
