#![forbid(unsafe_code)]
//! Notices of the crates that are linked into a package's programs: which they are, whose, and under which licence.
//!
//! Cargo says which crates a product links on an architecture; each crate brings its licence in its sources. Where a licence is a
//! choice that MIT is part of, MIT is taken. A crate without a licence file stops the making of packages.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::tree::Architecture;
use crate::workspace::Workspace;

/// The crate of the people who write Rust's standard library: its notice is theirs, too.
const OF_RUST: (&str, &str) = ("libc", "The Rust Project Developers");

/// A crate as its manifest describes it.
#[derive(Debug, Clone, Deserialize)]
struct Crate {
    name: String,
    version: String,
    license: Option<String>,
    repository: Option<String>,
    manifest_path: PathBuf,
}

/// What `cargo metadata` says of the sources.
pub(super) struct Sources {
    crates: BTreeMap<(String, String), Crate>,
}

/// The notices of a product.
#[derive(Debug)]
pub(super) struct Notices {
    /// For people.
    pub(super) text: String,
    /// The licences, as expressions of SPDX, ours left out.
    pub(super) licences: BTreeSet<String>,
}

impl Sources {
    /// Asks cargo.
    ///
    /// # Errors
    /// It does not answer as expected.
    pub(super) fn read(workspace: &Workspace) -> Result<Self> {
        #[derive(Deserialize)]
        struct Metadata {
            packages: Vec<Crate>,
        }
        let answer = output(workspace.cargo().args(["metadata", "--locked", "--format-version", "1"]))?;
        let metadata: Metadata =
            serde_json::from_str(&answer).context("read the answer of cargo metadata")?;
        let key = |found: Crate| ((found.name.clone(), found.version.clone()), found);
        Ok(Self { crates: metadata.packages.into_iter().map(key).collect() })
    }

    /// The notices of the crates that the workspace's package `product` links.
    ///
    /// # Errors
    /// A crate has no licence, or none that can be read.
    pub(super) fn of(
        &self,
        workspace: &Workspace,
        product: &str,
        architecture: Architecture,
    ) -> Result<Notices> {
        let mut tree = workspace.cargo();
        tree.args(["tree", "--locked", "--package", product, "--edges", "normal,no-proc-macro"]);
        tree.args(["--target", architecture.triple(), "--prefix", "none", "--format", "{p}"]);
        let answer = output(&mut tree)?;
        let linked: BTreeSet<(String, String)> = answer.lines().filter_map(name_and_version).collect();
        let mut notices = Vec::new();
        for key in &linked {
            let found = self.crates.get(key).with_context(|| format!("cargo does not know {key:?}"))?;
            if !found.manifest_path.starts_with(workspace.root()) {
                notices.push((found, licence_texts(found)?));
            }
        }
        let (name, authors) = OF_RUST;
        let of_rust = |(found, texts): &(&Crate, Vec<String>)| {
            found.name == name && texts.iter().any(|text| text.contains(authors))
        };
        ensure!(
            notices.iter().any(of_rust),
            "{product}: the notice of Rust's own libraries is not that of {name}"
        );
        let licences = notices.iter().filter_map(|(found, _)| found.license.as_deref()).map(spdx).collect();
        Ok(Notices { text: text(product, &notices), licences })
    }
}

/// What a command prints.
fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("run {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    String::from_utf8(output.stdout).with_context(|| format!("the words of {program}"))
}

/// `serde v1.0.229`, maybe with a path or a mark behind it.
fn name_and_version(line: &str) -> Option<(String, String)> {
    let mut words = line.split_whitespace();
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    Some((name.to_owned(), version.to_owned()))
}

/// The texts that must go with a crate: of a choice with MIT in it, those of the others are left out.
fn licence_texts(found: &Crate) -> Result<Vec<String>> {
    let folder = found.manifest_path.parent().unwrap_or(Path::new("."));
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if is_notice(&name) && entry.file_type()?.is_file() {
            files.insert(name, entry.path());
        }
    }
    let licence = found.license.as_deref().unwrap_or_default();
    let is_choice = licence.contains(" OR ") || licence.contains('/');
    if is_choice && files.keys().any(|name| name.contains("MIT")) {
        files.retain(|name, _| !name.contains("APACHE") && !name.starts_with("UNLICENSE"));
    }
    if files.is_empty() || licence.is_empty() {
        bail!("the crate {} {} has no licence in {}", found.name, found.version, folder.display());
    }
    let read = |path: &PathBuf| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    files.values().map(read).collect()
}

fn is_notice(name: &str) -> bool {
    ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE", "COPYRIGHT"]
        .iter()
        .any(|begin| name.starts_with(begin))
}

/// Older crates write a stroke for `OR`.
fn spdx(licence: &str) -> String {
    licence.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ")
}

