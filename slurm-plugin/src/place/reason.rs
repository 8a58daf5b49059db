#![forbid(unsafe_code)]
//! Why a job waits, in one sentence for the log.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use fabric::placement::Refusal;

/// The words of [`Reason::word`].
pub(crate) const WORDS: [&str; 12] = [
    "kept-for-larger",
    "no-partition-free",
    "no-room-for-segments",
    "poor-segments",
    "required-trays-apart",
    "required-trays-in-the-way",
    "required-trays-outside",
    "required-trays-scattered",
    "segment-too-large",
    "short-of-cpus-or-gres",
    "too-few-cpus",
    "too-few-free-to-span",
];

/// Why a job is not placed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reason {
    /// The partitions have no place for it.
    Partitions(Refusal),
    /// No set of as many trays as it may have has its CPUs.
    TooFewCpus {
        /// CPUs that it needs.
        cpus: u32,
        /// Trays that they would take.
        least: u32,
        /// Trays that it may have.
        most: u32,
    },
    /// Each partition with enough free trays lacks cores or GRES for it.
    ShortEverywhere,
    /// The segments with most CPUs have too few of them.
    PoorSegments {
        /// CPUs that it needs.
        cpus: u32,
        /// CPUs of the best segments.
        best: u64,
    },
}

impl Reason {
    /// In one word, for the metrics.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Partitions(refusal) => match refusal {
                Refusal::NoPartitionFree { .. } => "no-partition-free",
                Refusal::RequiredTraysApart { .. } => "required-trays-apart",
                Refusal::RequiredTraysOutside { .. } => "required-trays-outside",
                Refusal::RequiredTraysScattered { .. } => "required-trays-scattered",
                Refusal::RequiredTraysInTheWay { .. } => "required-trays-in-the-way",
                Refusal::TooFewFreeToSpan { .. } => "too-few-free-to-span",
                Refusal::NoRoomForSegments { .. } => "no-room-for-segments",
                Refusal::KeptForLarger => "kept-for-larger",
                Refusal::SegmentTooLarge { .. } => "segment-too-large",
            },
            Self::TooFewCpus { .. } => "too-few-cpus",
            Self::ShortEverywhere => "short-of-cpus-or-gres",
            Self::PoorSegments { .. } => "poor-segments",
        }
    }

    /// What two evaluations of a job have in common while it waits for the same reason.
    pub(super) fn identity(self) -> u64 {
        let settled = match self {
            Self::Partitions(refusal) => Self::Partitions(refusal.reason()),
            Self::PoorSegments { cpus, .. } => Self::PoorSegments { cpus, best: 0 },
            other => other,
        };
        digest(&settled)
    }
}

/// A number for a value, the same during the life of the process.
pub(super) fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partitions(refusal) => write!(f, "{refusal}"),
            Self::TooFewCpus { cpus, least, most } => {
                write!(f, "its {cpus} CPUs need {least} trays, and it may have {most}")
            }
            Self::ShortEverywhere => {
                write!(f, "each NVLink partition with enough free trays is short of CPUs or GRES for it")
            }
            Self::PoorSegments { cpus, best } => {
                write!(f, "needs {cpus} CPUs; the segments with most of them have {best}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_come_and_go_do_not_change_the_reason() {
        let waits = |best_free, best_unhealthy| {
            Reason::Partitions(Refusal::NoPartitionFree { wanted: 16, best_free, best_unhealthy }).identity()
        };
        assert_eq!(waits(3, 0), waits(15, 0));
        assert_eq!(waits(3, 2), waits(15, 1));
        assert_ne!(waits(15, 0), waits(15, 1), "a drained tray does");
        assert_ne!(waits(15, 0), Reason::ShortEverywhere.identity());
    }

    #[test]
    fn every_word_is_listed_once() {
        let within = None;
        let refusals = [
            Refusal::NoPartitionFree { wanted: 1, best_free: 0, best_unhealthy: 0 },
            Refusal::RequiredTraysApart { required: 1 },
            Refusal::RequiredTraysOutside { required: 1 },
            Refusal::RequiredTraysScattered { required: 1, partitions: 1, allowed: 1 },
            Refusal::RequiredTraysInTheWay { required: 1, segment: 1 },
            Refusal::TooFewFreeToSpan { wanted: 1, partitions: 1, within, best_free: 0 },
            Refusal::NoRoomForSegments { wanted: 1, segment: 1, room: 0, spread: false, within },
            Refusal::KeptForLarger,
            Refusal::SegmentTooLarge { segment: 1, largest: 0 },
        ];
        let others = [
            Reason::TooFewCpus { cpus: 1, least: 1, most: 1 },
            Reason::ShortEverywhere,
            Reason::PoorSegments { cpus: 1, best: 0 },
        ];
        let all = refusals.into_iter().map(Reason::Partitions).chain(others);
        let mut words: Vec<&str> = all.map(Reason::word).collect();
        words.sort_unstable();
        assert_eq!(words, WORDS);
    }

    #[test]
    fn reasons_are_sentences() {
        let lines = [
            Reason::Partitions(Refusal::NoPartitionFree { wanted: 16, best_free: 14, best_unhealthy: 2 }),
            Reason::TooFewCpus { cpus: 600, least: 5, most: 4 },
            Reason::ShortEverywhere,
            Reason::PoorSegments { cpus: 64, best: 48 },
        ]
        .map(|reason| reason.to_string());
        assert_eq!(
            lines,
            [
                "needs 16 trays in one NVLink partition; the best partition has 14 free and 2 drained or down",
                "its 600 CPUs need 5 trays, and it may have 4",
                "each NVLink partition with enough free trays is short of CPUs or GRES for it",
                "needs 64 CPUs; the segments with most of them have 48",
            ]
        );
    }
}
