//! Workloads: made up, or read from a file.

pub mod csv;
pub mod reference;
pub mod sacct;
pub mod swf;

use crate::job::Job;
use crate::site::TRAYS_MAX;

/// Why a workload cannot be used. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// Nothing but comments.
    #[error("no header line; it begins with the names of the columns: submit,trays,run")]
    Empty,
    /// A line that says nothing of use.
    #[error("line {line}: {what}")]
    Line {
        /// Where.
        line: usize,
        /// What is wrong, in words.
        what: String,
    },
    /// A job that cannot be replayed, in a format without lines.
    #[error("job {job}: {what}")]
    Job {
        /// Its name.
        job: String,
        /// What is wrong, in words.
        what: String,
    },
}

impl WorkloadError {
    fn at(line: usize, what: String) -> Self {
        Self::Line { line, what }
    }
}

impl Job {
    /// The job, if it can be replayed, or what is wrong with it in words. A run of 0 seconds counts as one of 1.
    fn checked(mut self) -> Result<Self, String> {
        self.run = self.run.max(1);
        self.limit = self.limit.max(1);
        if self.trays == 0 || self.trays > TRAYS_MAX {
            return Err(format!("a job of {} trays; 1 to {TRAYS_MAX} can be replayed", self.trays));
        }
        if self.segment > 0 && !self.trays.is_multiple_of(self.segment) {
            return Err(format!(
                "the segment of {} trays does not divide the job of {}",
                self.segment, self.trays
            ));
        }
        if self.run > self.limit {
            return Err(format!("it runs {} s, longer than its limit of {} s", self.run, self.limit));
        }
        Ok(self)
    }
}

/// The jobs with the first submission as the begin of time.
fn from_first(mut jobs: Vec<Job>) -> Vec<Job> {
    let first = jobs.iter().map(|job| job.submit).min().unwrap_or(0);
    for job in &mut jobs {
        job.submit -= first;
    }
    jobs
}
