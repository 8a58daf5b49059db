//! Everything that makes Slurm refuse a `topology.yaml` or die of it, and everything that it accepts though it is wrong.
//!
//! ```text
//! text ───────> file (shape, names, sizes) -> place (nodes, slurm.conf) -> sizes (what jobs get) ─┐
//! settings ───> settings (the plugin's) ────────────────────────────────────────────────────────┴─> findings by line
//! ```
//!
//! All faults are found in one run. Nothing here looks anything up: what Slurm knows is given.
#![forbid(unsafe_code)]

mod blocks;
mod file;
mod place;
mod settings;
pub mod sizes;

use std::fmt;

use fabric::Topology;
use fabric::slurm_yaml::YamlError;
use serde::Serialize;

use crate::conf::{ClusterSettings, SlurmConf};
use crate::site::Site;
use crate::version::SlurmVersion;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// slurmctld refuses the file, does not start or crashes.
    Fatal,
    /// Slurm takes it without a word and does something else than is meant.
    Wrong,
    /// Worth knowing; no fault of the file.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fatal => "fatal",
            Self::Wrong => "wrong",
            Self::Note => "note",
        })
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// Line of topology.yaml from 1; 0 when it is about the whole file or about another one.
    pub line: usize,
    /// What is there and what Slurm makes of it.
    pub what: String,
    /// What to do.
    pub hint: String,
}

/// What is checked, and against what.
#[derive(Debug, Clone, Copy, Default)]
pub struct Input<'a> {
    /// The file.
    pub text: &'a str,
    /// The controller's version; without it the rules of all versions from 25.05 on hold.
    pub version: Option<SlurmVersion>,
    /// Slurm's nodes.
    pub site: Option<&'a Site>,
    /// slurm.conf.
    pub conf: Option<&'a SlurmConf>,
    /// The settings in force; those of slurm.conf count where it is given.
    pub in_force: Option<&'a ClusterSettings>,
}

/// Everything found, by line, the worst first within a line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// The findings.
    pub list: Vec<Finding>,
    /// The topologies, when Slurm could read the file at all.
    pub topologies: Option<Vec<Topology>>,
}

impl Findings {
    /// The worst of them.
    pub fn worst(&self) -> Option<Severity> {
        self.list.iter().map(|finding| finding.severity).min()
    }

    /// How many there are of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|finding| finding.severity == severity).count()
    }
}

/// Collects findings.
#[derive(Debug, Default)]
struct Sink(Vec<Finding>);

impl Sink {
    fn add(&mut self, severity: Severity, line: usize, what: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Finding { severity, line, what: what.into(), hint: hint.into() });
    }

    fn fatal(&mut self, line: usize, what: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Fatal, line, what, hint);
    }

    fn wrong(&mut self, line: usize, what: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Wrong, line, what, hint);
    }

    fn note(&mut self, line: usize, what: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Note, line, what, hint);
    }
}

/// Checks the file.
pub fn check(input: &Input<'_>) -> Findings {
    let mut sink = Sink::default();
    let version = input.version.or(input.site.and_then(|site| site.version));
    version_rules(input.text, version, &mut sink);
    let seen = file::read(input.text, version, &mut sink);
    let names: Vec<&str> = seen.iter().map(|topology| topology.name.as_str()).collect();
    for topology in &seen {
        let default = file::is_default(topology, &seen);
        if let Some(blocks) = &topology.blocks {
            place::blocks(topology, blocks, default, input, &mut sink);
            sizes::judge(blocks, input.site, &mut sink);
        }
    }
    if let Some(conf) = input.conf {
        place::conf(conf, &seen, &names, &mut sink);
    }
    if let Some(settings) = input.conf.map(|conf| &conf.settings).or(input.in_force) {
        settings::judge(settings, &mut sink);
    }
    if let Some(site) = input.site {
        place::dynamic(site, &seen, &mut sink);
    }
    let mut list = sink.0;
    let topologies = match fabric::slurm_yaml::parse(input.text) {
        Ok(topologies) => Some(topologies),
        // Told above, by the rules of the version.
        Err(YamlError::Sizes { .. }) => None,
        // Our reader is stricter than Slurm in places; what it refuses cannot be planned with, and is told once.
        Err(error) if !list.iter().any(|finding| finding.severity == Severity::Fatal) => {
            let report = fabric::Report::of_error(fabric::Blame::Config, &error);
            let what = std::iter::once(report.message).chain(report.detail).collect::<Vec<_>>().join("; ");
            let hint = "topology-gen cannot work with this file, whatever Slurm makes of it";
            list.push(Finding { severity: Severity::Wrong, line: 0, what, hint: hint.into() });
            None
        }
        Err(_) => None,
    };
    list.sort_by_key(|finding| (finding.line, finding.severity));
    Findings { list, topologies }
}

/// What is about the file as a whole.
fn version_rules(text: &str, version: Option<SlurmVersion>, sink: &mut Sink) {
    const PAGE: usize = 4096;
    if let Some(version) = version.filter(|version| *version < SlurmVersion::YAML) {
        let what = format!("Slurm {version} does not read topology.yaml");
        sink.fatal(0, what, "topology.yaml needs Slurm 25.05 or later; before it there is topology.conf");
    }
    if !text.is_empty() && text.len().is_multiple_of(PAGE) {
        let hint = "add a comment line, so that the size is no multiple of 4096";
        let what = format!("the file has {} bytes, a multiple of 4096", text.len());
        match version {
            Some(version) if version.dies_of_whole_pages() => {
                sink.fatal(0, format!("{what}, of which Slurm {version} dies"), hint);
            }
            Some(_) => {}
            None => sink.wrong(0, format!("{what}, of which Slurm 25.05 and 25.11.0 to 25.11.5 die"), hint),
        }
    }
}

#[cfg(test)]
mod tests;
