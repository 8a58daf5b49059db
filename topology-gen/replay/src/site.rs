//! The fabric that a workload is replayed on: partitions of trays, in the order of the blocks.

use std::ops::Range;

use fabric::BlockSizes;
use fabric::placement::Levels;
use fabric::topology::BlockTopology;

use crate::trays::TraySet;

/// The most trays of a site.
pub const TRAYS_MAX: u32 = 1_000_000;

/// Why there is no such site.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SiteError {
    /// Nothing to place jobs on, or far too much.
    #[error("{trays} trays are not from 1 to {TRAYS_MAX}")]
    Trays {
        /// How many.
        trays: u64,
    },
    /// Racks cannot be split so.
    #[error("a rack of {trays} trays cannot be split into {parts} NVLink partitions of as many trays each")]
    Split {
        /// Trays of a rack.
        trays: u32,
        /// Partitions wanted.
        parts: u32,
    },
    /// More trays out of service than there are.
    #[error("{drained} drained trays in each rack of {trays}")]
    Drained {
        /// Trays of a rack.
        trays: u32,
        /// Drained ones.
        drained: u32,
    },
    /// Spares leave nothing for jobs.
    #[error("{spares} spare trays in each NVLink partition leave none of {largest} for jobs")]
    Spares {
        /// Spares of each partition.
        spares: u32,
        /// Trays of the largest partition.
        largest: u32,
    },
}

/// Trays in NVLink partitions. Trays are numbered through, those of a partition follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    partitions: Vec<Range<u32>>,
    /// Trays that are out of service from begin to end, ascending.
    drained: Vec<u32>,
    /// Trays of each partition that are kept free to stand in for broken ones of the same partition.
    spares: u32,
    levels: Levels,
}

impl Site {
    /// Racks of as many trays each, each split into as many partitions, with so many drained trays in each rack (the last
    /// ones).
    ///
    /// # Errors
    /// [`SiteError`] when the numbers do not fit each other.
    pub fn racks(racks: u32, trays: u32, parts: u32, drained: u32) -> Result<Self, SiteError> {
        if parts == 0 || !trays.is_multiple_of(parts) {
            return Err(SiteError::Split { trays, parts });
        }
        if drained > trays {
            return Err(SiteError::Drained { trays, drained });
        }
        let all = u64::from(racks) * u64::from(trays);
        let sizes =
            (0..u64::from(racks) * u64::from(parts)).take(TRAYS_MAX as usize + 1).map(|_| trays / parts);
        let mut site = Self::of_sizes(all, sizes)?;
        site.drained = (0..racks).flat_map(|rack| (rack + 1) * trays - drained..(rack + 1) * trays).collect();
        Ok(site)
    }

    /// The blocks of a topology; empty ones are left out. Aggregated blocks are those of its sizes.
    ///
    /// # Errors
    /// [`SiteError::Trays`]
    pub fn of_topology(topology: &BlockTopology) -> Result<Self, SiteError> {
        let sizes: Vec<u32> = topology
            .blocks
            .iter()
            .map(|block| u32::try_from(block.nodes.len()).unwrap_or(u32::MAX))
            .filter(|&trays| trays > 0)
            .collect();
        let all = sizes.iter().map(|&trays| u64::from(trays)).sum();
        let first = sizes.first().copied().unwrap_or(1);
        let mut site = Self::of_sizes(all, sizes.into_iter())?;
        site.levels = topology.sizes.as_ref().map_or_else(|| Levels::by_default(first), Levels::new);
        Ok(site)
    }

    fn of_sizes(all: u64, sizes: impl Iterator<Item = u32>) -> Result<Self, SiteError> {
        if all == 0 || all > u64::from(TRAYS_MAX) {
            return Err(SiteError::Trays { trays: all });
        }
        let mut next = 0;
        let partitions = sizes
            .map(|trays| {
                let first = next;
                next += trays;
                first..next
            })
            .collect();
        Ok(Self { partitions, drained: Vec::new(), spares: 0, levels: Levels::default() })
    }

