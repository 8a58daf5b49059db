//! Block sizes: the base size and the aggregated sizes above it.
#![forbid(unsafe_code)]

/// Largest block size; Slurm keeps it in 16 bits (Slurm 26.05.3 src/plugins/topology/block).
pub const BLOCK_SIZE_MAX: u32 = 65_535;
/// Most levels a topology can have: base x 2^0 .. 2^15.
pub const LEVELS_MAX: usize = 16;

/// Why a list of numbers is not a list of block sizes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockSizesError {
    /// No size at all.
    #[error("no block size given")]
    Empty,
    /// A size is 0 or above [`BLOCK_SIZE_MAX`].
    #[error("block size {size} is not from 1 to {BLOCK_SIZE_MAX}")]
    Range {
        /// The size.
        size: u32,
    },
    /// A later size is not the base size times a power of two.
    #[error("block size {size} is not the base size {base} times a power of two up to 2^15")]
    NotAMultiple {
        /// The size.
        size: u32,
        /// The first size of the list.
        base: u32,
    },
    /// Sizes do not ascend.
    #[error("block size {size} comes after {previous}; sizes must ascend")]
    NotAscending {
        /// The size.
        size: u32,
        /// The size before it.
        previous: u32,
    },
}

/// The sizes of blocks that Slurm plans with: base B first, then B x 2^k in ascending order.
///
/// NVLink locality holds for jobs and segments of at most B nodes, which is why B is never guessed from a small block.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Vec<u32>", into = "Vec<u32>"))]
pub struct BlockSizes(Vec<u32>);

impl BlockSizes {
    /// Checks the sizes as Slurm 26.05.3 and later do (where a wrong one ends slurmctld).
    ///
    /// # Errors
    /// [`BlockSizesError`] naming the first size that does not fit.
    pub fn new(sizes: Vec<u32>) -> Result<Self, BlockSizesError> {
        let base = *sizes.first().ok_or(BlockSizesError::Empty)?;
        let mut previous = 0;
        for size in sizes.iter().copied() {
            if size == 0 || size > BLOCK_SIZE_MAX {
                return Err(BlockSizesError::Range { size });
            }
            if size <= previous {
                return Err(BlockSizesError::NotAscending { size, previous });
            }
            if size % base != 0 || !(size / base).is_power_of_two() || size / base >= 1 << LEVELS_MAX {
                return Err(BlockSizesError::NotAMultiple { size, base });
            }
            previous = size;
        }
        Ok(Self(sizes))
    }

    /// The base size B: up to so many nodes stay inside one block.
    pub fn base(&self) -> u32 {
        self.0.first().copied().unwrap_or(1)
    }

    /// All sizes, ascending, base first.
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }

    /// The levels k of the sizes B x 2^k, ascending, 0 first.
    pub fn levels(&self) -> Vec<u32> {
        self.0.iter().map(|size| (size / self.base()).trailing_zeros()).collect()
    }
}

impl TryFrom<Vec<u32>> for BlockSizes {
    type Error = BlockSizesError;

    fn try_from(sizes: Vec<u32>) -> Result<Self, BlockSizesError> {
        Self::new(sizes)
    }
}

impl From<BlockSizes> for Vec<u32> {
    fn from(sizes: BlockSizes) -> Vec<u32> {
        sizes.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_slurm_takes_are_taken_with_their_levels() {
        let sizes = BlockSizes::new(vec![18, 36, 144]).unwrap();
        assert_eq!((sizes.base(), sizes.levels()), (18, vec![0, 1, 3]));
        assert_eq!(BlockSizes::new(vec![1, 32_768]).unwrap().levels(), [0, 15]);
    }

    #[test]
    fn sizes_that_end_slurmctld_are_refused() {
        use BlockSizesError as E;
        for (sizes, error) in [
            (vec![], E::Empty),
            (vec![0], E::Range { size: 0 }),
            (vec![65_536], E::Range { size: 65_536 }),
            (vec![4, 12], E::NotAMultiple { size: 12, base: 4 }),
            (vec![4, 10], E::NotAMultiple { size: 10, base: 4 }),
            (vec![8, 4], E::NotAscending { size: 4, previous: 8 }),
            (vec![8, 8], E::NotAscending { size: 8, previous: 8 }),
        ] {
            assert_eq!(BlockSizes::new(sizes), Err(error));
        }
    }

    #[test]
    fn every_accepted_pair_is_a_power_of_two_apart() {
        for base in 1..=64u32 {
            for next in 1..=1024u32 {
                let accepted = BlockSizes::new(vec![base, next]).is_ok();
                let wanted = (1..16).any(|k| base << k == next);
                assert_eq!(accepted, wanted, "{base},{next}");
            }
        }
    }
}
