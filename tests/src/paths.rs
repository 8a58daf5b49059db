//! Where things lie: the cache outside the repository, the staged artifacts, the state of running clusters, and
//! the installed places inside a node.
#![forbid(unsafe_code)]

use anyhow::Context as _;
use std::env;
use std::path::{Path, PathBuf};

/// State of running clusters, one directory each.
pub const CLUSTERS: &str = "/run/slurm-nvlink-clusters";

/// Directory of our plugin on every node; first in `PluginDir`.
pub const PLUGIN_DIR: &str = "/usr/lib/slurm-nvlink";

/// Directory of Slurm's configuration on the controller.
pub const SLURM_ETC: &str = "/etc/slurm";

/// The path in an environment variable, if it is set and not empty. Absolute, because the supervisor of a cluster does
/// not run in the directory of its starter.
fn variable(name: &str) -> Option<PathBuf> {
    let value = env::var_os(name).filter(|value| !value.is_empty())?;
    Some(std::path::absolute(&value).unwrap_or_else(|_| PathBuf::from(value)))
}

/// The cache: `SLURM_NVLINK_CACHE`, else `$XDG_CACHE_HOME/slurm-nvlink`, else `~/.cache/slurm-nvlink`.
///
/// # Errors
/// None of the variables, nor `HOME`, is set.
pub fn cache() -> anyhow::Result<PathBuf> {
    if let Some(cache) = variable("SLURM_NVLINK_CACHE") {
        return Ok(cache);
    }
    let base = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    Ok(base.context("no place for the cache: set SLURM_NVLINK_CACHE or HOME")?.join("slurm-nvlink"))
}

/// The staged artifacts: `SLURM_NVLINK_STAGE`, else `target/stage` of this workspace.
pub fn stage() -> PathBuf {
    variable("SLURM_NVLINK_STAGE").unwrap_or_else(|| {
        let target = variable("CARGO_TARGET_DIR").unwrap_or_else(|| workspace().join("target"));
        target.join("stage")
    })
}

/// A ready root tree named by `SLURM_NVLINK_TREE`: a directory or a `tar.zst`.
pub fn given_tree() -> Option<PathBuf> {
    variable("SLURM_NVLINK_TREE")
}

/// The root of this workspace, where it was when this crate was compiled.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}