fn text(product: &str, notices: &[(&Crate, Vec<String>)]) -> String {
    let mut text = format!(
        "Third-party notices of {product}\n\nThe programs of this package are under GPL-2.0-or-later. Linked into them are the \
         crates below and\nRust's standard library (MIT OR Apache-2.0; its notice is that of the crate {}). The texts of\ntheir \
         licences follow; where MIT is one of several to choose from, it is taken here.\n\n",
        OF_RUST.0
    );
    for (found, _) in notices {
        let licence = spdx(found.license.as_deref().unwrap_or_default());
        let Crate { name, version, repository, .. } = found;
        let place = repository.as_deref().unwrap_or("-");
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{name} {version}\n    {licence}\n    {place}");
    }
    // Many crates have the same text, those of one author also the same names in it.
    let mut shared = BTreeMap::<&str, Vec<String>>::new();
    for (found, texts) in notices {
        for licence in texts {
            shared.entry(licence.trim()).or_default().push(format!("{} {}", found.name, found.version));
        }
    }
    for (licence, names) in shared {
        let rule = "-".repeat(78);
        let _infallible = writeln!(
            text,
            "\n{rule}\n{}\n{rule}\n\n{licence}",
            super::deb::wrapped(&names.join(", "), 78).join("\n")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crate in a folder of its own with these files.
    fn with_files(test: &str, licence: &str, files: &[&str]) -> (PathBuf, Crate) {
        let folder = std::env::temp_dir().join(format!("xtask-notices-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for name in files {
            fs::write(folder.join(name), format!("text of {name}\n")).unwrap();
        }
        let found = Crate {
            name: test.to_owned(),
            version: "1.0.0".to_owned(),
            license: Some(licence.to_owned()),
            repository: None,
            manifest_path: folder.join("Cargo.toml"),
        };
        (folder, found)
    }

    #[test]
    fn of_a_choice_mit_is_taken_and_nothing_else_left_out() {
        for (licence, files, wanted) in [
            ("MIT OR Apache-2.0", &["LICENSE-APACHE", "LICENSE-MIT"][..], &["LICENSE-MIT"][..]),
            ("MIT/Apache-2.0", &["LICENSE-Apache", "license-mit"], &["license-mit"]),
            ("Unlicense OR MIT", &["COPYING", "LICENSE-MIT", "UNLICENSE"], &["COPYING", "LICENSE-MIT"]),
            ("Apache-2.0", &["LICENSE-APACHE", "NOTICE", "README"], &["LICENSE-APACHE", "NOTICE"]),
            ("Apache-2.0 OR MIT", &["LICENSE-APACHE"], &["LICENSE-APACHE"]),
            (
                "(Apache-2.0 OR MIT) AND BSD-3-Clause",
                &["COPYRIGHT", "LICENSE-APACHE", "LICENSE-MIT", "LICENSE-WHATWG"],
                &["COPYRIGHT", "LICENSE-MIT", "LICENSE-WHATWG"],
            ),
        ] {
            let (folder, found) = with_files("choice", licence, files);
            let texts = licence_texts(&found).unwrap();
            let wanted: Vec<String> = wanted.iter().map(|name| format!("text of {name}\n")).collect();
            fs::remove_dir_all(folder).unwrap();
            assert_eq!(texts, wanted, "{licence}");
        }
    }

    #[test]
    fn a_crate_without_a_licence_is_named() {
        let (folder, mut found) = with_files("bare", "MIT", &["README.md"]);
        assert!(
            licence_texts(&found).unwrap_err().to_string().starts_with("the crate bare 1.0.0 has no licence")
        );
        fs::write(folder.join("LICENSE"), "x").unwrap();
        assert!(licence_texts(&found).is_ok());
        found.license = None;
        assert!(licence_texts(&found).is_err());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn texts_that_are_the_same_stand_once() {
        let (folder, one) = with_files("one", "MIT", &[]);
        let (other_folder, other) = with_files("other", "Apache-2.0 / MIT", &[]);
        let notices =
            [(&one, vec!["same\n".to_owned()]), (&other, vec!["same".to_owned(), "more".to_owned()])];
        let text = text("p", &notices);
        fs::remove_dir_all(folder).and_then(|()| fs::remove_dir_all(other_folder)).unwrap();
        assert!(text.contains("other 1.0.0\n    Apache-2.0 OR MIT\n    -\n"), "{text}");
        assert_eq!(
            (text.matches("\nsame\n").count(), text.matches("\none 1.0.0, other 1.0.0\n").count()),
            (1, 1)
        );
    }

    #[test]
    fn lines_of_cargo_are_read() {
        let read = |line: &str| name_and_version(line).map(|(name, version)| format!("{name} {version}"));
        assert_eq!(read("toml v1.2.1+spec-1.1.0 (*)").as_deref(), Some("toml 1.2.1+spec-1.1.0"));
        assert_eq!(read("fabric v0.1.0 (/x/fabric)").as_deref(), Some("fabric 0.1.0"));
        assert_eq!(read(""), None);
    }
}
