//! `cargo xtask`: sets up, builds, tests and demonstrates slurm-nvlink.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    packaging::main()
}
