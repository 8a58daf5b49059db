//! `cargo xtask dist`: .deb and .rpm packages, for this machine's architecture and for arm64, into target/dist.

#![forbid(unsafe_code)]

mod check;
mod deb;
mod notices;
mod package;
mod pages;
mod rpm;
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tests::tree::Tree as SlurmTree;

use crate::console::seconds;
use crate::outcome::Outcome;
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
    /// Then install them in a clean Debian by the commands of the README, run jobs, upgrade, go back, remove.
    #[arg(long)]
    check: bool,
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
    let crates = notices::Sources::read(workspace)?;
    let mut all = vec![native];
    if native != Architecture::Arm64 {
        all.push(Architecture::Arm64);
    }
    all.retain(|architecture| options.arch.is_none_or(|wanted| wanted == *architecture));
    for architecture in all {
        let artifacts = artifacts_in(&folder.join("work"), architecture)?;
        if architecture == native {
            build_native(workspace, &artifacts)?;
        } else {
            let built = built_names().map(|(built, _)| built).collect::<Vec<_>>();
            let stripped = cross::release(workspace, &built)?;
            for (built, name) in built_names() {
                let from = stripped.join(built);
                fs::copy(&from, artifacts.join(name)).with_context(|| format!("copy {}", from.display()))?;
            }
        }
        let release = release(workspace, env!("CARGO_PKG_VERSION"), architecture)?;
        let notices = folder.join("work").join(format!("notices-{}", architecture.debian()));
        let licences = write_notices(workspace, &crates, architecture, &notices)?;
        for format in formats(options.format) {
            let sources = Sources {
                artifacts: &artifacts,
                pages: &pages,
                notices: &notices,
                licences: &licences,
                root: workspace.root(),
                architecture,
                format,
            };
            for package in pack(&release, &sources, &folder)? {
                println!("{}", package.display());
            }
        }
    }
    if options.check {
        let mut tell = |part: &str, time: Duration| println!("{:>8}  {part}", seconds(time));
        check(workspace, native, &crates, &pages, &folder.join("work"), &mut tell)?;
    }
    fs::remove_dir_all(folder.join("work")).context("remove the intermediate files")
}

/// The packages of this machine's architecture, made from what the stage `build` has compiled, and their life: a check for
/// each part of it.
///
/// # Errors
/// When they cannot be made. What goes wrong in their life is in the outcome.
pub(crate) fn test(workspace: &Workspace) -> Result<Outcome> {
    let folder = workspace.target().join("packages");
    clear(&folder)?;
    let (native, work) = (native()?, folder.join("work"));
    build_native(workspace, &artifacts_in(&work, native)?)?;
    let pages = pages::write(workspace, &work.join("pages"))?;
    let crates = notices::Sources::read(workspace)?;
    let mut outcome = Outcome::default();
    let mut tell = |part: &str, time: Duration| {
        eprintln!("    {:>8}  {part}", seconds(time));
        outcome.add(Outcome::check(true, String::new()));
    };
    if let Err(error) = check(workspace, native, &crates, &pages, &work, &mut tell) {
        outcome.add(Outcome::check(false, format!("{error:#}")));
    }
    fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    Ok(outcome)
}

/// The folder of the artifacts of an architecture.
fn artifacts_in(work: &Path, architecture: Architecture) -> Result<PathBuf> {
    let folder = work.join(format!("artifacts-{}", architecture.debian()));
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

/// Puts this machine's artifacts there.
fn build_native(workspace: &Workspace, folder: &Path) -> Result<()> {
    artifacts::build(workspace)?;
    strip(&workspace.target().join("release"), folder)
}

/// A version above all others, for the upgrade.
const HIGHER: &str = "1000.0.0";

/// Plays the life of this machine's Debian packages on a small site, and tells of each part that went well.
fn check(
    workspace: &Workspace,
    native: Architecture,
    crates: &notices::Sources,
    pages: &Path,
    work: &Path,
    tell: &mut dyn FnMut(&str, Duration),
) -> Result<()> {
    let artifacts = artifacts_in(work, native)?;
    let notices = work.join("notices-check");
    let licences = write_notices(workspace, crates, native, &notices)?;
    let sources = Sources {
        artifacts: &artifacts,
        pages,
        notices: &notices,
        licences: &licences,
        root: workspace.root(),
        architecture: native,
        format: Format::Deb,
    };
    let release = |version| release(workspace, version, native);
    let pack = |version: &'static str, name: &str| {
        let folder = work.join(name);
        fs::create_dir_all(folder.join("work")).with_context(|| format!("create {}", folder.display()))?;
        pack(&release(version)?, &sources, &folder)
    };
    let packages = check::Packages {
        these: pack(env!("CARGO_PKG_VERSION"), "check-these")?,
        higher: pack(HIGHER, "check-higher")?,
        higher_version: HIGHER,
        other_slurm: deb::other_slurm(&release(HIGHER)?, work)?,
    };
    check::run(&packages, tell)
}

