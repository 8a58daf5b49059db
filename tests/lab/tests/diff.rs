//! The quick differential run: a few thousand random situations on Slurm's own plugin and on ours, as cargo built it
//! for this test, with its debug assertions.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use lab::diff::{self, Plan};
use lab::host::Parts;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tests::tree::Tree;

/// Situations of one seed.
const CASES: u32 = 1000;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = [1, 2, 3]
        .map(|seed| Trial::ignorable_test(format!("ours_against_stock::seed_{seed}"), move || random(seed)))
        .into();
    trials.push(Trial::ignorable_test("ours_against_stock::many_small_racks", || {
        compare(Plan { seed: 4, cases: CASES, nodes: Some(200), racks: Some(50) })
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn random(seed: u64) -> Result<Completion, Failed> {
    compare(Plan { seed, cases: CASES, nodes: None, racks: None })
}

fn compare(plan: Plan) -> Result<Completion, Failed> {
    let Some(tree) = Tree::find().map_err(in_full)? else {
        return Ok(Completion::ignored_with(
            "there is no root tree with Slurm; `cargo xtask cluster up` makes one",
        ));
    };
    compare_in(tree, plan).map_err(in_full)?;
    Ok(Completion::Completed)
}

fn compare_in(tree: Tree, plan: Plan) -> anyhow::Result<()> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_lab-host"));
    let parts = Parts { plugin: plugin(&program)?, program, tree };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lab");
    let report = diff::run(&parts, plan, &folder)?;
    ensure!(report.violations.is_empty(), "seed {}:\n{report}", plan.seed);
    Ok(())
}

/// Our plugin as cargo built it for this test: beside the host program.
fn plugin(program: &Path) -> anyhow::Result<PathBuf> {
    let folder = program.parent().context("the host program is in no folder")?;
    ["deps/libtopology_block.so", "libtopology_block.so"]
        .iter()
        .map(|name| folder.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("no libtopology_block.so in {}", folder.display()))
}

fn in_full(error: anyhow::Error) -> Failed {
    format!("{error:#}").into()
}
