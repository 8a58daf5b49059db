//! One time budget per run, and the only pauses.
//!
//! A prolog that waits without a bound stalls its job; one that outlives slurmd's `PrologTimeout` is killed with
//! 10 ms of warning and its tray is drained. So every wait takes a [`Deadline`].
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// A point in time after which nobody waits any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// `span` from now.
    #[must_use]
    pub fn after(span: Duration) -> Self {
        let now = Instant::now();
        // A span beyond the clock's range cannot come from the settings, whose seconds are bounded.
        Self(now.checked_add(span).unwrap_or(now))
    }

    /// The earlier of the two.
    #[must_use]
    pub fn or_earlier(self, other: Self) -> Self {
        self.min(other)
    }

    /// `span` from now, but not later than this one.
    #[must_use]
    pub fn within(self, span: Duration) -> Self {
        self.or_earlier(Self::after(span))
    }

    /// What is left; zero when it has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// True when nothing is left.
    #[must_use]
    pub fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }
}

/// Pauses between two looks at a condition: each longer than the one before, up to a bound.
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    /// Starts with `first`; each further pause is half as long again, at most `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first.min(longest), longest }
    }

    /// The length of the next pause.
    pub fn next_length(&mut self) -> Duration {
        let length = self.next;
        self.next = length.saturating_add(length / 2).min(self.longest);
        length
    }

    /// Pauses, never beyond `deadline`.
    pub fn pause(&mut self, deadline: Deadline) {
        let length = self.next_length().min(deadline.remaining());
        wait(length);
    }
}

/// Blocks this thread for `length`.
#[expect(
    clippy::disallowed_methods,
    reason = "the one pause between two looks at a condition with a deadline"
)]
fn wait(length: Duration) {
    std::thread::sleep(length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_stay_there() {
        let mut pauses = Pauses::new(Duration::from_millis(20), Duration::from_millis(70));
        let lengths: Vec<u128> = (0..6).map(|_| pauses.next_length().as_millis()).collect();
        assert_eq!(lengths, [20, 30, 45, 67, 70, 70]);
    }

    #[test]
    fn a_passed_deadline_has_nothing_left_and_no_pause_is_made() {
        let deadline = Deadline::after(Duration::ZERO);
        assert!(deadline.has_passed());
        let begin = Instant::now();
        Pauses::new(Duration::from_secs(60), Duration::from_secs(60)).pause(deadline);
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_part_never_outlives_the_whole() {
        let whole = Deadline::after(Duration::from_millis(5));
        assert_eq!(whole.within(Duration::from_secs(9)), whole);
        assert!(
            Deadline::after(Duration::from_secs(60)).within(Duration::from_millis(1))
                < Deadline::after(Duration::from_secs(9))
        );
    }
}
