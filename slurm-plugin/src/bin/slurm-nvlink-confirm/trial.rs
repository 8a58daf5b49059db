//! A trial: something that Slurm's code may not survive, done in a copy of this process.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bounds one trial, which takes a millisecond: Slurm's code could run in circles on what it was given, or wait.
const CPU_LIMIT_S: libc::time_t = 1;
const LIMIT_S: u32 = 60;
/// Exit status of a copy that came to its end. Slurm itself ends processes with 1.
const DONE: i32 = 42;
/// More places than any search may find.
const MOST: usize = 32;

/// What a copy tells its original, in memory that both see.
struct Told {
    /// How many candidates were begun.
    begun: AtomicUsize,
    /// How many of them said yes, and which.
    count: AtomicUsize,
    yes: [AtomicUsize; MOST],
}

/// The candidates to which `body` says yes. A crash, a panic or the end of the time is a no. Candidates are tried one after
/// the other in one copy of this process as long as it lives, and `before` each of them; those that seem to be it, each
/// once more in a copy of its own.
///
/// # Errors
/// The process cannot be copied.
pub(crate) fn yes_to(
    candidates: &[usize],
    before: impl Fn(),
    body: impl Fn(usize) -> bool,
) -> io::Result<Vec<usize>> {
    let told = shared()?;
    let mut likely = Vec::new();
    let mut next = 0;
    while next < candidates.len() {
        told.begun.store(0, Ordering::Relaxed);
        told.count.store(0, Ordering::Relaxed);
        in_copy(|| {
            for &candidate in &candidates[next..] {
                told.begun.fetch_add(1, Ordering::Relaxed);
                before();
                limit_cpu();
                if catch_unwind(AssertUnwindSafe(|| body(candidate))).unwrap_or(false) {
                    let place = told.count.fetch_add(1, Ordering::Relaxed);
                    if let Some(yes) = told.yes.get(place) {
                        yes.store(candidate, Ordering::Relaxed);
                    }
                }
            }
        })?;
        let count = told.count.load(Ordering::Relaxed);
        likely.extend(told.yes.iter().take(count).map(|yes| yes.load(Ordering::Relaxed)));
        // A copy that has begun nothing would begin nothing the next time either.
        next += told.begun.load(Ordering::Relaxed).max(1);
    }
    let mut sure = Vec::new();
    for candidate in likely {
        let alone = || {
            before();
            body(candidate)
        };
        if says_yes(alone)? {
            sure.push(candidate);
        }
    }
    Ok(sure)
}

/// Whether `body` says yes in a copy of its own.
fn says_yes(body: impl FnOnce() -> bool) -> io::Result<bool> {
    let told = shared()?;
    told.count.store(0, Ordering::Relaxed);
    let ended = in_copy(|| {
        limit_cpu();
        let yes = catch_unwind(AssertUnwindSafe(body)).unwrap_or(false);
        told.count.store(usize::from(yes), Ordering::Relaxed);
    })?;
    Ok(ended && told.count.load(Ordering::Relaxed) == 1)
}

/// Memory that copies of this process share with it; it stays as long as the process.
fn shared() -> io::Result<&'static Told> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh anonymous mapping.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Told>(), access, flags, -1, 0) };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed memory of this size, aligned to a page, is valid for these atomics; it is never unmapped.
    Ok(unsafe { &*memory.cast::<Told>() })
}

/// Runs `body` in a copy of this process; whether it came to its end.
fn in_copy(body: impl FnOnce()) -> io::Result<bool> {
    // SAFETY: this process has one thread, so the copy may do whatever this process may.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: no precondition; the signal's default ends the copy.
            unsafe { libc::alarm(LIMIT_S) };
            let ended = catch_unwind(AssertUnwindSafe(body)).is_ok();
            // SAFETY: ends the copy without running what belongs to the original.
            unsafe { libc::_exit(if ended { DONE } else { 0 }) }
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
            Ok(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == DONE)
        }
    }
}

/// Ends this copy when it has computed too long from now on.
fn limit_cpu() {
    let limit = libc::timeval { tv_sec: CPU_LIMIT_S, tv_usec: 0 };
    let timer = libc::itimerval { it_interval: limit, it_value: limit };
    // SAFETY: a valid time; the signal's default ends the copy.
    unsafe { libc::setitimer(libc::ITIMER_PROF, &raw const timer, std::ptr::null_mut()) };
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
        let body = |candidate: usize| {
            if candidate % 3 == 1 {
                // SAFETY: abort has no precondition; it ends the copy only.
                unsafe { libc::abort() }
            }
            candidate % 3 == 2
        };
        assert_eq!(yes_to(&[0, 1, 2, 3, 4, 5], || (), body).unwrap(), [2, 5]);
        assert_eq!(yes_to(&[], || (), body).unwrap(), []);
    }

    #[test]
    fn what_an_earlier_candidate_left_behind_counts_for_nothing() {
        let seen = std::cell::Cell::new(0);
        let body = |candidate: usize| {
            seen.set(seen.get() + candidate);
            seen.get() > 4
        };
        assert_eq!(yes_to(&[3, 4, 5], || (), body).unwrap(), [5]);
        assert_eq!(yes_to(&[3, 4, 5], || seen.set(2), body).unwrap(), [3, 4, 5]);
    }
}
