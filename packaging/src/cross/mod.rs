//! aarch64: what runs on GB200 trays, built by a cross compiler and tested under emulation.
//!
//! The compiler, its library for aarch64, the emulator and an arm64 Slurm come from a second root tree of Debian
//! packages, so nothing is added to this machine and no other Rust toolchain is needed. What is simulated: the
//! processor (QEMU user mode) and, as everywhere, NVML.

#![forbid(unsafe_code)]

mod cluster;
mod mixed;
mod room;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};

use crate::artifacts;
use crate::cargo_test::{self, LIMIT};
use crate::child;
use crate::console::{Progress, SilentUntil};
use crate::outcome::Outcome;
use crate::workspace::Workspace;
use room::{Inside, Room};

const TRIPLE: &str = "aarch64-unknown-linux-gnu";

/// What the names of the checks on clusters begin with: `arm::emulated`, `arm::mixed`.
const CLUSTERS: &str = "arm::";

/// What runs on trays, and what stands in for the vendor's programs there.
const PACKAGES: &[&str] = &["fabric", "slurm-plugin", "imex-prolog", "topology-gen", "sim", "nvml-sim"];

/// Tests of programs that cannot be started: under emulation the parent does not learn of it.
const EXEC: &str = "QEMU's user mode does not tell a parent that an exec has failed";
/// Tests of the hooks' tracer.
const TRACE: &str = "QEMU's user mode lets no program trace another";
/// Tests that try everything: minutes under emulation.
const EXHAUSTIVE: &str = "pure, and all of it ran on this machine; under emulation it takes minutes";

/// Tests that fail for the emulator's sake, or take too long there: part of their name, and why.
const NOT_EMULATED: &[(&str, &str)] = &[
    ("ctl::tests::a_missing_tool_says_so", EXEC),
    ("version::tests::a_missing_program_is_an_error", EXEC),
    ("command::tests::a_program_that_is_not_there_is_named", EXEC),
    ("cli::tests::each_error_says_what_where_and_what_to_do", EXEC),
    ("source::slurm::tests::scontrol_is_asked_once_and_its_words_are_kept", EXEC),
    ("hook::tests::a_program_that_is_not_killed_ends_as_always", TRACE),
    ("hook::tests::a_traced_program_is_killed_after_its_step_and_not_later", TRACE),
    ("placement::tests::every_small_state_gives_a_sound_answer_or_a_justified_refusal", EXHAUSTIVE),
    ("placement::tests::drained_trays_never_make_a_spanning_job_wait_for_ever", EXHAUSTIVE),
    ("placement::tests::groups::spanning_jobs_lie_where_trying_all_says", EXHAUSTIVE),
    (
        "a_clock_that_jumps",
        "its clock is compiled by the machine's own compiler, which is another architecture's",
    ),
];

/// Compiles what [`test`] runs, on what other work leaves of the processors, until there is `enough`. What is missing then,
/// [`test`] compiles.
///
/// # Errors
/// As [`test`]; a build that fails is told there.
pub(crate) fn compile_ahead(workspace: &Workspace, enough: &AtomicBool) -> Result<()> {
    // Of this thread alone, and of what it starts.
    rustix::process::nice(19).context("be nice")?;
    let log = workspace.fresh_log("arm-ahead")?;
    let (tree, target) = places(workspace, &log)?;
    let room = open(workspace, &tree, &target)?;
    for arguments in [&["build"][..], &[TESTS, &["--no-run"]].concat()] {
        child::run(cargo(&room, arguments[0]).args(&arguments[1..]), &log, LIMIT, &mut SilentUntil(enough))?;
    }
    Ok(())
}

/// The verb and arguments of cargo for the tests.
const TESTS: &[&str] = &["test", "--no-fail-fast", "--lib", "--bins", "--tests"];

/// The cross tree and the folder for what is built, with all sources fetched.
fn places(workspace: &Workspace, log: &Path) -> Result<(PathBuf, PathBuf)> {
    let tree = tree::ensure()?;
    fetch(workspace, log)?;
    let target = workspace.target().join("arm");
    fs::create_dir_all(&target).with_context(|| format!("create {}", target.display()))?;
    Ok((tree, target))
}

