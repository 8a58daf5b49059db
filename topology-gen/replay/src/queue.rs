//! The waiting jobs in their order: higher priority first, then the earlier submission, then the order of the workload.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::Seconds;
use crate::job::Job;

/// The waiting jobs.
#[derive(Debug, Default)]
pub(crate) struct Queue(BTreeSet<(Reverse<i64>, Seconds, usize)>);

impl Queue {
    pub(crate) fn add(&mut self, number: usize, job: &Job) {
        self.0.insert((Reverse(job.priority), job.submit, number));
    }

    pub(crate) fn take(&mut self, number: usize, job: &Job) {
        self.0.remove(&(Reverse(job.priority), job.submit, number));
    }

    /// The jobs, first in line first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().map(|&(.., number)| number)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_goes_before_age_and_age_before_the_number() {
        let job = |submit, priority| Job {
            name: String::new(),
            submit,
            trays: 1,
            segment: 0,
            run: 1,
            limit: 1,
            priority,
        };
        let jobs = [job(5, 0), job(3, 0), job(9, 7), job(3, 0)];
        let mut queue = Queue::default();
        for (number, job) in jobs.iter().enumerate() {
            queue.add(number, job);
        }
        assert_eq!(queue.iter().collect::<Vec<_>>(), [2, 1, 3, 0]);
        queue.take(1, &jobs[1]);
        assert_eq!((queue.iter().next(), queue.len()), (Some(2), 3));
    }
}
