//! Slurm's lists.

use std::ffi::c_int;

use super::api::api;
use crate::abi::list_t;

/// The numbers of a list of `int *`, such as the block sizes of topology.yaml. A NULL list is empty.
///
/// # Safety
/// `list` is NULL or a Slurm list whose members are pointers to `int`, and nobody changes it during the call.
pub(crate) unsafe fn integers(list: *mut list_t) -> Vec<c_int> {
    if list.is_null() {
        return Vec::new();
    }
    let mut numbers = Vec::new();
    // SAFETY: `list` is a Slurm list by the caller's word.
    let iterator = unsafe { (api().list_iterator_create)(list) };
    loop {
        // SAFETY: the iterator was made above and not destroyed yet.
        let item = unsafe { (api().list_next)(iterator) }.cast::<c_int>();
        if item.is_null() {
            break;
        }
        // SAFETY: members are pointers to int by the caller's word.
        numbers.push(unsafe { *item });
    }
    // SAFETY: made above, destroyed once.
    unsafe { (api().list_iterator_destroy)(iterator) };
    numbers
}
