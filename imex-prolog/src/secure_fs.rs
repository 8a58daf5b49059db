//! Directory-relative files that only root can have prepared.
//!
//! A directory is opened component by component without following links; each component must belong to this user
//! or root and be closed to writing by others (a sticky directory such as `/tmp` is allowed on the way, never as
//! the last one). From then on everything is relative to that open directory, so that renaming a path under our
//! feet changes nothing. Files are replaced in one step and are on disk before the call returns.
#![forbid(unsafe_code)]

use crate::procfs::Proc;
use nix::dir::Dir as Listing;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, geteuid, unlinkat};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use thiserror::Error;

/// A directory or file that could not be used.
#[derive(Debug, Error)]
pub enum FsError {
    /// The path is relative or has `..` in it.
    #[error("{path} is not a plain absolute path")]
    Path {
        /// As given.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot {what} {path}")]
    Call {
        /// What was tried, as a verb.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Somebody else owns it or may write to it.
    #[error(
        "{path} is not safe to use: owner {owner}, mode {mode:04o}; it must belong to root and be closed to writing by others"
    )]
    Unsafe {
        /// The file or directory.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// Not the expected kind, such as a link or a device in place of a file.
    #[error("{path} is not {wanted}")]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
    /// Larger than anything that we write.
    #[error("{path} is larger than {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound.
        limit: usize,
    },
}

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

/// What a component may be like on the way to the last one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    OnTheWay,
    /// On the way to a directory of ours that lies below other users'.
    OfOthers,
    Last,
}

impl Dir {
    /// Opens `path`, which must exist.
    ///
    /// # Errors
    /// [`FsError`] for a missing, unsafe or linked component.
    pub fn open(path: &Path) -> Result<Self, FsError> {
        Self::walk(path, Place::OnTheWay, None)
    }

    /// Opens `path`, which may lie below directories of other users, as that of Debian's node exporter does. It itself must be
    /// root's or ours as ever, and no link is followed: all that its neighbours can do is to take it away.
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub fn open_below_others(path: &Path) -> Result<Self, FsError> {
        Self::walk(path, Place::OfOthers, None)
    }

    /// Opens `path`; missing components are made, the last one with `mode`, others with 0755.
    ///
    /// # Errors
    /// As [`Dir::open`], and when a directory cannot be made.
    pub fn create(path: &Path, mode: u32) -> Result<Self, FsError> {
        Self::walk(path, Place::OnTheWay, Some(mode))
    }

    fn walk(path: &Path, way: Place, create: Option<u32>) -> Result<Self, FsError> {
        let names = plain_components(path)?;
        let root = PathBuf::from("/");
        let fd = open("/", directory_flags(), Mode::empty()).map_err(|source| call("open", &root, source))?;
        let mut here = Self { fd, path: root };
        for (position, name) in names.iter().enumerate() {
            let last = position + 1 == names.len();
            if let Some(mode) = create {
                here.make_subdir(name, if last { mode } else { 0o755 })?;
            }
            here = here.enter(name, if last { Place::Last } else { way })?;
        }
        Ok(here)
    }

    /// The path that it was opened by, for messages and for other programs' command lines.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open directory, for calls that are made elsewhere.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Makes (unless it exists) and opens a directory in this one.
    ///
    /// # Errors
    /// As [`Dir::create`].
    pub fn subdir(&self, name: &str, mode: u32) -> Result<Self, FsError> {
        self.make_subdir(name, mode)?;
        self.enter(name, Place::Last)
    }

