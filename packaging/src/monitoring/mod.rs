//! `cargo xtask monitoring`: the metrics, the alerts and the dashboard, with a real Prometheus over a real Slurm.
//!
//! ```text
//! site       a test cluster with node exporters and a Prometheus, set up as the operator's guide says
//! story      what happens there: jobs, a tray that moves, trays lost, faults of IMEX, a plugin that gives up
//! sources    what is checked: the guide's list of metrics, the alerts, the dashboard
//! api        Prometheus' HTTP API      checks   questions to it, one line each
//! dashboard  panels and their queries  picture  the panels drawn with what Prometheus answers
//! ```
//! Real: Debian's Prometheus, promtool, node exporters, Slurm, this project's programs. Simulated: trays, GPUs, NVML, IMEX.
//! Grafana is not in Debian: its dashboard is read, its queries are asked, and its panels are drawn by this program.

#![forbid(unsafe_code)]

mod api;
mod checks;
mod dashboard;
mod ledger;
mod picture;
mod site;
mod sources;
mod story;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::console::seconds;
use crate::{artifacts, setup, workspace::Workspace};
use ledger::Ledger;
use site::Site;
use sources::Sources;

/// Options of `monitoring`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where to write the picture of the dashboard; target/monitoring.svg if not given.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Runs it. Exit code 1 when a check has failed.
///
/// # Errors
/// When the site cannot be started, or what shall happen on it does not.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let started = Instant::now();
    setup::ensure()?;
    artifacts::build(workspace)?;
    let sources = Sources::read(workspace.root())?;
    let svg = options.svg.clone().unwrap_or_else(|| workspace.target().join("monitoring.svg"));
    let site = Site::start(&sources)?;
    println!("Real: Slurm {}, {}, promtool, this project's programs.", site.slurm(), site.versions()?);
    println!(
        "Simulated: trays, GPUs, NVML, nvidia-imex. The dashboard is drawn by this program, not by a Grafana."
    );
    let mut ledger = Ledger::default();
    let done = watch(&site, &sources, &mut ledger).inspect_err(|_| eprintln!("{}", site.log_tails()))?;
    fs::write(&svg, done).with_context(|| format!("write {}", svg.display()))?;
    println!("the dashboard with what Prometheus answered: {}", svg.display());
    drop(site);
    println!("monitoring: {} in {}", ledger.counts(), seconds(started.elapsed()));
    Ok(ledger.exit_code())
}

/// Checks what needs no time, lets things happen, checks the rest, and draws.
fn watch(site: &Site, sources: &Sources, ledger: &mut Ledger) -> Result<String> {
    checks::promtool(site, sources, ledger);
    let told = story::play(site, ledger)?;
    checks::collected(site, sources, &told, ledger);
    checks::alerts(site, &told, ledger);
    let panels = checks::panels(site, sources, &told, ledger)?;
    Ok(picture::draw(&sources.dashboard, &panels, &told.scene()))
}
