//! Goes into the background: the only unsafe code of this crate.
#![allow(unsafe_code, reason = "fork has no safe form")]

use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};
use std::fs::OpenOptions;
use std::io;

/// Which of the two processes returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that was started; it has nothing left to do but to exit 0.
    Parent,
    /// The daemon.
    Daemon,
}

/// Forks. The daemon has its own session, `/` as its directory and `/dev/null` in place of stdin and stdout, and
/// of stderr unless that is the log.
///
/// Call it while the process has one thread.
///
/// # Errors
/// The system refuses the fork, or `/dev/null` cannot be opened.
pub fn into_background(keep_stderr: bool) -> io::Result<Side> {
    // SAFETY: the program has started no thread before this call (`daemon::main` is the only caller), so no lock
    // can be left held in the child.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => Ok(Side::Parent),
        ForkResult::Child => {
            setsid()?;
            std::env::set_current_dir("/")?;
            let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
            dup2_stdin(&null)?;
            dup2_stdout(&null)?;
            if !keep_stderr {
                dup2_stderr(&null)?;
            }
            Ok(Side::Daemon)
        }
    }
}
