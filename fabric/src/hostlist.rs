//! Host lists: `n[01-18,20],m7`, read and written as Slurm does.
//!
//! A host list is an ordered sequence; names may repeat. The grammar and the folding follow Slurm 26.05 (src/common/hostlist.c,
//! and `scontrol show hostnames` / `show hostlist` as the reference): items are separated by commas, blanks, tabs or
//! newlines; an item may hold several brackets; a bracket holds numbers and ranges whose zero padding is that of the first
//! number; one range spans at most 64K names.
//!
//! Stricter than Slurm, always with an error and never with another list: a blank or sign inside a bracket, a bracket
//! inside a bracket, a stray `]`, a number above 64 bits, more than [`HOSTS_MAX`] names.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use crate::names::{NAME_LEN_MAX, NameError, NodeName, split_number};

/// Most names in one range or in all ranges of a bracket that is not the last of its item (Slurm: 64K).
pub const RANGE_HOSTS_MAX: u64 = 65_536;
/// Most names in one host list; four times the largest Slurm cluster.
pub const HOSTS_MAX: usize = 262_144;

/// Why a text is not a host list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostListError {
    /// `[` without `]`, `]` without `[`, or a bracket inside a bracket.
    #[error("brackets do not match in host list item {item:?}")]
    Brackets {
        /// The item, shortened.
        item: String,
    },
    /// Not a number, and not two numbers with a dash.
    #[error("invalid range {range:?} in host list item {item:?}")]
    Range {
        /// The text between commas.
        range: String,
        /// The item, shortened.
        item: String,
    },
    /// The range runs backwards.
    #[error("range {range:?} runs backwards in host list item {item:?}")]
    Backwards {
        /// The text between commas.
        range: String,
        /// The item, shortened.
        item: String,
    },
    /// More than [`RANGE_HOSTS_MAX`] names in a range.
    #[error("more than {RANGE_HOSTS_MAX} hosts in range {range:?} of host list item {item:?}")]
    RangeTooLong {
        /// The text between commas.
        range: String,
        /// The item, shortened.
        item: String,
    },
    /// More than [`HOSTS_MAX`] names in all.
    #[error("host list has more than {HOSTS_MAX} hosts")]
    TooMany,
    /// An item yields something that is not a name.
    #[error("host list item {item:?} does not give node names")]
    Name {
        /// The item, shortened.
        item: String,
        /// What is wrong with the first such name.
        source: NameError,
    },
}

/// An ordered list of node names; duplicates are kept.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct HostList(Vec<NodeName>);

impl HostList {
    /// Reads a host list. An empty text is an empty list.
    ///
    /// # Errors
    /// [`HostListError`] for the first item that Slurm would refuse or turn into other names than it says.
    pub fn parse(text: &str) -> Result<Self, HostListError> {
        let mut names = Vec::new();
        for item in items(text) {
            expand(item, &mut names)?;
        }
        Ok(Self(names))
    }

    /// The names in order.
    pub fn iter(&self) -> std::slice::Iter<'_, NodeName> {
        self.0.iter()
    }

    /// The number of names, duplicates counted.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without any name.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names as a slice.
    pub fn as_slice(&self) -> &[NodeName] {
        &self.0
    }

    /// Adds a name at the end.
    pub fn push(&mut self, name: NodeName) {
        self.0.push(name);
    }
}

/// Cuts at separators outside brackets; empty items vanish.
fn items(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.split(move |c: char| {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            _ => {}
        }
        !inside && matches!(c, ',' | ' ' | '\t' | '\n')
    })
    .filter(|item| !item.is_empty())
}

#[derive(Clone, Copy)]
struct Range {
    low: u64,
    high: u64,
    width: usize,
}

impl Range {
    fn count(&self) -> u64 {
        (self.high - self.low).saturating_add(1)
    }
}

/// A literal and the ranges of the bracket behind it.
struct Part<'a> {
    literal: &'a str,
    ranges: Vec<Range>,
}

