#![forbid(unsafe_code)]
//! The wall between our code and Slurm's: no panic gets past it.
//!
//! The first panic is logged as an error; from then on jobs are left to Slurm's own evaluator, because a plugin that
//! was wrong once is not asked again.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::slurm_log;

static BREACHED: AtomicBool = AtomicBool::new(false);

/// Sends panic messages to Slurm's log instead of stderr.
pub(crate) fn raise() {
    panic::set_hook(Box::new(|panic| {
        slurm_log!(Error, "inner error: {panic}");
    }));
}

/// Runs `body`; None when it panicked.
pub(crate) fn guard<R>(entry: &str, body: impl FnOnce() -> R) -> Option<R> {
    let result = panic::catch_unwind(AssertUnwindSafe(body)).ok();
    if result.is_none() {
        breach(&format!("{entry} failed inside"));
    }
    result
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_caught_and_remembered() {
        assert_eq!(guard("sound", || 7), Some(7));
        assert!(!is_breached());
        assert_eq!(guard("broken", || -> u8 { panic!("on purpose") }), None);
        assert!(is_breached());
    }
}
