//! The end of a run that could not do its work, and the words for it.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::Write;

use fabric::{Blame, Report};

/// Exit code of a run that did what was asked and found nothing wrong.
pub const OK: u8 = 0;
/// Exit code of a run that checked and found problems.
pub const PROBLEMS: u8 = 1;
/// Exit code of a run that could not do its work.
pub const COULD_NOT_RUN: u8 = 2;

/// Why a run could not do its work.
#[derive(Debug)]
pub struct Failure(pub Report);

impl Failure {
    /// The failure of an error with all its causes.
    pub fn of(blame: Blame, error: &dyn Error) -> Self {
        Self(Report::of_error(blame, error))
    }

    /// Adds what the reader can do.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self(self.0.with_hint(hint))
    }
}

/// Writes `topology-gen: error: ...` with facts and hint. A reader that went away is no error of ours.
pub fn print(report: &Report, words: &mut dyn Write) {
    let _ = writeln!(words, "topology-gen: error: {report}");
}
