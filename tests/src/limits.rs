//! Every bound of the harness in one place.
#![forbid(unsafe_code)]

use std::time::Duration;

/// What is done in seconds on an idle machine: a job begins, or is over and its trays are clean; a line is in a log.
pub const SOON: Duration = Duration::from_secs(90);
/// The supervisor has made all namespaces and all daemons said that they are ready.
pub const BOOT: Duration = Duration::from_secs(120);
/// One Slurm daemon says that it is ready. Long, because a slurmd that misses slurmctld tries again after 10 s.
pub const DAEMON_READY: Duration = Duration::from_secs(40);
/// One Slurm daemon ends after a signal.
pub const DAEMON_STOP: Duration = Duration::from_secs(20);
/// All nodes are idle.
pub const ALL_IDLE: Duration = Duration::from_secs(90);
/// A new topology is in force after `scontrol reconfigure`.
pub const TOPOLOGY: Duration = Duration::from_secs(60);
/// A command that is not expected to take long, inside a node.
pub const COMMAND: Duration = Duration::from_secs(60);
/// The supervisor answers one request on its socket.
pub const CONTROL: Duration = Duration::from_secs(60);
/// Everything is gone after the supervisor was killed.
pub const TEARDOWN: Duration = Duration::from_secs(60);
/// A slurmd that waits for a prolog ends with it at the latest.
pub const SLURMD_STOP: Duration = Duration::from_secs(60);
/// A tray that reboots is away for so long: slurmctld asks after the jobs of a tray that has booted only if they began
/// this long before (Slurm 26.05 src/slurmctld/job_mgr.c, `_purge_missing_jobs`), and no real one boots faster.
pub const SWITCHED_OFF: Duration = Duration::from_secs(22);
/// Distance between two looks at a condition.
pub const POLL: Duration = Duration::from_millis(20);
/// Lines of each log that a failure shows.
pub const TAIL_LINES: usize = 25;
/// Racks of a profile: the third byte of a tray's address.
pub const RACKS: usize = 200;
/// Trays of a rack: the last byte of a tray's address.
pub const TRAYS_PER_RACK: u32 = 250;
/// GPUs of a tray.
pub const GPUS_PER_TRAY: u32 = 64;
/// Nodes of a cluster: a Linux bridge has at most 1024 ports, one is the controller's.
pub const NODES: usize = 1000;
