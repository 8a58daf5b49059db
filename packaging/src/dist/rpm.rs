#![forbid(unsafe_code)]
//! RPM packages, by `rpmbuild`. Names of packages are those of SchedMD's own: all of Slurm's plugins are in `slurm`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::deb::wrapped;
use super::package::{From, Needs, Package};
use super::tree::{Release, Tree};

/// Makes the package and returns its file.
///
/// # Errors
/// When the spec cannot be written or `rpmbuild` fails.
pub(super) fn build(package: &Package, tree: &Tree, release: &Release, folder: &Path) -> Result<PathBuf> {
    let work = tree.root.with_extension("rpm");
    fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    let spec = work.join("package.spec");
    let date = super::date(release.epoch, "+%a %b %d %Y")?;
    fs::write(&spec, spec_file(package, release, tree, &date))
        .with_context(|| format!("write {}", spec.display()))?;
    let architecture = release.architecture.rpm();
    let mut rpmbuild = Command::new("rpmbuild");
    rpmbuild.args(["-bb", "--quiet", "--target", architecture]);
    for define in [
        format!("_topdir {}", work.display()),
        format!("_rpmdir {}", folder.display()),
        "_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm".to_owned(),
        "_build_id_links none".to_owned(),
        "use_source_date_epoch_as_buildtime 1".to_owned(),
        "clamp_mtime_to_source_date_epoch 1".to_owned(),
    ] {
        rpmbuild.args(["--define", &define]);
    }
    rpmbuild.env("SOURCE_DATE_EPOCH", release.epoch.to_string()).arg(&spec);
    let output = rpmbuild.output().context("run rpmbuild (Debian's package rpm)")?;
    if !output.status.success() {
        bail!("rpmbuild for {}: {}", package.name, String::from_utf8_lossy(&output.stderr).trim());
    }
    fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
    Ok(folder.join(format!("{}-{}-1.{architecture}.rpm", package.name, release.upstream_of(package))))
}

fn spec_file(package: &Package, release: &Release, tree: &Tree, date: &str) -> String {
    let mut text = format!(
        "%global debug_package %{{nil}}\n%global __os_install_post %{{nil}}\nName: {}\nVersion: {}\nRelease: 1\n\
         Summary: {}\nLicense: {}\nPackager: {}\n",
        package.name,
        release.upstream_of(package),
        capitalised(package.summary),
        tree.licence,
        release.maintainer
    );
    // What the programs link, rpmbuild finds itself.
    for need in package.needs {
        match need {
            Needs::Ours(name) => text.push_str(&format!("Requires: {name}\n")),
            Needs::Slurm => {
                let (this, next) = release.slurm_bounds();
                text.push_str(&format!("Requires: slurm >= {this}\nRequires: slurm < {next}\n"));
            }
            Needs::Libraries => {}
        }
    }
    let _ = write!(
        text,
        "\n%description\n{}\n\n%install\ncp -a {}/. %{{buildroot}}\n\n%files\n",
        wrapped(package.description, 76).join("\n"),
        tree.root.display()
    );
    // dpkg takes a folder away with the last file in it; rpm only those of the package.
    for folder in own_folders(package) {
        let _ = writeln!(text, "%attr(0755, root, root) %dir {}", folder.display());
    }
    for item in package.items {
        let kind = match item.from {
            From::Folder => "%dir ",
            _ if item.to.starts_with("/etc/") => "%config(noreplace) ",
            _ => "",
        };
        // A link has no mode of its own.
        let mode = if item.from == From::StockPlugins { "-".to_owned() } else { format!("0{:o}", item.mode) };
        let _ = writeln!(text, "%attr({mode}, root, root) {kind}{}", item.to);
    }
    if !package.after_install.is_empty() {
        let _ = write!(text, "\n%post\n{}exit 0\n", package.after_install);
    }
    if !package.before_remove.is_empty() {
        let _ = write!(text, "\n%preun\nif [ $1 -eq 0 ]; then\n{}fi\nexit 0\n", package.before_remove);
    }
    if !package.after_remove.is_empty() {
        // After an upgrade this is run too, with 1.
        let _ = write!(text, "\n%postun\nif [ $1 -eq 0 ]; then\n{}fi\nexit 0\n", package.after_remove);
    }
    let _ = write!(
        text,
        "\n%changelog\n* {date} {} - {}\n- Made from the sources.\n",
        release.maintainer,
        release.of(package)
    );
    text
}

/// RPM's summaries begin with a capital letter.
fn capitalised(summary: &str) -> String {
    let mut letters = summary.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Folders that are there for this package alone: those of its name, and what is in them.
fn own_folders(package: &Package) -> BTreeSet<&'static Path> {
    let parents = package.items.iter().flat_map(|item| Path::new(item.to).ancestors().skip(1));
    parents.filter(|folder| folder.iter().any(|part| part == package.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::package::PACKAGES;
    use super::*;

    #[test]
    fn the_plugin_is_bound_to_its_slurm() {
        let package = PACKAGES.iter().find(|package| package.name == "slurm-nvlink-plugin").unwrap();
        let text = spec_file(package, &Release::example(), &Tree::empty(), "Sun Nov 22 2026");
        for line in [
            "Version: 0.1.0+slurm26.05.5",
            "Requires: slurm-nvlink-plugin-dir",
            "Requires: slurm >= 26.05.5",
            "Requires: slurm < 26.05.6",
            "* Sun Nov 22 2026 A <a@example.org> - 0.1.0+slurm26.05.5-1",
            "%attr(0644, root, root) /usr/lib/slurm-nvlink/topology_block.so",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn folders_of_a_package_go_with_it() {
        let package = PACKAGES.iter().find(|package| package.name == "topology-gen").unwrap();
        let folders: Vec<_> =
            own_folders(package).into_iter().map(|folder| folder.to_str().unwrap()).collect();
        assert_eq!(
            folders,
            [
                "/usr/share/doc/topology-gen",
                "/usr/share/doc/topology-gen/examples",
                "/usr/share/topology-gen"
            ]
        );
        let text = spec_file(package, &Release::example(), &Tree::empty(), "Sun Nov 22 2026");
        assert!(text.contains("%attr(0755, root, root) %dir /usr/share/topology-gen\n"), "{text}");
        // That of the plugins stands in the table, for it may be empty.
        let package = PACKAGES.iter().find(|package| package.name == "slurm-nvlink-plugin-dir").unwrap();
        let text = spec_file(package, &Release::example(), &Tree::empty(), "Sun Nov 22 2026");
        assert_eq!(text.matches("%dir /usr/lib/slurm-nvlink\n").count(), 1, "{text}");
    }
}
