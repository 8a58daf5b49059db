//! What the files on a tray say of a job's domain, read from outside: nothing runs on the tray for it.
#![forbid(unsafe_code)]

use crate::cluster::Cluster;
use fabric::JobId;
use serde::Deserialize;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

/// State of the IMEX manager, below a tray's root.
const STATE: &str = "run/slurm-nvlink/imex";

/// The part of a job's record that tells how far it came.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Record {
    pub(super) state: String,
    daemon: Option<serde_json::Value>,
}

impl Record {
    /// Its daemon runs, and its domain is not complete.
    pub(super) fn is_forming(&self) -> bool {
        self.state == "starting" && self.daemon.is_some()
    }
}

fn file(cluster: &Cluster, tray: &str, name: &str) -> anyhow::Result<PathBuf> {
    Ok(cluster.root_of(tray)?.join(name))
}

/// The record of a job on a tray, if there is one.
pub(super) fn record(cluster: &Cluster, tray: &str, job: JobId) -> anyhow::Result<Option<Record>> {
    let text = fs::read_to_string(file(cluster, tray, &format!("{STATE}/job-{job}.record"))?);
    // A tray that is being booted has none; a header line comes first.
    Ok(text.ok().and_then(|text| serde_json::from_str(text.split_once('\n')?.1).ok()))
}

/// Whether a tray's part of a domain is complete: its record says so, or it has made the channel, which is the last thing before,
/// and was killed between the two.
pub(super) fn is_complete(cluster: &Cluster, tray: &str, job: JobId) -> anyhow::Result<bool> {
    let channel = file(cluster, tray, "dev/nvidia-caps-imex-channels/channel0")?;
    Ok(record(cluster, tray, job)?
        .is_some_and(|record| record.state == "ready" || (record.is_forming() && channel.exists())))
}

/// The list of members that a job's daemon has on a tray, and when it was written.
pub(crate) fn members(
    cluster: &Cluster,
    tray: &str,
    job: JobId,
) -> anyhow::Result<Option<(String, SystemTime)>> {
    let file = file(cluster, tray, &format!("{STATE}/job-{job}/nodes.cfg"))?;
    let written = fs::metadata(&file).and_then(|data| data.modified());
    Ok(written.and_then(|written| Ok((fs::read_to_string(&file)?, written))).ok())
}

/// Whether a job's epilog has begun on a tray, in this boot of it.
pub(super) fn epilog_began(cluster: &Cluster, tray: &str, job: JobId) -> anyhow::Result<bool> {
    Ok(file(cluster, tray, &format!("{STATE}/job-{job}.ended"))?.exists())
}

/// What the script of a job wrote when it began: the channels that it saw. `restarts` says which of its runs.
pub(super) fn began(
    cluster: &Cluster,
    tray: &str,
    job: JobId,
    restarts: u32,
) -> anyhow::Result<Option<String>> {
    let text = fs::read_to_string(file(cluster, tray, &format!("tmp/began-{job}-{restarts}"))?);
    Ok(text.ok().and_then(|text| text.strip_suffix("end\n").map(|text| text.trim().to_owned())))
}

/// Lets the script of a job end.
pub(super) fn let_end(cluster: &Cluster, tray: &str, job: JobId, restarts: u32) -> anyhow::Result<()> {
    Ok(fs::write(file(cluster, tray, &format!("tmp/end-{job}-{restarts}"))?, "")?)
}

/// The script of every job: says that it has begun, and ends when it is let.
pub(super) const SCRIPT: &str = r#"r=${SLURM_RESTART_COUNT:-0}
{ ls /dev/nvidia-caps-imex-channels; echo end; } > /tmp/began-$SLURM_JOB_ID-$r
until [ -e /tmp/end-$SLURM_JOB_ID-$r ]; do sleep 0.1; done"#;
