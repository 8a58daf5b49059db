//! Slurm's node list: one call of `scontrol show nodes --json` for the whole cluster.
//!
//! Of each node this takes the name, the state, the GPUs it should have (`gres`) and the reading that its slurmd
//! registered in `extra`. Slurm keeps the last registered field of a node that is down; such a reading is marked stale.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use fabric::NodeName;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::extra;
use super::{Inventory, Observation, Seen, typed};
use crate::command::{self, CommandError};
use crate::site::{AWAY, UNUSABLE};

/// Why Slurm's node list cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SlurmError {
    /// scontrol cannot be started.
    #[error("cannot run {program}")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// scontrol ended with an error.
    #[error("{program} show nodes --json fails ({status}): {words}")]
    Failed {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said on standard error.
        words: String,
    },
    /// scontrol did not end in time.
    #[error("{program} show nodes --json does not end within {seconds} s")]
    Deadline {
        /// The program.
        program: PathBuf,
        /// The deadline.
        seconds: u64,
    },
    /// The output could not be read.
    #[error("cannot read what {program} prints")]
    Output {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The output is not a node list.
    #[error("Slurm's node list is not JSON of the expected form")]
    Json {
        /// The parser's words.
        source: serde_json::Error,
    },
}

impl SlurmError {
    /// What an operator can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Start { .. } => {
                "run this where Slurm's commands are installed, or give --scontrol PATH or --nodes-json FILE"
            }
            Self::Failed { .. } | Self::Deadline { .. } => "check that slurmctld answers: scontrol ping",
            Self::Output { .. } | Self::Json { .. } => {
                "compare with `scontrol show nodes --json`; it needs Slurm's JSON support (serializer/json)"
            }
        }
    }
}

/// Asks Slurm. One call, with a deadline; afterwards scontrol is gone.
///
/// # Errors
/// [`SlurmError`].
pub fn ask(program: &Path, deadline: Duration) -> Result<String, SlurmError> {
    let done = command::run(Command::new(program).args(["show", "nodes", "--json"]), deadline);
    let done = done.map_err(|error| match error {
        CommandError::Start { program, source } => SlurmError::Start { program, source },
        CommandError::Output { program, source } => SlurmError::Output { program, source },
        CommandError::Deadline { seconds, .. } => {
            SlurmError::Deadline { program: program.to_owned(), seconds }
        }
    })?;
    if !done.status.success() {
        let (status, words) = (done.status, done.last_words());
        return Err(SlurmError::Failed { program: program.to_owned(), status, words });
    }
    Ok(done.stdout)
}

/// Each node stays text until its turn: a list of ten thousand has tens of megabytes.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    nodes: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Label {
    name: String,
}

#[derive(Deserialize)]
struct Node {
    name: String,
    #[serde(default)]
    extra: Option<String>,
    #[serde(default)]
    gres: Option<String>,
    #[serde(default)]
    features: Words,
    #[serde(default)]
    state: Words,
}

/// A list of words since Slurm 23.11.
#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Words {
    #[default]
    None,
    List(Vec<String>),
    One(String),
}

impl Words {
    fn list(&self) -> &[String] {
        match self {
            Self::None => &[],
            Self::List(words) => words,
            Self::One(word) => std::slice::from_ref(word),
        }
    }

    fn away(&self) -> Option<&str> {
        self.list().iter().map(String::as_str).find(|word| AWAY.contains(word))
    }
}

/// Takes what `scontrol show nodes --json` printed. A node that cannot be understood is noted; the others go on.
///
/// # Errors
/// [`SlurmError::Json`] when the text is not a node list at all.
pub fn parse(text: &str) -> Result<Inventory, SlurmError> {
    let answer: Answer = serde_json::from_str(text).map_err(|source| SlurmError::Json { source })?;
    let mut inventory = Inventory { complete: true, ..Inventory::default() };
    for value in answer.nodes {
        let observation =
            typed::<Node>(value).and_then(|node| observe(node).map_err(|error| error.to_string()));
        match observation {
            Ok(observation) => inventory.observations.push(observation),
            Err(error) => {
                let label = typed::<Label>(value).map_or("without a name".to_owned(), |label| label.name);
                inventory.notes.push(format!("node {label} in Slurm's list: {error}"));
            }
        }
    }
    Ok(inventory)
}

fn observe(node: Node) -> Result<Observation, fabric::NameError> {
    let expected_gpus = gpu_count(node.gres.as_deref().unwrap_or_default());
    let seen = match extra::read(node.extra.as_deref().unwrap_or_default()) {
        Ok(Some(reading)) => Seen::Reading(reading),
        Ok(None) if expected_gpus.is_none() => Seen::NoGpus("no GPUs in its Gres".into()),
        Ok(None) => Seen::Silent("no NVLink reading in its Extra field".into()),
        Err(error) => Seen::Silent(match std::error::Error::source(&error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        }),
    };
    let stale = node.state.away().map(|state| format!("the node is {state}"));
    let unusable = node.state.list().iter().any(|word| UNUSABLE.contains(&word.as_str()));
    Ok(Observation {
        node: NodeName::new(node.name)?,
        seen,
        stale,
        unusable,
        features: node.features.list().to_vec(),
        expected_gpus,
    })
}

/// GPUs in a `Gres` text such as `gpu:gb200:4(S:0-1),nvme:1`; `None` when it names no GPU.
fn gpu_count(gres: &str) -> Option<u32> {
    let mut total = None;
    let mut depth = 0usize;
    let items = gres.split(|c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    for item in items {
        let item = item.split_once('(').map_or(item, |(plain, _)| plain).trim();
        let mut fields = item.split(':');
        if fields.next() != Some("gpu") {
            continue;
        }
        let count = fields.next_back().map_or(Some(1), |last| last.parse().ok().or(Some(1)));
        total = Some(total.unwrap_or(0u32).saturating_add(count.unwrap_or(0)));
    }
    total.filter(|count| *count > 0)
}

#[cfg(test)]
mod tests;
