//! `cargo xtask bench gen`: topology-gen on clusters of ten thousand trays and more.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::inventory::Inventory;
use super::measure::{Cost, cost};
use crate::artifacts;
use crate::workspace::Workspace;

/// Runs of each command; the fastest counts.
const RUNS: u32 = 3;
/// At this size, and only there, `generate`, `check` and `diff` together have a target, in processor seconds: other load on the
/// machine does not count.
const TARGET_NODES: u32 = 10_008;
const TARGET_SECONDS: f64 = 1.0;
const TARGET_MB: f64 = 100.0;
/// How many times more than the nodes a command may grow from the smallest to the largest cluster.
const GROWTH: f64 = 2.0;

/// `bench gen`
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Sizes of the clusters, in nodes; rounded up to whole racks of 18.
    #[arg(long, value_delimiter = ',', default_value = "10008,100008")]
    nodes: Vec<u32>,
    /// Largest cluster on which `collect` starts its command for each node.
    #[arg(long, default_value_t = 10_008)]
    collect_up_to: u32,
    /// Measure this topology-gen instead of one that is built now, to compare versions.
    #[arg(long)]
    program: Option<PathBuf>,
}

/// One measured command.
struct Row {
    what: &'static str,
    cost: Cost,
    /// Whether it counts for the target.
    counts: bool,
}

impl Row {
    fn mb(&self) -> f64 {
        self.cost.peak_kib as f64 * 1024.0 / 1e6
    }
}

/// Measures and prints; exit code 1 when a target is missed.
pub(super) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<ExitCode> {
    let program = match &options.program {
        Some(program) => program.clone(),
        None => artifacts::build(workspace)?.join("topology-gen"),
    };
    println!(
        "least of {RUNS} runs: seconds, processor seconds, peak memory (VmHWM); the inventories are simulated"
    );
    let mut measured: Vec<(u32, Vec<Row>)> = Vec::new();
    let mut missed = Vec::new();
    for &nodes in &options.nodes {
        let folder = workspace.target().join("bench").join(format!("gen-{nodes}"));
        let inventory = Inventory::write(&folder, nodes)?;
        println!(
            "\n{} nodes, {:.1} MB of Slurm's node list",
            inventory.nodes,
            megabytes(&inventory.nodes_json)?
        );
        let rows = measure(&program, &inventory, &folder, inventory.nodes <= options.collect_up_to)?;
        for row in &rows {
            let Cost { seconds, busy, .. } = row.cost;
            println!("{:<36}{seconds:>9.3} s{busy:>9.3} s{:>9.1} MB", row.what, row.mb());
        }
        let (all, seconds, peak) = together(&rows);
        println!("{:<36}{all:>9.3} s{seconds:>9.3} s{peak:>9.1} MB", "generate + check + diff");
        if inventory.nodes == TARGET_NODES && (seconds >= TARGET_SECONDS || peak >= TARGET_MB) {
            missed.push(format!(
                "{TARGET_NODES} nodes take {seconds:.2} processor seconds and {peak:.0} MB; the target is {TARGET_SECONDS} s and {TARGET_MB} MB"
            ));
        }
        measured.push((inventory.nodes, rows));
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    if let [(few, first), .., (many, last)] = measured.as_slice() {
        let nodes = f64::from(*many) / f64::from(*few);
        println!("\n{many} against {few} nodes: {nodes:.1} times the nodes");
        for row in first {
            let Some(other) = last.iter().find(|other| other.what == row.what) else { continue };
            let (time, memory) = (other.cost.busy / row.cost.busy.max(0.001), other.mb() / row.mb());
            println!("{:<36}{time:>8.1} x the time{memory:>8.1} x the memory", row.what);
            if row.counts && time > nodes * GROWTH {
                missed.push(format!("{} grows {time:.1} times for {nodes:.1} times the nodes", row.what));
            }
        }
    }
    for line in &missed {
        println!("MISSED: {line}");
    }
    Ok(if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Times of the three commands of a change one after the other, and the largest of their peaks.
fn together(rows: &[Row]) -> (f64, f64, f64) {
    let counted = || rows.iter().filter(|row| row.counts);
    let busy = counted().map(|row| row.cost.busy).sum();
    (counted().map(|row| row.cost.seconds).sum(), busy, counted().map(Row::mb).fold(0.0, f64::max))
}

fn megabytes(path: &Path) -> anyhow::Result<f64> {
    Ok(fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?.len() as f64 / 1e6)
}

fn measure(program: &Path, inventory: &Inventory, folder: &Path, collect: bool) -> anyhow::Result<Vec<Row>> {
    let path = |name: &str| folder.join(name).display().to_string();
    let program = program.display().to_string();
    let nodes = inventory.nodes_json.display().to_string();
    let (old, new, readings) = (path("old.yaml"), path("new.yaml"), path("readings.json"));
    let argv = |words: &[&str]| -> Vec<String> {
        std::iter::once(program.as_str()).chain(words.iter().copied()).map(str::to_owned).collect()
    };
    let mut rows = Vec::new();
    if collect {
        let (scontrol, command) = (inventory.scontrol.display().to_string(), inventory.command());
        let words = argv(&["collect", "--scontrol", &scontrol, "--command", &command, "--out", &readings]);
        rows.push(Row {
            what: "collect (a command for each node)",
            cost: cost(1, &words, &[0])?,
            counts: false,
        });
        let words = argv(&["generate", "--readings", &readings, "--fresh", "--out", &new]);
        rows.push(Row {
            what: "generate from readings, first",
            cost: cost(RUNS, &words, &[0])?,
            counts: false,
        });
    }
    let words = argv(&["generate", "--nodes-json", &nodes, "--fresh", "--out", &old]);
    rows.push(Row {
        what: "generate from Slurm's list, first",
        cost: cost(RUNS, &words, &[0])?,
        counts: false,
    });
    change(&old)?;
    let words = argv(&["generate", "--nodes-json", &nodes, "--previous", &old, "--out", &new]);
    rows.push(Row {
        what: "generate with the file of before",
        cost: cost(RUNS, &words, &[0])?,
        counts: true,
    });
    let words = argv(&["check", &new, "--nodes-json", &nodes]);
    rows.push(Row { what: "check", cost: cost(RUNS, &words, &[0])?, counts: true });
    let words = argv(&["diff", &new, "--against", &old]);
    rows.push(Row { what: "diff", cost: cost(RUNS, &words, &[1])?, counts: true });
    let svg = path("racks.svg");
    let words = argv(&["show", &new, "--nodes-json", &nodes, "--svg", &svg]);
    rows.push(Row { what: "show, with a picture", cost: cost(RUNS, &words, &[0])?, counts: false });
    Ok(rows)
}

/// Makes the file of before differ: a tray of the first rack stood in the second, and the last block was not there.
fn change(path: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let text = text.replacen("r00001at[01-09]", "r00001at[02-09]", 1);
    let text = text.replacen("r00002at[01-09]", "r00001at01,r00002at[01-09]", 1);
    let end = text.rfind("      - block:").context("no blocks in the file")?;
    let text = text.get(..end).unwrap_or_default();
    fs::write(path, text).with_context(|| format!("cannot write {path}"))
}
