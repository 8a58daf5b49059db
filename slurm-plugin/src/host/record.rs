//! Members of Slurm's records, believed only after a look.
//!
//! A layout may be wrong: a confirmation can be damaged in a way that its checksum does not show. So the first records are
//! read by way of [`peek`], which survives any address. They *prove* the layout when each begins inside an allocation of
//! Slurm's that is as long as the layout needs, has its magic number where the layout says, and, for jobs, leads to its
//! details. From then on members are read directly. That is sound: all records of one kind have one C type, so they are
//! equally long and have the same members in the same places, and Slurm's allocator notes each length just before the
//! record. That does not prove the pointers in a record. The one to required nodes is proven when it first leads to a whole
//! bitmap of Slurm's; that to a text never is, because anything readable looks like one.

use std::sync::atomic::{AtomicBool, Ordering};

use super::peek;
use crate::abi::layout::{Layout, TimesLayout};
use crate::abi::{JOB_MAGIC_VALUE, job_record_t};

/// First word of the two that Slurm's allocator keeps before each allocation; the second is its length (Slurm 26.05.3
/// `src/common/xmalloc.c`).
const ALLOCATION_MAGIC: u64 = 0x42;

/// The layout of the running build, and what was seen of it.
#[derive(Debug)]
pub(crate) struct Records {
    layout: Layout,
    /// Where a job's times and its place in the queue are, on builds of which that is known.
    times: Option<TimesLayout>,
    jobs_proven: AtomicBool,
    nodes_proven: AtomicBool,
    required_proven: AtomicBool,
}

impl Records {
    pub(crate) const fn new(layout: Layout) -> Self {
        Self {
            layout,
            times: None,
            jobs_proven: AtomicBool::new(false),
            nodes_proven: AtomicBool::new(false),
            required_proven: AtomicBool::new(false),
        }
    }

    /// The same, where the places of a job's times are known as well.
    pub(crate) const fn with_times(layout: Layout, times: TimesLayout) -> Self {
        Self { times: Some(times), ..Self::new(layout) }
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where a job's times are, on builds of which that is known.
    pub(crate) fn times(&self) -> Option<&TimesLayout> {
        self.times.as_ref()
    }

    /// Bytes from the start of a job's record to the end of the last member that is read.
    pub(crate) fn job_extent(&self) -> usize {
        self.times.map_or(0, |times| times.extent()).max(self.layout.job.extent())
    }

    /// The same for a job's details.
    pub(crate) fn details_extent(&self) -> usize {
        self.times.map_or(0, |times| times.extent_of_details()).max(self.layout.details.extent())
    }

    /// Whether a job's record and its details were as the layout says.
    pub(crate) fn jobs_are_proven(&self) -> bool {
        self.jobs_proven.load(Ordering::Relaxed)
    }

    /// Says so. Only after both were found in their allocations, with their magic numbers.
    pub(crate) fn prove_jobs(&self) {
        self.jobs_proven.store(true, Ordering::Relaxed);
    }

    /// Whether the member for required nodes has led to a bitmap.
    pub(crate) fn required_is_proven(&self) -> bool {
        self.required_proven.load(Ordering::Relaxed)
    }

    /// Says so.
    pub(crate) fn prove_required(&self) {
        self.required_proven.store(true, Ordering::Relaxed);
    }

    /// Whether the node records were as the layout says.
    pub(crate) fn nodes_are_proven(&self) -> bool {
        self.nodes_proven.load(Ordering::Relaxed)
    }

    /// Says so. Only after a node's record was found in its allocation, with its magic number.
    pub(crate) fn prove_nodes(&self) {
        self.nodes_proven.store(true, Ordering::Relaxed);
    }
}

/// Base states of a job (`slurm/slurm.h`, 26.05.5); flags are above them.
const JOB_STATE_BASE: u32 = 0xff;

impl Records {
    /// One of slurmctld's jobs and its base state; None where it is not as the layout says, or where the places of a job's times
    /// are not known.
    ///
    /// # Safety
    /// `job` is a record of [`Self::job_extent`] bytes, of a kind that is proven, that lives unchanged as long as the result.
    pub(crate) unsafe fn job_and_state(&self, job: *const job_record_t) -> Option<(Record, u32)> {
        let state = self.times()?.job_state;
        // SAFETY: by the caller's word.
        let job = unsafe { Record::proven(job, self.job_extent()) };
        if !job.has_magic(self.layout.job.magic, JOB_MAGIC_VALUE) {
            return None;
        }
        Some((job, job.u32(state)? & JOB_STATE_BASE))
    }
}

/// How the members of a record are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// By way of the kernel: any address is fine.
    Peek,
    /// As memory.
    Direct,
}

