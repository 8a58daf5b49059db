//! The variables that slurmctld alone defines, and its plugins expect. With `stand_in`, their names make the plugins take
//! this process for slurmctld.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::AtomicPtr;

/// A variable of slurmctld that nobody uses here.
#[repr(transparent)]
pub(crate) struct Unused(*mut c_void);

// SAFETY: never written.
unsafe impl Sync for Unused {}

/// The nodes that are neither drained nor down: a bitmap of Slurm's.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "Slurm's name")]
pub(crate) static avail_node_bitmap: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "Slurm's name")]
pub(crate) static idle_node_bitmap: Unused = Unused(null_mut());
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "Slurm's name")]
pub(crate) static part_list: Unused = Unused(null_mut());
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "Slurm's name")]
pub(crate) static job_list: Unused = Unused(null_mut());
