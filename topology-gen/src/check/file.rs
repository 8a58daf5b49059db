//! Reads as much of a file as can be read, and tells all that Slurm refuses or takes in another sense.
#![forbid(unsafe_code)]

use fabric::HostList;
use fabric::slurm_yaml::YamlError;
use fabric::slurm_yaml::node::{self, Key, Node, Value};

use super::{Sink, blocks};
use crate::version::SlurmVersion;

/// A topology as far as it can be read.
#[derive(Debug)]
pub(super) struct SeenTopology {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) default: bool,
    pub(super) flat: bool,
    pub(super) blocks: Option<SeenBlocks>,
}

/// The blocks of a topology as far as they can be read.
#[derive(Debug)]
pub(super) struct SeenBlocks {
    pub(super) line: usize,
    /// The usable sizes, base first.
    pub(super) sizes: Vec<u32>,
    pub(super) sizes_line: usize,
    pub(super) blocks: Vec<SeenBlock>,
}

/// A block as far as it can be read.
#[derive(Debug)]
pub(super) struct SeenBlock {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) nodes: HostList,
}

const KINDS: [&str; 5] = ["block", "flat", "ring", "torus3d", "tree"];

pub(super) fn read(text: &str, version: Option<SlurmVersion>, sink: &mut Sink) -> Vec<SeenTopology> {
    let root = match node::read(text) {
        Ok(root) => root,
        Err(error) => {
            broken(&error, sink);
            return Vec::new();
        }
    };
    let items = match &root.value {
        Value::List(items) if items.is_empty() => {
            let hint = "write at least one topology, for example `- topology: default` with `flat: true`";
            sink.fatal(root.line, "an empty list crashes slurmctld, at each start again", hint);
            return Vec::new();
        }
        Value::List(items) => items.as_slice(),
        Value::Map(entries) if !entries.is_empty() => std::slice::from_ref(&root),
        _ => {
            empty(root.line, sink);
            return Vec::new();
        }
    };
    let seen: Vec<SeenTopology> =
        items.iter().filter_map(|item| topology(item, items.len(), version, sink)).collect();
    marks(&seen, sink);
    seen
}

fn empty(line: usize, sink: &mut Sink) {
    sink.fatal(
        line,
        "there is no topology in the file, which Slurm refuses",
        "write a topology, or remove the file and the Topology= settings of slurm.conf",
    );
}

fn broken(error: &YamlError, sink: &mut Sink) {
    let YamlError::Empty = error else {
        let text = error.to_string();
        let line = match error {
            YamlError::Syntax { line, .. }
            | YamlError::TooLarge { line, .. }
            | YamlError::Unsupported { line, .. } => *line,
            _ => 0,
        };
        let what = text.split_once(": ").filter(|_| line > 0).map_or(text.as_str(), |(_, what)| what);
        return sink.fatal(line, what, "Slurm cannot read the file; mend this line");
    };
    empty(0, sink);
}

/// Which topology is the default, as Slurm takes it.
pub(super) fn is_default(topology: &SeenTopology, all: &[SeenTopology]) -> bool {
    let default = all.iter().find(|other| other.default).or(all.first());
    default.is_some_and(|default| std::ptr::eq(default, topology))
}

fn marks(seen: &[SeenTopology], sink: &mut Sink) {
    let marked = seen.iter().filter(|topology| topology.default).count();
    if seen.len() > 1 && marked != 1 {
        let first = seen.iter().find(|topology| topology.default).or(seen.first());
        let name = first.map(|topology| topology.name.as_str()).unwrap_or_default();
        let what = format!("{marked} topologies are marked cluster_default; Slurm takes {name:?}");
        sink.wrong(seen.first().map_or(0, |topology| topology.line), what, "mark exactly one");
    }
    for (at, topology) in seen.iter().enumerate() {
        if topology.name.is_empty() && seen.len() > 1 {
            sink.wrong(
                topology.line,
                "a topology without a name, which no partition can choose",
                "give it `topology: NAME`",
            );
        } else if seen.iter().take(at).any(|other| other.name == topology.name) {
            let what =
                format!("topology {:?} comes twice; partitions only ever get the first", topology.name);
            sink.wrong(topology.line, what, "give each topology a name of its own");
        }
    }
}

