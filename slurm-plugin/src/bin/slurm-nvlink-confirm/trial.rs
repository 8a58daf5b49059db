//! A trial: something that Slurm's code may not survive, done in a copy of this process.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Bounds one trial, which takes a millisecond: Slurm's code could run in circles on what it was given, or wait.
const CPU_LIMIT_S: libc::time_t = 1;
const LIMIT_S: u32 = 60;
/// Exit status of a copy that saw what it looked for. Slurm itself ends processes with 1.
const SEEN: i32 = 42;

/// Whether `body` says yes. A crash, a panic or the end of the time is a no.
///
/// # Errors
/// The process cannot be copied.
pub(crate) fn says_yes(body: impl FnOnce() -> bool) -> io::Result<bool> {
    // SAFETY: this process has one thread, so the copy may do whatever this process may.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let limit = libc::timeval { tv_sec: CPU_LIMIT_S, tv_usec: 0 };
            let timer = libc::itimerval { it_interval: limit, it_value: limit };
            // SAFETY: a valid time; the signal's default ends the copy.
            unsafe { libc::setitimer(libc::ITIMER_PROF, &raw const timer, std::ptr::null_mut()) };
            // SAFETY: no precondition; as above.
            unsafe { libc::alarm(LIMIT_S) };
            let seen = catch_unwind(AssertUnwindSafe(body)).unwrap_or(false);
            // SAFETY: ends the copy without running what belongs to the original.
            unsafe { libc::_exit(if seen { SEEN } else { 0 }) }
        }
        child => {
            let mut status = 0;
            // SAFETY: our own child, and a place for its status.
            while unsafe { libc::waitpid(child, &raw mut status, 0) } == -1 {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            Ok(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == SEEN)
        }
    }
}

/// Keeps crashes of the copies quiet: no core files.
pub(crate) fn without_cores() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid limit; a failure leaves core files, nothing else.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_is_a_no() {
        without_cores();
        assert!(says_yes(|| true).unwrap());
        assert!(!says_yes(|| false).unwrap());
        // SAFETY: abort has no precondition; it ends the copy only.
        assert!(!says_yes(|| unsafe { libc::abort() }).unwrap());
    }
}
