#![forbid(unsafe_code)]
//! The files of a package in a folder, as they will lie on a host, and what is known of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::Format;
use super::package::{From, Item, Package};

/// A processor architecture, in the words of both formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Architecture {
    /// x86_64.
    Amd64,
    /// aarch64.
    Arm64,
}

impl Architecture {
    pub(super) fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Where Slurm's own plugins are, seen from `/usr/lib/slurm-nvlink`: in Debian's packages, and in SchedMD's RPM packages.
    fn stock_plugins(self, format: Format) -> &'static str {
        match (format, self) {
            (Format::Deb, Self::Amd64) => "../x86_64-linux-gnu/slurm-wlm",
            (Format::Deb, Self::Arm64) => "../aarch64-linux-gnu/slurm-wlm",
            (Format::Rpm, _) => "../../lib64/slurm",
        }
    }

    /// As Rust calls it.
    pub(super) fn triple(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    pub(super) fn rpm(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }
}

/// What is being packaged.
pub(super) struct Release {
    /// Version of this project.
    pub(super) version: &'static str,
    /// Upstream version of the Slurm that the plugin is built for: `26.05.5`.
    pub(super) slurm: String,
    pub(super) architecture: Architecture,
    /// Who makes the packages: name and address.
    pub(super) maintainer: String,
    /// Time of the newest commit, in seconds: equal sources make equal packages.
    pub(super) epoch: u64,
}

impl Release {
    /// The version of a package, with a revision as both formats want it: that of the plugin names its Slurm.
    pub(super) fn of(&self, package: &Package) -> String {
        format!("{}-1", self.upstream_of(package))
    }

    /// The same without the revision.
    pub(super) fn upstream_of(&self, package: &Package) -> String {
        match package.name {
            "slurm-nvlink-plugin" => format!("{}+slurm{}", self.version, self.slurm),
            _ => self.version.to_owned(),
        }
    }

    /// The release of Slurm, and the next one that there may be.
    pub(super) fn slurm_bounds(&self) -> (String, String) {
        let (series, micro) = self.slurm.rsplit_once('.').unwrap_or((&self.slurm, "0"));
        let next = micro.parse::<u32>().map_or(0, |micro| micro + 1);
        (self.slurm.clone(), format!("{series}.{next}"))
    }

    #[cfg(test)]
    pub(super) fn example() -> Self {
        Self {
            version: "0.1.0",
            slurm: "26.05.5".to_owned(),
            architecture: Architecture::Arm64,
            maintainer: "A <a@example.org>".to_owned(),
            epoch: 0,
        }
    }
}

/// Where the parts of packages are.
pub(super) struct Sources<'a> {
    pub(super) artifacts: &'a Path,
    pub(super) pages: &'a Path,
    /// The notices, `PRODUCT.gz` each.
    pub(super) notices: &'a Path,
    /// The licences of the crates of each product.
    pub(super) licences: &'a BTreeMap<&'static str, String>,
    pub(super) root: &'a Path,
    pub(super) architecture: Architecture,
    pub(super) format: Format,
}

impl Sources<'_> {
    fn file(&self, from: From) -> Option<PathBuf> {
        match from {
            From::Artifact(name) => Some(self.artifacts.join(name)),
            From::Page(name) => Some(self.pages.join(name)),
            From::File(name) => Some(self.root.join("packaging").join(name)),
            From::Licence => Some(self.root.join(match self.format {
                Format::Deb => "packaging/files/copyright",
                Format::Rpm => "LICENSE",
            })),
            From::Notices(product) => Some(self.notices.join(format!("{product}.gz"))),
            From::Folder | From::StockPlugins => None,
        }
    }
}

/// A package's files in place.
pub(super) struct Tree {
    pub(super) root: PathBuf,
    /// Their size.
    pub(super) kilobytes: u64,
    /// The least version of the GNU C library that the programs run with; None without programs.
    pub(super) c_library: Option<(u32, u32)>,
    /// The licences of all that is in it.
    pub(super) licence: String,
}

/// The licence of everything of ours.
const OURS: &str = "GPL-2.0-or-later";

impl Tree {
    /// Lays the files of a package out below `root`, which must not exist.
    ///
    /// # Errors
    /// When a file is missing or cannot be copied.
    pub(super) fn lay_out(package: &Package, sources: &Sources<'_>, root: PathBuf) -> Result<Self> {
        ensure!(!root.exists(), "{} is in the way", root.display());
        let mut tree = Self { root, kilobytes: 0, c_library: None, licence: OURS.to_owned() };
        for item in package.items {
            tree.put(item, sources).with_context(|| format!("{} of {}", item.to, package.name))?;
        }
        Ok(tree)
    }

    fn put(&mut self, item: &Item, sources: &Sources<'_>) -> Result<()> {
        let to = self.root.join(item.to.trim_start_matches('/'));
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        if item.from == From::StockPlugins {
            return Ok(symlink(sources.architecture.stock_plugins(sources.format), &to)?);
        }
        let Some(from) = sources.file(item.from) else {
            fs::create_dir_all(&to)?;
            return Ok(fs::set_permissions(&to, fs::Permissions::from_mode(item.mode))?);
        };
        let bytes = fs::read(&from).with_context(|| format!("read {}", from.display()))?;
        if let From::Notices(product) = item.from
            && let Some(crates) = sources.licences.get(product)
        {
            self.licence = format!("{OURS} AND ({crates})");
        }
        if matches!(item.from, From::Artifact(_)) {
            self.c_library = self.c_library.max(least_c_library(&bytes));
        }
        self.kilobytes += (bytes.len() as u64).div_ceil(1024);
        fs::write(&to, bytes)?;
        Ok(fs::set_permissions(&to, fs::Permissions::from_mode(item.mode))?)
    }

    #[cfg(test)]
    pub(super) fn empty() -> Self {
        Self { root: PathBuf::new(), kilobytes: 1, c_library: Some((2, 34)), licence: OURS.to_owned() }
    }
}

/// The newest of the symbol versions `GLIBC_2.34` that a program names.
fn least_c_library(program: &[u8]) -> Option<(u32, u32)> {
    const MARK: &[u8] = b"GLIBC_";
    program
        .windows(MARK.len())
        .enumerate()
        .filter(|(_, window)| *window == MARK)
        .filter_map(|(at, _)| {
            let rest = &program[at + MARK.len()..];
            let text: String = rest.iter().map(|byte| char::from(*byte)).take(8).collect();
            let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
        })
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_version_counts() {
        let program = b"\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9\0GLIBC_PRIVATE\0GLIBC_";
        assert_eq!(least_c_library(program), Some((2, 34)));
        assert_eq!(least_c_library(b"no program"), None);
    }

    #[test]
    fn the_next_release_of_slurm_is_the_bound() {
        assert_eq!(Release::example().slurm_bounds(), ("26.05.5".to_owned(), "26.05.6".to_owned()));
    }
}
