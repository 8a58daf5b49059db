//! Slurm's bitmaps, looked at in place.
//!
//! A bitmap is an array of 64-bit words: a magic number, the number of bits, then the bits, lowest first; the bits
//! after the last one are zero (Slurm 26.05.3 `src/common/bitstring.{h,c}`, the same in 25.05 to 26.11).

use std::ptr;
use std::slice;

use super::api::api;
use super::memory::SlurmString;
use super::peek;
use crate::abi::{BITSTR_MAGIC_VALUE, bitstr_t};

const HEADER_WORDS: usize = 2;
const WORD_BITS: usize = 64;

/// The words of a bitmap of Slurm, or None when the pointer is NULL or not a bitmap.
///
/// # Safety
/// `bitmap` is NULL or points to at least two readable words and, where they are a bitmap's header, to the bits that
/// the header promises; all that stays so and unchanged for `'a`.
pub(crate) unsafe fn words<'a>(bitmap: *const bitstr_t) -> Option<&'a [u64]> {
    let bits = header(bitmap)?;
    let first = bitmap.cast::<u64>().wrapping_add(HEADER_WORDS);
    // SAFETY: the header promises this many bits, and the caller that they stay.
    Some(unsafe { slice::from_raw_parts(first, bits.div_ceil(WORD_BITS)) })
}

/// The words of what may be a bitmap, or None when it is not one or not all there.
///
/// # Safety
/// If it is a bitmap, it stays so and unchanged for `'a`.
pub(crate) unsafe fn words_at<'a>(address: usize) -> Option<&'a [u64]> {
    let header: [u8; 8 * HEADER_WORDS] = peek::bytes(address)?;
    let bits = usize::try_from(u64::from_ne_bytes(*header.last_chunk()?)).ok()?;
    let bytes = bits.div_ceil(WORD_BITS).checked_mul(size_of::<u64>())?;
    if !address.is_multiple_of(align_of::<u64>())
        || !peek::readable(address, bytes.checked_add(header.len())?)
    {
        return None;
    }
    // SAFETY: the header and as many words as it promises were just read; they stay by the caller's word.
    unsafe { words(std::ptr::with_exposed_provenance(address)) }
}

/// The words of a bitmap, to be changed in place.
///
/// # Safety
/// As for [`words`], and nobody else looks at the bitmap during `'a`.
pub(crate) unsafe fn words_mut<'a>(bitmap: *mut bitstr_t) -> Option<&'a mut [u64]> {
    let bits = header(bitmap)?;
    let first = bitmap.cast::<u64>().wrapping_add(HEADER_WORDS);
    // SAFETY: the header promises this many bits, and the caller that nobody else looks.
    Some(unsafe { slice::from_raw_parts_mut(first, bits.div_ceil(WORD_BITS)) })
}

/// The number of bits of a bitmap, or None when the pointer is NULL or not a bitmap.
///
/// # Safety
/// As for [`words`].
pub(crate) unsafe fn size(bitmap: *const bitstr_t) -> Option<usize> {
    header(bitmap)
}

/// Reads and checks the header. Private: each caller repeats the contract of [`words`].
fn header(bitmap: *const bitstr_t) -> Option<usize> {
    if bitmap.is_null() {
        return None;
    }
    // SAFETY: two words are readable by the contract of every public function that comes here.
    let [magic, bits] = unsafe { bitmap.cast::<[u64; HEADER_WORDS]>().read() };
    if magic != u64::from(BITSTR_MAGIC_VALUE) {
        return None;
    }
    usize::try_from(bits).ok().filter(|&bits| i32::try_from(bits).is_ok())
}

/// A bitmap of our own, made by Slurm's allocator because Slurm gets to see it.
pub(crate) struct Bitmap(*mut bitstr_t);

impl Bitmap {
    /// An empty bitmap for `bits` nodes.
    pub(crate) fn new(bits: usize) -> Self {
        // SAFETY: bit_alloc has no precondition; it ends the process when memory is gone.
        Self(unsafe { (api().bit_alloc)(i64::try_from(bits).unwrap_or(0)) })
    }

