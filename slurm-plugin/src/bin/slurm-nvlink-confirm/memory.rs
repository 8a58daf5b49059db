//! Raw memory of this process, by address: the questions' own, and Slurm's records.
//!
//! Everything in here is unsafe in the sense of the language; what keeps it harmless is that it happens in a process of
//! its own, of which nothing but a verified result is used.

use std::ffi::c_void;

/// Zeroed memory that lives as long as the process, aligned for every member.
pub(crate) fn zeroed(bytes: usize) -> usize {
    let words: &'static mut [u64] = vec![0; bytes.div_ceil(8)].leak();
    words.as_mut_ptr().expose_provenance()
}

/// A copy of a C string that lives as long as the process.
pub(crate) fn text(text: &str) -> usize {
    let address = zeroed(text.len() + 1);
    // SAFETY: the memory is ours and longer than the text.
    unsafe { poke(address, text.as_bytes()) };
    address
}

/// The address as a pointer.
pub(crate) fn pointer<T>(address: usize) -> *mut T {
    std::ptr::with_exposed_provenance_mut(address)
}

/// Writes bytes.
///
/// # Safety
/// They lie in memory of ours, or in a record of Slurm that nobody else uses now.
pub(crate) unsafe fn poke(address: usize, bytes: &[u8]) {
    // SAFETY: by the caller's word.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), pointer(address), bytes.len()) }
}

/// Copies bytes out.
///
/// # Safety
/// They are readable.
pub(crate) unsafe fn peek(address: usize, bytes: usize) -> Vec<u8> {
    let mut copy = vec![0; bytes];
    // SAFETY: by the caller's word; the copy is as long.
    unsafe { std::ptr::copy_nonoverlapping(pointer::<u8>(address), copy.as_mut_ptr(), bytes) };
    copy
}

/// A number of four bytes.
///
/// # Safety
/// They are readable.
pub(crate) unsafe fn u32_at(address: usize) -> u32 {
    // SAFETY: by the caller's word; no alignment is asked for.
    unsafe { pointer::<u32>(address).read_unaligned() }
}

/// A number of eight bytes, or an address.
///
/// # Safety
/// They are readable.
pub(crate) unsafe fn u64_at(address: usize) -> u64 {
    // SAFETY: by the caller's word; no alignment is asked for.
    unsafe { pointer::<u64>(address).read_unaligned() }
}

/// The address of what a raw pointer points to.
pub(crate) fn address<T>(pointer: *const T) -> usize {
    pointer.cast::<c_void>().expose_provenance()
}
