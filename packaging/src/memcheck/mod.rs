//! `cargo xtask memcheck`: a real slurmctld with our plugin under valgrind's memcheck, through jobs, moved nodes and
//! reconfigures.
//!
//! Valgrind comes from the same Debian release as Slurm, in a root tree of its own, because it must know that
//! release's C library.

#![forbid(unsafe_code)]

mod stir;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tests::tree::{Recipe, Tree};
use tests::{Cluster, Plugin};

use crate::{artifacts, setup, workspace::Workspace};

/// Where valgrind writes, inside the controller's node; `%p` becomes the process.
const LOG: &str = "/var/log/slurm/memcheck.%p";

/// Options of `memcheck`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many jobs are submitted; nodes are moved, drained and Slurm is reconfigured in between.
    #[arg(long, default_value_t = 1000)]
    jobs: u32,
    /// Seed of the mixture.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Slurm's own topology/block in the place of ours: what of the errors is Slurm's.
    #[arg(long)]
    stock: bool,
}

/// Runs it. Exit code 1 when an error lies in or below our plugin.
///
/// # Errors
/// When the cluster cannot be started or one of the steps fails.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    setup::ensure()?;
    artifacts::build(workspace)?;
    let command: Vec<String> = ["valgrind"]
        .into_iter()
        .chain(lab::memcheck::OPTIONS)
        // A reconfigure starts a new slurmctld.
        .chain(["--trace-children=yes"])
        .map(str::to_owned)
        .chain([format!("--log-file={LOG}")])
        .collect();
    let cluster = Cluster::builder()
        .name(&format!("memcheck-{}", std::process::id()))
        .profile("small-2x4")
        .plugin(if options.stock { Plugin::Stock } else { Plugin::Ours })
        .tree(Tree::made(&Recipe::for_memcheck()?)?)
        .controller_under(command)
        .without_imex()
        // Under memcheck all takes its time.
        .set("MessageTimeout", "100")
        // Of the racks' 4 trays: what is remembered of jobs that run and of jobs that wait is used.
        .set("TopologyParam", "nvlink_room=3,nvlink_patience=1")
        .start()?;
    let loaded = cluster.topology_plugins("ctl")?;
    println!("slurmctld runs under memcheck with {loaded:?}; seed {}", options.seed);
    ensure!(
        options.stock || loaded.iter().any(|file| file.contains("slurm-nvlink")),
        "slurmctld has not loaded our plugin: a clean run would say nothing of it"
    );
    let stirred = stir::run(&cluster, options.seed, options.jobs);
    let logs = cluster.logs("ctl")?.join("slurm");
    // The leaks are written at its end.
    let stopped = cluster.stop_daemon("ctl", Signal::SIGTERM);
    let kept = keep(workspace, &logs)?;
    let done = stirred.with_context(|| format!("logs: {}", kept.display()))?;
    stopped?;
    println!("{done}");
    let report = lab::memcheck::read(&kept)?;
    print!("{report}");
    println!("logs: {}", kept.display());
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Copies the controller's logs to a place that outlives the cluster.
fn keep(workspace: &Workspace, logs: &std::path::Path) -> Result<PathBuf> {
    let kept = workspace.target().join("memcheck");
    if kept.exists() {
        std::fs::remove_dir_all(&kept).with_context(|| format!("remove {}", kept.display()))?;
    }
    std::fs::create_dir_all(&kept).with_context(|| format!("make {}", kept.display()))?;
    for entry in std::fs::read_dir(logs).with_context(|| format!("read {}", logs.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), kept.join(entry.file_name()))?;
        }
    }
    Ok(kept)
}
