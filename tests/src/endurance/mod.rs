//! The whole product on one cluster for as long as one likes: jobs of all kinds, faults of trays, daemons and network,
//! restarts of Slurm, racks that are cut in two; and rules that must hold all the time.
//!
//! ```text
//!   plan ─▶ round ─▶ act ──▶ cluster
//!            │  ▲     (what happens)
//!            │  └─── picture ◀─ squeue, sinfo, files on the trays
//!            ▼
//!          rules ─▶ violations ─▶ reduce ─▶ a plan that is as small as it gets
//! ```
//! A round is a plan of a minute or so that ends with everything healed: then no job may be left, nothing of any job, and a
//! job on each whole rack must run. Plans, rules and reduction are pure.
#![forbid(unsafe_code)]

mod act;
mod cli;
mod memory;
pub mod plan;
mod reduce;
mod report;
mod round;
pub mod rules;

pub use cli::Options;
pub use round::{Played, Stage};
