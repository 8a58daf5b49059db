//! The difference of two files in what they mean to Slurm: comments, order of nodes and spelling do not count; the position of
//! a block does, because aggregated blocks follow from it.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use fabric::topology::{BlockTopology, Body, cluster_default};
use fabric::{HostList, NodeName, Topology, TopologyKind};
use serde::Serialize;

use crate::natural;

/// One change. Positions count from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each field says what its variant's text says")]
pub enum Change {
    /// A topology is new.
    TopologyAdded { topology: String },
    /// A topology is gone.
    TopologyRemoved { topology: String },
    /// Another topology is the default.
    DefaultChanged { from: String, to: String },
    /// A topology is of another kind.
    KindChanged { topology: String, from: String, to: String },
    /// A topology that is neither block nor flat has other contents.
    ContentChanged { topology: String },
    /// Block sizes.
    SizesChanged { topology: String, from: Vec<u32>, to: Vec<u32> },
    /// A block is new.
    BlockAdded { topology: String, block: String, nodes: HostList },
    /// A block is gone.
    BlockRemoved { topology: String, block: String, nodes: HostList },
    /// The same nodes under another name.
    BlockRenamed { topology: String, from: String, to: String },
    /// The same block at another place, so in other aggregated blocks.
    BlockMoved { topology: String, block: String, from: usize, to: usize },
    /// Nodes change their block.
    NodesMoved { topology: String, nodes: HostList, from: String, to: String },
    /// Nodes that were in no block.
    NodesJoined { topology: String, nodes: HostList, to: String },
    /// Nodes that are in no block any more.
    NodesLeft { topology: String, nodes: HostList, from: String },
}

impl Change {
    /// The nodes whose block is another one afterwards.
    pub fn moved_nodes(&self) -> Option<&HostList> {
        match self {
            Self::NodesMoved { nodes, .. }
            | Self::NodesJoined { nodes, .. }
            | Self::NodesLeft { nodes, .. } => Some(nodes),
            _ => None,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TopologyAdded { topology } => write!(f, "topology {topology:?} is new"),
            Self::TopologyRemoved { topology } => write!(f, "topology {topology:?} is gone"),
            Self::DefaultChanged { from, to } => write!(f, "the cluster default was {from:?}, now {to:?}"),
            Self::KindChanged { topology, from, to } => {
                write!(f, "topology {topology:?} was {from}, now {to}")
            }
            Self::ContentChanged { topology } => write!(f, "topology {topology:?} has other contents"),
            Self::SizesChanged { topology, from, to } => {
                write!(f, "topology {topology:?}: block sizes were {from:?}, now {to:?}")
            }
            Self::BlockAdded { topology, block, nodes } => {
                write!(f, "topology {topology:?}: block {block} is new{}", with(nodes))
            }
            Self::BlockRemoved { topology, block, nodes } => {
                write!(f, "topology {topology:?}: block {block} is gone{}", with(nodes))
            }
            Self::BlockRenamed { topology, from, to } => {
                write!(f, "topology {topology:?}: block {from} is now called {to}")
            }
            Self::BlockMoved { topology, block, from, to } => {
                write!(f, "topology {topology:?}: block {block} moves from position {from} to {to}")
            }
            Self::NodesMoved { topology, nodes, from, to } => {
                write!(f, "topology {topology:?}: {nodes} moves from {from} to {to}")
            }
            Self::NodesJoined { topology, nodes, to } => {
                write!(f, "topology {topology:?}: {nodes} joins {to}")
            }
            Self::NodesLeft { topology, nodes, from } => {
                write!(f, "topology {topology:?}: {nodes} leaves {from}")
            }
        }
    }
}

fn with(nodes: &HostList) -> String {
    if nodes.is_empty() { String::new() } else { format!(" ({nodes})") }
}

