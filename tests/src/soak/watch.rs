//! What Slurm says of all jobs and nodes, asked by one thread for all who wait: dozens of jobs that each asked for
//! themselves would keep slurmctld and this machine busy with questions.
#![forbid(unsafe_code)]

use crate::cluster::{Cluster, Target};
use anyhow::{Context as _, bail};
use fabric::JobId;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Distance between two questions.
const DISTANCE: Duration = Duration::from_millis(250);

/// Both questions in one command.
const ASK: &str = r#"squeue --all --states=all --noheader -O "JobID:12,State:16,RestartCnt:8,Reason:64" &&
echo --- && sinfo --noheader --Node --format="%N|%T|%E""#;

/// A job as Slurm tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobLine {
    pub(super) state: String,
    pub(super) restarts: u32,
    pub(super) reason: String,
}

impl JobLine {
    /// Whether it has ended in some way, or waits to be released by somebody.
    pub(super) fn is_over(&self) -> bool {
        let going = [
            "PENDING",
            "RUNNING",
            "CONFIGURING",
            "COMPLETING",
            "REQUEUED",
            "SUSPENDED",
            "STOPPED",
            "SIGNALING",
        ];
        !going.contains(&self.state.as_str()) || self.is_held()
    }

    /// Waits for trays.
    pub(super) fn is_pending(&self) -> bool {
        self.state == "PENDING"
    }

    /// Requeued after a prolog's failure, and held.
    pub(super) fn is_held(&self) -> bool {
        self.state == "PENDING" && (self.reason.contains("held") || self.reason.starts_with("JobHeld"))
    }

    /// Waits to be started, or has been started, and nothing of an earlier run is under way.
    pub(super) fn may_start_again(&self) -> bool {
        ["PENDING", "RUNNING"].contains(&self.state.as_str()) && !self.is_held()
    }

    /// Runs, and the prologs of all its trays are over.
    pub(super) fn runs(&self) -> bool {
        self.state == "RUNNING" && self.reason == "None"
    }
}

/// A node as Slurm tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeLine {
    /// In long words, with `*` when it does not answer.
    pub(super) state: String,
    pub(super) reason: String,
}

impl NodeLine {
    /// Free for jobs.
    pub(super) fn is_idle(&self) -> bool {
        self.state == "idle"
    }

    /// Takes no more jobs.
    pub(super) fn is_out(&self) -> bool {
        ["drain", "down", "fail"].iter().any(|word| self.state.starts_with(word))
    }

    /// Neither runs a job nor ends one.
    pub(super) fn is_quiet(&self) -> bool {
        let state = self.state.trim_end_matches(['*', '$', '@', '#', '!', '%', '~', '+', '-', '^']);
        ["idle", "drained", "down"].contains(&state)
    }
}

/// One answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Picture {
    pub(super) jobs: BTreeMap<JobId, JobLine>,
    pub(super) nodes: BTreeMap<String, NodeLine>,
    serial: u64,
}

/// The latest answer, and who waits for the next.
pub(super) struct Watch {
    picture: Mutex<Picture>,
    new: Condvar,
    ended: Mutex<bool>,
    end: Condvar,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { picture: Mutex::default(), new: Condvar::new(), ended: Mutex::new(false), end: Condvar::new() }
    }

    /// Asks until [`Watch::end`].
    pub(super) fn run(&self, cluster: &Cluster) {
        let mut serial = 0;
        loop {
            // slurmctld may be busy, or restarting: then the old answer stays.
            if let Ok(text) = cluster.succeed(&Target::controller(), &["sh", "-c", ASK])
                && let Ok(mut picture) = parse(&text)
            {
                serial += 1;
                picture.serial = serial;
                *self.picture.lock().unwrap_or_else(PoisonError::into_inner) = picture;
                self.new.notify_all();
            }
            let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.end.wait_timeout_while(ended, DISTANCE, |ended| !*ended);
            if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                return;
            }
        }
    }

    /// A job as it was in the latest answer.
    pub(super) fn now(&self, job: JobId) -> Option<JobLine> {
        self.picture.lock().unwrap_or_else(PoisonError::into_inner).jobs.get(&job).cloned()
    }

    /// Whether one of these trays was drained, in the latest answer.
    pub(super) fn is_drained(&self, trays: &[String]) -> bool {
        let picture = self.picture.lock().unwrap_or_else(PoisonError::into_inner);
        trays.iter().any(|tray| picture.nodes.get(tray).is_some_and(|node| node.state.starts_with("drain")))
    }

    /// Lets [`Watch::run`] return.
    pub(super) fn end(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.end.notify_all();
    }

    /// Waits for an answer that was given from now on and is as wanted; `look` says what is still missing.
    pub(super) fn wait<T>(
        &self,
        what: &str,
        deadline: Duration,
        mut look: impl FnMut(&Picture) -> Result<T, String>,
    ) -> anyhow::Result<T> {
        let end = Instant::now() + deadline;
        let mut picture = self.picture.lock().unwrap_or_else(PoisonError::into_inner);
        // The question that is under way may have been asked before the caller did something.
        let fresh = picture.serial + 2;
        loop {
            let missing = match (picture.serial >= fresh).then(|| look(&picture)) {
                Some(Ok(value)) => return Ok(value),
                Some(Err(missing)) => missing,
                None => "no answer yet".to_owned(),
            };
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{what}: not within {} s; {missing}", deadline.as_secs());
            }
            picture = self.new.wait_timeout(picture, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn parse(text: &str) -> anyhow::Result<Picture> {
    let (jobs, nodes) = text.split_once("---\n").context("no line between jobs and nodes")?;
    let mut picture = Picture::default();
    for line in jobs.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [id, state, restarts, reason @ ..] = words.as_slice() else { bail!("squeue said {line:?}") };
        let line = JobLine {
            state: (*state).to_owned(),
            restarts: restarts.parse().with_context(|| format!("squeue said {line:?}"))?,
            reason: reason.join(" "),
        };
        picture.jobs.insert(id.parse().with_context(|| format!("squeue said {id:?}"))?, line);
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
        let text = "7           RUNNING         0       None\n8           PENDING         1       launch failed requeued held\n\
                    ---\nr01n01|idle|none\nr01n02|drained*|Prolog error\n";
        let picture = parse(text).unwrap();
        let job = |id: u32| picture.jobs[&JobId::new(id).unwrap()].clone();
        assert!(job(7).runs() && !job(7).is_over());
        assert!(job(8).is_held() && job(8).is_over() && job(8).restarts == 1);
        assert!(picture.nodes["r01n01"].is_idle());
        let out = &picture.nodes["r01n02"];
        assert!(out.is_out() && out.is_quiet() && out.reason == "Prolog error");
        assert!(parse("nothing").is_err());
    }

    #[test]
    fn a_node_that_still_ends_a_job_is_not_quiet() {
        let node = |state: &str| NodeLine { state: state.to_owned(), reason: String::new() };
        assert!(
            !node("completing").is_quiet() && !node("draining").is_quiet() && !node("allocated").is_quiet()
        );
        assert!(node("draining").is_out() && node("down*").is_quiet());
    }
}
