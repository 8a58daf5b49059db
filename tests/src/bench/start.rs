//! One start: from slurmctld's allocation to the first word of the job's script, and the processor time of its prologs.
#![forbid(unsafe_code)]

use crate::cluster::Cluster;
use crate::limits::{self, SOON};
use crate::spec::CONTROLLER;
use crate::wait_for;
use anyhow::{Context as _, bail};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// slurmctld has written its log.
const LOGGED: Duration = Duration::from_secs(5);

/// Says when it begins, and ends when it is let.
const SCRIPT: &str = "date +%s%N > /tmp/began-$SLURM_JOB_ID
until [ -e /tmp/end-$SLURM_JOB_ID ]; do sleep 0.05; done";

/// What one start took, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    /// From the allocation until the script's first word.
    pub(super) wait: f64,
    /// Processor time of one tray's prolog with everything that it starts and waits for, the mean of the trays.
    pub(super) cpu: f64,
}

/// The slurmds of a cluster: what their children used.
pub(super) struct Slurmds(BTreeMap<String, i32>);

impl Slurmds {
    /// Those that run now; others after each reconfiguration, for which slurmd starts itself anew.
    pub(super) fn of(cluster: &Cluster) -> anyhow::Result<Self> {
        wait_for("one slurmd on each node", limits::ALL_IDLE, || {
            let mut all = BTreeMap::new();
            for node in cluster.nodes() {
                let mut found = Vec::new();
                for entry in fs::read_dir(cluster.root_of(&node)?.join("proc"))?.flatten() {
                    // Processes come and go while we look.
                    let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                    let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
                    let pid = entry.file_name().to_str().and_then(|pid| pid.parse::<i32>().ok());
                    found.extend(pid.filter(|_| program.ends_with(b"slurmd")));
                }
                match found[..] {
                    [pid] => all.insert(node, pid),
                    _ => return Ok(Err(format!("{node}: {found:?}"))),
                };
            }
            Ok(Ok(Self(all)))
        })
    }

    /// Milliseconds of processor time of all children of these trays' slurmds that have ended, together.
    fn children(&self, cluster: &Cluster, trays: &[String]) -> anyhow::Result<f64> {
        let mut ticks = 0;
        for tray in trays {
            let pid = self.0.get(tray).with_context(|| format!("no slurmd runs on {tray}"))?;
            let stat = fs::read_to_string(cluster.root_of(tray)?.join(format!("proc/{pid}/stat")))?;
            // Fields 16 and 17 of proc_pid_stat(5), counted behind the name in its parentheses.
            let (_, rest) = stat.rsplit_once(')').context("/proc/pid/stat has an unknown form")?;
            let fields = rest.split_whitespace().skip(13).take(2);
            ticks += fields.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        }
        // A tick is 10 ms on every Linux that is in use (USER_HZ, sysconf(3)).
        Ok(ticks as f64 * 10.0)
    }
}

/// Starts a job on these trays, and ends it. Nothing if slurmctld does not say when it gave the job its trays.
pub(super) fn start(cluster: &Cluster, slurmds: &Slurmds, trays: &[String]) -> anyhow::Result<Option<Start>> {
    let (count, list) = (format!("--nodes={}", trays.len()), format!("--nodelist={}", trays.join(",")));
    let before = slurmds.children(cluster, trays)?;
    let job = cluster.submit(&[count.as_str(), &list, "--exclusive", "--output=/dev/null"], SCRIPT)?;
    let first = cluster.root_of(&trays[0])?;
    let began = wait_for(&format!("job {job} begins"), SOON, || {
        let text = fs::read_to_string(first.join(format!("tmp/began-{job}"))).unwrap_or_default();
        Ok(if text.ends_with('\n') { Ok(text) } else { Err("not yet".to_owned()) })
    })?;
    cluster.wait_job(job, "all prologs over", SOON, |job| job.state == "RUNNING" && job.reason == "None")?;
    let cpu = (slurmds.children(cluster, trays)? - before) / trays.len() as f64;
    fs::write(first.join(format!("tmp/end-{job}")), "")?;
    let path = cluster.logs(CONTROLLER)?.join("slurm/slurmctld.log");
    // slurmctld may be a moment behind with what it writes.
    let what = format!("slurmctld.log tells of job {job}'s allocation");
    let allocated = wait_for(&what, LOGGED, || {
        let log = fs::read_to_string(&path)?;
        Ok(allocated(&log, &job.to_string()).ok_or_else(String::new))
    });
    let began: f64 = began.trim().parse().with_context(|| format!("date said {began:?}"))?;
    cluster.wait_ended(job, SOON)?;
    wait_for("the trays are idle", limits::ALL_IDLE, || {
        let text = cluster.ctl(&["sinfo", "--noheader", "--format=%t", "--nodes", &trays.join(",")])?;
        if ["drain", "down", "drng"].iter().any(|word| text.contains(word)) {
            bail!("a tray went out of service: {text}");
        }
        Ok(if text.lines().all(|line| line.trim() == "idle") { Ok(()) } else { Err(text) })
    })?;
    // Of a job that the backfill scheduler has started nothing is said.
    Ok(allocated.ok().map(|allocated| Start { wait: began / 1e6 - allocated, cpu }))
}

/// When slurmctld gave a job its trays, in milliseconds since 1970; its log is in UTC, as all nodes are.
fn allocated(log: &str, job: &str) -> Option<f64> {
    let word = format!("JobId={job}");
    let line = log.lines().rev().find(|line| {
        line.split_whitespace().any(|found| found == word) && line.contains("sched: Allocate ")
    })?;
    millis(line.strip_prefix('[')?.split_once(']')?.0)
}

/// `2026-11-22T09:41:49.123` as milliseconds since 1970.
fn millis(stamp: &str) -> Option<f64> {
    let (date, time) = stamp.split_once('T')?;
    let date: Vec<i64> = date.split('-').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [year, month, day] = date[..] else { return None };
    let mut parts = time.splitn(3, ':');
    let (hour, minute): (f64, f64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let second: f64 = parts.next()?.parse().ok()?;
    // Days from 1970 of a date (Hinnant, "chrono-compatible low-level date algorithms").
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let days =
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(((days as f64 * 24.0 + hour) * 60.0 + minute) * 60_000.0 + second * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slurmctlds_stamps_are_read() {
        assert_eq!(millis("1970-01-02T00:00:01.500"), Some(86_401_500.0));
        assert_eq!(millis("2026-11-22T09:41:49.123"), Some(1_795_340_509_123.0));
        assert_eq!(millis("today"), None);
    }

    #[test]
    fn the_allocation_of_a_job_is_found_and_not_that_of_another() {
        let log = "[1970-01-01T00:00:01.000] sched: Allocate JobId=7 NodeList=a #CPUs=4 Partition=trays\n\
                   [1970-01-01T00:00:02.000] sched: Allocate JobId=17 NodeList=a #CPUs=4 Partition=trays\n";
        assert_eq!(allocated(log, "7"), Some(1000.0));
        assert_eq!(allocated(log, "17"), Some(2000.0));
        assert_eq!(allocated(log, "1"), None);
    }
}