fn open(workspace: &Workspace, tree: &Path, target: &Path) -> Result<Room> {
    Room::open(tree, &Inside { source: workspace.root(), cargo_home: &cargo_home()?, target })
}

/// Cargo in the room, for what runs on trays.
fn cargo(room: &Room, verb: &str) -> Command {
    // The unoptimised profile compiles in half the time; it is the architecture that is tested here, with overflow checks.
    let mut command = room.command("cargo");
    command.args([verb, "--offline", "--locked", "--target", TRIPLE]);
    command.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
    command
}

/// Builds and runs the tests for aarch64.
///
/// # Errors
/// When the tree, the namespaces or the packages' sources are not to be had.
pub(crate) fn test(workspace: &Workspace, filter: Option<&str>, log: &Path) -> Result<Outcome> {
    let (tree, target) = places(workspace, log)?;
    let room = open(workspace, &tree, &target)?;
    let mut outcome = cargo_test::check(&mut cargo(&room, "build"), log, LIMIT)?;
    if outcome.failed > 0 {
        return Ok(outcome);
    }
    if !filter.is_some_and(|filter| filter.starts_with(CLUSTERS)) {
        let mut tests = cargo(&room, TESTS[0]);
        tests.args(&TESTS[1..]);
        outcome.add(cargo_test::count(&mut tests, &selection(filter), log)?);
        for (name, why) in NOT_EMULATED {
            outcome.add(Outcome::skip(&format!("arm: {name}"), why));
        }
    }
    let wanted = |name: &str| filter.is_none_or(|filter| format!("{CLUSTERS}{name}").contains(filter));
    if wanted("emulated") {
        outcome.add(cluster::check(&room, &format!("/mnt/target/{TRIPLE}/debug"), log)?);
    }
    if wanted("mixed") {
        // The room is open: as long as it is, the kernel runs arm64 programs everywhere.
        let built = target.join(TRIPLE).join("debug");
        outcome.add(mixed::check(&room, &tree, &built, &target.join("stage"), log)?);
    }
    Ok(outcome)
}

/// In the folder that is named first, the files named after it.
const STRIP: &str = r#"cd "$1"; shift; mkdir -p stripped
for file; do aarch64-linux-gnu-strip --strip-unneeded -o "stripped/$file" "$file" || exit; done"#;

/// Builds the products in release form and returns a folder with the files of these names, without what only a debugger reads.
///
/// # Errors
/// As [`test`], and when the build fails.
pub(crate) fn release(workspace: &Workspace, files: &[&str]) -> Result<PathBuf> {
    let log = workspace.fresh_log("arm-release")?;
    let (tree, target) = places(workspace, &log)?;
    let room = open(workspace, &tree, &target)?;
    let mut cargo = room.command("cargo");
    cargo.args(["build", "--release", "--offline", "--locked", "--target", TRIPLE]);
    cargo.args(artifacts::PRODUCTS.iter().flat_map(|package| ["--package", package]));
    let status = child::run(&mut cargo, &log, LIMIT, &mut Progress::new())?;
    if !status.success() {
        bail!("the build for aarch64 failed:\n{}", fs::read_to_string(&log).unwrap_or_default());
    }
    let mut strip = room.command("sh");
    strip.args(["-c", STRIP, "strip", &format!("/mnt/target/{TRIPLE}/release")]).args(files);
    let status = child::run(&mut strip, &log, LIMIT, &mut Progress::new())?;
    if !status.success() {
        bail!(
            "the programs for aarch64 cannot be stripped:\n{}",
            fs::read_to_string(&log).unwrap_or_default()
        );
    }
    Ok(target.join(TRIPLE).join("release/stripped"))
}

/// Arguments of the test programs: the filter, and what cannot run here.
fn selection(filter: Option<&str>) -> Vec<&str> {
    filter.into_iter().chain(NOT_EMULATED.iter().flat_map(|(name, _)| ["--skip", name])).collect()
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
