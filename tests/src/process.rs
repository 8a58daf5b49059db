//! The few things about processes that the standard library has no safe call for: fork, pidfd.
//!
//! All unsafe code of this crate is here.

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::unistd::Pid;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Exit status of a forked child that panicked.
const PANICKED: i32 = 101;

/// Forks; the child runs `work` and ends with its result as exit status. It never returns to the caller's code.
///
/// # Errors
/// The process has more than one thread (the child would have only this one, and every lock that another one
/// held), or the kernel refuses.
pub(crate) fn fork(work: impl FnOnce() -> i32) -> io::Result<Pid> {
    let threads = fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("fork in a process with {threads} threads")));
    }
    // SAFETY: the process has one thread, as was just counted, so no lock is held by a thread that the child lacks, and
    // the child may run any code.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(child),
        nix::unistd::ForkResult::Child => {
            let status = catch_unwind(AssertUnwindSafe(work)).unwrap_or(PANICKED);
            // SAFETY: ends this process at once; the exit handlers belong to the parent and must not run twice.
            unsafe { libc::_exit(status) }
        }
    }
}

/// Closes every descriptor but the first three. A program that is started to live on must not keep the pipes and locks
/// that it happens to have inherited.
///
/// Call this first of all in `main`: later this program has descriptors of its own.
pub(crate) fn close_inherited() -> io::Result<()> {
    // SAFETY: nothing in this process has opened a descriptor yet, so none is taken away from its owner.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs `work` with no signal blocked. Programs inherit the mask of the one that starts them, and a daemon that was
/// started with SIGTERM blocked cannot be stopped.
///
/// For the first process of a pid namespace no signal has an effect while it is not blocked; but a SIGCHLD in that
/// time is not seen on a signal descriptor, so look for ended children afterwards.
///
/// # Errors
/// The mask cannot be changed.
pub(crate) fn with_no_signal_blocked<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    let before = SigSet::empty().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let result = work();
    before.thread_set_mask()?;
    Ok(result)
}

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug)]
pub(crate) struct Process(OwnedFd);

impl Process {
    /// Opens the process with this pid, if it began at `start_time` (see [`start_time`]).
    ///
    /// # Errors
    /// `NotFound` when that process is gone.
    pub(crate) fn open(pid: i32, began: u64) -> io::Result<Self> {
        // SAFETY: pidfd_open takes two integers and no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            let gone = error.raw_os_error() == Some(libc::ESRCH);
            return Err(if gone { io::ErrorKind::NotFound.into() } else { error });
        }
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the kernel has just made this descriptor for us and nobody else has it.
        let process = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        // The descriptor holds on to whatever had the pid when it was opened; the time tells whether that is ours.
        if start_time(&pid.to_string()).is_ok_and(|time| time == began) {
            Ok(process)
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The process is gone, or the kernel refuses.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is a pidfd that we own; a null info is allowed and means what kill(2) sends.
        let result = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal as i32, no_info, 0)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits until the process has ended, with all processes of its pid namespace if it was the first one there.
    ///
    /// # Errors
    /// `TimedOut` after the deadline.
    pub(crate) fn wait_gone(&self, deadline: std::time::Duration) -> io::Result<()> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd as _;
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(deadline).unwrap_or(PollTimeout::MAX))? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }
}

/// When a process began, in clock ticks since boot; with the pid this is unique. `process` is a name in `/proc`.
///
/// # Errors
/// There is no such process, or `/proc` shows it in an unknown form.
pub(crate) fn start_time(process: &str) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    parse_start_time(&stat)
        .ok_or_else(|| io::Error::other(format!("/proc/{process}/stat has an unknown form")))
}

/// Field 22 of proc_pid_stat(5). The second field, the command's name, may hold spaces and parentheses.
fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

/// This process as the `/proc` that is mounted now shows it: pid and start time. Before a process of a new pid
/// namespace mounts its own `/proc`, this is what the host sees.
pub(crate) fn seen_in_proc() -> io::Result<(i32, u64)> {
    let link = fs::read_link("/proc/self")?;
    let pid = link.to_str().and_then(|text| text.parse().ok());
    let pid = pid.ok_or_else(|| io::Error::other("/proc/self is no link to a number"))?;
    Ok((pid, start_time("self")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_found_behind_a_hostile_name() {
        let stat = "12 (a) b (c 1) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 8123 1 2";
        assert_eq!(parse_start_time(stat), Some(8123));
        assert_eq!(parse_start_time("12 (x) S 1"), None);
    }

    #[test]
    fn this_process_is_found_again_and_another_start_time_is_another_process() {
        let (pid, began) = seen_in_proc().unwrap();
        assert!(Process::open(pid, began).is_ok());
        assert_eq!(Process::open(pid, began + 1).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn fork_refuses_in_a_process_with_threads() {
        // The test runner's own thread is beside this one.
        let text = fork(|| 0).unwrap_err().to_string();
        assert!(text.starts_with("fork in a process with"), "{text}");
    }
}