    fn make_subdir(&self, name: &str, mode: u32) -> Result<(), FsError> {
        match mkdirat(self.fd.as_fd(), name, Mode::from_bits_truncate(mode)) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(source) => Err(call("make directory", &self.path.join(name), source)),
        }
    }

    fn enter(&self, name: &str, place: Place) -> Result<Self, FsError> {
        let path = self.path.join(name);
        let fd = openat(self.fd.as_fd(), name, directory_flags(), Mode::empty())
            .map_err(|source| call("open directory", &path, source))?;
        let stat = fstat(fd.as_fd()).map_err(|source| call("look at", &path, source))?;
        let sticky = stat.st_mode & STICKY != 0;
        let passable = match place {
            Place::OnTheWay => sticky && is_trusted_owner(&stat),
            Place::OfOthers => true,
            Place::Last => false,
        };
        if !(is_ours(&stat) || passable) {
            return Err(not_safe(path, &stat));
        }
        Ok(Self { fd, path })
    }

    /// Puts `bytes` into the file `name` with permission bits `mode`, in one step: a reader, also one after a
    /// crash, finds the old or the new content.
    ///
    /// # Errors
    /// [`FsError::Call`] with the step that failed.
    pub fn write_atomic(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), FsError> {
        let temporary = format!(".{name}.{}.new", std::process::id());
        let path = self.path.join(&temporary);
        // A leftover of a killed writer that had our process id.
        self.remove_file(&temporary)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(self.fd.as_fd(), temporary.as_str(), flags, Mode::from_bits_truncate(mode))
            .map_err(|source| call("create", &path, source))?;
        let mut file = File::from(fd);
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|source| FsError::Call {
            what: "write",
            path: path.clone(),
            source,
        })?;
        renameat(self.fd.as_fd(), temporary.as_str(), self.fd.as_fd(), name)
            .map_err(|source| call("rename", &path, source))?;
        self.sync()
    }

    /// Removes temporary files of writers that were killed. Failures only leave a small file behind.
    pub fn forget_dead_writers(&self, proc: &Proc) {
        for name in self.names().unwrap_or_default() {
            let inner = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".new"));
            let writer = inner.and_then(|rest| rest.rsplit('.').next()?.parse().ok());
            if writer.is_some_and(|pid| matches!(proc.process(pid), Ok(None))) {
                let _stays = self.remove_file(&name);
            }
        }
    }

    /// Content of the file `name`; `None` when there is none.
    ///
    /// # Errors
    /// [`FsError::Unsafe`], [`FsError::Kind`], [`FsError::TooLarge`] beyond `limit` bytes, or the failed call.
    pub fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, FsError> {
        let path = self.path.join(name);
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd = match openat(self.fd.as_fd(), name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ELOOP) => return Err(FsError::Kind { path, wanted: "a plain file" }),
            Err(source) => return Err(call("open", &path, source)),
        };
        let file = checked_file(fd, &path)?;
        let mut bytes = Vec::new();
        file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(|source| FsError::Call {
            what: "read",
            path: path.clone(),
            source,
        })?;
        if bytes.len() > limit { Err(FsError::TooLarge { path, limit }) } else { Ok(Some(bytes)) }
    }

    /// Opens (and makes, with `mode`) the file `name` for appending.
    ///
    /// # Errors
    /// As [`Dir::read`].
    pub fn append(&self, name: &str, mode: u32) -> Result<File, FsError> {
        let path = self.path.join(name);
        let flags = OFlag::O_WRONLY
            | OFlag::O_CREAT
            | OFlag::O_APPEND
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_CLOEXEC;
        let fd = openat(self.fd.as_fd(), name, flags, Mode::from_bits_truncate(mode))
            .map_err(|source| call("open for appending", &path, source))?;
        checked_file(fd, &path)
    }

    /// Removes the file `name`; true when there was one.
    ///
    /// # Errors
    /// The failed call.
    pub fn remove_file(&self, name: &str) -> Result<bool, FsError> {
        match unlinkat(self.fd.as_fd(), name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(source) => Err(call("remove", &self.path.join(name), source)),
        }
    }

    /// Gives the file `name` another name, in the place of what had that; true when there was one.
    ///
    /// # Errors
    /// The failed call.
    pub fn rename(&self, name: &str, other: &str) -> Result<bool, FsError> {
        match renameat(self.fd.as_fd(), name, self.fd.as_fd(), other) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(source) => Err(call("rename", &self.path.join(name), source)),
        }
    }

    /// Removes the directory `name` with the files directly in it; true when there was one.
    ///
    /// # Errors
    /// The failed call; also when it holds a directory, which is never ours.
    pub fn remove_flat_dir(&self, name: &str) -> Result<bool, FsError> {
        let path = self.path.join(name);
        let inner = match openat(self.fd.as_fd(), name, directory_flags(), Mode::empty()) {
            Ok(fd) => Self { fd, path: path.clone() },
            Err(Errno::ENOENT) => return Ok(false),
            Err(source) => return Err(call("open directory", &path, source)),
        };
        for file in inner.names()? {
            inner.remove_file(&file)?;
        }
        match unlinkat(self.fd.as_fd(), name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => self.sync().map(|()| true),
            Err(source) => Err(call("remove directory", &path, source)),
        }
    }

    /// Names of all entries, sorted; names that are not UTF-8 are not ours and are left out.
    ///
    /// # Errors
    /// The failed call.
    pub fn names(&self) -> Result<Vec<String>, FsError> {
        let again = |source| call("list", &self.path, source);
        let mut listing =
            Listing::openat(self.fd.as_fd(), ".", directory_flags(), Mode::empty()).map_err(again)?;
        let mut names = Vec::new();
        for entry in listing.iter() {
            let entry = entry.map_err(again)?;
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Looks at the entry `name` itself, not through a link; `None` when there is none.
    ///
    /// # Errors
    /// The failed call.
    pub fn look(&self, name: &str) -> Result<Option<FileStat>, FsError> {
        match fstatat(self.fd.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(source) => Err(call("look at", &self.path.join(name), source)),
        }
    }

    /// Makes removed and renamed entries durable.
    ///
    /// # Errors
    /// The failed call.
    pub fn sync(&self) -> Result<(), FsError> {
        fsync(self.fd.as_fd()).map_err(|source| call("sync", &self.path, source))
    }
}

/// The sticky bit: in such a directory only owners rename or remove their entries.
const STICKY: u32 = 0o1000;

fn directory_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

fn call(what: &'static str, path: &Path, source: Errno) -> FsError {
    FsError::Call { what, path: path.to_owned(), source: source.into() }
}

fn not_safe(path: PathBuf, stat: &FileStat) -> FsError {
    FsError::Unsafe { path, owner: stat.st_uid, mode: stat.st_mode & 0o7777 }
}

fn is_trusted_owner(stat: &FileStat) -> bool {
    stat.st_uid == 0 || stat.st_uid == geteuid().as_raw()
}

/// Owned by root or by us, and nobody else may write.
fn is_ours(stat: &FileStat) -> bool {
    is_trusted_owner(stat) && stat.st_mode & 0o022 == 0
}

fn checked_file(fd: OwnedFd, path: &Path) -> Result<File, FsError> {
    let stat = fstat(fd.as_fd()).map_err(|source| call("look at", path, source))?;
    if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return Err(FsError::Kind { path: path.to_owned(), wanted: "a plain file" });
    }
    if !is_ours(&stat) {
        return Err(not_safe(path.to_owned(), &stat));
    }
    Ok(File::from(fd))
}

fn plain_components(path: &Path) -> Result<Vec<&str>, FsError> {
    let refused = || FsError::Path { path: path.to_owned() };
    let mut components = path.components();
    if components.next() != Some(Component::RootDir) {
        return Err(refused());
    }
    components
        .map(|component| match component {
            Component::Normal(name) => name.to_str().ok_or_else(refused),
            _ => Err(refused()),
        })
        .collect()
}

#[cfg(test)]
mod tests;
