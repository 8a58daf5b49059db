//! Waiting for a condition, with a deadline and the last thing that was seen.
#![forbid(unsafe_code)]

use crate::limits;
use std::time::{Duration, Instant};

/// Looks at a condition until it holds, and gives what it found.
///
/// `look` answers `Ok(Ok(value))` when the condition holds, `Ok(Err(status))` when it does not yet hold (the
/// status goes into the error of a wait that ends in vain), and `Err` when waiting longer makes no sense.
///
/// # Errors
/// The deadline passed, or `look` gave up.
pub fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> anyhow::Result<Result<T, String>>,
) -> anyhow::Result<T> {
    let begin = Instant::now();
    loop {
        let status = match look()? {
            Ok(value) => return Ok(value),
            Err(status) => status,
        };
        if begin.elapsed() >= deadline {
            anyhow::bail!("{what}: not within {:.1} s; last seen: {status}", deadline.as_secs_f64());
        }
        pause(limits::POLL);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the distance between two looks at a condition that has a deadline"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Lets something that was done act for a while.
#[expect(
    clippy::disallowed_methods,
    reason = "what was done is to act for a while: this is no wait for something"
)]
pub(crate) fn act_for(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_the_first_look_that_holds_is_returned() {
        let mut looks = 0;
        let value = wait_for("three looks", Duration::from_secs(5), || {
            looks += 1;
            Ok(if looks == 3 { Ok(looks) } else { Err(format!("look {looks}")) })
        });
        assert_eq!(value.unwrap(), 3);
    }

    #[test]
    fn a_wait_in_vain_names_the_condition_and_the_last_status() {
        let result = wait_for::<()>("pigs fly", Duration::ZERO, || Ok(Err("1 pig on the ground".to_owned())));
        let text = result.unwrap_err().to_string();
        assert_eq!(text, "pigs fly: not within 0.0 s; last seen: 1 pig on the ground");
    }

    #[test]
    fn a_look_that_gives_up_ends_the_wait() {
        let result = wait_for::<()>("x", Duration::from_secs(60), || anyhow::bail!("the daemon is dead"));
        assert_eq!(result.unwrap_err().to_string(), "the daemon is dead");
    }
}
