//! Every topology.yaml on which Slurm's own plugin ends the process, and those that it accepts though they are wrong: what
//! becomes of a slurmctld that starts with it, on stock and on ours, and what ours says.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use lab::host::{Host, Loads, Parts};
use lab::scene::Cluster;
use tests::tree::Tree;

/// Nodes n1 to n16 exist.
const NODES: u32 = 16;

/// What is wrong, and the `block:` part of the file.
const FILES: &[(&str, &str)] = &[
    // Slurm's own plugin ends the process.
    (
        "duplicate block name",
        "blocks: [{block: a, nodes: 'n[1-4]'}, {block: b, nodes: 'n[5-8]'}, {block: a, nodes: 'n[9-12]'}]",
    ),
    (
        "block_sizes [4,12]",
        "block_sizes: [4, 12]\n    blocks: [{block: a, nodes: 'n[1-4]'}, {block: b, nodes: 'n[5-8]'}]",
    ),
    ("block_sizes [4,6]", "block_sizes: [4, 6]\n    blocks: [{block: a, nodes: 'n[1-4]'}]"),
    ("block_sizes [0]", "block_sizes: [0]\n    blocks: [{block: a, nodes: 'n[1-4]'}]"),
    ("block_sizes [8,4]", "block_sizes: [8, 4]\n    blocks: [{block: a, nodes: 'n[1-8]'}]"),
    ("a level of 16", "block_sizes: [1, 65536]\n    blocks: [{block: a, nodes: 'n[1-4]'}]"),
    ("no name", "blocks: [{block: a, nodes: 'n[1-4]'}, {nodes: 'n[5-8]'}]"),
    ("no blocks", "block_sizes: [4]\n    blocks: []"),
    ("all blocks empty and no block_sizes", "blocks: [{block: a}, {block: b}]"),
    ("a broken host list", "blocks: [{block: a, nodes: 'n[1-4]'}, {block: b, nodes: 'n[05-0'}]"),
    (
        "a broken name where there are aggregated blocks",
        "blocks: [{block: 'a[1-', nodes: 'n[1-4]'}, {block: b, nodes: 'n[5-8]'}]",
    ),
    (
        "all at once",
        "block_sizes: [4, 6]\n    blocks: [{block: a, nodes: 'n[1-4]'}, {nodes: n9}, {block: a, nodes: 'n[5-8]'}, {block: b, nodes: 'n[05-0'}]",
    ),
    // Slurm's own plugin accepts it.
    ("a node in two blocks", "blocks: [{block: a, nodes: 'n[1-4]'}, {block: b, nodes: 'n[4-8]'}]"),
    ("an unknown node", "blocks: [{block: a, nodes: 'n[1-4],n99'}, {block: b, nodes: 'n[5-8]'}]"),
    ("nodes: ALL", "blocks: [{block: a, nodes: ALL}, {block: b, nodes: 'n[5-8]'}]"),
    (
        "a base size below the blocks",
        "block_sizes: [3]\n    blocks: [{block: a, nodes: 'n[1-4]'}, {block: b, nodes: 'n[5-8]'}]",
    ),
    ("a node twice in one block", "blocks: [{block: a, nodes: 'n[1-4],n4'}, {block: b, nodes: 'n[5-8]'}]"),
    ("an unknown key", "blocksizes: [4]\n    blocks: [{block: a, nodes: 'n[1-4]'}]"),
    ("an empty block first", "blocks: [{block: a}, {block: b, nodes: 'n[5-8]'}]"),
    ("all blocks empty with block_sizes", "block_sizes: [4]\n    blocks: [{block: a}, {block: b}]"),
    ("sizes that do not ascend", "block_sizes: [4, 16, 8]\n    blocks: [{block: a, nodes: 'n[1-4]'}]"),
];

/// What became of a start.
struct Fate {
    lives: bool,
    said: Vec<String>,
}

impl Fate {
    fn of(parts: &Parts, loads: Loads, block: &str, environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        let yaml = format!("---\n- topology: nvl\n  cluster_default: true\n  block:\n    {block}\n");
        let cluster = Cluster { racks: vec![NODES], ..Cluster::default() };
        let mut host = Host::start_with(parts, loads, &cluster, &yaml, true, environment)?;
        let lives = host.ready(&cluster).is_ok();
        let log = host.log();
        let line = |line: &str| {
            if let Some((_, words)) = line.split_once("topology_block: topology nvl: ") {
                return Some(words.to_owned());
            }
            // Slurm's own plugin, which has the same blocks.
            line.split_once("warning: ").map(|(_, words)| format!("(Slurm: {words})"))
        };
        Ok(Self { lives, said: log.lines().filter_map(line).collect() })
    }
}

fn parts() -> anyhow::Result<Option<Parts>> {
    let Some(tree) = Tree::find()? else { return Ok(None) };
    let program = PathBuf::from(env!("CARGO_BIN_EXE_lab-host"));
    let folder = program.parent().context("the host program is in no folder")?;
    let files = ["deps/libtopology_block.so", "libtopology_block.so"].map(|name| folder.join(name));
    let plugin = files.into_iter().find(|file| file.is_file()).context("the plugin is not built")?;
    Ok(Some(Parts { program, plugin, tree }))
}

fn table(parts: &Parts) -> anyhow::Result<String> {
    let mut table = String::new();
    for (what, block) in FILES {
        let stock = Fate::of(parts, Loads::Stock, block, &[])?;
        let ours = Fate::of(parts, Loads::Ours, block, &[])?;
        let on_trial = Fate::of(parts, Loads::Ours, block, &[("SLURMCTLD_RECONF_PARENT_FD", "9")])?;
        let fate = |fate: &Fate| if fate.lives { "lives" } else { "ends" };
        writeln!(
            table,
            "{what}\n  start: stock {}, ours {}; reload: the new one {}{}",
            fate(&stock),
            fate(&ours),
            fate(&on_trial),
            if on_trial.lives { "" } else { ", the old one goes on" }
        )?;
        for line in &ours.said {
            writeln!(table, "  {line}")?;
        }
        if on_trial.said != ours.said {
            writeln!(table, "  on a reload: {}", on_trial.said.last().map_or("", |last| last))?;
        }
    }
    Ok(table)
}

#[test]
fn a_faulty_file_ends_no_slurmctld_that_nobody_waits_for() {
    let Some(parts) = parts().unwrap() else {
        eprintln!("skipped: there is no root tree with Slurm; `cargo xtask cluster up` makes one");
        return;
    };
    let table = table(&parts).unwrap();
    println!("{table}");
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faulty.txt");
    let expected = std::fs::read_to_string(expected).unwrap_or_default();
    assert_eq!(table, expected, "the table is not that of tests/lab/tests/faulty.txt");
}
