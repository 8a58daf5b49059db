//! Who owns the IMEX daemon's process: starting it apart from slurmd, knowing it again, ending it.
#![forbid(unsafe_code)]

mod direct;
mod systemd;

pub use direct::DirectOwner;
pub use systemd::{Manager, TrayOwner};

use crate::deadline::Deadline;
use crate::procfs::{ProcError, Process};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A daemon could not be started, found or ended.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// Its output file cannot be opened.
    #[error("cannot open the daemon's log file")]
    Log(#[source] crate::secure_fs::FsError),
    /// The program cannot be started.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It was gone before its start time could be read.
    #[error("{program} ended as soon as it was started")]
    EndedAtOnce {
        /// The program.
        program: PathBuf,
    },
    /// Processes cannot be looked at.
    #[error("cannot look for the daemon")]
    Find(#[from] ProcError),
    /// A signal cannot be sent.
    #[error("cannot send {signal} to the daemon, process {pid}")]
    Signal {
        /// The signal.
        signal: &'static str,
        /// The process.
        pid: i32,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The end of a process cannot be waited for.
    #[error("cannot wait for the daemon, process {pid}")]
    Wait {
        /// The process.
        pid: i32,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A start that may be under way cannot be called off.
    #[error("cannot have systemd call off the daemon's start: {words}")]
    CallOff {
        /// What systemd or the system said.
        words: String,
    },
    /// It did not end even after SIGKILL: the kernel holds it.
    #[error("the daemon, process {pid}, does not end even after SIGKILL")]
    Stuck {
        /// The process.
        pid: i32,
    },
}

/// What to start.
#[derive(Debug)]
pub struct DaemonSpec<'a> {
    /// `nvidia-imex`.
    pub program: &'a Path,
    /// The job's configuration file; unique to the job, so that the daemon is known by it.
    pub config: &'a Path,
    /// File name in the log directory for what the daemon prints.
    pub log_name: &'a str,
    /// Until when whoever starts it must have answered.
    pub deadline: Deadline,
}

/// How a daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was not running.
    Already,
    /// After SIGTERM.
    Gracefully,
    /// Only after SIGKILL: memory it had exported was not torn down in order.
    Killed,
}

/// Owner of the daemon's process.
///
/// Whoever owns it, the record holds only the process, and the daemon is found by its configuration file.
pub trait DaemonOwner {
    /// Starts the daemon, detached.
    ///
    /// # Errors
    /// [`DaemonError`] when it cannot be started.
    fn start(&mut self, spec: &DaemonSpec<'_>) -> Result<Process, DaemonError>;

    /// Daemons that were started with `config`, whether or not anybody wrote down their process.
    ///
    /// # Errors
    /// [`DaemonError::Find`].
    fn find(&self, config: &Path) -> Result<Vec<Process>, DaemonError>;

    /// Calls off a start that a killed program may have asked somebody else for, and that has not happened yet.
    ///
    /// # Errors
    /// [`DaemonError::CallOff`].
    fn call_off(&self, _log_name: &str, _deadline: Deadline) -> Result<(), DaemonError> {
        Ok(())
    }

    /// Whether exactly this process still runs.
    ///
    /// # Errors
    /// [`DaemonError::Find`].
    fn is_alive(&self, process: Process) -> Result<bool, DaemonError>;

    /// Sends SIGTERM and does not wait.
    ///
    /// # Errors
    /// [`DaemonError::Signal`].
    fn ask_to_stop(&self, process: Process) -> Result<(), DaemonError>;

    /// Ends the process: SIGTERM, a wait until `patience`, SIGKILL as the last means.
    ///
    /// # Errors
    /// [`DaemonError`]; [`DaemonError::Stuck`] when even SIGKILL does not help.
    fn stop(&mut self, process: Process, patience: Deadline) -> Result<Ended, DaemonError>;
}
