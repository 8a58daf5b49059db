//! Builds the release artifacts and puts them into one folder under the names they are installed by.
//!
//! The folder is replaced as a whole: a cluster that starts meanwhile sees the old set or the new one, never a mixture.

#![forbid(unsafe_code)]

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::child;
use crate::console::Progress;
use crate::slurm;
use crate::workspace::Workspace;

/// Packages that make artifacts.
const PACKAGES: &[&str] = &["slurm-plugin", "planted", "imex-prolog", "topology-gen", "sim", "nvml-sim"];

/// Those of them that users get.
pub(crate) const PRODUCTS: &[&str] = &["slurm-plugin", "imex-prolog", "topology-gen"];

/// The plugin with a panic planted in each entry point; the cases load it into a slurmctld of this machine's architecture.
const PLANTED: &str = "topology_block-planted-faults.so";

/// Name in cargo's output folder -> name in the stage.
const ARTIFACTS: &[(&str, &str)] = &[
    ("libtopology_block.so", "topology_block.so"),
    ("slurm-nvlink-confirm", "slurm-nvlink-confirm"),
    ("libplanted.so", PLANTED),
    ("imex-prolog", "imex-prolog"),
    ("imex-epilog", "imex-epilog"),
    ("topology-gen", "topology-gen"),
    ("nvidia-imex", "nvidia-imex"),
    ("nvidia-imex-ctl", "nvidia-imex-ctl"),
    ("libnvidia_ml.so", "libnvidia-ml.so.1"),
    ("sim-hook", "sim-hook"),
];

const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Builds for this machine and returns the folder of the staged files.
///
/// # Errors
/// When the build fails (its output is shown) or the files cannot be put in place.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let mut command = workspace.cargo();
    command.args(["build", "--release", "--locked"]);
    command.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
    slurm::headers(&mut command)?;
    let log = workspace.fresh_log("build")?;
    let status = child::run(&mut command, &log, LIMIT, &mut Progress::new())?;
    if !status.success() {
        bail!("`{}` failed:\n{}", child::show(&command), fs::read_to_string(&log).unwrap_or_default());
    }
    let stage = workspace.stage();
    put(&workspace.target().join("release"), &stage, ARTIFACTS)?;
    Ok(stage)
}

/// The name in cargo's output folder of what is called `staged` elsewhere.
pub(crate) fn built_name(staged: &str) -> &str {
    ARTIFACTS.iter().find(|(_, name)| *name == staged).map_or(staged, |(file, _)| file)
}

/// Puts what a tray needs from cargo's output folder `built` into the stage.
///
/// # Errors
/// A file is missing, or the stage cannot be replaced.
pub(crate) fn put_for_trays(built: &Path, stage: &Path) -> Result<()> {
    let needed: Vec<_> = ARTIFACTS.iter().copied().filter(|(_, name)| *name != PLANTED).collect();
    put(built, stage, &needed)
}

fn put(built: &Path, stage: &Path, artifacts: &[(&str, &str)]) -> Result<()> {
    let next = stage.with_extension(format!("next-{}", std::process::id()));
    fs::create_dir_all(&next).with_context(|| format!("create {}", next.display()))?;
    for (file, name) in artifacts {
        let from = built.join(file);
        fs::copy(&from, next.join(name)).with_context(|| format!("copy {} to the stage", from.display()))?;
    }
    replace(&next, stage).with_context(|| format!("replace {}", stage.display()))
}

/// Moves the folder `next` to `place` in one step, and removes what was there.
fn replace(next: &Path, place: &Path) -> Result<()> {
    match fs::rename(next, place) {
        Ok(()) => return Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {}
        Err(error) => return Err(error.into()),
    }
    renameat2(AT_FDCWD, next, AT_FDCWD, place, RenameFlags::RENAME_EXCHANGE)
        .context("exchange the two folders")?;
    fs::remove_dir_all(next).context("remove the old files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_replaced_as_a_whole() {
        let base = std::env::temp_dir().join(format!("xtask-stage-{}", std::process::id()));
        let (next, place) = (base.join("next"), base.join("place"));
        for round in ["first", "second"] {
            fs::create_dir_all(&next).unwrap();
            fs::write(next.join(round), round).unwrap();
            replace(&next, &place).unwrap();
            let names: Vec<_> =
                fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, [round]);
            assert!(!next.exists());
        }
        fs::remove_dir_all(base).unwrap();
    }
}
