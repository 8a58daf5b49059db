//! The functions that slurmctld alone defines and Slurm's topology plugins call: stand-ins for a process with one thread.
//! The linker shows them to the plugins (build.rs). The lab's host (`tests/lab`) has them from this file, too.
//!
//! Names and types are those of Slurm 26.05.3 `src/slurmctld/{locks,job_mgr,licenses}.h`.

use std::ffi::{c_int, c_void};

/// `slurmctld_lock_t`: five numbers, passed by value.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Locks([c_int; 5]);

/// One thread: nothing to lock.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn lock_slurmctld(_locks: Locks) {}

/// One thread: nothing to unlock.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn unlock_slurmctld(_locks: Locks) {}

/// The nodes of the questions have one CPU a core.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn job_mgr_determine_cpus_per_core(_details: *mut c_void, _node: c_int) -> u16 {
    1
}

/// Begin of `hres_select_t`: what is left of a hierarchical resource, and how much of it the job wants on each node.
#[repr(C)]
pub(crate) struct HresSelect {
    left: *mut u32,
    left_at_first: *mut u32,
    depth: u16,
    per_node: u32,
}

/// A leaf that is none (`NO_VAL16`).
const NO_LEAF: u16 = 0xfffe;

impl HresSelect {
    /// What is left on a leaf. There is one level: each leaf has the counter with its own number.
    fn of_leaf(select: *mut Self, leaf: u16) -> *mut u32 {
        // SAFETY: Slurm passes what the job's record points to, which whoever made the record has filled.
        let left = unsafe { (*select).left };
        left.wrapping_add(leaf.into())
    }

    fn per_node(select: *mut Self) -> u32 {
        // SAFETY: as above.
        unsafe { (*select).per_node }
    }
}

/// What is left for the job on a leaf.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn hres_get_capacity(select: *mut HresSelect, leaf: c_int) -> u32 {
    let Ok(leaf) = u16::try_from(leaf) else { return 0 };
    // SAFETY: there is a counter for each leaf.
    unsafe { HresSelect::of_leaf(select, leaf).read() }
}

/// Takes one more node's part from a leaf, or says that there is too little.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn hres_select_check(select: *mut HresSelect, leaf: u16) -> bool {
    if leaf == NO_LEAF {
        return false;
    }
    let place = HresSelect::of_leaf(select, leaf);
    // SAFETY: there is a counter for each leaf.
    let left = unsafe { place.read() };
    let rest = left.checked_sub(HresSelect::per_node(select));
    // SAFETY: as above.
    unsafe { place.write(rest.unwrap_or(left)) };
    rest.is_some()
}

/// Gives a node's part back.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn hres_select_return(select: *mut HresSelect, leaf: u16) {
    if leaf == NO_LEAF {
        return;
    }
    let place = HresSelect::of_leaf(select, leaf);
    // SAFETY: there is a counter for each leaf.
    let left = unsafe { place.read() };
    // SAFETY: as above.
    unsafe { place.write(left.saturating_add(HresSelect::per_node(select))) };
}
