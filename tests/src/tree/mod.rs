//! The root tree of all nodes: Debian forky with Slurm, made once and kept in the cache, outside the repository.
//!
//! It is shared by all nodes of all clusters, so nothing may ever write to it: each node has an overlay on it.
#![forbid(unsafe_code)]

mod build;
mod recipe;

pub use build::need_program;
pub use recipe::Recipe;

use crate::paths;
use anyhow::{Context as _, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// The directory of a recipe's tree, made first if it is not there yet (root needed; progress on stderr).
///
/// # Errors
/// It cannot be made.
pub fn made(recipe: &Recipe) -> anyhow::Result<PathBuf> {
    build::built(recipe)
}

/// A complete root tree.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
    slurm_version: String,
    plugin_dir: PathBuf,
}

impl Tree {
    /// The tree in use, made first if it is not there yet (root needed; progress on stderr, under a minute).
    ///
    /// # Errors
    /// It cannot be made, or what `SLURM_NVLINK_TREE` names is not a root tree with Slurm.
    pub fn ensure() -> anyhow::Result<Self> {
        match paths::given_tree() {
            Some(given) if given.is_dir() => Self::open(&given),
            Some(given) => Self::open(&build::unpacked(&given)?),
            None => Self::open(&build::built(&Recipe::for_this_machine()?)?),
        }
    }

    /// The tree of a recipe, made first if it is not there yet (root needed; progress on stderr).
    ///
    /// # Errors
    /// It cannot be made, or Slurm is not in it.
    pub fn made(recipe: &Recipe) -> anyhow::Result<Self> {
        Self::open(&build::built(recipe)?)
    }

    /// The tree in use, if it is there already.
    ///
    /// # Errors
    /// There is one, and it is not a root tree with Slurm.
    pub fn find() -> anyhow::Result<Option<Self>> {
        let root = match paths::given_tree() {
            Some(given) if given.is_dir() => given,
            Some(given) => build::place_of_archive(&given)?,
            None => build::place_of_recipe(&Recipe::for_this_machine()?)?,
        };
        if root.is_dir() { Self::open(&root).map(Some) } else { Ok(None) }
    }

    /// Looks at a directory and takes it as a tree.
    ///
    /// # Errors
    /// Slurm is not in it, or its path has a character that overlayfs cannot take.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        let root = root.canonicalize().with_context(|| format!("root tree {}", root.display()))?;
        if root.to_string_lossy().contains([':', ',', '\\']) {
            bail!("root tree {}: overlayfs takes no path with a colon, comma or backslash", root.display());
        }
        let status = fs::read_to_string(root.join("var/lib/dpkg/status"))
            .with_context(|| format!("root tree {}: no dpkg status", root.display()))?;
        let slurm_version = version_in_status(&status, "slurmctld")
            .with_context(|| format!("root tree {}: slurmctld is not installed in it", root.display()))?;
        let plugin_dir = plugin_dir(&root)?;
        Ok(Self { root, slurm_version, plugin_dir })
    }

    /// The directory on this machine.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Directory that holds `slurm/slurm.h` of the tree's Slurm, for the plugin's build.
    pub fn include_dir(&self) -> PathBuf {
        self.root.join("usr/include")
    }

    /// Slurm's upstream version, for example `26.05.5` (without Debian's revision).
    pub fn slurm_version(&self) -> &str {
        &self.slurm_version
    }

    /// Slurm's own plugin directory, as a path inside a node.
    pub fn plugin_dir(&self) -> &Path {
        &self.plugin_dir
    }

    /// Directory in the dynamic loader's path, as a path inside a node, for example `/usr/lib/x86_64-linux-gnu`.
    pub fn library_dir(&self) -> &Path {
        self.plugin_dir.parent().unwrap_or(Path::new("/usr/lib"))
    }
}

/// `usr/lib/<triplet>/slurm-wlm` in the tree, as a path inside a node.
fn plugin_dir(root: &Path) -> anyhow::Result<PathBuf> {
    let lib = root.join("usr/lib");
    for entry in fs::read_dir(&lib).with_context(|| format!("cannot read {}", lib.display()))? {
        let triplet = entry.with_context(|| format!("cannot read {}", lib.display()))?.file_name();
        if lib.join(&triplet).join("slurm-wlm/topology_block.so").exists() {
            return Ok(Path::new("/usr/lib").join(triplet).join("slurm-wlm"));
        }
    }
    bail!("root tree {}: no usr/lib/*/slurm-wlm/topology_block.so", root.display());
}

/// The upstream version of an installed package in the text of dpkg's status file.
fn version_in_status(status: &str, package: &str) -> Option<String> {
    let paragraph = status.split("\n\n").find(|paragraph| {
        let mut lines = paragraph.lines();
        lines.any(|line| line.strip_prefix("Package: ") == Some(package))
            && paragraph.contains("\nStatus: install ok installed")
    })?;
    let version = paragraph.lines().find_map(|line| line.strip_prefix("Version: "))?;
    let without_epoch = version.split_once(':').map_or(version, |(_, rest)| rest);
    let upstream = without_epoch.rsplit_once('-').map_or(without_epoch, |(upstream, _)| upstream);
    Some(upstream.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Package: slurm-client\nStatus: install ok installed\nVersion: 1-1\n\n\
        Package: slurmctld\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2:26.05.5-1+b2\n\n\
        Package: gone\nStatus: deinstall ok config-files\nVersion: 3\n";

    #[test]
    fn the_upstream_version_has_neither_epoch_nor_revision() {
        assert_eq!(version_in_status(STATUS, "slurmctld").as_deref(), Some("26.05.5"));
    }

    #[test]
    fn a_package_that_is_not_installed_has_no_version() {
        assert_eq!(version_in_status(STATUS, "gone"), None);
        assert_eq!(version_in_status(STATUS, "slurm"), None);
    }
}
