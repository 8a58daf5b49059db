//! Memory that Slurm allocated and gave to us.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use super::api::api;

/// Gives memory back to Slurm's allocator. NULL is fine.
///
/// # Safety
/// `pointer` is NULL or came from Slurm's allocator, and nobody uses it afterwards.
pub(crate) unsafe fn free<T>(pointer: *mut T) {
    let mut pointer: *mut c_void = pointer.cast();
    // SAFETY: the caller vouches for the pointer; xfree takes the address of a variable and clears it.
    unsafe { (api().xfree)(ptr::addr_of_mut!(pointer)) }
}

/// A string that Slurm allocated and gave to us.
pub(crate) struct SlurmString(*mut c_char);

impl SlurmString {
    /// Takes the string over; None for NULL.
    ///
    /// # Safety
    /// `text` is NULL or a C string from Slurm's allocator that nobody else frees.
    pub(crate) unsafe fn take(text: *mut c_char) -> Option<Self> {
        if text.is_null() { None } else { Some(Self(text)) }
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        // SAFETY: not NULL, NUL terminated and owned by `self` by the contract of `take`.
        unsafe { CStr::from_ptr(self.0) }
    }
}

impl Drop for SlurmString {
    fn drop(&mut self) {
        // SAFETY: from Slurm's allocator and owned by `self` by the contract of `take`.
        unsafe { free(self.0) }
    }
}

/// The text behind a C string pointer of Slurm; None for NULL.
///
/// # Safety
/// `text` is NULL or a C string that lives and does not change for `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char) -> Option<&'a CStr> {
    if text.is_null() {
        None
    } else {
        // SAFETY: not NULL; the caller vouches for the rest.
        Some(unsafe { CStr::from_ptr(text) })
    }
}
