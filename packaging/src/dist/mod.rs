//! `cargo xtask dist`: .deb and .rpm packages, for this machine's architecture and for arm64, into target/dist.

#![forbid(unsafe_code)]

mod deb;
mod package;
mod pages;
mod rpm;
mod tree;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use tests::tree::Tree as SlurmTree;

use crate::workspace::Workspace;
use crate::{artifacts, cross, setup};
use package::PACKAGES;
use tree::{Architecture, Release, Sources, Tree};

/// Options of `dist`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only this format.
    #[arg(long)]
    format: Option<Format>,
    /// Only this architecture. Without it, this machine's and arm64.
    #[arg(long)]
    arch: Option<Architecture>,
}

/// A format of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Debian, Ubuntu.
    Deb,
    /// Red Hat, Rocky, SUSE.
    Rpm,
}

/// Builds the packages and prints where they are.
///
/// # Errors
/// When something cannot be built or packed.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    setup::ensure()?;
    if options.format != Some(Format::Deb) {
        tests::tree::need_program("rpmbuild", "rpm")?;
    }
    let folder = workspace.target().join("dist");
    clear(&folder)?;
    let native = native()?;
    let pages = pages::write(workspace, &folder.join("work/pages"))?;
    let mut all = vec![native];
    if native != Architecture::Arm64 {
        all.push(Architecture::Arm64);
    }
    all.retain(|architecture| options.arch.is_none_or(|wanted| wanted == *architecture));
    for architecture in all {
        let artifacts = folder.join("work").join(format!("artifacts-{}", architecture.debian()));
        if architecture == native {
            artifacts::build(workspace)?;
            gather(&workspace.target().join("release"), &artifacts, true)?;
        } else {
            gather(&cross::release(workspace)?, &artifacts, false)?;
        }
        let release = Release {
            version: env!("CARGO_PKG_VERSION"),
            slurm: SlurmTree::ensure()?.slurm_version().to_owned(),
            architecture,
            epoch: epoch(workspace)?,
        };
        let sources = Sources { artifacts: &artifacts, pages: &pages, root: workspace.root() };
        pack(&release, &sources, options.format, &folder)?;
    }
    fs::remove_dir_all(folder.join("work")).context("remove the intermediate files")
}

fn pack(release: &Release, sources: &Sources<'_>, format: Option<Format>, folder: &Path) -> Result<()> {
    for package in PACKAGES {
        let root = folder.join("work").join(format!("{}-{}", package.name, release.architecture.debian()));
        let tree = Tree::lay_out(package, sources, root)?;
        if format != Some(Format::Rpm) {
            println!("{}", deb::build(package, &tree, release, folder)?.display());
        }
        if format != Some(Format::Deb) {
            println!("{}", rpm::build(package, &tree, release, folder)?.display());
        }
    }
    Ok(())
}

fn native() -> Result<Architecture> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(Architecture::Amd64),
        "aarch64" => Ok(Architecture::Arm64),
        other => bail!("packages are made on x86_64 and aarch64, not on {other}"),
    }
}

fn clear(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder.join("work")).with_context(|| format!("create {}", folder.display()))
}

/// Time of the newest commit.
fn epoch(workspace: &Workspace) -> Result<u64> {
    let output = Command::new("git")
        .args(["log", "-1", "--format=%ct"])
        .current_dir(workspace.root())
        .output()
        .context("run git")?;
    ensure!(output.status.success(), "git log: {}", String::from_utf8_lossy(&output.stderr).trim());
    String::from_utf8_lossy(&output.stdout).trim().parse().context("the time of the newest commit")
}

/// Copies the artifacts of the packages from cargo's output folder; with `strip` without what only a debugger reads, four
/// fifths of their size.
fn gather(built: &Path, folder: &Path, strip: bool) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    for item in PACKAGES.iter().flat_map(|package| package.items) {
        let package::From::Artifact(name) = item.from else { continue };
        let (from, to) = (built.join(artifacts::built_name(name)), folder.join(name));
        if strip {
            let status = Command::new("objcopy").arg("--strip-debug").args([&from, &to]).status();
            let status = status.context("run objcopy")?;
            ensure!(status.success(), "objcopy --strip-debug {}: {status}", from.display());
        } else {
            fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
        }
    }
    Ok(())
}
