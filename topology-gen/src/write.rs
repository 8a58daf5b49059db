//! Replaces a file as a whole: temporary file in the same folder, fsync, rename. Readers see the old text or the new one.
//!
//! slurmctld, slurmd, every slurmstepd and scontrol read `topology.yaml` at any moment and map it into memory, so it is never
//! written in place.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Mode of a file that did not exist.
const NEW_MODE: u32 = 0o644;

/// Which step failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The present file cannot be looked at.
    #[error("cannot look at {path}")]
    Look {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The path is a folder or a device.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The temporary file cannot be made.
    #[error("cannot write a temporary file {path}")]
    Temporary {
        /// The temporary file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The new file cannot be given the owner and mode of the old one.
    #[error("cannot give {path} the owner and mode of the present file")]
    Owner {
        /// The temporary file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The new file cannot be put in place.
    #[error("cannot rename {from} to {path}")]
    Rename {
        /// The temporary file.
        from: PathBuf,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The file has the new text.
    Replaced,
    /// The file had this text already and was not touched.
    Unchanged,
}

/// Gives the file this text, keeping mode and owner of one that exists. A symbolic link stays; its target is replaced.
///
/// # Errors
/// [`WriteError`]; the file is then as before and the temporary file gone.
pub fn replace(path: &Path, text: &str) -> Result<Written, WriteError> {
    put(path, text, None)
}

/// As [`replace`]; a file that did not exist gets mode and owner of `like`, if that is there.
///
/// # Errors
/// [`WriteError`]; the file is then as before and the temporary file gone.
pub fn replace_like(path: &Path, text: &str, like: &Path) -> Result<Written, WriteError> {
    put(path, text, fs::metadata(like).ok())
}

fn put(path: &Path, text: &str, like: Option<fs::Metadata>) -> Result<Written, WriteError> {
    let look = |source| WriteError::Look { path: path.to_owned(), source };
    let (target, present) = match fs::canonicalize(path) {
        Ok(target) => {
            let meta = fs::metadata(&target).map_err(look)?;
            if !meta.is_file() {
                return Err(WriteError::NotAFile { path: path.to_owned() });
            }
            (target, Some(meta))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (path.to_owned(), None),
        Err(error) => return Err(look(error)),
    };
    if present.is_some() && fs::read(&target).map_err(look)? == text.as_bytes() {
        return Ok(Written::Unchanged);
    }
    let temporary = temporary_name(&target);
    let done = fill(&temporary, text, present.as_ref().or(like.as_ref())).and_then(|()| {
        fs::rename(&temporary, &target).map_err(|source| WriteError::Rename {
            from: temporary.clone(),
            path: target.clone(),
            source,
        })
    });
    if let Err(error) = done {
        // The first error is the one to tell; a temporary file that cannot be removed was never made, or is harmless.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    // The text is in place for every reader; this only makes the new name survive a power cut.
    if let Ok(folder) = File::open(folder_of(&target)) {
        let _ = folder.sync_all();
    }
    Ok(Written::Replaced)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Hidden and with our process id, so that two runs do not meet.
fn temporary_name(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    folder_of(target).join(format!(".{name}.{}.tmp", std::process::id()))
}

fn fill(path: &Path, text: &str, present: Option<&fs::Metadata>) -> Result<(), WriteError> {
    let fault = |source| WriteError::Temporary { path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(fault)?;
    file.write_all(text.as_bytes()).map_err(fault)?;
    let owner = |source| WriteError::Owner { path: path.to_owned(), source };
    let mut mode = NEW_MODE;
    if let Some(present) = present {
        mode = present.mode() & 0o7777;
        let own = file.metadata().map_err(owner)?;
        if (own.uid(), own.gid()) != (present.uid(), present.gid()) {
            fchown(&file, Some(present.uid()), Some(present.gid())).map_err(owner)?;
        }
    }
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(owner)?;
    file.sync_all().map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_file_is_readable_by_all_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("topology.yaml");
        assert_eq!(replace(&path, "one").unwrap(), Written::Replaced);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);
        assert_eq!(names(dir.path()), ["topology.yaml"]);
    }

    #[test]
    fn mode_and_link_are_kept_and_the_same_text_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("real.yaml"), dir.path().join("topology.yaml"));
        fs::write(&path, "one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let before = fs::metadata(&path).unwrap().ino();
        assert_eq!(replace(&link, "one").unwrap(), Written::Unchanged);
        assert_eq!(fs::metadata(&path).unwrap().ino(), before);
        assert_eq!(replace(&link, "two").unwrap(), Written::Replaced);
        assert_ne!(fs::metadata(&path).unwrap().ino(), before);
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(dir.path()), ["real.yaml", "topology.yaml"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("topology.yaml");
        fs::write(&path, "one").unwrap();
        fs::write(temporary_name(&path.canonicalize().unwrap()), "someone else's").unwrap();
        let error = replace(&path, "two").unwrap_err();
        assert!(matches!(error, WriteError::Temporary { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        assert!(matches!(replace(dir.path(), "x"), Err(WriteError::NotAFile { .. })));
        assert!(matches!(replace(Path::new("/no/such/folder/x"), "x"), Err(WriteError::Temporary { .. })));
    }
}
