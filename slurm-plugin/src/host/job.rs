//! What the placement needs to know of a job, read through the confirmed layout.

use std::ffi::{c_char, c_void};

use super::bitmap;
use super::memory;
use super::record;
use crate::abi::layout::Layout;
use crate::abi::{DETAILS_MAGIC_VALUE, JOB_MAGIC_VALUE, bitstr_t, job_record_t};

/// Bits of `job_record_t.bit_flags`, equal in 25.11 to 26.11 (`slurm/slurm.h`).
const BACKFILL_TEST: u64 = 1 << 3;
const SPREAD_JOB: u64 = 1 << 8;
const SPREAD_SEGMENTS: u64 = 1 << 43;
const CONSOLIDATE_SEGMENTS: u64 = 1 << 44;

/// What makes a job one for Slurm's own evaluator alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Odd {
    /// `--distribution=arbitrary`, which block placement refuses.
    Arbitrary,
    /// `--contiguous`, `--spread-job`: ignored by block placement, but not by the flat evaluator.
    OtherOrder,
    /// Hierarchical resources may be bound to blocks.
    HierarchicalResources,
    /// One IMEX channel per segment: stock records the segments.
    ChannelPerSegment,
}

/// The part of a job that decides where it may lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    /// Job id, for log lines.
    pub(crate) id: u32,
    /// CPUs that the whole job needs at least.
    pub(crate) min_cpus: u32,
    /// `--segment`, 0 when not given.
    pub(crate) segment: u16,
    /// `--spread-segments`.
    pub(crate) spread: bool,
    /// `--consolidate-segments`.
    pub(crate) consolidate: bool,
    /// The backfill scheduler asks when the job could run, not only whether it can now.
    pub(crate) backfill_test: bool,
    /// Nodes that the job names, as words of a node bitmap.
    pub(crate) required: Option<&'a [u64]>,
    /// Why the job is left to stock, if it is.
    pub(crate) odd: Option<Odd>,
}

