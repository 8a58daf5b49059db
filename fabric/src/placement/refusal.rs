#![forbid(unsafe_code)]
//! Why a job cannot be placed now, in one sentence.

use std::fmt;

/// The reason why no candidate exists. All numbers are counts of trays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No partition has enough free trays for a job that must lie in one.
    NoPartitionFree {
        /// Trays wanted.
        wanted: u32,
        /// Free trays of the partition that comes closest.
        best_free: u32,
        /// Unhealthy trays of that partition.
        best_unhealthy: u32,
    },
    /// The trays that the job names do not lie in one partition, though the job would fit one.
    RequiredTraysApart {
        /// Trays that the job names.
        required: u32,
    },
    /// The fewest partitions that could hold the job have too few free trays now.
    TooFewFreeToSpan {
        /// Trays wanted.
        wanted: u32,
        /// The number of partitions that the job is allowed to use.
        partitions: u32,
        /// Free trays in the best partitions of that number.
        best_free: u32,
    },
    /// No place is left for some of the segments.
    NoRoomForSegments {
        /// Segments wanted.
        wanted: u32,
        /// Trays of one segment.
        segment: u32,
        /// Segments that have room now.
        room: u32,
        /// Whether no two of them may share a partition.
        spread: bool,
    },
    /// A segment is larger than every partition.
    SegmentTooLarge {
        /// Trays of one segment.
        segment: u32,
        /// Trays of the largest partition.
        largest: u32,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoPartitionFree { wanted, best_free, best_unhealthy } => write!(
                f,
                "needs {wanted} trays in one NVLink partition; the best partition has {best_free} free and \
                 {best_unhealthy} drained or down"
            ),
            Self::RequiredTraysApart { required } => {
                write!(
                    f,
                    "the {required} required trays are not in one NVLink partition, though the job fits one"
                )
            }
            Self::TooFewFreeToSpan { wanted, partitions, best_free } => write!(
                f,
                "needs {wanted} trays in {partitions} NVLink partitions, the fewest that can hold it; the best \
                 {partitions} have {best_free} free"
            ),
            Self::NoRoomForSegments { wanted, segment, room, spread } => write!(
                f,
                "needs {wanted} segments of {segment} trays, each in one NVLink partition{}; there is room for {room}",
                if spread { " of its own" } else { "" }
            ),
            Self::SegmentTooLarge { segment, largest } => write!(
                f,
                "a segment of {segment} trays is larger than every NVLink partition; the largest has {largest}"
            ),
        }
    }
}

impl std::error::Error for Refusal {}
