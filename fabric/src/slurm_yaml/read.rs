//! From the tree of texts to topologies, with Slurm's rules.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};

use super::node::{Key, Node, Value};
use super::{Note, YamlError};
use crate::hostlist::HostList;
use crate::names::BlockName;
use crate::sizes::BlockSizes;
use crate::topology::{Block, BlockTopology, Body, OtherTopology, Topology, TopologyKind};

type Entries = [(Key, Node)];

/// Kinds that are carried along unread.
const OTHER_KINDS: [&str; 3] = ["tree", "ring", "torus3d"];

pub(super) fn topologies(root: &Node) -> Result<(Vec<Topology>, Vec<Note>), YamlError> {
    let mut notes = Vec::new();
    let found: Vec<Topology> = match &root.value {
        Value::Null => return Err(YamlError::Empty),
        Value::List(items) => {
            items.iter().map(|item| topology(item, &mut notes)).collect::<Result<_, _>>()?
        }
        Value::Map(entries) if entries.is_empty() => return Err(YamlError::Empty),
        _ => vec![topology(root, &mut notes)?],
    };
    if found.is_empty() {
        return Err(YamlError::Empty);
    }
    let marked = found.iter().filter(|t| t.cluster_default).count();
    if found.len() > 1 && marked != 1 {
        notes.push(Note {
            line: root.line,
            what: format!("{marked} topologies are marked cluster_default; Slurm takes the first one"),
        });
    }
    for (at, topology) in found.iter().enumerate() {
        if found.iter().take(at).any(|t| t.name == topology.name) {
            notes.push(Note {
                line: root.line,
                what: format!("topology name {:?} comes twice", topology.name),
            });
        }
    }
    Ok((found, notes))
}

fn shape(field: &str, wanted: &'static str, node: &Node) -> YamlError {
    YamlError::Shape { line: node.line, field: field.to_owned(), wanted, found: node.found() }
}

fn entries<'a>(field: &str, node: &'a Node) -> Result<&'a Entries, YamlError> {
    match &node.value {
        Value::Map(entries) => Ok(entries),
        _ => Err(shape(field, "a mapping", node)),
    }
}

fn text<'a>(field: &str, node: &'a Node) -> Result<&'a str, YamlError> {
    match &node.value {
        Value::Text(text) => Ok(text),
        Value::Null => Ok(""),
        _ => Err(shape(field, "text", node)),
    }
}

fn boolean(field: &str, node: &Node) -> Result<bool, YamlError> {
    match text(field, node)?.to_ascii_lowercase().as_str() {
        "true" | "yes" | "y" | "t" | "on" | "1" => Ok(true),
        "false" | "no" | "n" | "f" | "off" | "0" => Ok(false),
        _ => Err(shape(field, "true or false", node)),
    }
}

fn topology(node: &Node, notes: &mut Vec<Note>) -> Result<Topology, YamlError> {
    let entries = entries("a topology", node)?;
    let mut name = String::new();
    let mut cluster_default = false;
    let mut kinds: Vec<TopologyKind> = Vec::new();
    for (key, value) in entries {
        match key.text.as_str() {
            "topology" => name = text("topology", value)?.to_owned(),
            "cluster_default" => cluster_default = boolean("cluster_default", value)?,
            "flat" => kinds.extend(flat(value)?),
            // An empty mapping is no kind to Slurm: that is how its own dump marks the kinds that are not there.
            _ if is_empty_map(value) && is_kind(&key.text) => {}
            "block" => kinds.push(TopologyKind::Block(block_topology(value, notes)?)),
            kind if is_kind(kind) => {
                kinds.push(TopologyKind::Other(OtherTopology { kind: kind.to_owned(), body: body(value) }));
            }
            unknown => notes.push(unknown_key(
                key.line,
                unknown,
                "topology, cluster_default, block, flat, tree, ring, torus3d",
            )),
        }
    }
    let fault = |what: &str| YamlError::Kind { line: node.line, name: name.clone(), what: what.to_owned() };
    let mut kinds = kinds.into_iter();
    match (kinds.next(), kinds.next()) {
        (Some(kind), None) => Ok(Topology { name, cluster_default, kind }),
        (None, _) => Err(fault("has no kind (block, flat, tree, ring or torus3d)")),
        (Some(_), Some(_)) => Err(fault("has more than one kind")),
    }
}

fn unknown_key(line: usize, key: &str, known: &str) -> Note {
    Note { line, what: format!("Slurm ignores the key {key:?}; it knows {known}") }
}

fn is_kind(key: &str) -> bool {
    key == "block" || OTHER_KINDS.contains(&key)
}

