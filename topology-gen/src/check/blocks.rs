//! The block topology: sizes, block names, host lists.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use fabric::HostList;
use fabric::slurm_yaml::node::{Node, Value};

use super::Sink;
use super::file::{SeenBlock, SeenBlocks, text, unknown_key};
use crate::version::SlurmVersion;

/// Largest block size: Slurm keeps it in 16 bits.
const SIZE_MAX: i64 = 65_535;
/// Largest power of two between the base size and another one.
const LEVEL_MAX: u32 = 15;
/// Digits at the end of a name that Slurm counts with for certain.
const DIGITS_MAX: usize = 18;

pub(super) fn read(node: &Node, version: Option<SlurmVersion>, sink: &mut Sink) -> Option<SeenBlocks> {
    let Value::Map(entries) = &node.value else {
        let what = format!("block must be a mapping, found {}", node.found());
        sink.fatal(node.line, what, "write block_sizes and blocks below it");
        return None;
    };
    let mut seen =
        SeenBlocks { line: node.line, sizes: Vec::new(), sizes_line: node.line, blocks: Vec::new() };
    let mut list = None;
    let mut sizes = None;
    for (key, value) in entries {
        match key.text.as_str() {
            "block_sizes" => sizes = Some(value),
            "blocks" => list = Some(value),
            _ => unknown_key(key, &["block_sizes", "blocks"], sink),
        }
    }
    let before = sink.0.len();
    let given = sizes.is_some_and(|value| {
        seen.sizes_line = value.line;
        seen.sizes = block_sizes(value, version, sink);
        !seen.sizes.is_empty()
    });
    let faulty = sink.0.len() > before;
    let items: &[Node] = match list.map(|list| (&list.value, list)) {
        None | Some((Value::Null, _)) => &[],
        Some((Value::List(items), _)) => items,
        Some((Value::Map(_), one)) => std::slice::from_ref(one),
        Some((Value::Text(_), list)) => {
            sink.fatal(list.line, "blocks must be a list", "write `- block: NAME` and `nodes: ...` for each");
            return Some(seen);
        }
    };
    if items.is_empty() {
        sink.fatal(node.line, "no blocks; Slurm needs at least one", "list the blocks, or use `flat: true`");
        return Some(seen);
    }
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for item in items {
        block(item, items.len(), &mut lines, &mut seen.blocks, sink);
    }
    repeated_nodes(&seen.blocks, sink);
    if given || faulty {
        return Some(seen);
    }
    match seen.blocks.iter().find(|block| !block.nodes.is_empty()) {
        Some(first) => sink.note(
            node.line,
            format!(
                "no block_sizes: Slurm takes {}, the nodes of block {}, and x2, x4, x8, x16",
                first.nodes.len(),
                first.name
            ),
            "write block_sizes, so that another first block does not change what jobs get",
        ),
        None => {
            sink.fatal(node.line, "no block has nodes, and there are no block_sizes", "write block_sizes")
        }
    }
    Some(seen)
}

/// The sizes that can be used. The first is the base; Slurm dies of a wrong first one in every version.
fn block_sizes(node: &Node, version: Option<SlurmVersion>, sink: &mut Sink) -> Vec<u32> {
    let one = std::slice::from_ref(node);
    let items = match &node.value {
        Value::Null => &[],
        Value::List(items) => items.as_slice(),
        _ => one,
    };
    let mut sizes: Vec<u32> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let Value::Text(text) = &item.value else {
            sink.fatal(
                item.line,
                format!("a block size must be a number, found {}", item.found()),
                "write [18, 36]",
            );
            continue;
        };
        let Ok(number) = text.trim().parse::<i64>() else {
            let what = format!("block_sizes must be numbers, found {text:?}");
            sink.fatal(item.line, what, "write a list of numbers: block_sizes: [18, 36]");
            continue;
        };
        let problem = match sizes.first().map(|base| i64::from(*base)) {
            _ if !(1..=SIZE_MAX).contains(&number) => {
                Some(format!("block size {number} is not from 1 to {SIZE_MAX}"))
            }
            Some(base) if number < base => Some(format!(
                "block size {number} comes after the larger {base}; the first one is the base size"
            )),
            Some(base) if number % base != 0 || !is_level(number / base) => Some(format!(
                "block size {number} is not the base size {base} times a power of two up to 2^{LEVEL_MAX}"
            )),
            _ => None,
        };
        match problem {
            None => sizes.extend(u32::try_from(number).ok()),
            Some(what) if at == 0 => sink.fatal(item.line, what, "give the base size first, from 1 on"),
            Some(what) => wrong_later_size(item.line, what, version, sink),
        }
    }
    sizes
}

