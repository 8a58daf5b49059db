//! The outcome of several replays beside each other: as text, as JSON.

pub mod table;

use serde::Serialize;

use crate::summary::Summary;

/// Replays of the same workload by several placers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was replayed, in a line.
    pub title: String,
    /// What was taken for granted, in sentences.
    pub assumptions: Vec<String>,
    /// The replays.
    pub runs: Vec<Run>,
}

/// One replay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Who placed the jobs.
    pub placer: String,
    /// What came out.
    #[serde(flatten)]
    pub summary: Summary,
}

impl Report {
    /// As JSON, with a line break at the end.
    ///
    /// # Errors
    /// None is known; serde_json's.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}