/// The packages of a release in one format, in `folder`.
fn pack(release: &Release, sources: &Sources<'_>, folder: &Path) -> Result<Vec<PathBuf>> {
    let build = match sources.format {
        Format::Deb => deb::build,
        Format::Rpm => rpm::build,
    };
    let mut files = Vec::new();
    for package in PACKAGES {
        let name = format!("{}-{}-{:?}", package.name, release.architecture.debian(), sources.format);
        let tree = Tree::lay_out(package, sources, folder.join("work").join(name))?;
        files.push(build(package, &tree, release, folder)?);
    }
    Ok(files)
}

/// What a release is beside its version.
fn release(workspace: &Workspace, version: &'static str, architecture: Architecture) -> Result<Release> {
    let slurm = SlurmTree::ensure()?.slurm_version().to_owned();
    Ok(Release { version, slurm, architecture, maintainer: maintainer(), epoch: epoch(workspace)? })
}

/// Who makes the packages, as Debian's tools are told; else a name with an address that is nobody's.
fn maintainer() -> String {
    let told = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let name = told("DEBFULLNAME").unwrap_or_else(|| "The slurm-nvlink developers".to_owned());
    let address = told("DEBEMAIL").unwrap_or_else(|| "slurm-nvlink@example.org".to_owned());
    format!("{name} <{address}>")
}

/// Writes the notices of each product into a folder, compressed, and gives the licences of their crates by product.
fn write_notices(
    workspace: &Workspace,
    crates: &notices::Sources,
    architecture: Architecture,
    folder: &Path,
) -> Result<BTreeMap<&'static str, String>> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let mut licences = BTreeMap::new();
    for product in artifacts::PRODUCTS {
        let notices = crates.of(workspace, product, architecture)?;
        let file = folder.join(product);
        fs::write(&file, notices.text).with_context(|| format!("write {}", file.display()))?;
        gzip(&file)?;
        let all: Vec<String> = notices.licences.into_iter().collect();
        licences.insert(*product, all.join(") AND ("));
    }
    Ok(licences)
}

/// Compresses a file. Without name and time in it, equal files give equal ones.
fn gzip(file: &Path) -> Result<()> {
    let status = Command::new("gzip").args(["-9", "--no-name"]).arg(file).status().context("run gzip")?;
    ensure!(status.success(), "gzip {}: {status}", file.display());
    Ok(())
}

fn formats(only: Option<Format>) -> Vec<Format> {
    only.map_or(vec![Format::Deb, Format::Rpm], |format| vec![format])
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

/// A time as both formats write it: in English and UTC, without the end of the line.
fn date(epoch: u64, form: &str) -> Result<String> {
    let mut date = Command::new("date");
    date.env("LC_ALL", "C").args(["-u", &format!("--date=@{epoch}"), form]);
    let output = date.output().context("run date")?;
    ensure!(output.status.success(), "date: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout).context("the words of date")?.trim().to_owned())
}

/// The artifacts of the packages: the name in cargo's output folder, and their own.
fn built_names() -> impl Iterator<Item = (&'static str, &'static str)> {
    PACKAGES.iter().flat_map(|package| package.items).filter_map(|item| match item.from {
        package::From::Artifact(name) => Some((artifacts::built_name(name), name)),
        _ => None,
    })
}

/// Copies the artifacts from cargo's output folder without what only a debugger reads, four fifths of their size.
fn strip(built: &Path, folder: &Path) -> Result<()> {
    for (file, name) in built_names() {
        let from = built.join(file);
        let status = Command::new("strip")
            .args(["--strip-unneeded", "-o"])
            .args([&folder.join(name), &from])
            .status()
            .context("run strip")?;
        ensure!(status.success(), "strip {}: {status}", from.display());
    }
    Ok(())
}
