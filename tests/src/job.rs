//! Submitting jobs as the test user, and asking Slurm how they are.
#![forbid(unsafe_code)]

use crate::cluster::{Cluster, Target};
use crate::wait_for;
use anyhow::{Context as _, bail};
use fabric::{HostList, JobId, NodeName};
use serde::Deserialize;
use std::time::Duration;

/// A job as `scontrol show job` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// State words, for example `RUNNING`, or `RUNNING COMPLETING`.
    pub state: String,
    /// Why it is in that state; `None` as Slurm prints it when there is nothing to say.
    pub reason: String,
    /// Its nodes in Slurm's order; empty while it waits.
    pub nodes: Vec<NodeName>,
    /// How often it was requeued.
    pub restarts: u32,
    /// Exit status of the batch script.
    pub exit_code: u32,
    /// The job's extra text.
    pub extra: String,
}

#[derive(Deserialize)]
struct Answer {
    jobs: Vec<RawJob>,
}

#[derive(Deserialize)]
struct RawJob {
    job_id: u32,
    job_state: Vec<String>,
    state_reason: String,
    #[serde(default)]
    nodes: String,
    #[serde(default)]
    restart_cnt: u32,
    exit_code: ExitCode,
    #[serde(default)]
    extra: String,
}

#[derive(Deserialize)]
struct ExitCode {
    return_code: Number,
}

/// Slurm's JSON form of a number that may be unset.
#[derive(Deserialize)]
struct Number {
    number: u32,
}

impl Cluster {
    /// Submits a batch job as the test user; `options` go to sbatch, `script` is a shell command.
    ///
    /// # Errors
    /// sbatch refuses; its words are in the error.
    pub fn submit<S: AsRef<str>>(&self, options: &[S], script: &str) -> anyhow::Result<JobId> {
        let mut argv = vec!["sbatch", "--parsable"];
        argv.extend(options.iter().map(AsRef::as_ref));
        let text = format!("#!/bin/sh\n{script}\n");
        let answer = self.feed(&Target::controller().as_user(), &argv, &text)?;
        let id = answer.trim().split(';').next().unwrap_or_default();
        id.parse().with_context(|| format!("sbatch said {answer:?}"))
    }

    /// How a job is.
    ///
    /// # Errors
    /// Slurm does not know the job (any more), or cannot be asked.
    pub fn job(&self, id: JobId) -> anyhow::Result<Job> {
        let text = self.ctl(&["scontrol", "show", "job", &id.to_string(), "--json"])?;
        parse_job(&text).with_context(|| format!("job {id}"))
    }

    /// Waits until a job is as `wanted` says.
    ///
    /// # Errors
    /// It is not within the deadline.
    pub fn wait_job(
        &self,
        id: JobId,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&Job) -> bool,
    ) -> anyhow::Result<Job> {
        wait_for(&format!("job {id}: {what}"), deadline, || {
            Ok(match self.job(id) {
                Ok(job) if wanted(&job) => Ok(job),
                Ok(job) if job.has_ended() => bail!("job {id} has ended before it was so ({what}): {job:?}"),
                Ok(job) => Err(format!("{job:?}")),
                Err(error) => Err(format!("{error:#}")),
            })
        })
    }

    /// Waits until a job runs, and gives it with its nodes.
    ///
    /// # Errors
    /// It does not run within the deadline.
    pub fn wait_running(&self, id: JobId, deadline: Duration) -> anyhow::Result<Job> {
        self.wait_job(id, "runs", deadline, |job| job.state == "RUNNING")
    }

    /// Waits until a job has ended in some way and left its nodes.
    ///
    /// # Errors
    /// It has not within the deadline.
    pub fn wait_ended(&self, id: JobId, deadline: Duration) -> anyhow::Result<Job> {
        self.wait_job(id, "has ended", deadline, Job::has_ended)
    }

    /// Cancels a job.
    ///
    /// # Errors
    /// Slurm refuses.
    pub fn cancel(&self, id: JobId) -> anyhow::Result<()> {
        self.ctl(&["scancel", &id.to_string()]).map(drop)
    }
}

impl Job {
    /// Whether it has ended in some way and left its nodes.
    pub fn has_ended(&self) -> bool {
        const ENDED: [&str; 8] = [
            "COMPLETED",
            "CANCELLED",
            "FAILED",
            "TIMEOUT",
            "NODE_FAIL",
            "PREEMPTED",
            "BOOT_FAIL",
            "DEADLINE",
        ];
        ENDED.contains(&self.state.as_str())
    }
}

/// Reads the JSON of `scontrol show job <id> --json`.
fn parse_job(text: &str) -> anyhow::Result<Job> {
    let answer: Answer = serde_json::from_str(text).context("scontrol's JSON has an unknown form")?;
    let [raw] =
        <[RawJob; 1]>::try_from(answer.jobs).or_else(|jobs| bail!("{} jobs in the answer", jobs.len()))?;
    Ok(Job {
        id: JobId::new(raw.job_id)?,
        state: raw.job_state.join(" "),
        reason: raw.state_reason,
        nodes: HostList::parse(&raw.nodes)?.into_iter().collect(),
        restarts: raw.restart_cnt,
        exit_code: raw.exit_code.return_code.number,
        extra: raw.extra,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_read_from_slurms_json() {
        let text = r#"{"jobs":[{"job_id":7,"job_state":["RUNNING"],"state_reason":"None","nodes":"r01n[02-03]",
            "restart_cnt":1,"exit_code":{"status":["SUCCESS"],"return_code":{"set":true,"infinite":false,"number":0}},
            "extra":"","unknown":[]}]}"#;
        let job = parse_job(text).unwrap();
        assert_eq!((job.id.get(), job.restarts, job.has_ended()), (7, 1, false));
        assert_eq!(job.nodes.iter().map(NodeName::as_str).collect::<Vec<_>>(), ["r01n02", "r01n03"]);
    }

    #[test]
    fn no_job_in_the_answer_is_an_error() {
        assert_eq!(parse_job(r#"{"jobs":[]}"#).unwrap_err().to_string(), "0 jobs in the answer");
    }
}
