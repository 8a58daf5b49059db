//! Whether a job waits, by slurmctld's own record of it.

use super::api;
use super::record::Records;
use crate::abi::job_record_t;

/// The base state of a job that waits (`slurm/slurm.h`, 26.05.5).
const PENDING: u32 = 0;
/// The priority of a job that is held.
const HELD: u32 = 0;

/// Whether a job waits for its turn: it has neither started nor ended and is not held. None where that cannot be seen: outside
/// slurmctld, on a build of which the places of a job's times are not known, or before any job has proven the layout.
pub(crate) fn waits(job: u32, records: &Records) -> Option<bool> {
    if !records.jobs_are_proven() || records.times().is_none() {
        return None;
    }
    let find = api::get()?.find_job_record?;
    // SAFETY: slurmctld's own function; slurmctld holds its job lock while it calls the plugin.
    let record = unsafe { find(job) };
    if record.is_null() {
        return Some(false);
    }
    // SAFETY: a live job record, which does not change for the same reason, of a kind that is proven.
    unsafe { is_waiting(record, job, records) }
}

/// What a job's record says; None when it is not as the layout says.
///
/// # Safety
/// `record` is a record of [`Records::job_extent`] bytes that lives unchanged during the call.
unsafe fn is_waiting(record: *const job_record_t, job: u32, records: &Records) -> Option<bool> {
    // SAFETY: by the caller's word.
    let (record, state) = unsafe { records.job_and_state(record) }?;
    if record.u32(records.layout().job.job_id)? != job {
        return None;
    }
    Some(state == PENDING && record.u32(records.times()?.priority)? != HELD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::JOB_MAGIC_VALUE;
    use crate::abi::layout::{TIMES_FOR_TESTS as TIMES, known_layout_for_tests};

    #[test]
    fn a_job_waits_that_is_pending_and_not_held() {
        let layout = known_layout_for_tests();
        let records = Records::with_times(layout, TIMES);
        let read = |magic: u32, id: u32, state: u32, priority: u32| {
            let mut record = vec![0u8; records.job_extent()];
            let mut put =
                |offset: usize, value: u32| record[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
            put(layout.job.magic, magic);
            put(layout.job.job_id, id);
            put(TIMES.job_state, state);
            put(TIMES.priority, priority);
            // SAFETY: the record lives until the end of the closure.
            unsafe { is_waiting(record.as_ptr().cast(), 7, &records) }
        };
        // With the flag REQUEUE_HOLD or the like it is as its base state says.
        let states = [PENDING, PENDING | 1 << 10, 1, 2, 3, 4];
        let waits = states.map(|state| read(JOB_MAGIC_VALUE, 7, state, 100));
        assert_eq!(waits, [Some(true), Some(true), Some(false), Some(false), Some(false), Some(false)]);
        assert_eq!(read(JOB_MAGIC_VALUE, 7, PENDING, HELD), Some(false));
        assert_eq!(read(JOB_MAGIC_VALUE, 8, PENDING, 100), None, "another job's record");
        assert_eq!(read(0, 7, PENDING, 100), None);
    }

    #[test]
    fn nobody_looks_where_the_places_are_not_known_or_not_proven() {
        assert_eq!(waits(7, &Records::with_times(known_layout_for_tests(), TIMES)), None);
        let unknown = Records::new(known_layout_for_tests());
        unknown.prove_jobs();
        assert_eq!(waits(7, &unknown), None);
    }
}
