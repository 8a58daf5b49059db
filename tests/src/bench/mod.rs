//! How long a job waits for its prologs: ours, none, the least possible one, and any other script, side by side on one cluster.
//!
//! ```text
//!   cli ─▶ variants (which hooks) ─▶ start (one job: allocated, begun, CPU) ─▶ report (percentiles, ratios)
//! ```
//! Slurm and its clocks are real. The IMEX daemons are simulated, so the floor is theirs and not that of real ones; what a prolog
//! adds to it is its own.
#![forbid(unsafe_code)]

mod cli;
mod report;
mod start;
mod variant;

pub use cli::Options;
