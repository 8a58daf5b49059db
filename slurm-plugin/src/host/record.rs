//! Members of Slurm's records, read at confirmed offsets.

use std::ptr;

/// Reads a plain value at `offset` bytes.
///
/// # Safety
/// The record is live, has a member of type `T` at `offset`, and `T` has no invalid bit patterns.
pub(crate) unsafe fn read<T: Copy, R>(record: *const R, offset: usize) -> T {
    let member = record.cast::<u8>().wrapping_add(offset).cast::<T>();
    // SAFETY: the caller vouches for record and offset; no alignment is asked for.
    unsafe { ptr::read_unaligned(member) }
}

/// Whether the magic number at `offset` is `magic`. NULL has none.
///
/// # Safety
/// `record` is NULL or points to at least `offset` + 4 readable bytes.
pub(crate) unsafe fn has_magic<R>(record: *const R, offset: usize, magic: u32) -> bool {
    if record.is_null() {
        return false;
    }
    // SAFETY: readable by the caller's word; every bit pattern is a u32.
    let found: u32 = unsafe { read(record, offset) };
    found == magic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_need_no_alignment() {
        let memory = [0u8, 0x39, 0xb7, 0xf0, 0, 0, 0, 0];
        // SAFETY: bytes 1 to 4 are readable.
        assert!(unsafe { has_magic(memory.as_ptr(), 1, 0x00f0_b739) });
        // SAFETY: as above.
        assert!(!unsafe { has_magic(memory.as_ptr(), 1, 0x00f0_b738) });
        // SAFETY: NULL is allowed.
        assert!(!unsafe { has_magic(ptr::null::<u8>(), 0, 0) });
    }
}
