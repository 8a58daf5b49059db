//! YAML as a tree of texts with their lines: no types are guessed, so `007` and `yes` stay what they are.
#![forbid(unsafe_code)]

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};

use super::{TEXT_LEN_MAX, YamlError};

/// Deepest nesting; a topology needs six levels.
const DEPTH_MAX: usize = 32;
/// Most nodes in the tree.
const NODES_MAX: usize = 2_000_000;

/// A value and the line where it begins.
#[derive(Debug)]
pub struct Node {
    /// From 1.
    pub line: usize,
    /// What is there.
    pub value: Value,
}

/// What a node of the tree holds.
#[derive(Debug)]
pub enum Value {
    /// `~`, `null` or nothing, not quoted.
    Null,
    /// Any other scalar, as it is written.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order of the file, each key once.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug)]
pub struct Key {
    /// From 1.
    pub line: usize,
    /// As it is written.
    pub text: String,
}

impl Node {
    /// What it is, for a message.
    pub fn found(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Text(text) => {
                let shown: String = text.chars().take(60).collect();
                format!("{shown:?}")
            }
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }
}

/// A collection whose end has not come yet.
enum Open {
    List(usize, Vec<Node>),
    Map(usize, Vec<(Key, Node)>, Option<Key>),
}

/// Reads one document.
///
/// # Errors
/// [`YamlError::Empty`] for a text without a document, else what is wrong with the YAML itself.
pub fn read(text: &str) -> Result<Node, YamlError> {
    if text.len() > TEXT_LEN_MAX {
        return Err(YamlError::TooLarge { line: 1, what: format!("more than {TEXT_LEN_MAX} bytes") });
    }
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    let mut count = 0usize;
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|e| YamlError::Syntax { line: e.marker().line(), what: e.info().to_string() })?;
        let line = span.start.line();
        let unsupported = |what: &str| YamlError::Unsupported { line, what: what.to_owned() };
        let done = match event {
            Event::SequenceStart(..) => {
                open.push(Open::List(line, Vec::new()));
                None
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(line, Vec::new(), None));
                None
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(line, items)) => Some(Node { line, value: Value::List(items) }),
                Some(Open::Map(line, entries, _)) => Some(Node { line, value: Value::Map(entries) }),
                None => None,
            },
            Event::Scalar(text, style, ..) => Some(scalar(line, &text, style)),
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                return Err(unsupported("aliases are not supported"));
            }
            Event::DocumentStart(..) if root.is_some() => return Err(unsupported("more than one document")),
            _ => None,
        };
        count += 1;
        if open.len() > DEPTH_MAX || count > NODES_MAX {
            return Err(YamlError::TooLarge { line, what: "nested too deeply or too many values".into() });
        }
        if let Some(node) = done {
            put(node, &mut open, &mut root)?;
        }
    }
    root.ok_or(YamlError::Empty)
}

fn scalar(line: usize, text: &str, style: ScalarStyle) -> Node {
    let null = matches!(style, ScalarStyle::Plain) && matches!(text, "" | "~" | "null" | "Null" | "NULL");
    Node { line, value: if null { Value::Null } else { Value::Text(text.to_owned()) } }
}

fn put(node: Node, open: &mut [Open], root: &mut Option<Node>) -> Result<(), YamlError> {
    let line = node.line;
    match open.last_mut() {
        None => *root = Some(node),
        Some(Open::List(_, items)) => items.push(node),
        Some(Open::Map(_, entries, waiting)) => match waiting.take() {
            Some(key) => entries.push((key, node)),
            None => {
                let Value::Text(text) = node.value else {
                    return Err(YamlError::Unsupported { line, what: "a key that is not text".into() });
                };
                if entries.iter().any(|(key, _)| key.text == text) {
                    return Err(YamlError::Unsupported { line, what: format!("key {text:?} comes twice") });
                }
                *waiting = Some(Key { line, text });
            }
        },
    }
    Ok(())
}
