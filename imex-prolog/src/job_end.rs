//! Whether Slurm is ending the job whose prolog we are, from what slurmd has written down on this tray.
//!
//! slurmd waits for a prolog however long it takes, so a prolog that waits for its peers has to find out by itself that nobody
//! needs the domain any more: the job was cancelled, requeued, or a peer's prolog failed.
#![forbid(unsafe_code)]

use crate::cred_state::{self, revoked};
use fabric::names::JobId;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Largest file that is read, in bytes: an entry has some 50, and slurmd forgets jobs after minutes.
const LEN_MAX: u64 = 16 << 20;

/// A watch on one run of a job.
#[derive(Debug)]
pub struct JobEnd {
    file: PathBuf,
    job: JobId,
    /// When Slurm started this run, by the clock that revocations are written in.
    started: Option<u64>,
    /// What the file said when the prolog began.
    at_first: Option<u64>,
    looked_at: Option<Mark>,
    is_over: bool,
}

/// Tells one version of the file from the next, which is another file of the same name.
type Mark = (u64, i64, i64);

impl JobEnd {
    /// Looks at the file in slurmd's spool directory for the first time. To be made before anything is waited for.
    #[must_use]
    pub fn watch(spool_dir: &Path, job: JobId, started: Option<u64>) -> Self {
        let file = spool_dir.join(cred_state::FILE);
        let mut watch = Self { file, job, started, at_first: None, looked_at: None, is_over: false };
        watch.at_first = watch.read();
        watch.is_over = watch.judge(watch.at_first);
        watch
    }

    /// The job.
    #[must_use]
    pub fn job(&self) -> JobId {
        self.job
    }

    /// Whether Slurm is ending this run of the job. Once it is, it stays so.
    pub fn is_over(&mut self) -> bool {
        if !self.is_over && self.mark() != self.looked_at {
            let now = self.read();
            self.is_over = self.judge(now);
        }
        self.is_over
    }

    /// An earlier run's revocation is older than the start of this one. In the very second of the start only a change since the
    /// first look counts, as it does when the start is not known.
    fn judge(&self, revoked: Option<u64>) -> bool {
        let changed = revoked != self.at_first;
        match (revoked, self.started) {
            (None, _) => false,
            (Some(revoked), Some(started)) => revoked > started || (revoked == started && changed),
            (Some(_), None) => changed,
        }
    }

    fn mark(&self) -> Option<Mark> {
        let data = std::fs::metadata(&self.file).ok()?;
        Some((data.ino(), data.mtime(), data.mtime_nsec()))
    }

    /// A file that cannot be read or believed says nothing.
    fn read(&mut self) -> Option<u64> {
        self.looked_at = self.mark();
        let small = std::fs::metadata(&self.file).is_ok_and(|data| data.is_file() && data.len() <= LEN_MAX);
        let bytes = if small { std::fs::read(&self.file).ok()? } else { return None };
        match revoked(&bytes, self.job) {
            Ok(revoked) => revoked,
            Err(error) => {
                tracing::debug!(job = %self.job, file = %self.file.display(), "{error}");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cred_state::tests::file;

    const STARTED: u64 = 1_790_000_000;

    struct Spool {
        temp: tempfile::TempDir,
    }

    impl Spool {
        fn new(jobs: &[(u32, u64)]) -> Self {
            let spool = Self { temp: tempfile::tempdir().unwrap() };
            spool.write(jobs);
            spool
        }

        /// As slurmd does: a new file in the place of the old one.
        fn write(&self, jobs: &[(u32, u64)]) {
            let new = self.temp.path().join("cred_state.new");
            std::fs::write(&new, file(jobs)).unwrap();
            std::fs::rename(new, self.temp.path().join(cred_state::FILE)).unwrap();
        }

        fn watch(&self, started: Option<u64>) -> JobEnd {
            JobEnd::watch(self.temp.path(), JobId::new(17).unwrap(), started)
        }
    }

    #[test]
    fn a_revocation_ends_the_run_and_that_of_an_earlier_run_or_another_job_does_not() {
        let spool = Spool::new(&[(17, STARTED - 60), (18, STARTED + 5)]);
        let mut watch = spool.watch(Some(STARTED));
        assert!(!watch.is_over());
        spool.write(&[(17, STARTED - 60), (18, STARTED + 9)]);
        assert!(!watch.is_over());
        spool.write(&[(17, STARTED - 60), (17, STARTED + 3)]);
        assert!(watch.is_over());
        spool.write(&[]);
        assert!(watch.is_over(), "an end is for good");
    }

    #[test]
    fn one_that_came_before_the_first_look_counts() {
        assert!(Spool::new(&[(17, STARTED + 1)]).watch(Some(STARTED)).is_over());
    }

    #[test]
    fn in_the_second_of_the_start_or_without_a_start_a_change_counts() {
        for started in [Some(STARTED), None] {
            let spool = Spool::new(&[(17, STARTED)]);
            let mut watch = spool.watch(started);
            assert!(!watch.is_over(), "it may be that of the run before: {started:?}");
            let spool = Spool::new(&[]);
            let mut other = spool.watch(started);
            spool.write(&[(17, STARTED)]);
            assert!(other.is_over(), "{started:?}");
            assert!(!watch.is_over());
        }
    }

    #[test]
    fn no_file_and_a_file_of_another_form_say_nothing() {
        let spool = Spool::new(&[]);
        std::fs::write(spool.temp.path().join(cred_state::FILE), b"\x30\x00nonsense").unwrap();
        assert!(!spool.watch(Some(STARTED)).is_over());
        let nowhere = Path::new("/nonexistent");
        assert!(!JobEnd::watch(nowhere, JobId::new(17).unwrap(), None).is_over());
    }
}
