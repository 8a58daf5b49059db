//! The jobs that have nodes now, out of slurmctld's list of jobs.

use super::record::Records;
use super::{api, bitmap, list};
use crate::abi::job_record_t;

/// Base states of a job (`slurm/slurm.h`, 26.05.5).
const RUNNING: u32 = 1;
const SUSPENDED: u32 = 2;

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Running<'a> {
    /// Minutes that it may run, `u32::MAX` and just below for no limit.
    pub(crate) time_limit: u32,
    /// When it reaches that limit, in seconds since 1970.
    pub(crate) end: u64,
    /// The nodes that it has, as words of a node bitmap.
    pub(crate) nodes: &'a [u64],
}

/// Looks at each of them; None where that cannot be: outside slurmctld, on a build of which the places of a job's times are not
/// known, or before any job has proven the layout.
pub(crate) fn each(records: &Records, mut look: impl FnMut(&Running<'_>)) -> Option<()> {
    if !records.jobs_are_proven() {
        return None;
    }
    // SAFETY: slurmctld's own variable of this type.
    let jobs = unsafe { api::get()?.job_list?.read() };
    if jobs.is_null() {
        return None;
    }
    let mut bitmaps_proven = false;
    // SAFETY: a list of slurmctld's, which holds its job lock while it calls the plugin: no job comes or goes.
    for job in unsafe { list::members(jobs) } {
        // SAFETY: a live job record, for the same reason, of a kind that is proven.
        if let Some(job) = unsafe { Running::read(job.cast(), records, bitmaps_proven) }? {
            bitmaps_proven = true;
            look(&job);
        }
    }
    Some(())
}

impl Running<'_> {
    /// Reads a job: `Some(None)` is one without nodes, None one that is not as the layout says. `bitmaps_proven`: whether the
    /// nodes of another job were a bitmap.
    ///
    /// # Safety
    /// `job` is a record of [`Records::job_extent`] bytes that lives unchanged as long as the result.
    unsafe fn read(
        job: *const job_record_t,
        records: &Records,
        bitmaps_proven: bool,
    ) -> Option<Option<Self>> {
        let times = records.times()?;
        // SAFETY: by the caller's word.
        let (job, state) = unsafe { records.job_and_state(job) }?;
        if !matches!(state, RUNNING | SUSPENDED) {
            return Some(None);
        }
        let nodes = match job.pointer(times.node_bitmap)? {
            0 => return Some(None),
            address if bitmaps_proven => {
                // SAFETY: the bitmap of a job's nodes, as in the others, unchanged as long as the record.
                unsafe { bitmap::words(std::ptr::with_exposed_provenance(address)) }?
            }
            // SAFETY: if it is a bitmap, it is unchanged as long as the record.
            address => unsafe { bitmap::words_at(address) }?,
        };
        Some(Some(Self { time_limit: job.u32(times.time_limit)?, end: job.u64(times.end_time)?, nodes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::layout::{TIMES_FOR_TESTS as TIMES, known_layout_for_tests};
    use crate::abi::{BITSTR_MAGIC_VALUE, JOB_MAGIC_VALUE};

    #[test]
    fn a_job_with_nodes_is_read_and_no_other() {
        let layout = known_layout_for_tests();
        let records = Records::with_times(layout, TIMES);
        let bitmap = [u64::from(BITSTR_MAGIC_VALUE), 64, 0b110];
        let rubbish = [0u64; 3];
        let read = |magic: u32, state: u32, nodes: usize, proven: bool| {
            let mut record = vec![0u8; records.job_extent()];
            let mut put =
                |offset: usize, bytes: &[u8]| record[offset..offset + bytes.len()].copy_from_slice(bytes);
            put(layout.job.magic, &magic.to_ne_bytes());
            put(TIMES.job_state, &state.to_ne_bytes());
            put(TIMES.node_bitmap, &nodes.to_ne_bytes());
            put(TIMES.end_time, &9_000u64.to_ne_bytes());
            put(TIMES.time_limit, &15u32.to_ne_bytes());
            // SAFETY: the record and the bitmaps live until the end of the test's closure and the test.
            let job = unsafe { Running::read(record.as_ptr().cast(), &records, proven) };
            job.map(|job| job.map(|job| (job.time_limit, job.end, job.nodes.to_vec())))
        };
        let address = |words: &[u64]| words.as_ptr().expose_provenance();
        let found = Some(Some((15, 9_000, vec![0b110])));
        for proven in [false, true] {
            // With the flag CONFIGURING, too.
            for state in [RUNNING, SUSPENDED, RUNNING | 1 << 14] {
                assert_eq!(read(JOB_MAGIC_VALUE, state, address(&bitmap), proven), found);
            }
            assert_eq!(read(JOB_MAGIC_VALUE, 0, address(&bitmap), proven), Some(None), "one that waits");
            assert_eq!(read(JOB_MAGIC_VALUE, 3, address(&bitmap), proven), Some(None), "one that has ended");
            assert_eq!(read(JOB_MAGIC_VALUE, RUNNING, 0, proven), Some(None));
            assert_eq!(read(JOB_MAGIC_VALUE, RUNNING, address(&rubbish), proven), None);
            assert_eq!(read(0, RUNNING, address(&bitmap), proven), None);
        }
        assert_eq!(read(JOB_MAGIC_VALUE, RUNNING, 8, false), None, "no address at all");
    }

    #[test]
    fn nobody_looks_where_the_places_are_not_known_or_not_proven() {
        let records = Records::with_times(known_layout_for_tests(), TIMES);
        assert_eq!(each(&records, |_| {}), None);
        let unknown = Records::new(known_layout_for_tests());
        let record = vec![0u8; unknown.job_extent()];
        // SAFETY: the record lives until the end of the test.
        assert_eq!(unsafe { Running::read(record.as_ptr().cast(), &unknown, true) }, None);
    }
}
