//! The outcome of several replays beside each other: as text, as JSON, as a page with charts.

mod overview;
pub mod page;
pub mod plot;
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
    /// The charts, each with a name for its file: of the replays of the first seed.
    pub fn charts(&self) -> Vec<(&'static str, String)> {
        let Some(first) = self.runs.first() else { return Vec::new() };
        let same_seed = self.runs.iter().filter(|run| run.summary.seed == first.summary.seed);
        let lines: Vec<plot::Line<'_>> = same_seed.map(|run| (run.placer.as_str(), &run.summary)).collect();
        let mut charts = vec![("waits", plot::waits(&lines))];
        charts.extend(
            plot::OVER_TIME
                .iter()
                .map(|&(name, title, unit, value)| (name, plot::over_time(&lines, title, unit, value))),
        );
        charts
    }

    /// As JSON, with a line break at the end.
    ///
    /// # Errors
    /// None is known; serde_json's.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}
