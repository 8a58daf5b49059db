//! Topologies as text: YAML for Slurm, tables and pictures for people, JSON for programs. Nothing here looks anything up.
#![forbid(unsafe_code)]

pub mod gpu_hours;
pub mod html;
mod job;
pub mod json;
pub mod labels;
mod racks;
pub mod screen;
mod state;
pub mod svg;
pub mod table;
pub mod tiers;
pub mod yaml;

pub use job::{Job, JobsError, parse_jobs};
pub use racks::{Facts, Partition, Racks, Tray};
pub use state::State;

#[cfg(test)]
pub(crate) use racks::tests;

/// A number with its noun, in the plural where it needs one.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// At most so many characters, the last one an ellipsis when some are left out.
fn shortened(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    text.chars().take(chars.saturating_sub(1)).chain(['…']).collect()
}

/// Text for XML and HTML; characters that XML does not allow become question marks.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push('?'),
            c => safe.push(c),
        }
    }
    safe
}

/// Job names are anybody's text: no control character of theirs reaches the terminal.
fn printable(text: &str) -> String {
    if text.is_empty() {
        "-".into()
    } else {
        text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
    }
}