fn is_empty_map(node: &Node) -> bool {
    matches!(&node.value, Value::Map(entries) if entries.is_empty())
}

/// `flat: true`, `flat: {}` and `flat: {options}` are flat; `flat: false` is nothing.
fn flat(node: &Node) -> Result<Option<TopologyKind>, YamlError> {
    match &node.value {
        Value::Map(entries) if entries.is_empty() => Ok(Some(TopologyKind::Flat)),
        Value::Map(_) => {
            Ok(Some(TopologyKind::Other(OtherTopology { kind: "flat".to_owned(), body: body(node) })))
        }
        _ => Ok(boolean("flat", node)?.then_some(TopologyKind::Flat)),
    }
}

fn body(node: &Node) -> Body {
    match &node.value {
        Value::Null => Body::Text(String::new()),
        Value::Text(text) => Body::Text(text.clone()),
        Value::List(items) => Body::List(items.iter().map(body).collect()),
        Value::Map(entries) => {
            Body::Map(entries.iter().map(|(key, node)| (key.text.clone(), body(node))).collect())
        }
    }
}

fn block_topology(node: &Node, notes: &mut Vec<Note>) -> Result<BlockTopology, YamlError> {
    let mut sizes = None;
    let mut blocks = Vec::new();
    for (key, value) in entries("block", node)? {
        match key.text.as_str() {
            "block_sizes" => sizes = block_sizes(value)?,
            "blocks" => blocks = self::blocks(value, notes)?,
            unknown => notes.push(unknown_key(key.line, unknown, "block_sizes and blocks")),
        }
    }
    let fault = |what: &str| YamlError::Blocks { line: node.line, what: what.to_owned() };
    if blocks.is_empty() {
        return Err(fault("no blocks; Slurm needs at least one"));
    }
    if sizes.is_none() && blocks.iter().all(|block| block.nodes.is_empty()) {
        return Err(fault("no block has nodes; then Slurm needs block_sizes"));
    }
    Ok(BlockTopology { sizes, blocks })
}

fn block_sizes(node: &Node) -> Result<Option<BlockSizes>, YamlError> {
    let number = |node: &Node| -> Result<u32, YamlError> {
        text("block_sizes", node)?.parse().map_err(|_| shape("block_sizes", "a list of numbers", node))
    };
    let sizes: Vec<u32> = match &node.value {
        Value::Null => Vec::new(),
        Value::List(items) => items.iter().map(number).collect::<Result<_, _>>()?,
        _ => vec![number(node)?],
    };
    if sizes.is_empty() {
        return Ok(None);
    }
    BlockSizes::new(sizes).map(Some).map_err(|source| YamlError::Sizes { line: node.line, source })
}

fn blocks(node: &Node, notes: &mut Vec<Note>) -> Result<Vec<Block>, YamlError> {
    let single = std::slice::from_ref(node);
    let items = match &node.value {
        Value::Null => &[],
        Value::List(items) => items.as_slice(),
        Value::Map(_) => single,
        Value::Text(_) => return Err(shape("blocks", "a list of blocks", node)),
    };
    let mut names = HashSet::new();
    let mut places: HashMap<String, BlockName> = HashMap::new();
    let mut blocks = Vec::with_capacity(items.len());
    for item in items {
        let block = block(item, notes)?;
        if !names.insert(block.name.clone()) {
            return Err(YamlError::Blocks {
                line: item.line,
                what: format!("block {} comes twice", block.name),
            });
        }
        for node in &block.nodes {
            if let Some(first) = places.insert(node.to_string(), block.name.clone()) {
                notes.push(Note {
                    line: item.line,
                    what: format!("node {node} is in {first} and in {}", block.name),
                });
            }
        }
        blocks.push(block);
    }
    Ok(blocks)
}

fn block(node: &Node, notes: &mut Vec<Note>) -> Result<Block, YamlError> {
    let mut name = "";
    let mut nodes = ("", node.line);
    for (key, value) in entries("a block", node)? {
        match key.text.as_str() {
            "block" => name = text("block", value)?,
            "nodes" => nodes = (text("nodes", value)?, value.line),
            unknown => notes.push(unknown_key(key.line, unknown, "block and nodes")),
        }
    }
    if nodes.0 == "ALL" {
        notes.push(Note { line: nodes.1, what: "Slurm reads nodes: ALL as one node called ALL".into() });
    }
    let name = BlockName::new(name).map_err(|source| YamlError::BlockName { line: node.line, source })?;
    let nodes = HostList::parse(nodes.0).map_err(|source| YamlError::Nodes {
        line: nodes.1,
        block: name.to_string(),
        source,
    })?;
    Ok(Block { name, nodes })
}
