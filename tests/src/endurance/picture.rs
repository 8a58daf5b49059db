//! What Slurm says of all jobs and nodes, in one question.
#![forbid(unsafe_code)]

use crate::cluster::{Cluster, Target};
use anyhow::{Context as _, bail};
use fabric::{HostList, JobId};
use std::collections::BTreeMap;

/// Both questions in one command.
const ASK: &str = r#"squeue --all --array --states=all --noheader --format="%A|%j|%T|%N|%r" &&
echo --- && sinfo --noheader --Node --format="%N|%T|%E""#;

/// A job, a task of an array or a component of a heterogeneous job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobLine {
    /// The name under which it was submitted.
    pub(super) name: String,
    pub(super) state: String,
    pub(super) nodes: Vec<String>,
    pub(super) reason: String,
}

impl JobLine {
    pub(super) fn is_over(&self) -> bool {
        let going = [
            "PENDING",
            "RUNNING",
            "CONFIGURING",
            "COMPLETING",
            "REQUEUED",
            "REQUEUE_HOLD",
            "SPECIAL_EXIT",
            "SUSPENDED",
            "STOPPED",
            "SIGNALING",
            "STAGE_OUT",
        ];
        !going.contains(&self.state.as_str())
    }

    /// Taken back after a prolog's failure, and held until somebody releases it.
    pub(super) fn is_held(&self) -> bool {
        self.state == "PENDING" && (self.reason.contains("held") || self.reason.starts_with("JobHeld"))
    }

    pub(super) fn runs(&self) -> bool {
        self.state == "RUNNING"
    }
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeLine {
    /// In long words, with `*` when it does not answer.
    pub(super) state: String,
    pub(super) reason: String,
}

impl NodeLine {
    /// Takes no more jobs.
    pub(super) fn is_out(&self) -> bool {
        ["drain", "down", "fail"].iter().any(|word| self.state.starts_with(word))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.state == "idle"
    }
}

/// One answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) jobs: BTreeMap<JobId, JobLine>,
    pub(super) nodes: BTreeMap<String, NodeLine>,
}

/// Asks.
///
/// # Errors
/// slurmctld does not answer, or in unknown words.
pub(super) fn take(cluster: &Cluster) -> anyhow::Result<Picture> {
    parse(&cluster.succeed(&Target::controller(), &["sh", "-c", ASK])?)
}

fn parse(text: &str) -> anyhow::Result<Picture> {
    let (jobs, nodes) = text.split_once("---\n").context("no line between jobs and nodes")?;
    let mut picture = Picture::default();
    for line in jobs.lines() {
        let mut parts = line.trim().splitn(5, '|').map(str::to_owned);
        let (Some(id), Some(name), Some(state), Some(nodes), Some(reason)) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            bail!("squeue said {line:?}");
        };
        let nodes = HostList::parse(&nodes).with_context(|| format!("squeue said {line:?}"))?;
        let nodes = nodes.iter().map(ToString::to_string).collect();
        let id = id.parse().with_context(|| format!("squeue said {id:?}"))?;
        picture.jobs.insert(id, JobLine { name, state, nodes, reason });
    }
    for line in nodes.lines() {
        let mut parts = line.trim().splitn(3, '|').map(str::to_owned);
        let (Some(node), Some(state)) = (parts.next(), parts.next()) else { bail!("sinfo said {line:?}") };
        picture.nodes.insert(node, NodeLine { state, reason: parts.next().unwrap_or_default() });
    }
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_and_nodes_are_read() {
        let text = "7|soak-1|RUNNING|r01n[01-02]|None\n8|soak-2|PENDING||launch failed requeued held\n\
                    ---\nr01n01|allocated|none\nr01n02|drained*|Prolog error\n";
        let picture = parse(text).unwrap();
        let first = &picture.jobs[&JobId::new(7).unwrap()];
        assert!(first.runs() && first.nodes == ["r01n01", "r01n02"]);
        let second = &picture.jobs[&JobId::new(8).unwrap()];
        assert!(second.is_held() && !second.is_over() && second.nodes.is_empty());
        assert!(picture.nodes["r01n02"].is_out() && !picture.nodes["r01n01"].is_out());
        assert!(parse("7|soak\n---\n").is_err() && parse("").is_err());
    }
}
