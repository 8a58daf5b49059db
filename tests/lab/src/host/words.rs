#![forbid(unsafe_code)]
//! Memory that Slurm's code reads and writes: words in cells, so that both sides may change it.

use std::cell::Cell;

use lab::layout::{BITMAP_MAGIC, Member};

/// Zeroed memory at a fixed address, with what Slurm's allocator keeps before it.
pub(crate) struct Words(Box<[Cell<u64>]>);

/// Words before each allocation of Slurm's: a magic number and the length in bytes.
const HEADER: usize = 2;
const ALLOCATION_MAGIC: u64 = 0x42;

impl Words {
    /// Memory of at least so many bytes.
    pub(crate) fn bytes(bytes: usize) -> Self {
        Self::zeroed(bytes.div_ceil(8))
    }

    pub(crate) fn zeroed(words: usize) -> Self {
        let memory = Self(vec![Cell::new(0); HEADER + words].into_boxed_slice());
        memory.0[0].set(ALLOCATION_MAGIC);
        memory.0[1].set(8 * words as u64);
        memory
    }

    fn words(&self) -> &[Cell<u64>] {
        &self.0[HEADER..]
    }

    /// An empty bitmap.
    pub(crate) fn bitmap(bits: usize) -> Self {
        let bitmap = Self::zeroed(2 + bits.div_ceil(64));
        bitmap.set(0, BITMAP_MAGIC);
        bitmap.set(1, bits as u64);
        bitmap
    }

    /// The address as a member holds it.
    pub(crate) fn address(&self) -> u64 {
        self.words().as_ptr().expose_provenance() as u64
    }

    /// The address of a word.
    pub(crate) fn address_of(&self, word: usize) -> u64 {
        self.address() + 8 * word as u64
    }

    pub(crate) fn pointer<T>(&self) -> *mut T {
        self.words().as_ptr().cast_mut().cast()
    }

    pub(crate) fn set(&self, word: usize, value: u64) {
        self.words()[word].set(value);
    }

    pub(crate) fn get(&self, word: usize) -> u64 {
        self.words()[word].get()
    }

    /// Writes a member. Members never cross a word.
    pub(crate) fn put(&self, member: Member, value: u64) {
        self.put_at(0, member, value);
    }

    /// Writes a member of the record that begins at a word.
    pub(crate) fn put_at(&self, word: usize, (offset, size): Member, value: u64) {
        let shift = offset % 8 * 8;
        let mask = if size == 8 { u64::MAX } else { ((1 << (8 * size)) - 1) << shift };
        let cell = &self.words()[word + offset / 8];
        cell.set(cell.get() & !mask | value << shift & mask);
    }

    pub(crate) fn member(&self, member: Member) -> u64 {
        self.member_at(0, member)
    }

    /// Reads a member of the record that begins at a word.
    pub(crate) fn member_at(&self, word: usize, (offset, size): Member) -> u64 {
        let mask = if size == 8 { u64::MAX } else { (1 << (8 * size)) - 1 };
        self.get(word + offset / 8) >> (offset % 8 * 8) & mask
    }

    pub(crate) fn clear(&self) {
        for cell in self.words() {
            cell.set(0);
        }
    }

    pub(crate) fn clear_bits(&self) {
        for cell in &self.words()[2..] {
            cell.set(0);
        }
    }

    pub(crate) fn set_bit(&self, bit: usize) {
        let cell = &self.words()[2 + bit / 64];
        cell.set(cell.get() | 1 << (bit % 64));
    }

    pub(crate) fn clear_bit(&self, bit: usize) {
        let cell = &self.words()[2 + bit / 64];
        cell.set(cell.get() & !(1 << (bit % 64)));
    }

    /// The set bits in ascending order.
    pub(crate) fn ones(&self) -> impl Iterator<Item = usize> + '_ {
        self.words()[2..].iter().enumerate().flat_map(|(index, cell)| {
            let mut word = cell.get();
            std::iter::from_fn(move || {
                (word != 0).then(|| {
                    let bit = word.trailing_zeros() as usize;
                    word &= word - 1;
                    index * 64 + bit
                })
            })
        })
    }
}
