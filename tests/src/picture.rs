//! What Slurm says of all jobs and nodes, in one question.
#![forbid(unsafe_code)]

use crate::cluster::{Cluster, Target};
use anyhow::{Context as _, bail};
use fabric::{HostList, JobId};
use std::collections::BTreeMap;

/// Both questions in one command. Fields of `squeue` have widths; the list of nodes is longer than any that occurs.
const ASK: &str = r#"squeue --all --array --states=all --noheader \
--Format="JobID:12|,Name:40|,State:16|,RestartCnt:8|,NodeList:400|,Reason:64" &&
echo --- && sinfo --noheader --Node --format="%N|%T|%E""#;

/// A job, a task of an array or a component of a heterogeneous job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobLine {
    /// The name under which it was submitted.
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) restarts: u32,
    pub(crate) nodes: Vec<String>,
    pub(crate) reason: String,
}

impl JobLine {
    /// Has ended in some way and left its nodes.
    pub(crate) fn has_ended(&self) -> bool {
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

    /// Waits for trays, or to be released.
    pub(crate) fn is_pending(&self) -> bool {
        self.state == "PENDING"
    }

    /// Taken back after a prolog's failure, and held until somebody releases it.
    pub(crate) fn is_held(&self) -> bool {
        self.state == "PENDING" && (self.reason.contains("held") || self.reason.starts_with("JobHeld"))
    }

    /// Has ended in some way, or waits to be released by somebody.
    pub(crate) fn is_over(&self) -> bool {
        self.has_ended() || self.is_held()
    }

    /// Waits to be started, or has been started, and nothing of an earlier run is under way.
    pub(crate) fn may_start_again(&self) -> bool {
        (self.is_pending() || self.is_running()) && !self.is_held()
    }

    /// Has its nodes; prologs may be under way.
    pub(crate) fn is_running(&self) -> bool {
        self.state == "RUNNING"
    }

    /// Runs, and the prologs of all its trays are over.
    pub(crate) fn has_begun(&self) -> bool {
        self.is_running() && self.reason == "None"
    }
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeLine {
    /// In long words, with `*` when it does not answer.
    pub(crate) state: String,
    pub(crate) reason: String,
}

impl NodeLine {
    /// Takes no more jobs.
    pub(crate) fn is_out(&self) -> bool {
        ["drain", "down", "fail"].iter().any(|word| self.state.starts_with(word))
    }

    /// Free for jobs.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == "idle"
    }

    /// Neither runs a job nor ends one.
    pub(crate) fn is_quiet(&self) -> bool {
        let state = self.state.trim_end_matches(['*', '$', '@', '#', '!', '%', '~', '+', '-', '^']);
        ["idle", "drained", "down"].contains(&state)
    }
}

/// One answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) jobs: BTreeMap<JobId, JobLine>,
    pub(crate) nodes: BTreeMap<String, NodeLine>,
}

/// Asks.
///
/// # Errors
/// slurmctld does not answer, or in unknown words.
pub(crate) fn take(cluster: &Cluster) -> anyhow::Result<Picture> {
    parse(&cluster.succeed(&Target::controller(), &["sh", "-c", ASK])?)
}

fn parse(text: &str) -> anyhow::Result<Picture> {
    let (jobs, nodes) = text.split_once("---\n").context("no line between jobs and nodes")?;
    let mut picture = Picture::default();
    for line in jobs.lines() {
        let parts: Vec<&str> = line.splitn(6, '|').map(str::trim).collect();
        let [id, name, state, restarts, nodes, reason] = parts[..] else { bail!("squeue said {line:?}") };
        let unknown = || format!("squeue said {line:?}");
        let nodes = HostList::parse(nodes).with_context(unknown)?;
        let job = JobLine {
            name: name.to_owned(),
            state: state.to_owned(),
            restarts: restarts.parse().with_context(unknown)?,
            nodes: nodes.iter().map(ToString::to_string).collect(),
            reason: reason.to_owned(),
        };
        picture.jobs.insert(id.parse().with_context(unknown)?, job);
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
        let text = "7  |soak-1 |RUNNING |0 |r01n[01-02] |None  \n8  |soak-2 |PENDING |1 | |launch failed requeued held \n\
                    ---\nr01n01|allocated|none\nr01n02|drained*|Prolog error\n";
        let picture = parse(text).unwrap();
        let first = &picture.jobs[&JobId::new(7).unwrap()];
        assert!(first.has_begun() && first.nodes == ["r01n01", "r01n02"]);
        let second = &picture.jobs[&JobId::new(8).unwrap()];
        assert!(second.is_held() && !second.has_ended() && second.restarts == 1 && second.nodes.is_empty());
        assert!(picture.nodes["r01n02"].is_out() && !picture.nodes["r01n01"].is_out());
        assert!(parse("7|soak\n---\n").is_err() && parse("").is_err());
    }
}
