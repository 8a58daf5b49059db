//! What slurmctld alone defines, and its plugins expect. The names make the plugins take this process for slurmctld.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

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

/// The lab's nodes have one CPU a core.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn job_mgr_determine_cpus_per_core(_details: *mut c_void, _node: c_int) -> u16 {
    1
}

/// There are no hierarchical resources.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn hres_get_capacity(
    _select: *mut c_void,
    _nodes: *mut c_void,
    _unit: *mut c_void,
) -> u32 {
    0
}

/// There are no hierarchical resources.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn hres_select_check(_select: *mut c_void, _leaf: u16) -> bool {
    true
}

/// There are no hierarchical resources.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn hres_select_return(_select: *mut c_void, _leaf: u16) {}

/// A variable of slurmctld that nobody uses here.
#[repr(transparent)]
pub(crate) struct Unused(*mut c_void);

// SAFETY: never written.
unsafe impl Sync for Unused {}

#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "Slurm's name")]
pub(crate) static idle_node_bitmap: Unused = Unused(null_mut());
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "Slurm's name")]
pub(crate) static part_list: Unused = Unused(null_mut());
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "Slurm's name")]
pub(crate) static job_list: Unused = Unused(null_mut());
