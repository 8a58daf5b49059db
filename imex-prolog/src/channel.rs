//! The IMEX channel device of a job.
//!
//! `/dev/nvidia-caps-imex-channels/channel<N>`: minor N of the character device class `nvidia-caps-imex-channels`, whose
//! major differs between nodes and boots (NVIDIA open-gpu-kernel-modules, nv-caps-imex.c). It is what lets the job's user
//! allocate shareable fabric memory: made only when the domain is complete, for that user alone, removed with the job.
#![forbid(unsafe_code)]

use crate::record::Channel;
use crate::secure_fs::{Dir, FsError};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, SFlag, major, makedev, minor, mknodat};
use nix::unistd::{Gid, Uid, fchownat};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Name of the device class in `/proc/devices`.
pub const CLASS: &str = "nvidia-caps-imex-channels";

/// The channel could not be made or removed.
#[derive(Debug, Error)]
pub enum ChannelError {
    /// The table of majors cannot be read.
    #[error("cannot read {path}")]
    Devices {
        /// The table.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The driver has not registered the class.
    #[error("{path} has no character device class {CLASS}")]
    NoClass {
        /// The table.
        path: PathBuf,
    },
    /// Its directory or file cannot be used.
    #[error("cannot use the channel directory")]
    Directory(#[source] FsError),
    /// The device cannot be made.
    #[error("cannot {what} {path}")]
    Make {
        /// What was tried.
        what: &'static str,
        /// The device file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The major of the class, from the text of `/proc/devices`: only the part on character devices counts.
#[must_use]
pub fn parse_major(devices: &str) -> Option<u32> {
    let characters = devices
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "Character devices:")
        .skip(1)
        .take_while(|line| *line != "Block devices:");
    let mut entries = characters.filter_map(|line| line.split_once(char::is_whitespace));
    entries.find(|(_, name)| name.trim() == CLASS).and_then(|(number, _)| number.parse().ok())
}

/// Reads the major from the table at `path`.
///
/// # Errors
/// [`ChannelError::Devices`] or [`ChannelError::NoClass`].
pub fn read_major(path: &Path) -> Result<u32, ChannelError> {
    let text =
        std::fs::read(path).map_err(|source| ChannelError::Devices { path: path.to_owned(), source })?;
    parse_major(&String::from_utf8_lossy(&text))
        .ok_or_else(|| ChannelError::NoClass { path: path.to_owned() })
}

/// Makes the channel in `directory`, mode 0600 for its owner; one that is already right is kept, any other file of the name is
/// replaced.
///
/// # Errors
/// [`ChannelError`].
pub fn make(directory: &Path, major: u32, channel: Channel) -> Result<(), ChannelError> {
    let dir = Dir::create(directory, 0o755).map_err(ChannelError::Directory)?;
    let name = file_name(channel.number);
    let path = directory.join(&name);
    if is_right(&dir, &name, major, channel)? {
        return Ok(());
    }
    dir.remove_file(&name).map_err(ChannelError::Directory)?;
    let fault = |what| {
        let path = path.clone();
        move |source: Errno| ChannelError::Make { what, path, source: source.into() }
    };
    let device = makedev(u64::from(major), u64::from(channel.number));
    // Root's alone until the owner is set; the mode has no bit that a umask could take.
    mknodat(dir.as_fd(), name.as_str(), SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, device)
        .map_err(fault("make device"))?;
    let owner = (Some(Uid::from_raw(channel.uid)), Some(Gid::from_raw(channel.gid)));
    fchownat(dir.as_fd(), name.as_str(), owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(fault("change the owner of"))
}

/// Removes the channel with this number; true when there was one. A missing directory is no error.
///
/// # Errors
/// [`ChannelError::Directory`].
pub fn remove(directory: &Path, number: u32) -> Result<bool, ChannelError> {
    if !directory.exists() {
        return Ok(false);
    }
    let dir = Dir::open(directory).map_err(ChannelError::Directory)?;
    dir.remove_file(&file_name(number)).map_err(ChannelError::Directory)
}

fn is_right(dir: &Dir, name: &str, wanted_major: u32, channel: Channel) -> Result<bool, ChannelError> {
    let Some(stat) = dir.look(name).map_err(ChannelError::Directory)? else { return Ok(false) };
    let kind = SFlag::S_IFCHR.bits() | 0o600;
    Ok(stat.st_mode == kind
        && (stat.st_uid, stat.st_gid) == (channel.uid, channel.gid)
        && major(stat.st_rdev) == u64::from(wanted_major)
        && minor(stat.st_rdev) == u64::from(channel.number))
}

fn file_name(number: u32) -> String {
    format!("channel{number}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::MetadataExt;

    const DEVICES: &str = "Character devices:\n  1 mem\n195 nvidia\n234 nvidia-caps-imex-channels\n508 nvidia-caps\n\nBlock devices:\n  8 sd\n";

    #[test]
    fn the_major_is_read_among_character_devices_only() {
        assert_eq!(parse_major(DEVICES), Some(234));
        let block = "Character devices:\n  1 mem\n\nBlock devices:\n234 nvidia-caps-imex-channels\n";
        assert_eq!(parse_major(block), None);
        assert_eq!(parse_major("234 nvidia-caps-imex-channels\nCharacter devices:\n"), None);
        assert_eq!(parse_major("Character devices:\n234 nvidia-caps-imex-channels-x\n"), None);
        assert_eq!(parse_major("Character devices:\n4294967296 nvidia-caps-imex-channels\n"), None);
    }

    #[test]
    fn a_missing_class_or_table_is_an_error_that_names_the_table() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("devices");
        assert!(matches!(read_major(&path), Err(ChannelError::Devices { .. })));
        std::fs::write(&path, "Character devices:\n").unwrap();
        assert!(matches!(read_major(&path), Err(ChannelError::NoClass { .. })));
    }

    /// Making device files needs root outside a user namespace; elsewhere only the refusal can be tested.
    fn may_make_devices(dir: &Path) -> bool {
        make(&dir.join("try"), 234, Channel { number: 9, uid: 0, gid: 0 }).is_ok()
    }

    #[test]
    fn it_is_made_for_its_owner_alone_kept_when_right_and_replaced_when_wrong() {
        let temp = tempfile::tempdir().unwrap();
        if !may_make_devices(temp.path()) {
            let refused = make(&temp.path().join("dev"), 234, Channel { number: 3, uid: 0, gid: 0 });
            assert!(matches!(refused, Err(ChannelError::Make { .. })));
            return;
        }
        let dir = temp.path().join("dev");
        let channel = Channel { number: 3, uid: 1000, gid: 100 };
        make(&dir, 234, channel).unwrap();
        let first = std::fs::metadata(dir.join("channel3")).unwrap();
        assert_eq!((first.mode(), first.uid(), first.gid()), (0o020_600, 1000, 100));
        assert_eq!((major(first.rdev()), minor(first.rdev())), (234, 3));
        make(&dir, 234, channel).unwrap();
        assert_eq!(std::fs::metadata(dir.join("channel3")).unwrap().ino(), first.ino());
        make(&dir, 235, channel).unwrap();
        assert_eq!(major(std::fs::metadata(dir.join("channel3")).unwrap().rdev()), 235);
        assert!(remove(&dir, 3).unwrap());
        assert!(!remove(&dir, 3).unwrap());
        assert!(!remove(&temp.path().join("none"), 3).unwrap());
    }

    proptest! {
        #[test]
        fn no_table_makes_the_parser_panic(text in "(Character devices:\n)?(.{0,40}\n){0,5}(Block devices:\n)?.{0,40}") {
            let _ = parse_major(&text);
        }

        #[test]
        fn other_lines_do_not_change_the_answer(lines in proptest::collection::vec("[0-9]{1,3} [a-z]{1,8}", 0..6)) {
            let text = format!("Character devices:\n{}\n234 {CLASS}\n\nBlock devices:\n9 md\n", lines.join("\n"));
            prop_assert_eq!(parse_major(&text), Some(234));
        }
    }
}
