//! Where things are: the workspace, its targets, and the folders that commands write to.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The workspace as `cargo metadata` sees it.
#[derive(Debug, Deserialize)]
pub(crate) struct Workspace {
    /// The folder of the root `Cargo.toml`.
    #[serde(rename = "workspace_root")]
    root: PathBuf,
    #[serde(rename = "target_directory")]
    target: PathBuf,
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Workspace {
    /// Asks cargo about the workspace that this runner belongs to.
    ///
    /// # Errors
    /// When cargo cannot be run or its answer cannot be read.
    pub(crate) fn locate() -> Result<Self> {
        // Set by `cargo run`; the path of the build serves when the binary is started by hand.
        let here =
            std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let output = Command::new(cargo())
            .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
            .current_dir(&here)
            .output()
            .context("run cargo metadata")?;
        ensure!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        serde_json::from_slice(&output.stdout).context("read the answer of cargo metadata")
    }

    /// The folder of the root `Cargo.toml`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's target folder.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// The folder of the built artifacts that the test cluster installs: `SLURM_NVLINK_STAGE` or `target/stage`.
    pub(crate) fn stage(&self) -> PathBuf {
        std::env::var_os("SLURM_NVLINK_STAGE").map_or_else(|| self.target.join("stage"), PathBuf::from)
    }

    /// An empty log file for the full output of the stage `name`; that of the run before is gone.
    ///
    /// # Errors
    /// When the folder or the file cannot be written.
    pub(crate) fn fresh_log(&self, name: &str) -> Result<PathBuf> {
        let folder = self.target.join("xtask").join("logs");
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let log = folder.join(name).with_extension("log");
        std::fs::write(&log, "").with_context(|| format!("write {}", log.display()))?;
        Ok(log)
    }

    /// The names of the integration tests (`tests/*.rs` of a member) other than `without`.
    pub(crate) fn integration_tests(&self, without: &str) -> Vec<&str> {
        let targets = self.packages.iter().flat_map(|package| &package.targets);
        targets
            .filter(|target| target.kind.iter().any(|kind| kind == "test") && target.name != without)
            .map(|target| target.name.as_str())
            .collect()
    }

    /// A cargo command in the root of the workspace.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(cargo());
        command.current_dir(&self.root);
        // Set by the `cargo run` around us for this package only; build scripts of others must not see them.
        for (name, _) in std::env::vars_os() {
            if name
                .to_str()
                .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
            {
                command.env_remove(name);
            }
        }
        command
    }
}

fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
