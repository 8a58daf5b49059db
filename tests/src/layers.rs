//! The files that lie over the root tree: configuration, artifacts, the user's home.
#![forbid(unsafe_code)]

use crate::spec::{Content, Entry};
use anyhow::{Context as _, bail};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

/// The user of the test jobs.
pub(crate) const USER: &str = "alice";
/// His uid and gid.
pub(crate) const UID: u32 = 1000;

/// Writes entries into a layer.
pub(crate) fn write(entries: &[Entry], layer: &Path) -> anyhow::Result<()> {
    for entry in entries {
        write_one(entry, layer).with_context(|| format!("cannot put {} in place", entry.path.display()))?;
    }
    Ok(())
}

fn write_one(entry: &Entry, layer: &Path) -> anyhow::Result<()> {
    let Ok(relative) = entry.path.strip_prefix("/") else { bail!("the path is not absolute") };
    let target = layer.join(relative);
    fs::create_dir_all(target.parent().context("the path has no parent")?)?;
    match &entry.content {
        Content::Text(text) => fs::write(&target, text)?,
        Content::CopyOf(from) => {
            fs::copy(from, &target).with_context(|| format!("cannot copy {}", from.display()))?;
        }
        Content::Random(length) => {
            let mut bytes = vec![0; *length as usize];
            File::open("/dev/urandom")?.read_exact(&mut bytes)?;
            fs::write(&target, bytes)?;
        }
        Content::Directory => fs::create_dir_all(&target)?,
    }
    Ok(fs::set_permissions(&target, fs::Permissions::from_mode(entry.mode))?)
}

/// The home directory that all nodes share, as over a network file system; gives its path.
pub(crate) fn make_home(scratch: &Path) -> anyhow::Result<PathBuf> {
    let home = scratch.join("home");
    let user = home.join(USER);
    fs::create_dir_all(&user).with_context(|| format!("cannot make {}", user.display()))?;
    chown(&user, Some(UID), Some(UID)).with_context(|| format!("cannot give away {}", user.display()))?;
    Ok(home)
}

/// The account files of the tree with the test user added.
pub(crate) fn accounts(tree: &Path) -> anyhow::Result<Vec<Entry>> {
    let with = |name: &str, line: String| -> anyhow::Result<Entry> {
        let path = tree.join("etc").join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Entry::text(format!("/etc/{name}"), format!("{text}{line}\n")))
    };
    Ok(vec![
        with("passwd", format!("{USER}:x:{UID}:{UID}::/home/{USER}:/bin/bash"))?,
        with("group", format!("{USER}:x:{UID}:"))?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_get_their_content_and_permissions() {
        let layer = std::env::temp_dir().join(format!("slurm-nvlink-layer-{}", std::process::id()));
        let mut entries = vec![Entry::text("/etc/a/b", "text"), Entry::directory("/usr/lib/x")];
        entries.push(Entry { path: "/etc/key".into(), mode: 0o600, content: Content::Random(40) });
        entries.push(Entry::program("/usr/bin/copy", layer.join("etc/a/b")));
        write(&entries, &layer).unwrap();
        let mode = |path: &str| layer.join(path).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(fs::read_to_string(layer.join("usr/bin/copy")).unwrap(), "text");
        assert_eq!((mode("usr/bin/copy"), mode("etc/key"), mode("etc/a/b")), (0o755, 0o600, 0o644));
        assert_eq!(fs::read(layer.join("etc/key")).unwrap().len(), 40);
        let relative = write(&[Entry::text("etc/x", "")], &layer).unwrap_err();
        assert_eq!(format!("{relative:#}"), "cannot put etc/x in place: the path is not absolute");
        fs::remove_dir_all(layer).unwrap();
    }
}
