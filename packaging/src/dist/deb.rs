#![forbid(unsafe_code)]
//! Debian packages, by `dpkg-deb`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::package::{Needs, Package};
use super::tree::{Release, Tree};

/// Debian's package that holds Slurm's plugins and their library.
const SLURM: &str = "slurm-wlm-basic-plugins";

/// Makes the package and returns its file.
///
/// # Errors
/// When the control files cannot be written or `dpkg-deb` fails.
pub(super) fn build(package: &Package, tree: &Tree, release: &Release, folder: &Path) -> Result<PathBuf> {
    let control = tree.root.join("DEBIAN");
    fs::create_dir_all(&control).with_context(|| format!("create {}", control.display()))?;
    let write = |name: &str, text: String, mode: u32| {
        if text.is_empty() {
            return Ok(());
        }
        let file = control.join(name);
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))
            .with_context(|| format!("chmod {}", file.display()))
    };
    changelog(package, release, &tree.root)?;
    write("control", control_file(package, tree, release), 0o644)?;
    write("conffiles", conffiles(package), 0o644)?;
    write("postinst", script("configure", package.after_install), 0o755)?;
    write("prerm", script("remove", package.before_remove), 0o755)?;
    write("postrm", removal(package), 0o755)?;
    let architecture = release.architecture.debian();
    let file = folder.join(format!("{}_{}_{architecture}.deb", package.name, release.of(package)));
    pack(&tree.root, &file, release)?;
    fs::remove_dir_all(&control).with_context(|| format!("remove {}", control.display()))?;
    Ok(file)
}

/// A package that stands in for the next release of Slurm: its name and version, and nothing in it.
///
/// # Errors
/// As [`build`].
pub(super) fn other_slurm(release: &Release, folder: &Path) -> Result<PathBuf> {
    let (_, next) = release.slurm_bounds();
    let root = folder.join("other-slurm");
    fs::create_dir_all(root.join("DEBIAN")).with_context(|| format!("create {}", root.display()))?;
    let text = format!(
        "Package: {SLURM}\nVersion: {next}-1\nArchitecture: {}\nMaintainer: {}\n\
         Description: stands in for another release of Slurm\n",
        release.architecture.debian(),
        release.maintainer
    );
    fs::write(root.join("DEBIAN/control"), text).context("write a control file")?;
    let file = folder.join(format!("{SLURM}_{next}-1_{}.deb", release.architecture.debian()));
    pack(&root, &file, release)?;
    Ok(file)
}

