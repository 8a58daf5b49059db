//! What the placement needs to know of a job, read through the confirmed layout.

use std::ffi::{c_char, c_void};

use super::bitmap;
use super::memory;
use super::record;
use crate::abi::layout::Layout;
use crate::abi::{DETAILS_MAGIC_VALUE, JOB_MAGIC_VALUE, bitstr_t, job_record_t};

/// Bits of `job_record_t.bit_flags`, equal in 25.11 to 26.11 (`slurm/slurm.h`).
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
    /// `--consolidate-segments` is about aggregated blocks.
    Consolidate,
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
        } else if flags & CONSOLIDATE_SEGMENTS != 0 && segment != 0 {
            Some(Odd::Consolidate)
        } else if network.is_some_and(|text| text.to_string_lossy().contains("unique-channel-per-segment")) {
            Some(Odd::ChannelPerSegment)
        } else {
            None
        };
        Some(Self { id, min_cpus, segment, spread: flags & SPREAD_SEGMENTS != 0, required, odd })
    }
}
