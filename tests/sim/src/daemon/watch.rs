//! Looks at the settings while the daemon runs, so that a fault can strike a running daemon.
#![forbid(unsafe_code)]

use super::peer::Millis;
use crate::imex::{self, Fault, Settings};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Milliseconds between two looks. A look is one `stat` call.
pub const PERIOD_MS: Millis = 250;

/// The settings file, and what it said last.
#[derive(Debug)]
pub struct Watch {
    dir: PathBuf,
    seen: Option<(u64, i64, i64, u64)>,
    settings: Settings,
    fault_since: Millis,
    next: Millis,
}

impl Watch {
    /// Begins with settings that were just read.
    pub fn new(dir: PathBuf, settings: Settings) -> Self {
        let mut watch = Self { dir, seen: None, settings, fault_since: 0, next: 0 };
        watch.seen = watch.mark();
        watch
    }

    /// What counts now.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// When to look next.
    pub fn next(&self) -> Millis {
        self.next.min(self.dies_at().unwrap_or(Millis::MAX))
    }

    /// Looks again if it is time. `Some(Err)` is the reason why a changed file does not count; the last good one
    /// goes on.
    pub fn look(&mut self, now: Millis) -> Option<Result<(), String>> {
        if now < self.next {
            return None;
        }
        self.next = now + PERIOD_MS;
        let mark = self.mark();
        if mark == self.seen {
            return None;
        }
        self.seen = mark;
        match Settings::load(&self.dir) {
            Ok(settings) => {
                if settings.fault != self.settings.fault {
                    self.fault_since = now;
                }
                self.settings = settings;
                Some(Ok(()))
            }
            Err(error) => Some(Err(error.to_string())),
        }
    }

    /// Whether the daemon is to die now.
    pub fn dies(&self, now: Millis) -> bool {
        self.dies_at().is_some_and(|at| at <= now)
    }

    /// Until when the ports stay closed; 0 without that fault.
    pub fn starts_at(&self) -> Millis {
        match self.settings.fault {
            Some(Fault::SlowStart { delay_ms }) => self.fault_since + delay_ms,
            _ => 0,
        }
    }

    fn dies_at(&self) -> Option<Millis> {
        match self.settings.fault {
            Some(Fault::Die { after_ms }) => Some(self.fault_since + after_ms),
            _ => None,
        }
    }

    /// Changes whenever the file is replaced.
    fn mark(&self) -> Option<(u64, i64, i64, u64)> {
        let data = fs::metadata(self.dir.join(imex::FILE)).ok()?;
        Some((data.ino(), data.mtime(), data.mtime_nsec(), data.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_counts_from_the_moment_it_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(dir.path().to_owned(), Settings::default());
        assert!(watch.look(0).is_none());
        let dying = Settings { fault: Some(Fault::Die { after_ms: 100 }), ..Settings::default() };
        dying.save(dir.path()).unwrap();
        assert!(watch.look(PERIOD_MS - 1).is_none(), "not yet time to look");
        assert_eq!(watch.look(1000), Some(Ok(())));
        assert_eq!((watch.dies(1099), watch.dies(1100), watch.next()), (false, true, 1100));
        Settings::default().save(dir.path()).unwrap();
        watch.look(2000);
        assert!(!watch.dies(9999));
    }

    #[test]
    fn a_broken_file_is_reported_once_and_the_last_good_one_counts() {
        let dir = tempfile::tempdir().unwrap();
        let good = Settings { importers: vec![3], ..Settings::default() };
        let mut watch = Watch::new(dir.path().to_owned(), good.clone());
        std::fs::write(dir.path().join(imex::FILE), "{").unwrap();
        assert!(watch.look(300).is_some_and(|seen| seen.is_err()));
        assert!(watch.look(600).is_none());
        assert_eq!(watch.settings(), &good);
    }
}
