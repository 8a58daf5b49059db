#![forbid(unsafe_code)]
//! Why a job cannot be placed now, in one sentence.

use std::fmt;

/// The reason why no candidate exists. All numbers are counts of trays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// The trays that the job names do not lie in one partition, or one aggregated block, as a job of its size must.
    RequiredTraysApart {
        /// Trays that the job names.
        required: u32,
    },
    /// Some of the trays that the job names are in no partition.
    RequiredTraysOutside {
        /// Trays that the job names.
        required: u32,
    },
    /// The trays that the job names are in more partitions than the job may use.
    RequiredTraysScattered {
        /// Trays that the job names.
        required: u32,
        /// Partitions in which they are.
        partitions: u32,
        /// The number of partitions that the job is allowed to use.
        allowed: u32,
    },
    /// There is room for all segments, but not with the trays that the job names in them.
    RequiredTraysInTheWay {
        /// Trays that the job names.
        required: u32,
        /// Trays of one segment.
        segment: u32,
    },
    /// The fewest partitions that could hold the job have too few free trays now.
    TooFewFreeToSpan {
        /// Trays wanted.
        wanted: u32,
        /// The number of partitions that the job is allowed to use.
        partitions: u32,
        /// Partitions of the aggregated block in which they have to be, if in one.
        within: Option<u32>,
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
        /// Partitions of the aggregated block in which all have to be, if in one.
        within: Option<u32>,
    },
    /// The job is held, and nothing is free but what it leaves to larger ones.
    KeptForLarger,
    /// A segment is larger than every partition.
    SegmentTooLarge {
        /// Trays of one segment.
        segment: u32,
        /// Trays of the largest partition.
        largest: u32,
    },
}

impl Refusal {
    /// The refusal without the numbers that change with every job that ends: two refusals of a job that are equal then
    /// are the same reason.
    pub fn reason(self) -> Self {
        match self {
            Self::NoPartitionFree { wanted, best_unhealthy, .. } => {
                Self::NoPartitionFree { wanted, best_free: 0, best_unhealthy: best_unhealthy.min(1) }
            }
            Self::TooFewFreeToSpan { wanted, partitions, within, .. } => {
                Self::TooFewFreeToSpan { wanted, partitions, within, best_free: 0 }
            }
            Self::NoRoomForSegments { wanted, segment, spread, within, .. } => {
                Self::NoRoomForSegments { wanted, segment, room: 0, spread, within }
            }
            settled => settled,
        }
    }
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
                    "the {required} required trays are not in one NVLink partition or aggregated block, as a job of \
                     this size must be"
                )
            }
            Self::RequiredTraysOutside { required } => {
                write!(f, "not all of the {required} required trays are in an NVLink partition")
            }
            Self::RequiredTraysScattered { required, partitions, allowed } => write!(
                f,
                "the {required} required trays are in {partitions} NVLink partitions, and {allowed} can hold the job"
            ),
            Self::RequiredTraysInTheWay { required, segment } => write!(
                f,
                "the {required} required trays do not fit into the job's segments of {segment} trays"
            ),
            Self::TooFewFreeToSpan { wanted, partitions, within, best_free } => {
                write!(
                    f,
                    "needs {wanted} trays in {partitions} NVLink partitions, the fewest that can hold it"
                )?;
                within_block(f, within)?;
                write!(f, "; the best {partitions} have {best_free} free")
            }
            Self::NoRoomForSegments { wanted, segment, room, spread, within } => {
                let own = if spread { " of its own" } else { "" };
                write!(f, "needs {wanted} segments of {segment} trays, each in one NVLink partition{own}")?;
                within_block(f, within)?;
                write!(f, "; there is room for {room}")
            }
            Self::KeptForLarger => {
                write!(f, "the free trays that it could have are left to larger jobs that are ahead of it")
            }
            Self::SegmentTooLarge { segment, largest } => write!(
                f,
                "a segment of {segment} trays is larger than every NVLink partition; the largest has {largest}"
            ),
        }
    }
}

fn within_block(f: &mut fmt::Formatter<'_>, partitions: Option<u32>) -> fmt::Result {
    match partitions {
        Some(partitions) => write!(f, ", all in one aggregated block of {partitions} NVLink partitions"),
        None => Ok(()),
    }
}

impl std::error::Error for Refusal {}