/// What changes from one to the other, in the order of the second file; empty when both mean the same.
pub fn diff(before: &[Topology], after: &[Topology]) -> Vec<Change> {
    let mut changes = Vec::new();
    let find = |list: &'_ [Topology], name: &str| list.iter().position(|topology| topology.name == name);
    for topology in before.iter().filter(|topology| find(after, &topology.name).is_none()) {
        changes.push(Change::TopologyRemoved { topology: topology.name.clone() });
    }
    for topology in after {
        match find(before, &topology.name).and_then(|at| before.get(at)) {
            None => changes.push(Change::TopologyAdded { topology: topology.name.clone() }),
            Some(old) => kinds(old, topology, &mut changes),
        }
    }
    let default =
        |list| cluster_default(list).map(|topology: &Topology| topology.name.clone()).unwrap_or_default();
    let (from, to) = (default(before), default(after));
    if from != to {
        changes.push(Change::DefaultChanged { from, to });
    }
    changes
}

fn kinds(before: &Topology, after: &Topology, changes: &mut Vec<Change>) {
    let topology = after.name.clone();
    match (&before.kind, &after.kind) {
        (TopologyKind::Block(before), TopologyKind::Block(after)) => {
            blocks(&topology, before, after, changes)
        }
        (TopologyKind::Flat, TopologyKind::Flat) => {}
        (TopologyKind::Other(before), TopologyKind::Other(after)) if before.kind == after.kind => {
            if plain(&before.body) != plain(&after.body) {
                changes.push(Change::ContentChanged { topology });
            }
        }
        (before, after) => {
            changes.push(Change::KindChanged { topology, from: kind(before), to: kind(after) });
        }
    }
}

/// A body without what is empty, keys in order, host lists spelled in one way: Slurm's own dump differs from a file in these.
fn plain(body: &Body) -> Body {
    match body {
        Body::Text(text) => {
            Body::Text(HostList::parse(text).map_or_else(|_| text.clone(), |list| list.to_string()))
        }
        Body::List(items) => Body::List(items.iter().map(plain).collect()),
        Body::Map(entries) => {
            let is_empty = |body: &Body| match body {
                Body::Text(text) => text.is_empty(),
                Body::List(items) => items.is_empty(),
                Body::Map(entries) => entries.is_empty(),
            };
            let mut entries: Vec<(String, Body)> = entries
                .iter()
                .map(|(key, body)| (key.clone(), plain(body)))
                .filter(|(_, body)| !is_empty(body))
                .collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            Body::Map(entries)
        }
    }
}

fn kind(kind: &TopologyKind) -> String {
    match kind {
        TopologyKind::Block(_) => "block".to_owned(),
        TopologyKind::Flat => "flat".to_owned(),
        TopologyKind::Other(other) => other.kind.clone(),
    }
}

/// The sizes as Slurm takes them: without any, the base size and its multiples up to 16.
fn sizes(topology: &BlockTopology) -> Vec<u32> {
    match &topology.sizes {
        Some(sizes) => sizes.as_slice().to_vec(),
        None => {
            let base = topology.base_size().unwrap_or(0);
            (0..5).map(|level| base.saturating_mul(1 << level)).collect()
        }
    }
}

/// The position of each name, the first one when it comes twice.
fn names(topology: &BlockTopology) -> BTreeMap<&str, usize> {
    let mut names = BTreeMap::new();
    for (at, block) in topology.blocks.iter().enumerate() {
        names.entry(block.name.as_str()).or_insert(at);
    }
    names
}

fn members(block: &fabric::Block) -> BTreeSet<&NodeName> {
    block.nodes.iter().collect()
}

