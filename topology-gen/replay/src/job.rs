//! Jobs as a workload has them.

use std::num::NonZeroU32;

use fabric::placement::Request;
use serde::Serialize;

use crate::Seconds;

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Job {
    /// Its name in the workload.
    pub name: String,
    /// When it is submitted.
    pub submit: Seconds,
    /// Whole trays, at least 1.
    pub trays: u32,
    /// `--segment`: trays of a segment share a partition; divides `trays`. 0 for none.
    pub segment: u32,
    /// How long it runs, at least 1.
    pub run: Seconds,
    /// Its time limit, at least `run`.
    pub limit: Seconds,
    /// Higher is earlier.
    pub priority: i64,
}

/// What a job asks of the fabric: the part of a job that decides where it can lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ask {
    /// Whole trays, at least 1.
    pub trays: u32,
    /// Trays of a segment, less than `trays`; 0 when the job is one piece.
    pub segment: u32,
}

impl Job {
    /// What it asks of the fabric.
    pub fn ask(&self) -> Ask {
        Ask { trays: self.trays, segment: if self.segment < self.trays { self.segment } else { 0 } }
    }
}

impl Ask {
    /// The same for the placement core.
    pub fn request(self) -> Request {
        Request {
            trays: self.trays,
            segment: NonZeroU32::new(self.segment),
            spread: false,
            consolidate: false,
            required: 0,
            held: false,
        }
    }
}
