//! The `cargo xtask` runner.
//!
//! ```text
//! setup      what the machine lacks, by apt
//!   tree     the root tree with the real Slurm (crate `tests`)
//!     build  release artifacts -> target/stage
//!       test     fmt, clippy, unit, cluster cases, arm  -> one line a stage, one sum
//! ```
//!
//! It is built first on a fresh machine, so it stays small: no module here may need libclang or Slurm's headers to
//! compile. What it runs are ordinary commands that it can show; it holds no logic of the products.

#![forbid(unsafe_code)]

mod artifacts;
mod bench;
mod cargo_test;
mod child;
mod cli;
mod console;
mod cross;
mod demo;
mod dist;
mod fuzz;
mod install;
mod libtest;
mod memcheck;
mod monitoring;
mod outcome;
mod setup;
mod slurm;
mod test;
mod workspace;

pub use cli::{command, main};
