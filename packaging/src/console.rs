//! What the runner says while something takes long.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::child::Watch;

/// The child's last line is shown when nothing was said for this long.
const SILENCE: Duration = Duration::from_secs(15);

/// Says from time to time where a long command is.
pub(crate) struct Progress {
    started: Instant,
    spoke: Instant,
    last: String,
}

impl Progress {
    /// Starts now.
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), spoke: Instant::now(), last: String::new() }
    }

    /// Says `text` now.
    pub(crate) fn say(&mut self, text: &str) {
        eprintln!("    {text}");
        self.spoke = Instant::now();
    }
}

impl Watch for Progress {
    fn line(&mut self, line: &str) {
        if !line.trim().is_empty() {
            self.last = line.trim().chars().take(90).collect();
        }
        self.quiet();
    }

    fn quiet(&mut self) {
        if self.spoke.elapsed() >= SILENCE {
            let text = format!("after {:>3} s: {}", self.started.elapsed().as_secs(), self.last);
            self.say(&text);
        }
    }
}

/// Says nothing, of what runs beside other things until this is true.
pub(crate) struct SilentUntil<'a>(pub(crate) &'a AtomicBool);

impl Watch for SilentUntil<'_> {
    fn line(&mut self, _: &str) {}

    fn has_enough(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Seconds with one decimal and unit, as every line of the runner shows them.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
