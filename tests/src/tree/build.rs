//! Making a root tree, or unpacking a given one, into the cache. A tree appears under its name only when complete.
#![forbid(unsafe_code)]

use super::recipe::{MIRROR_FORMAT, Recipe, SUITES, debian_mirrors, fnv1a};
use crate::paths;
use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the tree of a recipe lies.
pub(super) fn place_of_recipe(recipe: &Recipe) -> anyhow::Result<PathBuf> {
    Ok(paths::cache()?.join(recipe.directory_name()))
}

/// Where the unpacked tree of an archive lies: another size or time of the archive is another tree.
pub(super) fn place_of_archive(archive: &Path) -> anyhow::Result<PathBuf> {
    let archive =
        archive.canonicalize().with_context(|| format!("SLURM_NVLINK_TREE={}", archive.display()))?;
    let data = archive.metadata().with_context(|| format!("SLURM_NVLINK_TREE={}", archive.display()))?;
    let identity = format!("{} {} {} {}", archive.display(), data.len(), data.mtime(), data.mtime_nsec());
    Ok(paths::cache()?.join(format!("tree-given-{:016x}", fnv1a(identity.as_bytes()))))
}

/// The tree of a recipe, made if it is not there.
pub(super) fn built(recipe: &Recipe) -> anyhow::Result<PathBuf> {
    once(&place_of_recipe(recipe)?, |target| {
        need_root("making the root tree")?;
        need_program("mmdebstrap", "mmdebstrap")?;
        let mirrors = mirrors_of_this_machine()?;
        let mut failures = Vec::new();
        for mirror in &mirrors {
            for suite in SUITES {
                eprintln!("making the root tree ({}): Debian {suite} from {mirror}", recipe.architecture);
                match mmdebstrap(recipe, suite, target, mirror) {
                    Ok(()) => return Ok(()),
                    Err(error) => failures.push(format!("{suite} from {mirror}: {error:#}")),
                }
                remove_tree(target)?;
            }
        }
        bail!(
            "no root tree could be made:\n  {}\nhint: SLURM_NVLINK_TREE=<directory or tar.zst> names a ready one",
            failures.join("\n  ")
        );
    })
}

/// The tree of a given archive, unpacked if it is not yet.
pub(super) fn unpacked(archive: &Path) -> anyhow::Result<PathBuf> {
    once(&place_of_archive(archive)?, |target| {
        need_root("unpacking the root tree")?;
        need_program("zstd", "zstd")?;
        fs::create_dir(target).with_context(|| format!("cannot make {}", target.display()))?;
        eprintln!("unpacking the root tree {}", archive.display());
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--zstd", "--numeric-owner", "--xattrs", "--file"]);
        run(tar.arg(archive).arg("--directory").arg(target))
    })
}

/// Gives `place`; if it is not there, lets `make` fill a directory beside it, and renames that when it is complete.
fn once(place: &Path, make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
    if place.is_dir() {
        return Ok(place.to_owned());
    }
    let cache = place.parent().context("the cache has no parent directory")?;
    fs::create_dir_all(cache).with_context(|| format!("cannot make the cache {}", cache.display()))?;
    let lock_path = cache.join("tree.lock");
    let lock_file =
        File::create(&lock_path).with_context(|| format!("cannot open {}", lock_path.display()))?;
    let _lock = Flock::lock(lock_file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("cannot lock {}", lock_path.display()))?;
    if place.is_dir() {
        return Ok(place.to_owned());
    }
    let unfinished = place.with_extension("unfinished");
    remove_tree(&unfinished)?;
    make(&unfinished)?;
    fs::rename(&unfinished, place).with_context(|| format!("cannot move the tree to {}", place.display()))?;
    Ok(place.to_owned())
}

fn mmdebstrap(recipe: &Recipe, suite: &str, target: &Path, mirror: &str) -> anyhow::Result<()> {
    run(Command::new("mmdebstrap").args(&recipe.arguments).arg(suite).arg(target).arg(mirror))
}

fn mirrors_of_this_machine() -> anyhow::Result<Vec<String>> {
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", MIRROR_FORMAT, "Created-By: Packages"]);
    let output = apt
        .output()
        .context("cannot run apt-get (the root tree is made from this machine's Debian mirror)")?;
    let mirrors = debian_mirrors(&String::from_utf8_lossy(&output.stdout));
    if mirrors.is_empty() {
        bail!(
            "this machine's apt configuration names no Debian mirror; set SLURM_NVLINK_TREE to a ready root tree"
        );
    }
    Ok(mirrors)
}

/// Installs `package` with apt when `program` is missing, and says so.
///
/// # Errors
/// It is missing and cannot be installed.
pub fn need_program(program: &str, package: &str) -> anyhow::Result<()> {
    let found =
        |path: std::ffi::OsString| std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    if std::env::var_os("PATH").is_some_and(found) {
        return Ok(());
    }
    eprintln!("installing the package {package} on this machine (for {program})");
    let install = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").args([
            "install",
            "--yes",
            "--no-install-recommends",
            package,
        ]);
        run(&mut apt)
    };
    if install().is_ok() {
        return Ok(());
    }
    run(Command::new("apt-get").arg("update"))?;
    install().with_context(|| format!("{program} is missing and apt cannot install {package}"))
}

/// Removes a directory tree; the unfinished product of a builder that was killed may hold mounts of its own, so the
/// removal stays on one file system.
fn remove_tree(path: &Path) -> anyhow::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    run(Command::new("rm").args(["--recursive", "--force", "--one-file-system", "--"]).arg(path))
}

fn need_root(what: &str) -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("{what} needs root");
    }
    Ok(())
}

/// Runs a command whose words go to stderr.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).stdout(std::io::stderr()).status();
    let status = status.with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("{name}: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_appears_only_when_complete() {
        let dir = std::env::temp_dir().join(format!("slurm-nvlink-once-{}", std::process::id()));
        let place = dir.join("tree-x");
        let broken = once(&place, |target| {
            fs::create_dir(target)?;
            bail!("the mirror is down")
        });
        assert_eq!(broken.unwrap_err().to_string(), "the mirror is down");
        assert!(!place.exists());
        // The left-over of the failure does not disturb the next one, which is made once only.
        once(&place, |target| Ok(fs::create_dir(target)?)).unwrap();
        once(&place, |_| bail!("made twice")).unwrap();
        assert!(place.is_dir());
        fs::remove_dir_all(dir).unwrap();
    }
}
