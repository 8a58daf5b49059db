#![forbid(unsafe_code)]
//! Man pages and completions, as the program `pages` writes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::child;
use crate::console::Progress;
use crate::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Writes all pages, compressed, and all completions into `folder`.
///
/// # Errors
/// When the program that describes itself cannot be built, or a page cannot be written.
pub(super) fn write(workspace: &Workspace, folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let log = workspace.fresh_log("pages")?;
    // Of the whole workspace: with the features that the tests have compiled it with already.
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--workspace", "--locked", "--bin", "pages"]);
    let mut pages = Command::new(workspace.target().join("debug/pages"));
    for command in [&mut cargo, pages.arg(folder)] {
        let status = child::run(command, &log, LIMIT, &mut Progress::new())?;
        if !status.success() {
            bail!("`{}` failed:\n{}", child::show(command), fs::read_to_string(&log).unwrap_or_default());
        }
    }
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        // A page's name ends with the number of its section.
        if path.extension().is_some_and(|end| end.to_string_lossy().parse::<u8>().is_ok()) {
            super::gzip(&path)?;
        }
    }
    Ok(folder.to_owned())
}
