//! How much memory slurmctld has.
#![forbid(unsafe_code)]

use crate::cluster::Cluster;
use crate::control::DaemonState;
use crate::spec::CONTROLLER;
use anyhow::{Context as _, bail};

/// slurmctld's resident memory in kilobytes (proc(5): VmRSS).
pub(super) fn resident(cluster: &Cluster) -> anyhow::Result<u64> {
    let status = cluster.status()?.into_iter().find(|status| status.node == CONTROLLER);
    let Some(DaemonState::Running(pid)) = status.map(|status| status.daemon) else {
        bail!("slurmctld does not run");
    };
    let text = cluster.ctl(&["cat", &format!("/proc/{pid}/status")])?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let number = line.trim().trim_end_matches("kB").trim();
    number.parse().with_context(|| format!("VmRSS is {number:?}"))
}