fn shorten(item: &str) -> String {
    const SHOWN: usize = 80;
    match item.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}...", item.get(..at).unwrap_or_default()),
        None => item.to_owned(),
    }
}

fn expand(item: &str, names: &mut Vec<NodeName>) -> Result<(), HostListError> {
    let (parts, tail) = cut(item)?;
    let mut total: u64 = 1;
    for (at, part) in parts.iter().enumerate() {
        let count = part.ranges.iter().fold(0u64, |sum, r| sum.saturating_add(r.count()));
        if at + 1 < parts.len() && count > RANGE_HOSTS_MAX {
            return Err(HostListError::RangeTooLong { range: shorten(part.literal), item: shorten(item) });
        }
        total = total.saturating_mul(count);
    }
    if (names.len() as u64).saturating_add(total) > HOSTS_MAX as u64 {
        return Err(HostListError::TooMany);
    }
    let mut numbers = vec![None; parts.len()];
    each(&parts, &loop_order(parts.len()), &mut numbers, &mut |numbers| {
        let mut name = String::new();
        for (part, number) in parts.iter().zip(numbers) {
            name.push_str(part.literal);
            if let Some((value, width)) = *number {
                name.push_str(&format!("{value:0width$}"));
            }
        }
        name.push_str(tail);
        let name =
            NodeName::new(name).map_err(|source| HostListError::Name { item: shorten(item), source })?;
        names.push(name);
        Ok(())
    })
}

/// Which bracket varies slowest. Slurm runs the last bracket fastest, then the first, the second and so on.
fn loop_order(brackets: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..brackets.saturating_sub(1)).rev().collect();
    order.extend(brackets.checked_sub(1));
    order
}

type Number = Option<(u64, usize)>;

fn each(
    parts: &[Part<'_>],
    order: &[usize],
    numbers: &mut Vec<Number>,
    found: &mut dyn FnMut(&[Number]) -> Result<(), HostListError>,
) -> Result<(), HostListError> {
    let Some((bracket, rest)) = order.split_first() else { return found(numbers) };
    let ranges = parts.get(*bracket).map(|p| p.ranges.as_slice()).unwrap_or_default();
    for range in ranges {
        for value in range.low..=range.high {
            if let Some(slot) = numbers.get_mut(*bracket) {
                *slot = Some((value, range.width));
            }
            each(parts, rest, numbers, found)?;
        }
    }
    Ok(())
}

/// Cuts an item into literals with brackets and the text behind the last bracket.
fn cut(item: &str) -> Result<(Vec<Part<'_>>, &str), HostListError> {
    let fault = || HostListError::Brackets { item: shorten(item) };
    // Each bracket is a level of recursion; a name has no room for more numbers than this.
    if item.bytes().filter(|b| *b == b'[').count() > NAME_LEN_MAX {
        return Err(fault());
    }
    let mut parts = Vec::new();
    let mut rest = item;
    while let Some((literal, behind)) = rest.split_once('[') {
        let (inside, tail) = behind.split_once(']').ok_or_else(fault)?;
        if literal.contains(']') || inside.contains('[') {
            return Err(fault());
        }
        parts.push(Part { literal, ranges: ranges(inside, item)? });
        rest = tail;
    }
    if rest.contains(']') { Err(fault()) } else { Ok((parts, rest)) }
}

fn ranges(inside: &str, item: &str) -> Result<Vec<Range>, HostListError> {
    inside.split(',').map(|text| range(text, item)).collect()
}

fn range(text: &str, item: &str) -> Result<Range, HostListError> {
    let fault = || HostListError::Range { range: shorten(text), item: shorten(item) };
    let number = |digits: &str| -> Option<u64> {
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) || digits.len() > NAME_LEN_MAX {
            return None;
        }
        digits.parse().ok()
    };
    let (first, last) = text.split_once('-').unwrap_or((text, ""));
    let low = number(first).ok_or_else(fault)?;
    // `n[4-]` is n4 to Slurm.
    let high = if last.is_empty() { low } else { number(last).ok_or_else(fault)? };
    if low > high {
        return Err(HostListError::Backwards { range: shorten(text), item: shorten(item) });
    }
    let range = Range { low, high, width: first.len() };
    if range.count() > RANGE_HOSTS_MAX {
        return Err(HostListError::RangeTooLong { range: shorten(text), item: shorten(item) });
    }
    Ok(range)
}

