//! What slurmctld alone defines and Slurm's topology plugins call. These stand-ins do nothing; the linker shows them to
//! the plugins (build.rs).

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

/// No block has any hierarchical resource.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn hres_get_capacity(_select: *mut c_void, _leaf: c_int) -> u32 {
    0
}

/// Every node has enough of them.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn hres_select_check(_select: *mut c_void, _leaf: u16) -> bool {
    true
}

/// Nothing to give back.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn hres_select_return(_select: *mut c_void, _leaf: u16) {}
