//! `cargo xtask setup`: what the machine needs beside Rust, installed by apt where it is missing.
//!
//! Looking comes first: nothing is installed, and no package index is fetched, on a machine that has all it needs.

#![forbid(unsafe_code)]

mod apt;
mod libclang;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Something that building or testing cannot do without.
struct Need {
    what: &'static str,
    why: &'static str,
    /// The Debian package that brings it.
    package: &'static str,
    /// Where it is on this machine, or nothing.
    find: fn() -> Option<PathBuf>,
}

const NEEDS: &[Need] = &[
    Need {
        what: "C compiler",
        why: "links Rust and checks C layouts",
        package: "gcc",
        find: || in_path("cc"),
    },
    Need {
        what: "C headers",
        why: "read by bindgen for the plugin",
        package: "libc6-dev",
        find: || existing("/usr/include/stdio.h"),
    },
    Need {
        what: "libclang",
        why: "lets bindgen read Slurm's headers",
        package: "libclang-dev",
        find: libclang::find,
    },
    Need {
        what: "mmdebstrap",
        why: "makes the root tree that holds the real Slurm",
        package: "mmdebstrap",
        find: || in_path("mmdebstrap"),
    },
    Need {
        what: "zstd",
        why: "unpacks a root tree given as tar.zst",
        package: "zstd",
        find: || in_path("zstd"),
    },
];

/// Tools of the Rust toolchain that come as Debian packages when the toolchain does.
const RUST_TOOLS: &[Need] = &[
    Need { what: "rustfmt", why: "checks the format", package: "rustfmt", find: || in_path("rustfmt") },
    Need { what: "clippy", why: "checks the code", package: "rust-clippy", find: || in_path("cargo-clippy") },
];

/// Installs what is missing, and says what that is.
///
/// With `verbose`, also says what was found and where.
///
/// # Errors
/// When something is missing and cannot be installed: not root, no apt, or apt's own error.
pub(crate) fn run(verbose: bool) -> Result<()> {
    let mut missing = Vec::new();
    for need in NEEDS.iter().chain(RUST_TOOLS) {
        match (need.find)() {
            Some(place) if verbose => println!("{:<12} {}", need.what, place.display()),
            Some(_) => {}
            None => missing.push(need),
        }
    }
    if missing.is_empty() {
        if verbose {
            println!("nothing to install");
        }
        return Ok(());
    }
    if let Some(tool) = missing.iter().find(|need| is_rust_tool(need) && !rust_is_from_debian()) {
        bail!(
            "{} is missing: this Rust is not Debian's, so add it the way Rust was installed (for rustup: rustup component add rustfmt clippy)",
            tool.what
        );
    }
    for need in &missing {
        println!("setup: {} is missing ({}): package {}", need.what, need.why, need.package);
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "only root can install them: run this command as root, or install them with\n  apt-get install {}",
            packages.join(" ")
        );
    }
    apt::install(&packages)?;
    match missing.iter().find(|need| (need.find)().is_none()) {
        Some(need) => bail!("{} was installed, but {} is still not found", need.package, need.what),
        None => Ok(()),
    }
}

/// `setup` as the first step of another command: quiet when nothing is missing.
///
/// # Errors
/// As [`run`].
pub(crate) fn ensure() -> Result<()> {
    run(false)
}

fn is_rust_tool(need: &Need) -> bool {
    RUST_TOOLS.iter().any(|tool| tool.package == need.package)
}

fn rust_is_from_debian() -> bool {
    in_path("cargo").is_some_and(|cargo| cargo.starts_with("/usr/bin"))
}

fn existing(path: &str) -> Option<PathBuf> {
    Some(PathBuf::from(path)).filter(|path| path.exists())
}

/// The file that a command name means: the first in PATH, then the folders of root's own tools.
fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_name_and_a_missing_one_is_not() {
        assert!(in_path("sh").is_some_and(|sh| sh.is_absolute()));
        assert_eq!(in_path("no-such-program-anywhere"), None);
    }

    #[test]
    fn each_need_names_another_package() {
        let mut packages: Vec<_> = NEEDS.iter().chain(RUST_TOOLS).map(|need| need.package).collect();
        let count = packages.len();
        packages.sort_unstable();
        packages.dedup();
        assert_eq!(packages.len(), count);
    }
}
