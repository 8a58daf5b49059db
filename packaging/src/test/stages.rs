//! The stages of `cargo xtask test`, in order.

#![forbid(unsafe_code)]

use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};

use super::Options;
use crate::cargo_test::{self, LIMIT};
use crate::outcome::Outcome;
use crate::workspace::Workspace;
use crate::{artifacts, cross, dist, slurm};

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
    Unit,
    Build,
    Cases,
    Packages,
    Arm,
}

/// In the order in which they run: what fails fastest comes first.
pub(super) const ALL: &[Stage] = &[
    Stage { name: "fmt", kind: Kind::Format },
    Stage { name: "clippy", kind: Kind::Lint },
    Stage { name: "unit", kind: Kind::Unit },
    Stage { name: "build", kind: Kind::Build },
    Stage { name: "cases", kind: Kind::Cases },
    Stage { name: "packages", kind: Kind::Packages },
    Stage { name: "arm", kind: Kind::Arm },
];

/// The integration test that boots clusters; it is a stage of its own.
const CASES: &str = "cases";

const QUICK: Duration = Duration::from_secs(60);

/// Whether the stage for aarch64 runs.
pub(super) fn arm_runs(options: &Options) -> bool {
    ALL.iter().any(|stage| stage.is_arm() && stage.left_out(options).is_none())
}

impl Stage {
    /// Whether it is that for aarch64.
    pub(super) fn is_arm(&self) -> bool {
        self.kind == Kind::Arm
    }

    /// Whether it leaves the processors so much time that something can be compiled beside it.
    pub(super) fn leaves_time(&self) -> bool {
        self.kind == Kind::Cases
    }

    /// Why the command line leaves this stage out, if it does.
    pub(super) fn left_out(&self, options: &Options) -> Option<&'static str> {
        match self.kind {
            Kind::Format | Kind::Lint if options.filter.is_some() => Some("a test filter was given"),
            Kind::Packages if options.no_packages => Some("--no-packages was given"),
            Kind::Packages if options.filter.as_ref().is_some_and(|filter| !self.name.contains(filter)) => {
                Some("a test filter was given")
            }
            Kind::Arm if options.no_arm => Some("--no-arm was given"),
            Kind::Arm if cfg!(target_arch = "aarch64") => {
                Some("this machine is aarch64: the stages above ran on it")
            }
            _ => None,
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// When it cannot run, which the caller counts as a failure.
    pub(super) fn run(&self, workspace: &Workspace, options: &Options) -> Result<Outcome> {
        let log = |name: &str| workspace.fresh_log(name);
        let filter: Vec<&str> = options.filter.as_deref().into_iter().collect();
        let mut cargo = workspace.cargo();
        match self.kind {
            Kind::Format => {
                cargo_test::check(cargo.args(["fmt", "--all", "--check"]), &log(self.name)?, QUICK)
            }
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
                cargo_test::check(&mut cargo, &log(self.name)?, LIMIT)
            }
            Kind::Unit => {
                // Without it the lab's tests would be skipped.
                ::tests::tree::Tree::ensure()?;
                cargo.args(["test", "--workspace", "--locked", "--no-fail-fast", "--lib", "--bins"]);
                for name in workspace.integration_tests(CASES) {
                    cargo.args(["--test", name]);
                }
                slurm::headers(&mut cargo)?;
                cargo_test::count(&mut cargo, &filter, &log(self.name)?)
            }
            Kind::Build => artifacts::build(workspace).map(|_| Outcome::check(true, String::new())),
            Kind::Cases => both_halves(|half| {
                let mut cargo = workspace.cargo();
                cargo.args(["test", "--workspace", "--locked", "--test", CASES]);
                slurm::headers(&mut cargo)?;
                // A case that cannot run has failed: setting up is this program's business.
                cargo.env("SLURM_NVLINK_STAGE", workspace.stage()).env("SLURM_NVLINK_NO_SKIP", "1");
                cargo.env("SLURM_NVLINK_CASES", half);
                cargo_test::count(&mut cargo, &filter, &log(&format!("{}-{half}", self.name))?)
            }),
            Kind::Packages => dist::test(workspace),
            Kind::Arm => cross::test(workspace, options.filter.as_deref(), &log(self.name)?),
        }
    }
}

/// Runs the cases on clusters of their own and those on shared ones beside each other: they wait for much and compute little.
fn both_halves(run: impl Fn(&'static str) -> Result<Outcome> + Sync) -> Result<Outcome> {
    let (own, shared) = thread::scope(|scope| {
        let own = scope.spawn(|| run("own"));
        let shared = run("shared");
        (own.join(), shared)
    });
    let Ok(own) = own else { bail!("the thread of the cases on clusters of their own has panicked") };
    let mut outcome = own?;
    outcome.add(shared?);
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn the_readme_lists_the_stages_in_their_order() {
        let readme = ::tests::documents::named("README.md").unwrap().text;
        let (_, table) = readme.split_once("| stage | what |\n|---|---|\n").unwrap();
        let rows = table.lines().take_while(|line| line.starts_with("| "));
        let listed: Vec<&str> =
            rows.flat_map(|row| row.split('|').nth(1).unwrap().split(',').map(str::trim)).collect();
        let names: Vec<&str> = ALL.iter().map(|stage| stage.name).collect();
        assert_eq!(listed, names);
    }
}
