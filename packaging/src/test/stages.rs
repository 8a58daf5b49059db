//! The stages of `cargo xtask test`, in order.

#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{Options, Outcome};
use crate::child::{self, Watch};
use crate::console::Progress;
use crate::libtest::Tally;
use crate::workspace::Workspace;
use crate::{artifacts, slurm};

/// One stage.
pub(super) struct Stage {
    /// Its name in the output.
    pub(super) name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Format,
    Lint,
    Build,
    Unit,
    Cases,
}

/// In the order in which they run: what fails fastest comes first.
pub(super) const ALL: &[Stage] = &[
    Stage { name: "fmt", kind: Kind::Format },
    Stage { name: "clippy", kind: Kind::Lint },
    Stage { name: "unit", kind: Kind::Unit },
    Stage { name: "build", kind: Kind::Build },
    Stage { name: "cases", kind: Kind::Cases },
];

/// The integration test that boots clusters; it is a stage of its own.
const CASES: &str = "cases";

const QUICK: Duration = Duration::from_secs(60);
const BUILD_AND_TEST: Duration = Duration::from_secs(20 * 60);

impl Stage {
    /// Why the command line leaves this stage out, if it does.
    pub(super) fn left_out(&self, options: &Options) -> Option<&'static str> {
        match self.kind {
            Kind::Format | Kind::Lint if options.filter.is_some() => Some("a test filter was given"),
            _ => None,
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// When it cannot run, which the caller counts as a failure.
    pub(super) fn run(&self, workspace: &Workspace, options: &Options) -> Result<Outcome> {
        let log = workspace.fresh_log(self.name)?;
        let mut cargo = workspace.cargo();
        match self.kind {
            Kind::Format => check(cargo.args(["fmt", "--all", "--check"]), &log, QUICK),
            Kind::Lint => {
                cargo.args([
                    "clippy",
                    "--workspace",
                    "--all-targets",
                    "--locked",
                    "--",
                    "--deny",
                    "warnings",
                ]);
                slurm::headers(&mut cargo)?;
                check(&mut cargo, &log, BUILD_AND_TEST)
            }
            Kind::Build => artifacts::build(workspace).map(|_| Outcome::check(true, String::new())),
            Kind::Unit => {
                cargo.args(["test", "--workspace", "--locked", "--no-fail-fast", "--lib", "--bins"]);
                for name in workspace.integration_tests(CASES) {
                    cargo.args(["--test", name]);
                }
                slurm::headers(&mut cargo)?;
                tests(&mut cargo, options, &log)
            }
            Kind::Cases => {
                cargo.args(["test", "--workspace", "--locked", "--test", CASES]);
                slurm::headers(&mut cargo)?;
                cargo.env("SLURM_NVLINK_STAGE", workspace.stage());
                tests(&mut cargo, options, &log)
            }
        }
    }
}

/// A command whose success is the check.
fn check(command: &mut Command, log: &Path, limit: Duration) -> Result<Outcome> {
    let status = child::run(command, log, limit, &mut Progress::new())?;
    Ok(Outcome::check(status.success(), fs::read_to_string(log)?))
}

/// A command that prints as `cargo test` does.
pub(super) fn tests(command: &mut Command, options: &Options, log: &Path) -> Result<Outcome> {
    if let Some(filter) = &options.filter {
        command.args(["--", filter]);
    }
    let mut watch = Counting { tally: Tally::default(), progress: Progress::new() };
    let status = child::run(command, log, BUILD_AND_TEST, &mut watch)?;
    let mut tally = watch.tally;
    tally.end(status.success());
    if tally.passed == 0 && tally.failed == 0 && options.filter.is_none() {
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
        if let Some(binary) = self.tally.line(line) {
            let failed =
                if binary.failed > 0 { format!(", {} FAILED", binary.failed) } else { String::new() };
            if binary.passed + binary.failed > 0 {
                self.progress.say(&format!("{}: {} passed{failed}", binary.name, binary.passed));
            }
        }
        self.progress.line(line);
    }

    fn quiet(&mut self) {
        self.progress.quiet();
    }
}
