//! A plugin file that is not what it should be: Slurm goes on with its own plugin, and the log says why.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case, Setup};
use anyhow::{Context as _, ensure};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use std::fs;
use std::path::PathBuf;
use tests::limits::SOON;
use tests::stage::Artifact;
use tests::{Cluster, Plugin};

const OURS: Setup = Setup { profile: "small-2x4", stock: false, imex: false };

pub(crate) const CASES: &[Case] = &[
    Case { name: "plugin_file::that_is_right", body: Body::Own(OURS, right) },
    Case { name: "plugin_file::that_is_empty", body: Body::Own(OURS, empty) },
    Case { name: "plugin_file::of_another_release", body: Body::Own(OURS, other_release) },
    Case { name: "plugin_file::that_is_not_there", body: Body::Own(OURS, missing) },
];

/// Puts a file where our plugin belongs, boots, runs jobs and looks into the log.
fn boot(setup: &Setup, name: &str, plugin: Plugin, ours: bool, log: &str) -> anyhow::Result<()> {
    let cluster = setup.builder(name).plugin(plugin).start()?;
    for node in ["ctl", "r01n01"] {
        let loaded = cluster.topology_plugins(node)?;
        let has = |part: &str| loaded.iter().any(|path| path.contains(part));
        ensure!(has("slurm-nvlink/topology_block.so") == ours, "{node} has loaded {loaded:?}");
        ensure!(has("slurm-wlm/topology_block.so"), "{node} lacks Slurm's own plugin: {loaded:?}");
    }
    for size in ["1", "4", "6"] {
        let job = cluster.submit(&["--output=/dev/null", "--exclusive", "--nodes", size], "srun hostname")?;
        let job = cluster.wait_ended(job, SOON)?;
        ensure!(job.state == "COMPLETED" && job.nodes.len().to_string() == size, "{job:?}");
    }
    let words = controller_log(&cluster)?;
    ensure!(words.contains(log), "slurmctld's log does not say {log:?}:\n{words}");
    // Commands load the plugin too, and people read their output.
    let shown = cluster.ctl(&["scontrol", "show", "topology"])?;
    ensure!(shown.lines().all(|line| line.starts_with("BlockName=")), "{shown}");
    Ok(())
}

pub(crate) fn controller_log(cluster: &Cluster) -> anyhow::Result<String> {
    let file = cluster.logs("ctl")?.join("slurm/slurmctld.log");
    fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
}

/// A variant of the staged plugin in a directory that goes away with the value.
struct Variant {
    directory: tempfile::TempDir,
}

impl Variant {
    fn new(bytes: &[u8]) -> anyhow::Result<Self> {
        let variant = Self { directory: tempfile::tempdir()? };
        fs::write(variant.file(), bytes)?;
        Ok(variant)
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("topology_block.so")
    }

    fn plugin(&self) -> Plugin {
        Plugin::File(self.file())
    }
}

fn staged() -> anyhow::Result<Vec<u8>> {
    Ok(fs::read(Artifact::Plugin.need()?)?)
}

fn right(setup: &Setup) -> anyhow::Result<()> {
    boot(setup, "right", Plugin::Ours, true, "jobs are steered into 2 NVLink partitions of up to 4 trays")
}

fn empty(setup: &Setup) -> anyhow::Result<()> {
    let variant = Variant::new(&[])?;
    boot(setup, "empty", variant.plugin(), false, "file too short")
}

fn missing(setup: &Setup) -> anyhow::Result<()> {
    boot(setup, "missing", Plugin::Stock, false, "topology block plugin loaded")
}

fn other_release(setup: &Setup) -> anyhow::Result<()> {
    let mut bytes = staged()?;
    let place = place_of(&bytes, "plugin_version")?;
    let version = bytes.get_mut(place..place + 4).context("the symbol lies outside of the file")?;
    version.copy_from_slice(&0x1a_05_03u32.to_le_bytes());
    let variant = Variant::new(&bytes)?;
    boot(setup, "release", variant.plugin(), false, "topology_block.so version (26.05.3)")
}

/// Offset in the file of a data symbol's first byte.
fn place_of(library: &[u8], symbol: &str) -> anyhow::Result<usize> {
    let file = object::File::parse(library)?;
    let symbol = file
        .dynamic_symbols()
        .find(|found| found.name() == Ok(symbol))
        .with_context(|| format!("no symbol {symbol}"))?;
    let index = symbol.section_index().context("the symbol has no section")?;
    let section = file.section_by_index(index)?;
    let (start, _) = section.file_range().context("the symbol is not in the file")?;
    Ok(usize::try_from(start + (symbol.address() - section.address()))?)
}