fn blocks(topology: &str, before: &BlockTopology, after: &BlockTopology, changes: &mut Vec<Change>) {
    let name = || topology.to_owned();
    let (from, to) = (sizes(before), sizes(after));
    if from != to {
        changes.push(Change::SizesChanged { topology: name(), from, to });
    }
    let new = names(after);
    let known = names(before);
    // Blocks under new names, by what is in them; of equal ones the first.
    let mut renamable: BTreeMap<BTreeSet<&NodeName>, Vec<usize>> = BTreeMap::new();
    for (at, block) in after.blocks.iter().enumerate().rev() {
        if !known.contains_key(block.name.as_str()) && !block.nodes.is_empty() {
            renamable.entry(members(block)).or_default().push(at);
        }
    }
    // Old name to new name.
    let mut now: BTreeMap<&str, &str> = BTreeMap::new();
    for (at, block) in before.blocks.iter().enumerate() {
        let old = block.name.as_str();
        let same = |renamable: &mut BTreeMap<_, Vec<usize>>| renamable.get_mut(&members(block))?.pop();
        let Some(new) = new.get(old).copied().or_else(|| same(&mut renamable)) else {
            let (block, nodes) = (old.to_owned(), block.nodes.clone());
            changes.push(Change::BlockRemoved { topology: name(), block, nodes });
            continue;
        };
        let Some(other) = after.blocks.get(new) else { continue };
        now.insert(old, other.name.as_str());
        if other.name != block.name {
            let (from, to) = (old.to_owned(), other.name.to_string());
            changes.push(Change::BlockRenamed { topology: name(), from, to });
        }
        if new != at {
            let block = other.name.to_string();
            changes.push(Change::BlockMoved { topology: name(), block, from: at, to: new });
        }
    }
    let renamed: BTreeSet<&str> = now.values().copied().collect();
    for block in after.blocks.iter().filter(|block| !renamed.contains(block.name.as_str())) {
        let (block, nodes) = (block.name.to_string(), block.nodes.clone());
        changes.push(Change::BlockAdded { topology: name(), block, nodes });
    }
    nodes(topology, before, after, &now, changes);
}

/// The block of each node, the first one when several list it.
fn places(topology: &BlockTopology) -> BTreeMap<&NodeName, &str> {
    let mut places = BTreeMap::new();
    for block in &topology.blocks {
        for node in &block.nodes {
            places.entry(node).or_insert(block.name.as_str());
        }
    }
    places
}