fn pack(root: &Path, file: &Path, release: &Release) -> Result<()> {
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.args(["--root-owner-group", "--build"]).arg(root).arg(file);
    dpkg.env("SOURCE_DATE_EPOCH", release.epoch.to_string());
    let output = dpkg.output().context("run dpkg-deb")?;
    if !output.status.success() {
        bail!("dpkg-deb for {}: {}", file.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn control_file(package: &Package, tree: &Tree, release: &Release) -> String {
    let depends: Vec<String> = package.needs.iter().flat_map(|need| depends(*need, tree, release)).collect();
    let mut text = format!(
        "Package: {}\nVersion: {}\nArchitecture: {}\nMaintainer: {}\n\
         Section: net\nPriority: optional\nInstalled-Size: {}\n",
        package.name,
        release.of(package),
        release.architecture.debian(),
        release.maintainer,
        tree.kilobytes,
    );
    if !depends.is_empty() {
        text.push_str(&format!("Depends: {}\n", depends.join(", ")));
    }
    text.push_str(&format!("Description: {}\n", package.summary));
    for line in wrapped(package.description, 76) {
        text.push_str(&format!(" {line}\n"));
    }
    text
}

fn depends(need: Needs, tree: &Tree, release: &Release) -> Vec<String> {
    match need {
        // Ours may be of another Slurm's build, which has another version.
        Needs::Ours(name) => vec![name.to_owned()],
        Needs::Slurm => {
            let (this, next) = release.slurm_bounds();
            vec![format!("{SLURM} (>= {this})"), format!("{SLURM} (<< {next}~)")]
        }
        Needs::Libraries => {
            let mut all = Vec::new();
            if let Some((major, minor)) = tree.c_library {
                all.push(format!("libc6 (>= {major}.{minor})"));
            }
            all.push("libgcc-s1".to_owned());
            all
        }
    }
}

/// Debian wants to know of each package when its version was made. What changed is in the history of the sources.
fn changelog(package: &Package, release: &Release, root: &Path) -> Result<()> {
    let date = super::date(release.epoch, "-R")?;
    let text = format!(
        "{} ({}) unstable; urgency=medium\n\n  * Made from the sources.\n\n -- {}  {date}\n",
        package.name,
        release.of(package),
        release.maintainer
    );
    let file = root.join("usr/share/doc").join(package.name).join("changelog.Debian");
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    super::gzip(&file)
}

/// Files below `/etc` are the administrator's.
fn conffiles(package: &Package) -> String {
    package
        .items
        .iter()
        .filter(|item| item.to.starts_with("/etc/"))
        .map(|item| format!("{}\n", item.to))
        .collect()
}

fn script(when: &str, lines: &str) -> String {
    if lines.is_empty() {
        return String::new();
    }
    format!("#!/bin/sh\nset -e\nif [ \"$1\" = {when} ]; then\n{lines}fi\n")
}

fn removal(package: &Package) -> String {
    if package.after_remove.is_empty() && package.on_purge.is_empty() {
        return String::new();
    }
    format!(
        "#!/bin/sh\nset -e\ncase $1 in\nremove)\n:\n{};;\npurge)\n:\n{};;\nesac\n",
        package.after_remove, package.on_purge
    )
}

/// Words in lines of at most so many characters.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::package::PACKAGES;
    use super::*;

    fn named(name: &str) -> &'static Package {
        PACKAGES.iter().find(|package| package.name == name).unwrap()
    }

    #[test]
    fn the_plugin_is_bound_to_its_slurm_and_the_others_to_none() {
        let (tree, release) = (Tree::empty(), Release::example());
        let text = control_file(named("slurm-nvlink-plugin"), &tree, &release);
        assert!(text.contains("Version: 0.1.0+slurm26.05.5-1\nArchitecture: arm64\n"), "{text}");
        assert!(
            text.contains(
                "Depends: slurm-nvlink-plugin-dir, slurm-wlm-basic-plugins (>= 26.05.5), \
                 slurm-wlm-basic-plugins (<< 26.05.6~), libc6 (>= 2.34), libgcc-s1\n"
            ),
            "{text}"
        );
        let text = control_file(named("topology-gen"), &tree, &release);
        assert!(text.contains("Version: 0.1.0-1\n") && !text.contains("slurm-wlm"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 120) && text.ends_with('\n'));
        let text = control_file(named("slurm-nvlink-plugin-dir"), &tree, &release);
        assert!(text.contains("Architecture: arm64\n") && !text.contains("Depends"), "{text}");
    }

    #[test]
    fn scripts_are_sound_shell() {
        for package in PACKAGES {
            let scripts = [("configure", package.after_install), ("remove", package.before_remove)];
            let scripts = scripts.map(|(when, lines)| script(when, lines));
            for text in scripts.into_iter().chain([removal(package)]) {
                let checked = Command::new("sh").args(["-n", "-c", &text]).status().unwrap();
                assert!(checked.success(), "{}:\n{text}", package.name);
            }
        }
    }

    #[test]
    fn what_lies_in_etc_is_the_administrators() {
        assert_eq!(conffiles(named("imex-prolog")), "/etc/logrotate.d/imex-prolog\n");
        assert_eq!(conffiles(named("slurm-nvlink-plugin")), "");
    }
}
