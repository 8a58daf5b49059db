#![forbid(unsafe_code)]
//! The confirmation file of the running build.
//!
//! slurmctld reads memory where this file says. So it counts only when nobody but root can have written it: the file and
//! its folder belong to root and are not writable by others. That does not make its content right, which is looked at
//! again in every record ([`super::record`]).

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::abi::SLURM_VERSION_NUMBER;
use crate::abi::confirmation::{Confirmation, LONGEST_FILE, Void, hex};
use crate::abi::layout::Layout;

/// Why there is no confirmation.
#[derive(Debug)]
pub enum Unconfirmed {
    /// There is no such file.
    Missing(PathBuf),
    /// It cannot be read.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Somebody else than root may have written it.
    Owner {
        /// The file or its folder.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Its content is void.
    Void {
        /// The file.
        file: PathBuf,
        /// The reason.
        source: Void,
    },
}

impl fmt::Display for Unconfirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(file) => write!(f, "there is no {}", file.display()),
            Self::Unreadable { file, source } => write!(f, "{} cannot be read: {source}", file.display()),
            Self::Owner { path, why } => write!(f, "{} {why}", path.display()),
            Self::Void { file, source } => write!(f, "{}: {source}", file.display()),
        }
    }
}

impl std::error::Error for Unconfirmed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Missing(_) | Self::Owner { .. } => None,
            Self::Unreadable { source, .. } => Some(source),
            Self::Void { source, .. } => Some(source),
        }
    }
}

/// The file of a build in a folder.
pub fn place(folder: &Path, build_id: &[u8]) -> PathBuf {
    folder.join(hex(build_id))
}

/// The layout of the build, confirmed by a file in the folder, whose owner must be the user of this number.
///
/// # Errors
/// There is no file that counts.
pub fn load(folder: &Path, owner: u32, build_id: &[u8]) -> Result<(PathBuf, Layout), Unconfirmed> {
    let file = place(folder, build_id);
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => Unconfirmed::Missing(file.clone()),
        _ => Unconfirmed::Unreadable { file: file.clone(), source },
    };
    let options = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let opened = OpenOptions::new().read(true).custom_flags(options).open(&file).map_err(unreadable)?;
    let metadata = opened.metadata().map_err(unreadable)?;
    let of_folder = folder.metadata().map_err(unreadable)?;
    for (path, metadata) in [(&*file, &metadata), (folder, &of_folder)] {
        if let Some(why) = foreign(metadata, owner) {
            return Err(Unconfirmed::Owner { path: path.to_owned(), why });
        }
    }
    if !metadata.is_file() {
        return Err(Unconfirmed::Owner { path: file, why: "is not a file".to_owned() });
    }
    let text = read(opened).map_err(unreadable)?;
    match Confirmation::parse(&text, SLURM_VERSION_NUMBER, build_id) {
        Ok(confirmation) => Ok((file, confirmation.layout)),
        Err(source) => Err(Unconfirmed::Void { file, source }),
    }
}

/// Why others than `owner` may have written it.
fn foreign(metadata: &Metadata, owner: u32) -> Option<String> {
    if metadata.uid() != owner {
        Some(format!("belongs to user {}, not {owner}", metadata.uid()))
    } else if metadata.mode() & 0o022 != 0 {
        Some(format!("is writable by others than its owner (mode {:o})", metadata.mode() & 0o7777))
    } else {
        None
    }
}

fn read(file: File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(LONGEST_FILE as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::abi::layout::known_layout_for_tests;

    const BUILD: &[u8] = &[0xab, 0xcd];

    /// A folder with a good file in it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder =
                std::env::temp_dir().join(format!("slurm-nvlink-layout-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
            let good = Confirmation {
                slurm: SLURM_VERSION_NUMBER,
                build_id: BUILD.to_vec(),
                layout: known_layout_for_tests(),
            };
            fs::write(folder.join("abcd"), good.render()).unwrap();
            fs::set_permissions(folder.join("abcd"), fs::Permissions::from_mode(0o644)).unwrap();
            Self(folder)
        }

        fn load(&self) -> Result<Layout, String> {
            let ourselves = fs::metadata(&self.0).unwrap().uid();
            self.load_as(ourselves)
        }

        fn load_as(&self, owner: u32) -> Result<Layout, String> {
            let folder = self.0.display().to_string();
            load(&self.0, owner, BUILD)
                .map(|(_, layout)| layout)
                .map_err(|why| why.to_string().replace(&folder, "."))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_of_root_alone_counts() {
        let folder = Folder::new("owner");
        assert_eq!(folder.load(), Ok(known_layout_for_tests()));
        let stranger = folder.load_as(77).unwrap_err();
        assert!(
            stranger.starts_with("./abcd belongs to user ") && stranger.ends_with(", not 77"),
            "{stranger}"
        );
        for (path, mode) in [("abcd", 0o664), ("abcd", 0o646), (".", 0o777), (".", 0o775)] {
            let path = folder.0.join(path);
            let before = fs::metadata(&path).unwrap().permissions();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let why = folder.load().unwrap_err();
            assert!(why.ends_with(&format!("is writable by others than its owner (mode {mode:o})")), "{why}");
            fs::set_permissions(&path, before).unwrap();
        }
        assert!(folder.load().is_ok());
    }

    #[test]
    fn what_is_no_good_file_says_why() {
        let folder = Folder::new("file");
        let file = folder.0.join("abcd");
        fs::write(&file, "slurm-nvlink layout 1\nslurm").unwrap();
        assert_eq!(folder.load(), Err("./abcd: its last line is not a checksum".to_owned()));
        fs::remove_file(&file).unwrap();
        assert_eq!(folder.load(), Err("there is no ./abcd".to_owned()));
        symlink("/etc/passwd", &file).unwrap();
        assert!(folder.load().unwrap_err().starts_with("./abcd cannot be read: "));
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert_eq!(folder.load(), Err("./abcd is not a file".to_owned()));
    }
}