fn topology(
    node: &Node,
    count: usize,
    version: Option<SlurmVersion>,
    sink: &mut Sink,
) -> Option<SeenTopology> {
    let Value::Map(entries) = &node.value else {
        sink.fatal(
            node.line,
            format!("a topology must be a mapping, found {}", node.found()),
            "write `- topology: NAME`",
        );
        return None;
    };
    let mut seen =
        SeenTopology { line: node.line, name: String::new(), default: false, flat: false, blocks: None };
    let mut kinds: Vec<&str> = Vec::new();
    for (key, value) in entries {
        let empty_map = matches!(&value.value, Value::Map(entries) if entries.is_empty());
        match key.text.as_str() {
            "topology" => seen.name = text(key, value, sink).unwrap_or_default(),
            "cluster_default" => seen.default = truth(key, value, sink),
            "flat" => {
                let map = matches!(value.value, Value::Map(_));
                seen.flat = map || truth(key, value, sink);
                kinds.extend(seen.flat.then_some("flat"));
                if map {
                    newer(key, "options below flat", version, sink);
                }
            }
            // Slurm's own dump marks the kinds that are not there like this.
            kind if empty_map && KINDS.contains(&kind) => {}
            "block" => {
                kinds.push("block");
                seen.blocks = blocks::read(value, version, sink);
            }
            "tree" => kinds.push("tree"),
            "ring" | "torus3d" => {
                newer(key, &format!("topology kind {}", key.text), version, sink);
                kinds.push(&key.text);
            }
            _ => unknown_key(
                key,
                &["topology", "cluster_default", "block", "flat", "tree", "ring", "torus3d"],
                sink,
            ),
        }
    }
    let name = &seen.name;
    match kinds.as_slice() {
        [_] => {}
        [] => sink.fatal(
            node.line,
            format!("topology {name:?} has no kind"),
            "give it one of block, flat, tree (from 26.05 on also ring, torus3d)",
        ),
        several => sink.fatal(
            node.line,
            format!("topology {name:?} has several kinds: {}", several.join(", ")),
            "keep one; the output of `scontrol show topoconf` has empty ones too, which must be removed",
        ),
    }
    if count == 1 && name.is_empty() {
        sink.note(
            node.line,
            "the topology has no name",
            "give it `topology: NAME` before partitions name it",
        );
    }
    Some(seen)
}

fn newer(key: &Key, what: &str, version: Option<SlurmVersion>, sink: &mut Sink) {
    let first = SlurmVersion::MORE_KINDS;
    match version {
        Some(version) if version < first => {
            sink.fatal(
                key.line,
                format!("{what}: Slurm {version} does not know it"),
                format!("upgrade to {first} first"),
            );
        }
        Some(_) => {}
        None => sink.note(key.line, format!("{what} needs Slurm {first} or later"), "give --slurm-version"),
    }
}

/// A scalar as text. Nothing counts as empty.
pub(super) fn text(key: &Key, node: &Node, sink: &mut Sink) -> Option<String> {
    match &node.value {
        Value::Text(text) => Some(text.clone()),
        Value::Null => Some(String::new()),
        _ => {
            let what = format!("{} must be text, found {}", key.text, node.found());
            let hint = match key.text.as_str() {
                "nodes" => "write a host list in one text: nodes: \"n[01-18]\"",
                _ => "write a plain word",
            };
            sink.fatal(node.line, what, hint);
            None
        }
    }
}

fn truth(key: &Key, node: &Node, sink: &mut Sink) -> bool {
    let word = match &node.value {
        Value::Text(text) => text.to_ascii_lowercase(),
        _ => String::new(),
    };
    match word.as_str() {
        "true" | "yes" | "y" | "t" | "on" | "1" => true,
        "false" | "no" | "n" | "f" | "off" | "0" => false,
        _ => {
            let what = format!("{} must be true or false, found {}", key.text, node.found());
            sink.fatal(node.line, what, "write true or false");
            false
        }
    }
}

/// Slurm drops a key that it does not know, and with it whatever was meant.
pub(super) fn unknown_key(key: &Key, known: &[&str], sink: &mut Sink) {
    let near = known.iter().find(|word| distance(word, &key.text.to_ascii_lowercase()) <= 2);
    let hint = match near {
        Some(word) => format!("did you mean {word}?"),
        None => format!("known here: {}", known.join(", ")),
    };
    sink.wrong(key.line, format!("Slurm ignores the key {:?} without a word", key.text), hint);
}

/// Letters to insert, remove or replace to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, left) in a.chars().enumerate() {
        let mut diagonal = at;
        if let Some(first) = row.first_mut() {
            *first = at + 1;
        }
        let mut before = at + 1;
        for (right, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let cost = diagonal + usize::from(left != *right);
            diagonal = *cell;
            *cell = cost.min(*cell + 1).min(before + 1);
            before = *cell;
        }
    }
    row.last().copied().unwrap_or(0)
}
