//! Memory that may not be there, read by the kernel on our behalf: a bad address is an answer and not a fault.
//!
//! A confirmation that is wrong makes numbers look like pointers. Whatever is not proven to be a pointer is followed by
//! `process_vm_readv` on ourselves, which costs microseconds (6 were seen on a busy virtual machine), or, where a
//! sandbox or an emulator does not have that call, through a pipe: both fail with an error on what is not readable.

use std::ffi::c_void;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;

/// No text that is read is longer; Slurm's own limit for job options is far below.
const LONGEST_TEXT: usize = 64 * 1024;
/// The smallest page: nothing is mapped in smaller parts. A pipe takes as much at once.
const PAGE: usize = 4096;

/// Fills `into` from `address`; false, with `into` in an unknown state, when a byte of it is not readable.
pub(crate) fn read(address: usize, into: &mut [u8]) -> bool {
    by_call(address, into).unwrap_or_else(|| by_pipe(address, into).unwrap_or(false))
}

/// By `process_vm_readv`; None when this process may not or cannot call it.
fn by_call(address: usize, into: &mut [u8]) -> Option<bool> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: foreign(address), iov_len: into.len() };
    // SAFETY: getpid has no precondition.
    let ourselves = unsafe { libc::getpid() };
    // SAFETY: one local vector over `into`, which is ours to write, and one remote vector that the kernel checks.
    let count = unsafe { libc::process_vm_readv(ourselves, &raw const local, 1, &raw const remote, 1, 0) };
    let cannot = || matches!(io::Error::last_os_error().raw_os_error(), Some(libc::ENOSYS | libc::EPERM));
    if count < 0 && cannot() { None } else { Some(usize::try_from(count) == Ok(into.len())) }
}

/// Through a pipe, into which the kernel copies what is readable.
fn by_pipe(address: usize, into: &mut [u8]) -> io::Result<bool> {
    let (mut reader, writer) = io::pipe()?;
    for (part, offset) in into.chunks_mut(PAGE).zip((0..).step_by(PAGE)) {
        let from = foreign(address.wrapping_add(offset)).cast_const();
        // SAFETY: the kernel checks what it copies; it fits into the pipe, which is empty.
        let count = unsafe { libc::write(writer.as_raw_fd(), from, part.len()) };
        if usize::try_from(count) != Ok(part.len()) {
            return Ok(false);
        }
        reader.read_exact(part)?;
    }
    Ok(true)
}

/// An address that nobody here follows.
fn foreign(address: usize) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(address)
}

/// The `N` bytes at `address`.
pub fn bytes<const N: usize>(address: usize) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    read(address, &mut bytes).then_some(bytes)
}

/// Whether all of `length` bytes at `address` are readable.
pub(crate) fn readable(address: usize, length: usize) -> bool {
    let Some(last) = length.checked_sub(1).and_then(|rest| address.checked_add(rest)) else {
        return length == 0;
    };
    let pages = (address..=last).step_by(PAGE).chain([last]);
    pages.into_iter().all(|place| bytes::<1>(place).is_some())
}

/// The C string at `address`, without its end; None when it is not one or too long.
pub fn text(address: usize) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    while text.len() < LONGEST_TEXT {
        let place = address.checked_add(text.len())?;
        let mut part = vec![0; PAGE - place % PAGE];
        if !read(place, &mut part) {
            return None;
        }
        if let Some(end) = part.iter().position(|&byte| byte == 0) {
            text.extend_from_slice(&part[..end]);
            return Some(text);
        }
        text.append(&mut part);
    }
    None
}

/// Whether this process can be looked at in one of these ways.
pub(crate) fn works() -> bool {
    let known = 0x5175_u64;
    let address = (&raw const known).expose_provenance();
    bytes::<8>(address) == Some(known.to_ne_bytes()) && bytes::<8>(PAGE - 8).is_none()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Memory that ends where nothing is mapped.
    pub(crate) struct Edge {
        start: *mut c_void,
        length: usize,
    }

    impl Edge {
        /// Whole pages of zeroes, then a page that nobody may touch.
        pub(crate) fn new(pages: usize) -> Self {
            let length = (pages + 1) * PAGE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let access = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: a fresh anonymous mapping.
            let start = unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, -1, 0) };
            assert_ne!(start, libc::MAP_FAILED);
            let edge = Self { start, length };
            // SAFETY: the last page of the mapping above.
            let rc = unsafe { libc::mprotect(edge.at(length - PAGE).cast(), PAGE, libc::PROT_NONE) };
            assert_eq!(rc, 0);
            edge
        }

        fn at(&self, offset: usize) -> *mut u8 {
            self.start.cast::<u8>().wrapping_add(offset)
        }

        /// The address so many bytes before the end.
        pub(crate) fn before_end(&self, bytes: usize) -> usize {
            self.at(self.length - PAGE - bytes).expose_provenance()
        }

        /// Puts bytes at their address, so that they end so many bytes before the end.
        pub(crate) fn put(&self, before_end: usize, bytes: &[u8]) -> usize {
            assert!(bytes.len() <= before_end && before_end <= self.length - PAGE);
            let place = self.at(self.length - PAGE - before_end);
            // SAFETY: the bytes lie inside the readable pages, by the check above.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
            place.expose_provenance()
        }
    }

    impl Drop for Edge {
        fn drop(&mut self) {
            // SAFETY: the mapping of `new`, which nobody uses any more.
            unsafe { libc::munmap(self.start, self.length) };
        }
    }

    #[test]
    fn what_is_not_mapped_is_not_read() {
        assert!(works());
        let edge = Edge::new(2);
        let address = edge.put(8, &7u64.to_ne_bytes());
        assert_eq!(bytes::<8>(address), Some(7u64.to_ne_bytes()));
        assert_eq!(bytes::<8>(address + 1), None);
        for bad in [0, 1, 2, PAGE - 1, usize::MAX, usize::MAX - 7, 1 << 63, 0xdead_beef_dead_beef] {
            assert_eq!(bytes::<8>(bad), None, "{bad:#x}");
            assert!(!readable(bad, 8));
            assert_eq!(text(bad), None);
        }
        // The second way must agree with the first.
        let mut large = [0; 2 * PAGE];
        assert!(by_pipe(edge.before_end(2 * PAGE), &mut large).unwrap());
        assert_eq!(large[2 * PAGE - 8..], 7u64.to_ne_bytes());
        assert!(!by_pipe(edge.before_end(2 * PAGE) + 1, &mut large).unwrap());
        assert!(!by_pipe(8, &mut large[..8]).unwrap() && !by_pipe(usize::MAX, &mut large[..8]).unwrap());
        assert!(readable(edge.before_end(2 * PAGE), 2 * PAGE));
        assert!(!readable(edge.before_end(2 * PAGE), 2 * PAGE + 1));
        assert!(readable(0, 0));
    }

    #[test]
    fn text_ends_at_its_end_or_is_none() {
        let edge = Edge::new(2);
        let long = [b'x'; PAGE + 5];
        let address = edge.put(PAGE + 6, &long);
        assert_eq!(text(address).unwrap(), long);
        edge.put(1, b"x");
        assert_eq!(text(address), None, "no end before the end of the memory");
        assert_eq!(text(edge.put(4, b"ab\0x")).unwrap(), b"ab");
    }
}