fn nodes(
    topology: &str,
    before: &BlockTopology,
    after: &BlockTopology,
    now: &BTreeMap<&str, &str>,
    changes: &mut Vec<Change>,
) {
    let (old, new) = (places(before), places(after));
    let mut all: Vec<&NodeName> = old.keys().chain(new.keys()).copied().collect();
    all.sort_by(|a, b| natural::compare(a.as_str(), b.as_str()));
    all.dedup();
    let mut groups: BTreeMap<(Option<&str>, Option<&str>), HostList> = BTreeMap::new();
    for node in all {
        let (from, to) = (old.get(node).copied(), new.get(node).copied());
        let kept = from.map(|from| now.get(from).copied().unwrap_or(from));
        if kept != to {
            groups.entry((from, to)).or_default().push(node.clone());
        }
    }
    for ((from, to), nodes) in groups {
        let (from, to) = (from.map(str::to_owned), to.map(str::to_owned));
        let topology = topology.to_owned();
        changes.extend(match (from, to) {
            (Some(from), Some(to)) => Some(Change::NodesMoved { topology, nodes, from, to }),
            (None, Some(to)) => Some(Change::NodesJoined { topology, nodes, to }),
            (Some(from), None) => Some(Change::NodesLeft { topology, nodes, from }),
            (None, None) => None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fabric::slurm_yaml::parse;
    use proptest::prelude::*;

    fn file(sizes: &str, blocks: &[(&str, &str)]) -> Vec<Topology> {
        let lines: String = blocks
            .iter()
            .map(|(name, nodes)| format!("    - {{block: {name}, nodes: '{nodes}'}}\n"))
            .collect();
        parse(&format!("- topology: t\n  block:\n    block_sizes: {sizes}\n    blocks:\n{lines}")).unwrap()
    }

    fn told(before: &[Topology], after: &[Topology]) -> Vec<String> {
        diff(before, after).iter().map(ToString::to_string).collect()
    }

    const RACKS: [(&str, &str); 3] = [("a", "n[1-4]"), ("gone", ""), ("b", "n[5-8]")];

    #[test]
    fn order_of_nodes_and_spelling_do_not_count() {
        let other = [("a", "n4,n[1-3]"), ("gone", ""), ("b", "n5,n6,n[7-8]")];
        assert_eq!(told(&file("[4]", &RACKS), &file("4", &other)), Vec::<String>::new());
    }

    #[test]
    fn each_change_in_words() {
        let racks = file("[4]", &RACKS);
        for (sizes, blocks, expected) in [
            ("[4, 8]", RACKS.to_vec(), vec!["topology \"t\": block sizes were [4], now [4, 8]"]),
            (
                "[4]",
                vec![("a", "n[1-4]"), ("b", "n[5-8]")],
                vec![
                    "topology \"t\": block gone is gone",
                    "topology \"t\": block b moves from position 2 to 1",
                ],
            ),
            (
                "[4]",
                vec![("a", "n[1-4]"), ("gone", ""), ("c", "n[5-8]")],
                vec!["topology \"t\": block b is now called c"],
            ),
            (
                "[4]",
                vec![("a", "n[1-3]"), ("gone", ""), ("b", "n[4-7]"), ("d", "n9")],
                vec![
                    "topology \"t\": block d is new (n9)",
                    "topology \"t\": n9 joins d",
                    "topology \"t\": n4 moves from a to b",
                    "topology \"t\": n8 leaves b",
                ],
            ),
        ] {
            assert_eq!(told(&racks, &file(sizes, &blocks)), expected);
        }
        let two =
            parse("- topology: t\n  flat: true\n- topology: u\n  cluster_default: true\n  flat: true\n")
                .unwrap();
        assert_eq!(
            told(&racks, &two),
            [
                "topology \"t\" was block, now flat",
                "topology \"u\" is new",
                "the cluster default was \"t\", now \"u\""
            ]
        );
        assert_eq!(
            told(&two, &racks),
            [
                "topology \"u\" is gone",
                "topology \"t\" was flat, now block",
                "the cluster default was \"u\", now \"t\""
            ]
        );
    }

    #[test]
    fn slurms_own_dump_of_a_tree_is_the_same_tree() {
        let file = parse(
            "topology: t\ntree: {switches: [{switch: s1, nodes: 'n1,n2'}, {children: s1, switch: s0}]}",
        )
        .unwrap();
        let dump = "topology: t\ntree:\n  switches:\n  - switch: s1\n    children:\n    nodes: n[1-2]\n  - switch: s0\n    children: s1\n    nodes:\n";
        assert_eq!(told(&file, &parse(dump).unwrap()), Vec::<String>::new());
        assert_eq!(
            told(&file, &parse(&dump.replace("n[1-2]", "n[1-3]")).unwrap()),
            ["topology \"t\" has other contents"]
        );
    }

    #[test]
    fn a_renamed_block_moves_no_node() {
        let after = file("[4]", &[("x", "n[1-4]"), ("gone", ""), ("b", "n[5-8]")]);
        assert!(diff(&file("[4]", &RACKS), &after).iter().all(|change| change.moved_nodes().is_none()));
    }

    fn any_file() -> impl Strategy<Value = Vec<Topology>> {
        prop::collection::vec(prop::collection::vec(0u8..12, 0..5), 1..4).prop_map(|blocks| {
            let mut used = BTreeSet::new();
            let lines: String = (0..)
                .zip(blocks)
                .map(|(at, nodes)| {
                    let nodes: Vec<String> =
                        nodes.into_iter().filter(|n| used.insert(*n)).map(|n| format!("n{n}")).collect();
                    format!("    - {{block: b{at}, nodes: '{}'}}\n", nodes.join(","))
                })
                .collect();
            parse(&format!("- topology: t\n  block:\n    block_sizes: [2]\n    blocks:\n{lines}")).unwrap()
        })
    }

    proptest! {
        #[test]
        fn no_change_means_the_same_and_each_moved_node_is_named(before in any_file(), after in any_file()) {
            prop_assert!(diff(&before, &before).is_empty());
            let changes = diff(&before, &after);
            let named: BTreeSet<NodeName> = changes.iter().filter_map(Change::moved_nodes).flatten().cloned().collect();
            let (old, new) = (before[0].block().unwrap(), after[0].block().unwrap());
            let renamed = |from: &str, to: &str| changes.iter().any(|c| matches!(c, Change::BlockRenamed { from: f, to: t, .. } if f == from && t == to));
            for n in 0..12 {
                let node = NodeName::new(format!("n{n}")).unwrap();
                let (from, to) = (places(old).get(&node).copied(), places(new).get(&node).copied());
                let same = from == to || matches!((from, to), (Some(from), Some(to)) if renamed(from, to));
                prop_assert_eq!(!same, named.contains(&node), "{}", node);
            }
        }
    }
}
