#![forbid(unsafe_code)]
//! The wall between our code and Slurm's: no panic gets past it.
//!
//! A panic in an entry point is caught, said once for that entry point, and Slurm's own plugin answers the call. From the
//! first one on jobs are left to Slurm's own evaluator, because a plugin that was wrong once is not asked again.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::slurm_log;

#[cfg(feature = "planted-faults")]
mod planted;

static BREACHED: AtomicBool = AtomicBool::new(false);
/// Entry points whose failure was said.
static SAID: Mutex<Vec<&str>> = Mutex::new(Vec::new());
/// The words of the last panic.
static WORDS: Mutex<String> = Mutex::new(String::new());

/// Keeps panic messages for the log line instead of writing them to stderr.
pub(crate) fn raise() {
    panic::set_hook(Box::new(|panic| *lock(&WORDS) = panic.to_string().replace('\n', " ")));
}

/// Runs `body` for the entry point of this name; None when it panicked.
pub(crate) fn guard<R>(entry: &'static str, body: impl FnOnce() -> R) -> Option<R> {
    let behind_the_wall = || {
        #[cfg(feature = "planted-faults")]
        planted::strike(entry);
        body()
    };
    let result = again(behind_the_wall);
    if result.is_none() {
        BREACHED.store(true, Ordering::Relaxed);
        let mut said = lock(&SAID);
        if !said.contains(&entry) {
            said.push(entry);
            slurm_log!(
                Error,
                "{entry} failed inside ({}); Slurm's own plugin answers, and jobs are left to its evaluator from now on",
                lock(&WORDS)
            );
        }
    }
    result
}

/// Runs `body` once more, when nothing of ours is asked any longer; None when it panicked again.
pub(crate) fn again<R>(body: impl FnOnce() -> R) -> Option<R> {
    panic::catch_unwind(AssertUnwindSafe(body)).ok()
}

/// Leaves jobs to Slurm's own evaluator from now on, and says so once.
pub(crate) fn breach(why: &str) {
    if !BREACHED.swap(true, Ordering::Relaxed) {
        slurm_log!(Error, "{why}; jobs are left to Slurm's own evaluator from now on");
    }
}

/// Whether jobs are to be left to Slurm's own evaluator.
pub(crate) fn is_breached() -> bool {
    BREACHED.load(Ordering::Relaxed)
}

/// A panic while one of these is held leaves them whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_caught_and_remembered() {
        assert_eq!(guard("sound", || 7), Some(7));
        assert_eq!(guard("broken", || -> u8 { panic!("on purpose") }), None);
        assert!(is_breached());
        assert!(lock(&SAID).contains(&"broken") && !lock(&SAID).contains(&"sound"));
        assert_eq!(again(|| -> u8 { panic!("on purpose") }), None);
    }
}
