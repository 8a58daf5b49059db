//! One lock for each tray: prologs and epilogs of any job change the tray one after the other.
//!
//! After a kill of slurmd a prolog may go on as an orphan while the same job's epilog is already running
//! (facts of Slurm 26.05.5). The lock belongs to the open file, so the kernel frees it when its holder dies in any way. A
//! forked child shares it until its exec closes the file: so a prolog that is killed while it starts the daemon keeps the tray
//! locked until that daemon can be found by its arguments.
#![forbid(unsafe_code)]

use crate::deadline::{Deadline, Pauses};
use crate::secure_fs::{Dir, FsError};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io;
use std::time::Duration;
use thiserror::Error;

/// File name of the lock.
const NAME: &str = "tray.lock";

/// The lock could not be had.
#[derive(Debug, Error)]
pub enum LockError {
    /// Its file cannot be opened.
    #[error("cannot open the tray lock")]
    Open(#[source] FsError),
    /// The system refused.
    #[error("cannot lock the tray")]
    Lock(#[source] io::Error),
    /// Another prolog or epilog held it until the deadline.
    #[error("another prolog or epilog kept this tray locked for more than {seconds} s")]
    Busy {
        /// How long was waited.
        seconds: u64,
    },
}

/// The held lock; dropping it frees the tray.
#[derive(Debug)]
pub struct TrayLock(#[expect(dead_code, reason = "held for its Drop")] Flock<File>);

impl TrayLock {
    /// Takes the lock of the tray whose state lies in `dir`.
    ///
    /// # Errors
    /// [`LockError::Busy`] at the deadline; other errors at once.
    pub fn take(dir: &Dir, deadline: Deadline) -> Result<Self, LockError> {
        Self::take_named(dir, NAME, deadline)
    }

    /// Takes the lock of this name.
    ///
    /// # Errors
    /// As [`TrayLock::take`].
    pub fn take_named(dir: &Dir, name: &str, deadline: Deadline) -> Result<Self, LockError> {
        let waited = deadline.remaining().as_secs();
        let mut file = dir.append(name, 0o600).map_err(LockError::Open)?;
        let mut pauses = Pauses::new(Duration::from_millis(2), Duration::from_millis(100));
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Self(lock)),
                Err((_, Errno::EWOULDBLOCK)) if deadline.has_passed() => {
                    return Err(LockError::Busy { seconds: waited });
                }
                Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
                Err((_, other)) => return Err(LockError::Lock(other.into())),
            }
            pauses.pause(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_waits_for_the_first_and_gives_up_at_its_deadline() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::create(&temp.path().join("run"), 0o700).unwrap();
        let first = TrayLock::take(&dir, Deadline::after(Duration::ZERO)).unwrap();
        let busy = TrayLock::take(&dir, Deadline::after(Duration::from_millis(20)));
        assert!(matches!(busy, Err(LockError::Busy { seconds: 0 })));
        drop(first);
        TrayLock::take(&dir, Deadline::after(Duration::ZERO)).unwrap();
    }

    #[test]
    fn a_waiting_one_gets_it_when_it_is_freed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::create(&temp.path().join("run"), 0o700).unwrap();
        let first = TrayLock::take(&dir, Deadline::after(Duration::ZERO)).unwrap();
        std::thread::scope(|scope| {
            let waiting =
                scope.spawn(|| TrayLock::take(&dir, Deadline::after(Duration::from_secs(20))).is_ok());
            drop(first);
            assert!(waiting.join().unwrap());
        });
    }
}
