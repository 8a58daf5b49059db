//! The ending mark: "the run of this job that began before me is over".
//!
//! An epilog leaves it before it waits for the tray lock. A prolog that is still waiting for its peers looks at it in
//! each round and backs out; one that comes to the lock later finds it too and begins nothing.
//!
//! What counts is which of the two was *started* first. Slurm starts a job's next prolog on a node only after its
//! epilog there has ended, so a prolog older than the mark belongs to the ended run. Restart counts cannot tell: a
//! requeue raises the count before the epilog runs (Slurm 26.05.3 src/slurmctld/job_mgr.c, `_job_requeue_op`), so the
//! epilog of run 0 may say 1.
#![forbid(unsafe_code)]

use crate::procfs::{Started, Ticks};
use crate::secure_fs::{Dir, FsError};
use fabric::names::JobId;

/// A mark is forgotten after this many ticks (an hour): no prolog lives that long.
const KEPT_TICKS: Ticks = 3600 * 100;
/// Largest mark in bytes.
const LEN_MAX: usize = 128;

/// When and in which boot the epilog was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Start of the epilog.
    pub epilog_started: Started,
    /// Its boot.
    pub boot: String,
}

impl Mark {
    /// True when it ends what a prolog that was started at `prolog_started` in `boot` has begun.
    #[must_use]
    pub fn ends(&self, prolog_started: Started, boot: &str) -> bool {
        self.boot == boot && prolog_started <= self.epilog_started
    }

    /// Leaves the mark for `job`.
    ///
    /// # Errors
    /// [`FsError`] when it cannot be written.
    pub fn leave(&self, dir: &Dir, job: JobId) -> Result<(), FsError> {
        let Started { ticks, nanos } = self.epilog_started;
        let text = format!("{ticks} {nanos} {}\n", self.boot);
        dir.write_atomic(&file_name(job), text.as_bytes(), 0o600)
    }

    /// The mark of `job`, if there is a readable one. An unreadable mark counts as none: it would otherwise stop the
    /// job's next run for good.
    ///
    /// # Errors
    /// [`FsError`] when the file is there but cannot be read.
    pub fn find(dir: &Dir, job: JobId) -> Result<Option<Self>, FsError> {
        let Some(bytes) = dir.read(&file_name(job), LEN_MAX)? else { return Ok(None) };
        Ok(parse(&bytes))
    }
}

fn parse(bytes: &[u8]) -> Option<Mark> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let [ticks, nanos, boot] = text.split(' ').collect::<Vec<_>>()[..] else { return None };
    let epilog_started = Started { ticks: ticks.parse().ok()?, nanos: nanos.parse().ok()? };
    Some(Mark { epilog_started, boot: boot.to_owned() })
}

/// Removes marks that no living prolog can still need.
///
/// # Errors
/// [`FsError`] when the directory cannot be read or a mark cannot be removed.
pub fn forget_old(dir: &Dir, now: Ticks, boot: &str) -> Result<(), FsError> {
    for name in dir.names()? {
        if !(name.starts_with("job-") && name.ends_with(".ended")) {
            continue;
        }
        let mark = dir.read(&name, LEN_MAX)?.as_deref().and_then(parse);
        let kept = mark.is_some_and(|mark| {
            mark.boot == boot && now.saturating_sub(mark.epilog_started.ticks) < KEPT_TICKS
        });
        if !kept {
            dir.remove_file(&name)?;
        }
    }
    Ok(())
}

fn file_name(job: JobId) -> String {
    format!("job-{job}.ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "7e1c0f5a-9d3b-4e52-8f01-2a6b5c4d3e2f";

    fn at(ticks: Ticks, nanos: u64) -> Started {
        Started { ticks, nanos }
    }

    fn dir() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::create(&temp.path().join("run"), 0o700).unwrap();
        (temp, dir)
    }

    #[test]
    fn it_ends_older_prologs_of_its_boot_only() {
        let mark = Mark { epilog_started: at(500, 9), boot: BOOT.to_owned() };
        assert!(mark.ends(at(499, 10), BOOT));
        assert!(mark.ends(at(500, 8), BOOT));
        assert!(!mark.ends(at(500, 10), BOOT));
        assert!(!mark.ends(at(501, 8), BOOT));
        assert!(!mark.ends(at(499, 8), "another"));
    }

    #[test]
    fn it_is_found_for_its_job_and_a_damaged_one_is_not() {
        let (_temp, dir) = dir();
        let (one, two): (JobId, JobId) = ("1".parse().unwrap(), "2".parse().unwrap());
        let mark = Mark { epilog_started: at(500, 9), boot: BOOT.to_owned() };
        mark.leave(&dir, one).unwrap();
        dir.write_atomic("job-2.ended", b"5x\n", 0o600).unwrap();
        assert_eq!(Mark::find(&dir, one).unwrap(), Some(mark));
        assert_eq!(Mark::find(&dir, two).unwrap(), None);
    }

    #[test]
    fn old_foreign_and_damaged_marks_are_forgotten_and_other_files_stay() {
        let (_temp, dir) = dir();
        let mark = |started, boot: &str, job: &str| {
            Mark { epilog_started: at(started, 0), boot: boot.to_owned() }
                .leave(&dir, job.parse().unwrap())
                .unwrap();
        };
        mark(1, BOOT, "1");
        mark(KEPT_TICKS, BOOT, "2");
        mark(KEPT_TICKS, "another", "3");
        dir.write_atomic("job-4.ended", b"", 0o600).unwrap();
        dir.write_atomic("job-5.record", b"", 0o600).unwrap();
        forget_old(&dir, KEPT_TICKS + 1, BOOT).unwrap();
        assert_eq!(dir.names().unwrap(), ["job-2.ended", "job-5.record"]);
    }
}
