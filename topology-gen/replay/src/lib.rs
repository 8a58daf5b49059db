//! A site's workload replayed against its NVLink fabric: what a placement policy does to occupancy, waits and locality.
//!
//! A discrete-event simulation. What is simulated: time, jobs, the trays' failures. What is not: the placement, which is
//! made by real code behind [`placer::Placer`], first of all by [`fabric::placement`], the same that the plugin runs.
//!
//! ```text
//! workload ─┐                 ┌── placer (ours, naive, Slurm's own through the lab)
//! outages ──┼─> agenda ─> engine ─> cycle: queue order, backfill beside one reservation
//! site ─────┘                 └── record ─> summary ─> table, JSON, plots, page
//! ```
//!
//! **The order of the queue**, the same for every placer: higher priority first, then the earlier submission. A scheduling
//! cycle starts jobs in this order. The first job that cannot start now and could start when running jobs have reached their
//! time limits gets a reservation: the earliest such moment, and the trays that the placer then chooses. Jobs behind it start
//! if they end before that moment, or else on other trays. A cycle runs at the next multiple of the interval after something
//! has changed. Jobs have whole trays.
//!
//! The crate is pure: no files, no clock, no environment. The same input gives the same output to the last bit.
#![forbid(unsafe_code)]

pub mod accounting;
mod agenda;
mod cluster;
mod cycle;
mod engine;
pub mod job;
pub mod locality;
pub mod outages;
pub mod placer;
mod queue;
mod random;
mod record;
pub mod report;
pub mod scenario;
pub mod segments;
pub mod site;
pub mod stats;
pub mod summary;
pub mod trays;
pub mod workload;

pub use engine::{Fault, run};

/// Seconds, since the begin of the replay where it is a moment.
pub type Seconds = u64;

/// Seconds of an hour.
pub const HOUR: Seconds = 3600;
/// Seconds of a day.
pub const DAY: Seconds = 24 * HOUR;
