//! What the root tree is made of. Its hash names the tree in the cache, so a changed recipe makes a new tree.
#![forbid(unsafe_code)]

use anyhow::{Context as _, bail};
use std::process::Command;

/// Debian releases to try in order. The second is for the day on which the first one's index is older than its pool.
pub(super) const SUITES: [&str; 2] = ["forky", "sid"];

/// What the nodes need. `mount` is named because the smallest variant lacks umount(8).
const PACKAGES: &str =
    "slurmctld,slurmd,slurm-client,slurm-wlm-basic-plugins,libslurm-dev,iproute2,procps,mount,util-linux";

/// The recipe of a root tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Debian's name of the architecture, or the name of the recipe.
    pub architecture: String,
    /// Arguments for mmdebstrap, without suite, target and mirror.
    pub(super) arguments: Vec<String>,
}

impl Recipe {
    /// The recipe for this machine's architecture.
    ///
    /// # Errors
    /// `dpkg` cannot be asked for the architecture.
    pub fn for_this_machine() -> anyhow::Result<Self> {
        let output = Command::new("dpkg").arg("--print-architecture").output();
        let output = output.context("cannot run dpkg (the test cluster needs a Debian machine)")?;
        if !output.status.success() {
            bail!("dpkg --print-architecture: {}", output.status);
        }
        Ok(Self::for_architecture(String::from_utf8_lossy(&output.stdout).trim()))
    }

    /// The recipe for this machine's architecture with valgrind, and the symbols that it needs of the C library.
    ///
    /// # Errors
    /// As [`Recipe::for_this_machine`].
    pub fn for_memcheck() -> anyhow::Result<Self> {
        let architecture = Self::for_this_machine()?.architecture;
        let packages = format!("{PACKAGES},valgrind,libc6-dbg");
        Ok(Self::named(&format!("memcheck-{architecture}"), &architecture, &packages, &[]))
    }

    /// The recipe for this machine's architecture with Prometheus, its node exporter, and curl to ask it.
    ///
    /// # Errors
    /// As [`Recipe::for_this_machine`].
    pub fn for_monitoring() -> anyhow::Result<Self> {
        let architecture = Self::for_this_machine()?.architecture;
        let packages = format!("{PACKAGES},prometheus,prometheus-node-exporter,curl");
        Ok(Self::named(&format!("monitoring-{architecture}"), &architecture, &packages, &[]))
    }

    fn for_architecture(architecture: &str) -> Self {
        Self::named(architecture, architecture, PACKAGES, &[])
    }

    /// The recipe of another tree than that of the nodes, made in the same way. `name` stands in the place of the
    /// architecture in its directory's name; lists have commas; `path_options` are dpkg's, for example
    /// `path-exclude=/usr/share/x/*`.
    #[must_use]
    pub fn named(name: &str, architectures: &str, packages: &str, path_options: &[&str]) -> Self {
        let mut arguments = vec![
            "--mode=root".to_owned(),
            "--variant=apt".to_owned(),
            format!("--architectures={architectures}"),
            format!("--include={packages}"),
        ];
        // The index of a testing release may be weeks old where mirrors are frozen.
        for option in [
            "Acquire::Check-Valid-Until \"false\"",
            "APT::Install-Recommends \"false\"",
            "Acquire::Languages \"none\"",
            "Acquire::Retries \"3\"",
        ] {
            arguments.push(format!("--aptopt={option}"));
        }
        for left_out in ["man", "doc", "locale"] {
            arguments.push(format!("--dpkgopt=path-exclude=/usr/share/{left_out}/*"));
        }
        arguments.extend(path_options.iter().map(|option| format!("--dpkgopt={option}")));
        Self { architecture: name.to_owned(), arguments }
    }

    /// Name of the tree's directory in the cache.
    pub fn directory_name(&self) -> String {
        let text = format!("{}\n{}", SUITES.join("\n"), self.arguments.join("\n"));
        format!("tree-{}-{:016x}", self.architecture, fnv1a(text.as_bytes()))
    }
}

/// The 64-bit FNV-1a hash; not cryptographic, only to tell recipes apart.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Debian mirrors in the output of `apt-get indextargets` with [`MIRROR_FORMAT`], in order, each once.
///
/// Origin and label are known only where package lists are present; else the address has to tell.
pub(super) fn debian_mirrors(targets: &str) -> Vec<String> {
    let mut mirrors: Vec<String> = Vec::new();
    for line in targets.lines() {
        let mut fields = line.split('|');
        let (Some(site), Some(origin), Some(label)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let last = site.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let debian = match origin {
            "" => last == "debian" || (site.starts_with("mirror+file:") && last.starts_with("debian.")),
            _ => origin == "Debian" && label == "Debian",
        };
        if debian && !mirrors.iter().any(|known| known == site) {
            mirrors.push(site.to_owned());
        }
    }
    mirrors
}

/// Format that [`debian_mirrors`] reads.
pub(super) const MIRROR_FORMAT: &str = "$(SITE)|$(ORIGIN)|$(LABEL)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_architecture_is_another_tree() {
        let names = ["amd64", "arm64"].map(|name| Recipe::for_architecture(name).directory_name());
        assert!(names[0].starts_with("tree-amd64-") && names[1].starts_with("tree-arm64-"), "{names:?}");
        assert_ne!(names[0][10..], names[1][10..]);
    }

    #[test]
    fn fnv1a_has_its_published_values() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn the_mirror_is_debians_and_neither_security_nor_a_vendors() {
        let known = "https://vendor.example/apt|Vendor|Vendor\nhttp://deb.example/debian-security|Debian|Debian-Security\n\
            http://deb.example/debian|Debian|Debian\nhttp://deb.example/debian|Debian|Debian\n";
        assert_eq!(debian_mirrors(known), ["http://deb.example/debian"]);
        let without_lists =
            "https://vendor.example/apt||\nhttp://a.example/debian-security||\nhttp://b.example/debian/||\n";
        assert_eq!(debian_mirrors(without_lists), ["http://b.example/debian/"]);
        assert!(debian_mirrors("garbage\n").is_empty());
    }
}
