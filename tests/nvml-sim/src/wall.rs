//! The wall between Rust and the C caller.
#![forbid(unsafe_code)]

use crate::code::Code;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs one call. A panic becomes "unknown error"; the default hook has printed it on stderr by then.
///
/// Nothing shared is left half changed by a panic: the only shared state is one counter.
pub fn guard(call: impl FnOnce() -> Result<(), Code>) -> u32 {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => Code::SUCCESS.0,
        Ok(Err(code)) => code.0,
        Err(_) => Code::UNKNOWN.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_code() {
        assert_eq!(guard(|| Ok(())), 0);
        assert_eq!(guard(|| Err(Code::NOT_SUPPORTED)), 3);
        assert_eq!(guard(|| std::panic::resume_unwind(Box::new("simulated"))), 999);
    }
}
