//! From topologies to text: the same topologies always give the same bytes.
#![forbid(unsafe_code)]

use crate::topology::{Block, Body, Topology, TopologyKind};

/// Slurm 25.05 and 25.11 up to .5 die of a file whose size is a multiple of this.
const PAGE_LEN: usize = 4096;
const HEADER: &str = "# topology.yaml for Slurm, written by slurm-nvlink's topology-gen";

/// Words that some YAML readers take for a truth value or for nothing.
const RESERVED: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// Writes the topologies as Slurm reads them: never empty, never a multiple of 4096 bytes, one block a line group in the
/// order given. No topology at all is written as one flat topology, which is what Slurm then has.
pub fn emit(topologies: &[Topology]) -> String {
    emit_with_comments(topologies, &[])
}

/// As [`emit()`], with more comment lines below the header. Line breaks in a comment become blanks.
pub fn emit_with_comments(topologies: &[Topology], comments: &[String]) -> String {
    let mut text = format!("{HEADER}\n");
    for comment in comments {
        let line: String = comment.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        text.push_str(format!("# {line}").trim_end());
        text.push('\n');
    }
    text.push_str("---\n");
    let none = [Topology { name: "default".into(), cluster_default: true, kind: TopologyKind::Flat }];
    for topology in if topologies.is_empty() { &none } else { topologies } {
        let mut lines = Vec::new();
        topology_lines(topology, &mut lines);
        for (at, line) in lines.iter().enumerate() {
            text.push_str(if at == 0 { "- " } else { "  " });
            text.push_str(line);
            text.push('\n');
        }
    }
    if text.len().is_multiple_of(PAGE_LEN) {
        text.push_str("# end\n");
    }
    text
}

fn topology_lines(topology: &Topology, lines: &mut Vec<String>) {
    if !topology.name.is_empty() {
        lines.push(format!("topology: {}", scalar(&topology.name)));
    }
    lines.push(format!("cluster_default: {}", topology.cluster_default));
    match &topology.kind {
        TopologyKind::Flat => lines.push("flat: true".into()),
        TopologyKind::Block(block) => {
            lines.push("block:".into());
            if let Some(sizes) = &block.sizes {
                let sizes: Vec<String> = sizes.as_slice().iter().map(u32::to_string).collect();
                lines.push(format!("  block_sizes: [{}]", sizes.join(", ")));
            }
            lines.push("  blocks:".into());
            for Block { name, nodes } in &block.blocks {
                lines.push(format!("    - block: {}", scalar(name.as_str())));
                if !nodes.is_empty() {
                    lines.push(format!("      nodes: {}", scalar(&nodes.to_string())));
                }
            }
        }
        TopologyKind::Other(other) => key_lines(&other.kind, &other.body, "", lines),
    }
}

fn key_lines(key: &str, body: &Body, indent: &str, lines: &mut Vec<String>) {
    let key = scalar(key);
    match body {
        Body::Text(text) => lines.push(format!("{indent}{key}: {}", loose_scalar(text))),
        Body::List(items) if items.is_empty() => lines.push(format!("{indent}{key}: []")),
        Body::Map(entries) if entries.is_empty() => lines.push(format!("{indent}{key}: {{}}")),
        Body::List(_) | Body::Map(_) => {
            lines.push(format!("{indent}{key}:"));
            body_lines(body, &format!("{indent}  "), lines);
        }
    }
}

fn body_lines(body: &Body, indent: &str, lines: &mut Vec<String>) {
    match body {
        Body::Text(text) => lines.push(format!("{indent}{}", loose_scalar(text))),
        Body::List(items) if items.is_empty() => lines.push(format!("{indent}[]")),
        Body::Map(entries) if entries.is_empty() => lines.push(format!("{indent}{{}}")),
        Body::Map(entries) => {
            for (key, value) in entries {
                key_lines(key, value, indent, lines);
            }
        }
        Body::List(items) => {
            for item in items {
                let from = lines.len();
                body_lines(item, &format!("{indent}  "), lines);
                if let Some(first) = lines.get_mut(from) {
                    first.replace_range(..indent.len() + 2, &format!("{indent}- "));
                }
            }
        }
    }
}

/// Numbers and truth values of a body that is carried along keep their form.
fn loose_scalar(text: &str) -> String {
    let number = !text.is_empty()
        && text.len() < 10
        && text.bytes().all(|b| b.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    if number || matches!(text, "true" | "false") { text.to_owned() } else { scalar(text) }
}

/// The text as it is where every YAML reader takes it for the same string, else in double quotes.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'))
        && !RESERVED.contains(&text.to_ascii_lowercase().as_str());
    if plain {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}'
                if !matches!(c, '\u{2028}' | '\u{2029}') =>
            {
                quoted.push(c);
            }
            ' '..='~' => quoted.push(c),
            _ => quoted.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}
