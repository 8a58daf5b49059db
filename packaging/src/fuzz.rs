//! `cargo xtask fuzz`: the parsers under libFuzzer and the address sanitizer, by cargo-fuzz.
//!
//! The compiler's sanitizers and coverage are unstable options; `RUSTC_BOOTSTRAP` lets the stable compiler take them,
//! for these throw-away binaries only.

#![forbid(unsafe_code)]

use std::fs;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::child;
use crate::console::Progress;
use crate::workspace::Workspace;

/// Bounds one target beyond its own time: it is built first.
const BUILD: Duration = Duration::from_secs(20 * 60);

/// Options of `fuzz`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only this target.
    target: Option<String>,
    /// How long each target runs.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

/// Runs the targets one after the other; stops at the first that finds something.
///
/// # Errors
/// When cargo-fuzz is missing or a target cannot be built or started.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let folder = workspace.root().join("tests/fuzz");
    let installed =
        Command::new("cargo").args(["fuzz", "--version"]).output().is_ok_and(|out| out.status.success());
    ensure!(installed, "cargo-fuzz is missing; install it with `cargo install cargo-fuzz`");
    for target in targets(&folder.join("targets"))? {
        if options.target.as_ref().is_some_and(|wanted| *wanted != target) {
            continue;
        }
        let log = workspace.fresh_log(&format!("fuzz-{target}"))?;
        let time = format!("-max_total_time={}", options.seconds);
        let mut command = Command::new("cargo");
        command.args(["fuzz", "run", "--fuzz-dir"]).arg(&folder).args([
            &target,
            "--",
            &time,
            "-max_len=4096",
        ]);
        command.env("RUSTC_BOOTSTRAP", "1").current_dir(&folder);
        let limit = BUILD + Duration::from_secs(options.seconds);
        let status = child::run(&mut command, &log, limit, &mut Progress::new())?;
        let text = fs::read_to_string(&log)?;
        let last = text.lines().rev().find(|line| line.contains("cov:")).unwrap_or("no coverage reported");
        println!("{target:<14} {last}");
        if !status.success() {
            println!("{target} found something: see {}", log.display());
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The names of the targets, in order.
fn targets(folder: &std::path::Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        if let Some(name) = entry?.path().file_stem() {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}
