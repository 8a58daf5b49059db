//! Version of the installed IMEX daemon against that of the loaded driver: they must be equal (IMEX guide: a daemon of another
//! version refuses to start, and peers of another version refuse each other).
#![forbid(unsafe_code)]

use crate::call::Call;
use crate::ctl::quote;
use crate::deadline::Deadline;
use fabric::report::{Blame, Report};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What the daemon's `--version` begins with.
const PREFIX: &str = "IMEX version is:";

/// The version is not known. That alone is no fault: the daemon checks for itself when it starts.
#[derive(Debug, Error)]
pub enum VersionError {
    /// The program cannot be run.
    #[error("cannot run {program} --version")]
    Run {
        /// The program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It did not end in time.
    #[error("{program} --version did not answer in time and was ended")]
    Hung {
        /// The program.
        program: PathBuf,
    },
    /// It says something else.
    #[error("{program} --version says {quote}")]
    Answer {
        /// The program.
        program: PathBuf,
        /// What it said.
        quote: String,
    },
}

/// A question that is under way while the GPUs are read.
#[derive(Debug)]
pub struct Query {
    program: PathBuf,
    call: io::Result<Call>,
}

impl Query {
    /// Asks `program`.
    #[must_use]
    pub fn start(program: &Path) -> Self {
        Self { program: program.to_owned(), call: Call::start(program, ["--version"]) }
    }

    /// The answer.
    ///
    /// # Errors
    /// [`VersionError`] when there is none until the deadline.
    pub fn finish(self, deadline: Deadline) -> Result<String, VersionError> {
        let Self { program, call } = self;
        match call.and_then(|call| call.finish(deadline)) {
            Ok(Some(answer)) => match parse(&answer.text) {
                Some(version) if answer.success => Ok(version.to_owned()),
                _ => Err(VersionError::Answer { program, quote: quote(&answer.text) }),
            },
            Ok(None) => Err(VersionError::Hung { program }),
            Err(source) => Err(VersionError::Run { program, source }),
        }
    }
}

/// The version among the lines that the program prints.
fn parse(text: &str) -> Option<&str> {
    let version = text.lines().find_map(|line| line.trim().strip_prefix(PREFIX))?.trim();
    let plain = version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+_".contains(&byte));
    (plain && !version.is_empty() && version.len() <= 64).then_some(version)
}

/// The fault of a tray whose daemon and driver differ.
#[must_use]
pub fn mismatch(program: &Path, daemon: &str, driver: &str) -> Option<Report> {
    (daemon != driver).then(|| {
        Report::new(
            Blame::Node,
            format!("{} is version {daemon}, but the NVIDIA driver is version {driver}", program.display()),
        )
        .with_hint("install the nvidia-imex package of exactly the driver's version")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_version_is_one_word_after_the_known_text() {
        assert_eq!(parse("IMEX version is: 580.95.05\nsomething else\n"), Some("580.95.05"));
        for text in
            ["", "580.95.05", "IMEX version is:", "IMEX version is: 1 2", "IMEX version is: a\u{1b}[0m"]
        {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn another_version_is_this_nodes_fault_and_an_unknown_one_is_an_error() {
        let program = Path::new("/usr/bin/nvidia-imex");
        assert_eq!(mismatch(program, "580.95.05", "580.95.05"), None);
        assert_eq!(
            mismatch(program, "570.1", "580.95.05").unwrap().to_string(),
            "/usr/bin/nvidia-imex is version 570.1, but the NVIDIA driver is version 580.95.05\n\
             hint: install the nvidia-imex package of exactly the driver's version"
        );
        let soon = Deadline::after(Duration::from_secs(20));
        let other = Query::start(Path::new("/bin/echo")).finish(soon).unwrap_err();
        assert!(matches!(other, VersionError::Answer { .. }), "{other}");
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let soon = Deadline::after(Duration::from_secs(20));
        let none = Query::start(Path::new("/none")).finish(soon).unwrap_err();
        assert!(matches!(none, VersionError::Run { .. }));
    }
}