impl Job<'_> {
    /// Reads a job; None when the records do not look like what the layout promises.
    ///
    /// # Safety
    /// `job` is NULL or a job record that lives unchanged as long as the result, of the build that `layout` belongs to.
    pub(crate) unsafe fn read(job: *const job_record_t, layout: &Layout) -> Option<Self> {
        // SAFETY: a job record is far longer than the offset of its magic.
        if !unsafe { record::has_magic(job, layout.job.magic, JOB_MAGIC_VALUE) } {
            return None;
        }
        // SAFETY: the layout places a pointer there, on a record with the right magic.
        let details: *const c_void = unsafe { record::read(job, layout.job.details) };
        // SAFETY: `details` is NULL or the job's details, which start with their magic.
        if !unsafe { record::has_magic(details, layout.details.magic, DETAILS_MAGIC_VALUE) } {
            return None;
        }
        // SAFETY: the layout places these members there; every bit pattern is valid for integers and raw pointers.
        let flags: u64 = unsafe { record::read(job, layout.job.bit_flags) };
        // SAFETY: as above.
        let id: u32 = unsafe { record::read(job, layout.job.job_id) };
        // SAFETY: as above.
        let hres: *const c_void = unsafe { record::read(job, layout.job.hres_select) };
        // SAFETY: as above.
        let network: *const c_char = unsafe { record::read(job, layout.job.network) };
        // SAFETY: as above.
        let arbitrary: *const c_void = unsafe { record::read(details, layout.details.arbitrary_tpn) };
        // SAFETY: as above.
        let contiguous: u16 = unsafe { record::read(details, layout.details.contiguous) };
        // SAFETY: as above.
        let min_cpus: u32 = unsafe { record::read(details, layout.details.min_cpus) };
        // SAFETY: as above.
        let segment: u16 = unsafe { record::read(details, layout.details.segment_size) };
        // SAFETY: as above.
        let required: *const bitstr_t = unsafe { record::read(details, layout.details.req_node_bitmap) };
        // SAFETY: NULL or the bitmap of required nodes, unchanged during the evaluation.
        let required = if required.is_null() { None } else { Some(unsafe { bitmap::words(required) }?) };
        // SAFETY: NULL or the job's network option, unchanged during the evaluation.
        let network = unsafe { memory::text(network) };

        let odd = if !arbitrary.is_null() {
            Some(Odd::Arbitrary)
        } else if contiguous != 0 || flags & SPREAD_JOB != 0 {
            Some(Odd::OtherOrder)
        } else if !hres.is_null() {
            Some(Odd::HierarchicalResources)
        } else if network.is_some_and(|text| text.to_string_lossy().contains("unique-channel-per-segment")) {
            Some(Odd::ChannelPerSegment)
        } else {
            None
        };
        Some(Self {
            id,
            min_cpus,
            segment,
            spread: flags & SPREAD_SEGMENTS != 0,
            consolidate: flags & CONSOLIDATE_SEGMENTS != 0,
            backfill_test: flags & BACKFILL_TEST != 0,
            required,
            odd,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::BITSTR_MAGIC_VALUE;
    use crate::abi::layout::{DetailsLayout, JobLayout, NodeLayout};

    /// A layout of the tests' own: nothing in the reader may depend on a real one.
    const LAYOUT: Layout = Layout {
        job: JobLayout { magic: 4, bit_flags: 8, details: 16, hres_select: 24, job_id: 32, network: 40 },
        details: DetailsLayout {
            magic: 0,
            arbitrary_tpn: 8,
            contiguous: 16,
            min_cpus: 20,
            req_node_bitmap: 24,
            segment_size: 32,
        },
        node: NodeLayout { magic: 0, index: 4, node_state: 8, sched_weight: 16 },
    };

    /// The memory of a job record and its details.
    struct Records {
        job: Vec<u8>,
        details: Vec<u8>,
    }

    impl Records {
        fn new() -> Self {
            let mut records = Self { job: vec![0; 64], details: vec![0; 64] };
            let details = records.details.as_ptr() as u64;
            records.job(4, &JOB_MAGIC_VALUE.to_ne_bytes());
            records.job(16, &details.to_ne_bytes());
            records.job(32, &77u32.to_ne_bytes());
            records.details(0, &DETAILS_MAGIC_VALUE.to_ne_bytes());
            records.details(20, &144u32.to_ne_bytes());
            records
        }

        fn job(&mut self, offset: usize, bytes: &[u8]) {
            self.job[offset..offset + bytes.len()].copy_from_slice(bytes);
        }

        fn details(&mut self, offset: usize, bytes: &[u8]) {
            self.details[offset..offset + bytes.len()].copy_from_slice(bytes);
        }

        fn read(&self) -> Option<Job<'_>> {
            // SAFETY: the records live in `self` and are longer than every offset of the layout.
            unsafe { Job::read(self.job.as_ptr().cast(), &LAYOUT) }
        }
    }

    #[test]
    fn a_plain_job_is_read() {
        let mut records = Records::new();
        records.details(32, &16u16.to_ne_bytes());
        records.job(8, &(SPREAD_SEGMENTS | 1).to_ne_bytes());
        let job = records.read().unwrap();
        assert_eq!((job.id, job.min_cpus, job.segment, job.spread, job.odd), (77, 144, 16, true, None));
        assert!(job.required.is_none());
    }

    #[test]
    fn required_nodes_are_a_bitmap_or_the_job_is_not_read() {
        let bitmap = [u64::from(BITSTR_MAGIC_VALUE), 64, 0b101];
        let mut records = Records::new();
        records.details(24, &(bitmap.as_ptr() as u64).to_ne_bytes());
        assert_eq!(records.read().unwrap().required, Some(&[0b101][..]));
        let rubbish = [0u64; 3];
        records.details(24, &(rubbish.as_ptr() as u64).to_ne_bytes());
        assert!(records.read().is_none());
    }

    #[test]
    fn records_without_their_magic_are_not_read() {
        for (of_job, offset) in [(true, 4), (false, 0)] {
            let mut records = Records::new();
            if of_job {
                records.job(offset, &[0; 4])
            } else {
                records.details(offset, &[0; 4])
            }
            assert!(records.read().is_none());
        }
        let mut records = Records::new();
        records.job(16, &[0; 8]);
        assert!(records.read().is_none(), "a job without details");
        // SAFETY: NULL is allowed.
        assert!(unsafe { Job::read(std::ptr::null(), &LAYOUT) }.is_none());
    }

    #[test]
    fn odd_jobs_are_told_apart() {
        let text = c"sn_single,unique-channel-per-segment";
        let odd = |change: &dyn Fn(&mut Records)| {
            let mut records = Records::new();
            change(&mut records);
            records.read().unwrap().odd
        };
        assert_eq!(odd(&|r| r.details(8, &[1; 8])), Some(Odd::Arbitrary));
        assert_eq!(odd(&|r| r.details(16, &[1; 2])), Some(Odd::OtherOrder));
        assert_eq!(odd(&|r| r.job(8, &SPREAD_JOB.to_ne_bytes())), Some(Odd::OtherOrder));
        assert_eq!(odd(&|r| r.job(24, &[1; 8])), Some(Odd::HierarchicalResources));
        assert_eq!(odd(&|r| r.job(40, &(text.as_ptr() as u64).to_ne_bytes())), Some(Odd::ChannelPerSegment));
    }

    #[test]
    fn flags_are_read() {
        let mut records = Records::new();
        records.job(8, &(CONSOLIDATE_SEGMENTS | BACKFILL_TEST).to_ne_bytes());
        let job = records.read().unwrap();
        assert!(job.consolidate && job.backfill_test && !job.spread && job.odd.is_none());
    }
}
