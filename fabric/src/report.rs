//! One thing to tell an operator: what happened, the facts, what to do, whose fault it is.
#![forbid(unsafe_code)]

use std::fmt;

/// Whose fault it is; decides who is told and, on a tray, whether the node is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Blame {
    /// This node: its GPUs, its fabric, its files.
    Node,
    /// What the job asked for.
    Job,
    /// A file or option an administrator wrote.
    Config,
    /// Another node.
    Peer,
    /// This program.
    Bug,
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Blame::Node => "node",
            Blame::Job => "job",
            Blame::Config => "config",
            Blame::Peer => "peer",
            Blame::Bug => "bug",
        })
    }
}

/// A message with its facts and, where the reader can act, a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// One sentence, lower case, no full stop.
    pub message: String,
    /// Facts, one line each.
    pub detail: Vec<String>,
    /// What the reader can do about it.
    pub hint: Option<String>,
    /// Whose fault it is.
    pub blame: Blame,
}

impl Report {
    /// A report without facts and hint yet.
    pub fn new(blame: Blame, message: impl Into<String>) -> Self {
        Self { message: message.into(), detail: Vec::new(), hint: None, blame }
    }

    /// Adds one fact.
    #[must_use]
    pub fn with_detail(mut self, line: impl Into<String>) -> Self {
        self.detail.push(line.into());
        self
    }

    /// Sets the hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The report of an error: its message, then every source below it as a fact.
    pub fn of_error(blame: Blame, error: &dyn std::error::Error) -> Self {
        let mut report = Self::new(blame, error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            report.detail.push(format!("because: {cause}"));
            source = cause.source();
        }
        report
    }
}

/// Message on the first line, each fact indented on its own, then `hint: ...`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        for line in &self.detail {
            write!(f, "\n  {line}")?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the settings")]
    struct Outer {
        source: std::num::ParseIntError,
    }

    #[test]
    fn the_text_has_message_facts_and_hint_in_this_order() {
        let source = "x".parse::<u32>().unwrap_err();
        let report = Report::of_error(Blame::Config, &Outer { source }).with_hint("write a number");
        assert_eq!(
            report.to_string(),
            "cannot read the settings\n  because: invalid digit found in string\nhint: write a number"
        );
        assert_eq!(Report::new(Blame::Node, "no GPU answers").to_string(), "no GPU answers");
    }
}
