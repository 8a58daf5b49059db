//! Slurm's development headers for the plugin's build.

#![forbid(unsafe_code)]

use std::process::Command;

use anyhow::Result;
use tests::tree::Tree;

/// The variable that tells the plugin's build where `slurm/slurm.h` is.
const INCLUDE: &str = "SLURM_NVLINK_INCLUDE";

/// Makes `command` build against the headers of the Slurm that the test cluster runs; a folder given by the environment
/// goes before.
///
/// # Errors
/// When there is no root tree and none can be made.
pub(crate) fn headers(command: &mut Command) -> Result<()> {
    if std::env::var_os(INCLUDE).is_none() {
        command.env(INCLUDE, Tree::ensure()?.include_dir());
    }
    Ok(())
}
