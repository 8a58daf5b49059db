//! aarch64: what runs on GB200 trays, built by a cross compiler and tested under emulation.
//!
//! The compiler, its library for aarch64, the emulator and an arm64 Slurm come from a second root tree of Debian
//! packages, so nothing is added to this machine and no other Rust toolchain is needed. What is simulated: the
//! processor (QEMU user mode) and, as everywhere, NVML.

#![forbid(unsafe_code)]

mod room;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cargo_test::{self, LIMIT};
use crate::child;
use crate::console::Progress;
use crate::outcome::Outcome;
use crate::workspace::Workspace;
use room::{Inside, Room};

const TRIPLE: &str = "aarch64-unknown-linux-gnu";

/// What runs on trays, and what stands in for the vendor's programs there.
const PACKAGES: &[&str] = &["fabric", "slurm-plugin", "imex-prolog", "topology-gen", "sim", "nvml-sim"];

/// Builds and runs the tests for aarch64.
///
/// # Errors
/// When the tree, the namespaces or the packages' sources are not to be had.
pub(crate) fn test(workspace: &Workspace, filter: Option<&str>, log: &Path) -> Result<Outcome> {
    let tree = tree::ensure()?;
    fetch(workspace, log)?;
    let target = workspace.target().join("arm");
    fs::create_dir_all(&target).with_context(|| format!("create {}", target.display()))?;
    let cargo_home = cargo_home()?;
    let room =
        Room::open(&tree, &Inside { source: workspace.root(), cargo_home: &cargo_home, target: &target })?;

    let mut cargo = room.command("cargo");
    cargo.args(["test", "--release", "--offline", "--locked", "--no-fail-fast", "--target", TRIPLE]);
    cargo.args(["--lib", "--bins", "--tests"]);
    cargo.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
    cargo_test::count(&mut cargo, filter, log)
}

/// The compiler in the room has no network: all sources are fetched out here.
fn fetch(workspace: &Workspace, log: &Path) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args(["fetch", "--locked"]);
    let status = child::run(&mut cargo, log, LIMIT, &mut Progress::new())?;
    if !status.success() {
        bail!("`{}` failed:\n{}", child::show(&cargo), fs::read_to_string(log)?);
    }
    Ok(())
}

fn cargo_home() -> Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(home)
        .context("neither CARGO_HOME nor HOME is set")
}
