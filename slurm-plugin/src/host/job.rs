//! What the placement needs to know of a job, read through the confirmed layout.

use super::record::{Record, Records};
use super::{bitmap, peek};
use crate::abi::{DETAILS_MAGIC_VALUE, JOB_MAGIC_VALUE, job_record_t};

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

/// Where a job stands in the queue, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queued {
    /// The Slurm partition in which Slurm tries it now: the address of its record, which is never followed.
    pub(crate) slurm_partition: usize,
    /// Higher is earlier.
    pub(crate) priority: u32,
    /// Since when it could start, in seconds since 1970.
    pub(crate) eligible: u64,
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
    /// Minutes that it may run, `u32::MAX` and just below for no limit; None where the build's place of it is not known.
    pub(crate) time_limit: Option<u32>,
    /// Its place in the queue; None where the build's places of that are not known.
    pub(crate) queued: Option<Queued>,
    /// Nodes that the job names, as words of a node bitmap.
    pub(crate) required: Option<&'a [u64]>,
    /// Why the job is left to stock, if it is.
    pub(crate) odd: Option<Odd>,
}

/// `--network=unique-channel-per-segment`.
const CHANNEL_PER_SEGMENT: &[u8] = b"unique-channel-per-segment";

impl Job<'_> {
    /// Reads a job; None when its records are not as the layout says.
    ///
    /// # Safety
    /// `job` is NULL or a job record that lives unchanged as long as the result.
    pub(crate) unsafe fn read(job: *const job_record_t, records: &Records) -> Option<Self> {
        let layout = records.layout();
        let record = |address: usize, extent: usize| {
            let start = std::ptr::with_exposed_provenance::<u8>(address);
            if records.jobs_are_proven() {
                // SAFETY: a live job record by the caller's word, or its details; their kinds are proven.
                unsafe { Record::proven(start, extent) }
            } else {
                Record::unproven(start, extent)
            }
        };
        let job = record(job.expose_provenance(), records.job_extent());
        if !job.has_magic(layout.job.magic, JOB_MAGIC_VALUE) {
            return None;
        }
        let details = record(job.pointer(layout.job.details)?, records.details_extent());
        if !details.has_magic(layout.details.magic, DETAILS_MAGIC_VALUE) {
            return None;
        }
        if !records.jobs_are_proven() && job.is_allocated() && details.is_allocated() {
            records.prove_jobs();
        }

        let flags = job.u64(layout.job.bit_flags)?;
        let segment = details.u16(layout.details.segment_size)?;
        let required = match details.pointer(layout.details.req_node_bitmap)? {
            0 => None,
            address if records.required_is_proven() => {
                let required = std::ptr::with_exposed_provenance(address);
                // SAFETY: the bitmap of required nodes, unchanged during the evaluation.
                Some(unsafe { bitmap::words(required) }?)
            }
            address => {
                // SAFETY: if it is a bitmap, it is unchanged during the evaluation.
                let required = unsafe { bitmap::words_at(address) }?;
                records.prove_required();
                Some(required)
            }
        };
        let (time_limit, queued) = match records.times() {
            Some(times) => {
                let queued = Queued {
                    slurm_partition: job.pointer(times.part_ptr)?,
                    priority: job.u32(times.priority)?,
                    eligible: details.u64(times.begin_time)?,
                };
                (Some(job.u32(times.time_limit)?), Some(queued))
            }
            None => (None, None),
        };
        let channel_per_segment = match job.pointer(layout.job.network)? {
            0 => false,
            address => {
                let text = peek::text(address)?;
                text.windows(CHANNEL_PER_SEGMENT.len()).any(|part| part == CHANNEL_PER_SEGMENT)
            }
        };
        let odd = if details.pointer(layout.details.arbitrary_tpn)? != 0 {
            Some(Odd::Arbitrary)
        } else if details.u16(layout.details.contiguous)? != 0 || flags & SPREAD_JOB != 0 {
            Some(Odd::OtherOrder)
        } else if job.pointer(layout.job.hres_select)? != 0 {
            Some(Odd::HierarchicalResources)
        } else if channel_per_segment {
            Some(Odd::ChannelPerSegment)
        } else {
            None
        };
        Some(Self {
            id: job.u32(layout.job.job_id)?,
            min_cpus: details.u32(layout.details.min_cpus)?,
            segment,
            spread: flags & SPREAD_SEGMENTS != 0,
            consolidate: flags & CONSOLIDATE_SEGMENTS != 0,
            backfill_test: flags & BACKFILL_TEST != 0,
            time_limit,
            queued,
            required,
            odd,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::BITSTR_MAGIC_VALUE;
    use crate::abi::layout::{
        ConfLayout, DetailsLayout, JobLayout, LONGEST_RECORD, Layout, MEMBERS, NodeLayout, TimesLayout,
        known_layout_for_tests,
    };
    use crate::host::peek::tests::Edge;

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
        conf: ConfLayout { topology_param: 0 },
    };

    /// The memory of a job record and its details.
    struct Fields {
        job: Vec<u8>,
        details: Vec<u8>,
    }

    impl Fields {
        fn new() -> Self {
            let mut records = Self { job: vec![0; 96], details: vec![0; 64] };
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
            unsafe { Job::read(self.job.as_ptr().cast(), &Records::new(LAYOUT)) }
        }
    }

    #[test]
    fn a_plain_job_is_read() {
        let mut records = Fields::new();
        records.details(32, &16u16.to_ne_bytes());
        records.job(8, &(SPREAD_SEGMENTS | 1).to_ne_bytes());
        let job = records.read().unwrap();
        assert_eq!((job.id, job.min_cpus, job.segment, job.spread, job.odd), (77, 144, 16, true, None));
        assert!(job.required.is_none());
    }

    #[test]
    fn a_time_limit_and_a_place_in_the_queue_are_read_where_their_places_are_known() {
        let mut records = Fields::new();
        records.job(48, &90u32.to_ne_bytes());
        records.job(80, &0x1234usize.to_ne_bytes());
        records.job(88, &7u32.to_ne_bytes());
        records.details(40, &1_700_000_000u64.to_ne_bytes());
        let read = |known: &Records| {
            // SAFETY: the records live in `records` and are longer than every offset.
            let job = unsafe { Job::read(records.job.as_ptr().cast(), known) }.unwrap();
            (job.time_limit, job.queued)
        };
        assert_eq!(read(&Records::new(LAYOUT)), (None, None));
        let times = TimesLayout {
            begin_time: 40,
            end_time: 56,
            job_state: 52,
            node_bitmap: 72,
            part_ptr: 80,
            priority: 88,
            time_limit: 48,
        };
        let known = Records::with_times(LAYOUT, times);
        let queued = Queued { slurm_partition: 0x1234, priority: 7, eligible: 1_700_000_000 };
        assert_eq!(read(&known), (Some(90), Some(queued)));
        assert_eq!((known.job_extent(), known.details_extent()), (92, 48));
    }

    #[test]
    fn required_nodes_are_a_bitmap_or_the_job_is_not_read() {
        let bitmap = [u64::from(BITSTR_MAGIC_VALUE), 64, 0b101];
        let mut records = Fields::new();
        records.details(24, &(bitmap.as_ptr() as u64).to_ne_bytes());
        assert_eq!(records.read().unwrap().required, Some(&[0b101][..]));
        let rubbish = [0u64; 3];
        records.details(24, &(rubbish.as_ptr() as u64).to_ne_bytes());
        assert!(records.read().is_none());
    }

    #[test]
    fn records_without_their_magic_are_not_read() {
        for (of_job, offset) in [(true, 4), (false, 0)] {
            let mut records = Fields::new();
            if of_job {
                records.job(offset, &[0; 4])
            } else {
                records.details(offset, &[0; 4])
            }
            assert!(records.read().is_none());
        }
        let mut records = Fields::new();
        records.job(16, &[0; 8]);
        assert!(records.read().is_none(), "a job without details");
        // SAFETY: NULL is allowed.
        assert!(unsafe { Job::read(std::ptr::null(), &Records::new(LAYOUT)) }.is_none());
    }

    #[test]
    fn odd_jobs_are_told_apart() {
        let text = c"sn_single,unique-channel-per-segment";
        let odd = |change: &dyn Fn(&mut Fields)| {
            let mut records = Fields::new();
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
        let mut records = Fields::new();
        records.job(8, &(CONSOLIDATE_SEGMENTS | BACKFILL_TEST).to_ne_bytes());
        let job = records.read().unwrap();
        assert!(job.consolidate && job.backfill_test && !job.spread && job.odd.is_none());
    }

    /// A job with details as Slurm allocates them, at the end of readable memory, with the real layout.
    struct AsAllocated {
        _memory: [Edge; 2],
        job: usize,
    }

    impl AsAllocated {
        fn new(layout: &Layout, rubbish: u8) -> Self {
            let lengths = [1296, 560];
            let memory = [Edge::new(1), Edge::new(1)];
            let [job, details] = [0, 1].map(|i| {
                memory[i].put(lengths[i] + 16, &0x42u64.to_ne_bytes());
                memory[i].put(lengths[i] + 8, &(lengths[i] as u64).to_ne_bytes());
                memory[i].put(lengths[i], &vec![rubbish; lengths[i]])
            });
            let put = |i: usize, offset: usize, bytes: &[u8]| memory[i].put(lengths[i] - offset, bytes);
            put(0, layout.job.magic, &JOB_MAGIC_VALUE.to_ne_bytes());
            put(0, layout.job.details, &details.to_ne_bytes());
            put(0, layout.job.network, &[0; 8]);
            put(1, layout.details.magic, &DETAILS_MAGIC_VALUE.to_ne_bytes());
            put(1, layout.details.req_node_bitmap, &[0; 8]);
            Self { _memory: memory, job }
        }

        fn read(&self, records: &Records) -> bool {
            // SAFETY: the record lives in `self`.
            unsafe { Job::read(std::ptr::with_exposed_provenance(self.job), records) }.is_some()
        }
    }

    /// Every member of the job and its details moved to every other place, on records that end where memory ends and
    /// are full of what is no address: nothing crashes, neither while unproven nor when read again.
    #[test]
    fn no_wrong_offset_makes_it_touch_what_is_not_there() {
        let right = known_layout_for_tests();
        for (rubbish, step) in [(0x41, 1), (0x00, 8)] {
            let job = AsAllocated::new(&right, rubbish);
            let records = Records::new(right);
            assert!(job.read(&records) && records.jobs_are_proven() && job.read(&records));
            let mut proven = 0;
            for member in MEMBERS
                .iter()
                .filter(|member| member.name.starts_with("job.") || member.name.starts_with("details."))
            {
                for offset in (0..1400).step_by(step).chain((1400..LONGEST_RECORD).step_by(61)) {
                    let mut layout = right;
                    *(member.of_mut)(&mut layout) = offset;
                    let records = Records::new(layout);
                    let first = job.read(&records);
                    proven += usize::from(records.jobs_are_proven());
                    // Where it was read once it is read again, and where it was not, it still is not.
                    assert_eq!(job.read(&records), first, "{} at {offset}", member.name);
                }
            }
            // Inside of the records a wrong place of a number cannot be told from the right one; it does no harm.
            assert!(proven > 0);
        }
    }
}