    /// Takes over a bitmap that Slurm made for us; None when it is not one.
    ///
    /// # Safety
    /// `bitmap` is NULL or a Slurm bitmap that nobody else frees.
    pub(crate) unsafe fn take(bitmap: *mut bitstr_t) -> Option<Self> {
        header(bitmap).map(|_| Self(bitmap))
    }

    pub(crate) fn words(&self) -> &[u64] {
        // SAFETY: a bitmap of ours is live as long as `self`.
        unsafe { words(self.0) }.unwrap_or(&[])
    }

    pub(crate) fn words_mut(&mut self) -> &mut [u64] {
        // SAFETY: a bitmap of ours is live as long as `self`, which is borrowed exclusively.
        unsafe { words_mut(self.0) }.unwrap_or(&mut [])
    }

    /// The names of the nodes in it, folded as Slurm folds them; None when it is empty.
    pub(crate) fn node_names(&self) -> Option<SlurmString> {
        // SAFETY: the bitmap is live and has one bit per node.
        let names = unsafe { (api().bitmap2node_name)(self.0) };
        // SAFETY: the string was made for us.
        unsafe { SlurmString::take(names) }
    }
}

impl Drop for Bitmap {
    fn drop(&mut self) {
        // SAFETY: ours by the contracts of `new` and `take`; bit_free takes the address of a variable and clears it.
        unsafe { (api().bit_free)(ptr::addr_of_mut!(self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::peek::tests::Edge;

    fn bitmap(bits: u64, words: &[u64]) -> Vec<u64> {
        let mut memory = vec![u64::from(BITSTR_MAGIC_VALUE), bits];
        memory.extend(words);
        memory
    }

    #[test]
    fn the_header_says_how_many_words_follow() {
        let memory = bitmap(65, &[5, 1]);
        // SAFETY: `memory` holds the header and both words.
        let seen = unsafe { words(memory.as_ptr().cast()) };
        assert_eq!(seen, Some(&[5, 1][..]));
        // SAFETY: as above.
        assert_eq!(unsafe { size(memory.as_ptr().cast()) }, Some(65));
    }

    #[test]
    fn a_bitmap_of_which_a_part_is_missing_is_refused() {
        let edge = Edge::new(1);
        let bytes: Vec<u8> = bitmap(65, &[5, 1]).iter().flat_map(|word| word.to_ne_bytes()).collect();
        let whole = edge.put(bytes.len(), &bytes);
        // SAFETY: nobody changes the memory.
        assert_eq!(unsafe { words_at(whole) }, Some(&[5, 1][..]));
        for missing in 1..=4 {
            let cut = edge.put(bytes.len() - 8 * missing, &bytes[..bytes.len() - 8 * missing]);
            // SAFETY: as above.
            assert_eq!(unsafe { words_at(cut) }, None, "{missing} words");
        }
        for address in [0, 8, whole + 1, usize::MAX] {
            // SAFETY: there is no bitmap.
            assert_eq!(unsafe { words_at(address) }, None, "{address:#x}");
        }
        let endless = edge
            .put(32, &bitmap(u64::MAX, &[]).iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>());
        // SAFETY: as above.
        assert_eq!(unsafe { words_at(endless) }, None);
    }

    #[test]
    fn anything_but_a_bitmap_is_refused() {
        let mut memory = bitmap(64, &[7]);
        memory[0] += 1;
        // SAFETY: two words are readable.
        assert!(unsafe { words(memory.as_ptr().cast()) }.is_none());
        let negative = bitmap(u64::MAX, &[]);
        // SAFETY: two words are readable.
        assert!(unsafe { words(negative.as_ptr().cast()) }.is_none());
        // SAFETY: NULL is allowed.
        assert!(unsafe { words(ptr::null()) }.is_none());
    }
}