/// Names that fold into one number range, or one name without a number.
struct Run<'a> {
    prefix: &'a str,
    range: Option<Range>,
}

impl<'a> Run<'a> {
    fn of(name: &'a NodeName) -> Self {
        let name = name.as_str();
        let split = split_number(name)
            .and_then(|(prefix, digits)| Some((prefix, digits.parse().ok()?, digits.len())));
        match split {
            Some((prefix, value, width)) => {
                Self { prefix, range: Some(Range { low: value, high: value, width }) }
            }
            None => Self { prefix: name, range: None },
        }
    }

    /// Takes the next name in when it continues the run with the same padding.
    fn join(&mut self, next: &Run<'_>) -> bool {
        let (Some(run), Some(one)) = (self.range.as_mut(), next.range) else { return false };
        let digits = one.low.checked_ilog10().unwrap_or(0) as usize + 1;
        let same_padding = run.width == one.width || (one.width == digits && run.width <= digits);
        let continues = self.prefix == next.prefix
            && run.high.checked_add(1) == Some(one.low)
            && same_padding
            && run.count() < RANGE_HOSTS_MAX;
        if continues {
            run.high = one.low;
        }
        continues
    }

    fn in_one_bracket(&self, next: &Run<'_>) -> bool {
        self.range.is_some() && next.range.is_some() && self.prefix == next.prefix
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.width;
        write!(f, "{:0width$}", self.low)?;
        if self.high > self.low { write!(f, "-{:0width$}", self.high) } else { Ok(()) }
    }
}

/// Folds as `scontrol show hostlist`: order and duplicates kept, neighbours of one prefix in one bracket.
impl fmt::Display for HostList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runs: Vec<Run<'_>> = Vec::new();
        for name in &self.0 {
            let one = Run::of(name);
            if !runs.last_mut().is_some_and(|run| run.join(&one)) {
                runs.push(one);
            }
        }
        let groups = runs.chunk_by(Run::in_one_bracket);
        for (at, group) in groups.enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            let Some(first) = group.first() else { continue };
            f.write_str(first.prefix)?;
            let bracket = group.len() > 1 || first.range.is_some_and(|r| r.count() > 1);
            if bracket {
                f.write_str("[")?;
            }
            for (at, range) in group.iter().filter_map(|run| run.range).enumerate() {
                if at > 0 {
                    f.write_str(",")?;
                }
                write!(f, "{range}")?;
            }
            if bracket {
                f.write_str("]")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for HostList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostList({self})")
    }
}

impl FromStr for HostList {
    type Err = HostListError;

    fn from_str(text: &str) -> Result<Self, HostListError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for HostList {
    type Error = HostListError;

    fn try_from(text: String) -> Result<Self, HostListError> {
        Self::parse(&text)
    }
}

impl From<HostList> for String {
    fn from(list: HostList) -> String {
        list.to_string()
    }
}

impl From<Vec<NodeName>> for HostList {
    fn from(names: Vec<NodeName>) -> Self {
        Self(names)
    }
}

impl FromIterator<NodeName> for HostList {
    fn from_iter<I: IntoIterator<Item = NodeName>>(names: I) -> Self {
        Self(names.into_iter().collect())
    }
}

impl Extend<NodeName> for HostList {
    fn extend<I: IntoIterator<Item = NodeName>>(&mut self, names: I) {
        self.0.extend(names);
    }
}

impl IntoIterator for HostList {
    type Item = NodeName;
    type IntoIter = std::vec::IntoIter<NodeName>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a HostList {
    type Item = &'a NodeName;
    type IntoIter = std::slice::Iter<'a, NodeName>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests;
