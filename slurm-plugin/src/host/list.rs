//! Slurm's lists.

use std::ffi::{c_int, c_void};

use super::api::api;
use crate::abi::list_t;

/// What a list has, in its order. A NULL list is empty. The list may be locked by the thread that calls: `list_for_each_ro` takes
/// no lock a second time (Slurm 26.05.3 `src/common/list.c`, `LIST_THREAD_LOCK`).
///
/// # Safety
/// `list` is NULL or a Slurm list, and nobody changes it during the call.
pub(crate) unsafe fn members(list: *mut list_t) -> Vec<*mut c_void> {
    let mut members = Vec::new();
    if !list.is_null() {
        // SAFETY: `list` is a Slurm list by the caller's word; `gather` gets the vector, which outlives the call.
        unsafe { (api().list_for_each_ro)(list, gather, (&raw mut members).cast()) };
    }
    members
}

/// Takes one member up.
///
/// # Safety
/// `members` is the vector of [`members`].
unsafe extern "C" fn gather(member: *mut c_void, members: *mut c_void) -> c_int {
    // SAFETY: the vector by the caller's word, which nobody else looks at meanwhile.
    let members = unsafe { &mut *members.cast::<Vec<*mut c_void>>() };
    members.push(member);
    0
}

/// The numbers of a list of `int *`, such as the block sizes of topology.yaml. A NULL list is empty.
///
/// # Safety
/// `list` is NULL or a Slurm list whose members are pointers to `int`, and nobody changes it during the call.
pub(crate) unsafe fn integers(list: *mut list_t) -> Vec<c_int> {
    // SAFETY: a Slurm list by the caller's word.
    let members = unsafe { members(list) };
    // SAFETY: members are pointers to int by the caller's word.
    members.into_iter().map(|item| unsafe { *item.cast::<c_int>() }).collect()
}
