//! A slurmd that is restarted while it is at work.
#![forbid(unsafe_code)]

use super::Cluster;
use crate::control::DaemonState;
use crate::limits;
use crate::wait_for;
use anyhow::Context as _;
use nix::sys::signal::Signal;

impl Cluster {
    /// As `systemctl restart slurmd` with the unit's KillMode=process: SIGTERM to it alone, and a new one when it is gone.
    /// One that waits for its prolog stays that long, so the supervisor, who serves everybody, is not asked to wait for
    /// it. One that does not run is started.
    ///
    /// # Errors
    /// There is no such node, or its slurmd does not end within [`limits::SLURMD_STOP`], or does not start.
    pub fn restart_slurmd(&self, tray: &str) -> anyhow::Result<()> {
        let state = || -> anyhow::Result<DaemonState> {
            let all = self.status()?;
            Ok(all.into_iter().find(|status| status.node == tray).context("no such tray")?.daemon)
        };
        // A reconfigure puts another process in the place of the one that was asked for.
        let told = wait_for(&format!("slurmd of {tray} is told to end"), limits::DAEMON_READY, || {
            let DaemonState::Running(pid) = state()? else { return Ok(Ok(None)) };
            let kill = ["kill", &format!("-{}", Signal::SIGTERM as i32), &pid.to_string()];
            Ok(self.tray(tray, &kill).map(|_| Some(pid)).map_err(|error| format!("{error:#}")))
        })?;
        if let Some(pid) = told {
            let proc = self.root_of(tray)?.join(format!("proc/{pid}"));
            wait_for(&format!("slurmd of {tray} ends"), limits::SLURMD_STOP, || {
                Ok(if proc.exists() { Err("it is still there".to_owned()) } else { Ok(()) })
            })?;
        }
        match self.start_daemon(tray) {
            // Somebody's healing was faster.
            Err(error) if !matches!(state()?, DaemonState::Running(_)) => Err(error),
            _ => Ok(()),
        }
    }
}
