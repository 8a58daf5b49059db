//! `topology-gen`: reads which compute trays share an NVLink partition and writes Slurm's `topology.yaml`.
//!
//! ```text
//! source (NVML, Slurm, file, nvidia-smi) -> Inventory -> reconcile -> plan (with the previous file) -> emit -> write
//! a file -> check (against nodes and slurm.conf), diff (against a file or the controller), apply (or all as before)
//! ```
//!
//! Sources never emit and emitters never discover. One bad tray never ends a run: it is listed with its reason. A tray that
//! says nothing stays in its last block. The file is replaced as a whole or not at all.
#![forbid(unsafe_code)]

pub mod apply;
pub mod assign;
pub mod check;
pub mod cli;
pub mod command;
pub mod conf;
pub mod controller;
pub mod convert;
pub mod diff;
pub mod emit;
pub mod failure;
#[cfg(test)]
mod fixture;
pub mod natural;
pub mod plan;
pub mod reconcile;
pub mod site;
pub mod site_map;
pub mod source;
pub mod version;
pub mod why;
pub mod write;

use std::process::ExitCode;

/// Runs the program with the arguments, standard output and standard error of this process.
pub fn main() -> ExitCode {
    cli::run(std::env::args_os(), &mut std::io::stdout().lock(), &mut std::io::stderr().lock())
}