    /// The same with these trays out of service from begin to end.
    #[must_use]
    pub fn with_drained(mut self, mut drained: Vec<u32>) -> Self {
        drained.sort_unstable();
        drained.dedup();
        drained.retain(|&tray| tray < self.trays());
        self.drained = drained;
        self
    }

    /// The same with this base size, and no aggregated blocks.
    #[must_use]
    pub fn with_base_size(mut self, sizes: &BlockSizes) -> Self {
        self.levels = Levels::new(sizes);
        self
    }

    /// The same with so many trays of each partition kept free as spares.
    ///
    /// # Errors
    /// [`SiteError::Spares`]
    pub fn with_spares(mut self, spares: u32) -> Result<Self, SiteError> {
        let largest = self.partitions.iter().map(|trays| trays.end - trays.start).max().unwrap_or(0);
        if spares >= largest {
            return Err(SiteError::Spares { spares, largest });
        }
        self.spares = spares;
        Ok(self)
    }

    /// All trays.
    pub fn trays(&self) -> u32 {
        self.partitions.last().map_or(0, |last| last.end)
    }

    /// The partitions, each with its trays.
    pub fn partitions(&self) -> &[Range<u32>] {
        &self.partitions
    }

    /// The partition of a tray.
    pub fn partition_of(&self, tray: u32) -> usize {
        self.partitions.partition_point(|trays| trays.end <= tray)
    }

    /// Trays that are out of service from begin to end, ascending.
    pub fn drained(&self) -> &[u32] {
        &self.drained
    }

    /// Trays of each partition that are kept free.
    pub fn spares(&self) -> u32 {
        self.spares
    }

    /// Aggregated blocks.
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// The most trays of a partition that jobs can have.
    pub fn capacity(&self, partition: &Range<u32>) -> u32 {
        (partition.end - partition.start).saturating_sub(self.spares)
    }

    /// The most trays that jobs can have in one partition.
    pub fn largest(&self) -> u32 {
        self.partitions.iter().map(|partition| self.capacity(partition)).max().unwrap_or(0)
    }

    /// Takes the spares out of a set of free trays: in each partition as many as are not already used up by trays that are
    /// down.
    pub fn hold_back(&self, up: &TraySet, free: &mut TraySet) {
        if self.spares == 0 {
            return;
        }
        for partition in &self.partitions {
            let down = partition.end - partition.start - up.count_in(partition);
            let held: Vec<u32> =
                free.ones_in(partition).rev().take(self.spares.saturating_sub(down) as usize).collect();
            free.remove_all(&held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn racks_become_partitions() {
        let site = Site::racks(3, 18, 2, 1).unwrap();
        assert_eq!((site.trays(), site.partitions().len(), site.largest()), (54, 6, 9));
        assert_eq!(site.drained(), [17, 35, 53]);
        assert_eq!([0, 8, 9, 53].map(|tray| site.partition_of(tray)), [0, 0, 1, 5]);
    }

    #[test]
    fn numbers_that_do_not_fit_are_named() {
        let said = |site: Result<Site, SiteError>| site.unwrap_err().to_string();
        assert_eq!(said(Site::racks(0, 18, 1, 0)), "0 trays are not from 1 to 1000000");
        assert_eq!(
            said(Site::racks(1, 18, 4, 0)),
            "a rack of 18 trays cannot be split into 4 NVLink partitions of as many trays each"
        );
        assert_eq!(said(Site::racks(1, 18, 1, 19)), "19 drained trays in each rack of 18");
        assert_eq!(
            said(Site::racks(1, 4, 1, 0).unwrap().with_spares(4)),
            "4 spare trays in each NVLink partition leave none of 4 for jobs"
        );
    }

    #[test]
    fn spares_stand_in_for_trays_that_are_down() {
        let site = Site::racks(2, 4, 1, 0).unwrap().with_spares(1).unwrap();
        let mut up = TraySet::full(8);
        up.remove(0);
        let mut free = up.clone();
        site.hold_back(&up, &mut free);
        assert_eq!(free.ones().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    }
}
