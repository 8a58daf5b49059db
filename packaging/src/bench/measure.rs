//! One run of a program, its seconds and its peak memory, measured by a process that has no other children.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};

/// The hidden command that `bench` runs for each measurement: the kernel keeps the largest peak of all children.
#[derive(clap::Args)]
pub(crate) struct Measure {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    argv: Vec<OsString>,
}

/// What one run took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Cost {
    /// From start to end.
    pub(super) seconds: f64,
    /// Of processors, with all that it has started: what it takes on a machine that does nothing else.
    pub(super) busy: f64,
    /// Largest resident memory in KiB, as the kernel counts it (VmHWM).
    pub(super) peak_kib: i64,
    pub(super) code: Option<i32>,
}

impl Measure {
    /// Runs the program, without its output, and prints the cost as JSON.
    ///
    /// # Errors
    /// It cannot be run.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let (program, args) = self.argv.split_first().context("no program")?;
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begin = Instant::now();
        let status = command.status().with_context(|| format!("cannot run {}", program.display()))?;
        let seconds = begin.elapsed().as_secs_f64();
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        let time = usage.user_time() + usage.system_time();
        let busy = time.num_microseconds() as f64 / 1e6;
        let cost = Cost { seconds, busy, peak_kib: usage.max_rss(), code: status.code() };
        println!("{}", serde_json::to_string(&cost)?);
        Ok(())
    }
}

/// The least of `times` runs; each must end with one of these exit codes.
pub(super) fn cost(times: u32, argv: &[String], codes: &[i32]) -> anyhow::Result<Cost> {
    let own = std::env::current_exe().context("the path of this program")?;
    let mut least: Option<Cost> = None;
    for _ in 0..times.max(1) {
        let output = Command::new(&own).arg("measure").arg("--").args(argv).output()?;
        ensure!(output.status.success(), "measure: {}", String::from_utf8_lossy(&output.stderr));
        let cost: Cost = serde_json::from_slice(&output.stdout).context("measure prints no cost")?;
        let known = cost.code.is_some_and(|code| codes.contains(&code));
        ensure!(known, "`{}` ends with {:?}", argv.join(" "), cost.code);
        let least = least.get_or_insert(cost);
        least.seconds = least.seconds.min(cost.seconds);
        least.busy = least.busy.min(cost.busy);
        least.peak_kib = least.peak_kib.max(cost.peak_kib);
    }
    least.context("nothing was measured")
}