fn is_level(factor: i64) -> bool {
    u32::try_from(factor).is_ok_and(|factor| factor.is_power_of_two() && factor.trailing_zeros() <= LEVEL_MAX)
}

/// Slurm before 26.05.3 took a wrong later size and went on; later ones die of it.
fn wrong_later_size(line: usize, what: String, version: Option<SlurmVersion>, sink: &mut Sink) {
    let hint = "each size after the first must be the first one times 2, 4, 8, ...";
    match version {
        Some(version) if version < SlurmVersion::SIZES_CHECKED => {
            let what =
                format!("{what}; Slurm {version} takes it without a word, 26.05.3 and later die of it");
            sink.wrong(line, what, hint);
        }
        _ => sink.fatal(line, what, hint),
    }
}

/// One block. `lines` has the line of each name that was seen.
fn block(
    node: &Node,
    count: usize,
    lines: &mut BTreeMap<String, usize>,
    blocks: &mut Vec<SeenBlock>,
    sink: &mut Sink,
) {
    let Value::Map(entries) = &node.value else {
        let what = format!("a block must be a mapping, found {}", node.found());
        return sink.fatal(node.line, what, "write `- block: NAME` and below it `nodes: HOSTLIST`");
    };
    let mut name = Some(String::new());
    let mut nodes = HostList::default();
    for (key, value) in entries {
        match key.text.as_str() {
            "block" => name = text(key, value, sink),
            "nodes" => {
                if let Some(text) = text(key, value, sink) {
                    nodes = host_list(&text, value.line, sink);
                }
            }
            _ => unknown_key(key, &["block", "nodes"], sink),
        }
    }
    let Some(name) = name else { return };
    if name.is_empty() {
        return sink.fatal(node.line, "a block without a name", "give it `block: NAME`");
    }
    block_name(&name, node.line, count, sink);
    if let Some(first) = lines.get(&name) {
        let what = format!("block {name} comes twice, first in line {first}");
        return sink.fatal(node.line, what, "join the two, or rename one");
    }
    lines.insert(name.clone(), node.line);
    blocks.push(SeenBlock { line: node.line, name, nodes });
}

fn host_list(text: &str, line: usize, sink: &mut Sink) -> HostList {
    if text.trim() == "ALL" {
        sink.wrong(line, "nodes: ALL means one node called ALL here", "write the host list of the nodes");
    }
    HostList::parse(text).unwrap_or_else(|error| {
        let report = fabric::Report::of_error(fabric::Blame::Config, &error);
        let what = std::iter::once(report.message).chain(report.detail).collect::<Vec<_>>().join("; ");
        sink.fatal(line, what, "compare with `scontrol show hostnames LIST`");
        HostList::default()
    })
}

/// Slurm joins block names with commas and reads the result as a host list to name aggregated blocks.
fn block_name(name: &str, line: usize, count: usize, sink: &mut Sink) {
    let hint = "use letters, digits, dash and underscore";
    if name.contains(['[', ']']) {
        let what = format!("block name {name:?} holds a bracket");
        // A single block is in no aggregated block whose name would have to be made.
        if count > 1 { sink.fatal(line, what, hint) } else { sink.wrong(line, what, hint) }
    } else if name.contains(',') || name.contains(char::is_whitespace) {
        let what = format!("block name {name:?} holds a comma or blank, which makes wrong aggregated blocks");
        sink.wrong(line, what, hint);
    }
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    if digits > DIGITS_MAX {
        let what = format!(
            "block name {name:?} ends in {digits} digits; Slurm counts with {DIGITS_MAX} and names another block"
        );
        sink.wrong(line, what, "end the name in a letter or underscore, or with fewer digits");
    }
}

/// A node in two blocks counts in both and stands in the first. One finding for each pair of blocks.
fn repeated_nodes(blocks: &[SeenBlock], sink: &mut Sink) {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    let mut pairs: BTreeMap<(usize, usize), HostList> = BTreeMap::new();
    for (at, block) in blocks.iter().enumerate() {
        for node in &block.nodes {
            match first.get(node.as_str()) {
                Some(there) => pairs.entry((at, *there)).or_default().push(node.clone()),
                None => {
                    first.insert(node.as_str(), at);
                }
            }
        }
    }
    for ((at, there), nodes) in pairs {
        let (Some(block), Some(other)) = (blocks.get(at), blocks.get(there)) else { continue };
        let what = if at == there {
            format!("{nodes} is listed twice in block {}", block.name)
        } else {
            format!("{nodes} is in block {} and in block {}; Slurm counts it in both", other.name, block.name)
        };
        sink.wrong(block.line, what, "leave each node in one place");
    }
}