/// One record of Slurm.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    address: usize,
    extent: usize,
    access: Access,
}

impl Record {
    /// A record that may be anything.
    pub(crate) fn unproven<T>(record: *const T, extent: usize) -> Self {
        Self { address: record.expose_provenance(), extent, access: Access::Peek }
    }

    /// A record of a kind that is proven.
    ///
    /// # Safety
    /// `record` is a live record of Slurm of at least `extent` bytes, for as long as the result is used.
    pub(crate) unsafe fn proven<T>(record: *const T, extent: usize) -> Self {
        Self { address: record.expose_provenance(), extent, access: Access::Direct }
    }

    /// The `N` bytes of a member; None outside of the extent, or where nothing is readable.
    pub(crate) fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset.checked_add(N)? > self.extent {
            return None;
        }
        let place = self.address.checked_add(offset)?;
        match self.access {
            Access::Peek => peek::bytes(place),
            Access::Direct => {
                let member = std::ptr::with_exposed_provenance::<[u8; N]>(place);
                // SAFETY: inside the extent of a live record, by the contract of `proven`; bytes need no alignment.
                Some(unsafe { member.read() })
            }
        }
    }

    pub(crate) fn u16(&self, offset: usize) -> Option<u16> {
        self.bytes(offset).map(u16::from_ne_bytes)
    }

    pub(crate) fn u32(&self, offset: usize) -> Option<u32> {
        self.bytes(offset).map(u32::from_ne_bytes)
    }

    pub(crate) fn u64(&self, offset: usize) -> Option<u64> {
        self.bytes(offset).map(u64::from_ne_bytes)
    }

    /// A pointer's address.
    pub(crate) fn pointer(&self, offset: usize) -> Option<usize> {
        self.bytes(offset).map(usize::from_ne_bytes)
    }

    /// Whether the magic number at `offset` is `magic`.
    pub(crate) fn has_magic(&self, offset: usize, magic: u32) -> bool {
        self.address != 0 && self.u32(offset) == Some(magic)
    }

    /// Whether the record begins an allocation of Slurm's that holds its extent.
    pub(crate) fn is_allocated(&self) -> bool {
        let header = self.address.checked_sub(16).and_then(peek::bytes::<16>);
        header.is_some_and(|header| {
            let word = |i: usize| header[i..i + 8].try_into().map_or(0, u64::from_ne_bytes);
            word(0) == ALLOCATION_MAGIC && word(8) >= self.extent as u64
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_need_no_alignment_and_lie_in_the_extent() {
        let memory = [0u8, 0x39, 0xb7, 0xf0, 0, 0, 0, 0];
        // SAFETY: eight bytes are readable.
        for record in [unsafe { Record::proven(memory.as_ptr(), 8) }, Record::unproven(memory.as_ptr(), 8)] {
            assert!(record.has_magic(1, 0x00f0_b739));
            assert!(!record.has_magic(1, 0x00f0_b738));
            assert_eq!((record.u32(5), record.u64(usize::MAX), record.u16(7)), (None, None, None));
        }
        assert!(!Record::unproven(std::ptr::null::<u8>(), 8).has_magic(0, 0));
    }

    #[test]
    fn only_an_allocation_of_slurm_that_is_long_enough_counts() {
        let allocated = |magic: u64, length: u64| {
            let memory = [magic, length, 0, 0];
            Record::unproven(memory[2..].as_ptr(), 16).is_allocated()
        };
        assert!(allocated(0x42, 16) && allocated(0x42, 1000));
        assert!(!allocated(0x42, 15) && !allocated(0x43, 16));
        assert!(!Record::unproven(std::ptr::null::<u8>(), 0).is_allocated());
    }
}
