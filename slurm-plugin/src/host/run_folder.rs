//! A folder in memory, in which files can be replaced without waiting for a disk or a server.
//!
//! slurmctld holds its locks while it asks the plugin. So a file may be written from there only where writing is a matter of
//! memory: in a tmpfs. The folder is looked up below `/run` or `/dev/shm` without following a link and without entering
//! another file system, and it stays open: no path is looked up later.

use std::ffi::{CStr, CString, c_long};
use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Where such folders are.
const BASES: [&str; 2] = ["/run", "/dev/shm"];
/// What a file is called before it takes its name.
const UNFINISHED: &CStr = c".slurm_nvlink_plugin.tmp";

/// Why a folder cannot be used.
#[derive(Debug)]
pub(crate) enum FolderError {
    /// It lies elsewhere.
    Elsewhere,
    /// It cannot be opened.
    Open(io::Error),
    /// It is not in memory.
    NotInMemory,
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elsewhere => write!(f, "is not below /run or /dev/shm, where nothing waits for a disk"),
            Self::Open(error) if error.raw_os_error() == Some(libc::EXDEV) => {
                write!(f, "leads to another file system")
            }
            Self::Open(error) => write!(f, "cannot be opened: {error}"),
            Self::NotInMemory => write!(f, "is not on a tmpfs"),
        }
    }
}

/// The folder.
#[derive(Debug)]
pub(crate) struct RunFolder(OwnedFd);

impl RunFolder {
    /// Opens it.
    ///
    /// # Errors
    /// It is not there, or not a folder in memory.
    pub(crate) fn open(path: &Path) -> Result<Self, FolderError> {
        let below = BASES.iter().find_map(|base| Some((*base, path.strip_prefix(base).ok()?)));
        let (base, rest) = below.ok_or(FolderError::Elsewhere)?;
        let rest = CString::new(rest.as_os_str().as_bytes()).map_err(|_| FolderError::Elsewhere)?;
        if rest.is_empty() {
            return Err(FolderError::Elsewhere);
        }
        let base = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(base);
        let base = base.map_err(FolderError::Open)?;
        let folder = open_below(base.as_raw_fd(), &rest).map_err(FolderError::Open)?;
        if is_tmpfs(&folder).map_err(FolderError::Open)? {
            Ok(Self(folder))
        } else {
            Err(FolderError::NotInMemory)
        }
    }

    /// Puts a file with this text, which all may read, in the place of the one of this name.
    ///
    /// # Errors
    /// It cannot be written; the old one stays.
    pub(crate) fn replace(&self, name: &CStr, text: &[u8]) -> io::Result<()> {
        let done = self.fresh().and_then(|mut file| {
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.write_all(text)
        });
        done.and_then(|()| {
            let folder = self.0.as_raw_fd();
            // SAFETY: both names are C strings, and the folder is open.
            checked(unsafe { libc::renameat(folder, UNFINISHED.as_ptr(), folder, name.as_ptr()) })
        })
        .inspect_err(|_| {
            let _ = self.unlink();
        })
    }

    /// A new file in the place of what another run has left.
    fn fresh(&self) -> io::Result<File> {
        match self.unlink() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        // SAFETY: the name is a C string, the folder is open, and the mode is given as the flags want it.
        let file = unsafe { libc::openat(self.0.as_raw_fd(), UNFINISHED.as_ptr(), flags, 0o644) };
        checked(file)?;
        // SAFETY: just opened, and nobody else has it.
        Ok(unsafe { File::from_raw_fd(file) })
    }

    fn unlink(&self) -> io::Result<()> {
        // SAFETY: the name is a C string, and the folder is open.
        checked(unsafe { libc::unlinkat(self.0.as_raw_fd(), UNFINISHED.as_ptr(), 0) })
    }
}

fn checked(rc: libc::c_int) -> io::Result<()> {
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Opens a folder below another one on the same file system, without a link on the way.
fn open_below(base: RawFd, path: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the structure is three numbers, for which zero is a value.
    let mut how: libc::open_how = unsafe { MaybeUninit::zeroed().assume_init() };
    how.flags = u64::from((libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC).cast_unsigned());
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_XDEV;
    let size = size_of::<libc::open_how>();
    // SAFETY: the arguments are those of openat2(2): a folder, a C string, and a structure with its size.
    let folder: c_long =
        unsafe { libc::syscall(libc::SYS_openat2, base, path.as_ptr(), &raw const how, size) };
    match RawFd::try_from(folder) {
        // SAFETY: just opened, and nobody else has it.
        Ok(folder) if folder >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(folder) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn is_tmpfs(folder: &OwnedFd) -> io::Result<bool> {
    let mut about = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the folder is open, and the kernel fills the structure.
    checked(unsafe { libc::fstatfs(folder.as_raw_fd(), about.as_mut_ptr()) })?;
    // SAFETY: zero is a value of every member, and the kernel has filled them.
    Ok(unsafe { about.assume_init() }.f_type == libc::TMPFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    /// A folder of this test in memory; the value removes it.
    struct Shm(PathBuf);

    impl Shm {
        fn new(name: &str) -> Self {
            let path = PathBuf::from(format!("/dev/shm/slurm-nvlink-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Shm {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_all_may_read_it() {
        let shm = Shm::new("replace");
        let folder = RunFolder::open(&shm.0).unwrap();
        // A run that was killed has left this.
        fs::write(shm.0.join(".slurm_nvlink_plugin.tmp"), "half").unwrap();
        for text in ["first", "second, and longer", "3"] {
            folder.replace(c"x.prom", text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(shm.0.join("x.prom")).unwrap(), text);
        }
        let names: Vec<_> = fs::read_dir(&shm.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["x.prom"]);
        assert_eq!(fs::metadata(shm.0.join("x.prom")).unwrap().permissions().mode() & 0o7777, 0o644);
        fs::create_dir(shm.0.join("y.prom")).unwrap();
        assert!(folder.replace(c"y.prom", b"z").is_err());
        assert!(!shm.0.join(".slurm_nvlink_plugin.tmp").exists());
        fs::remove_dir_all(&shm.0).unwrap();
        assert_eq!(folder.replace(c"x.prom", b"z").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn only_a_folder_in_memory_is_taken() {
        let shm = Shm::new("open");
        let said = |path: &Path| RunFolder::open(path).unwrap_err().to_string();
        symlink("/tmp", shm.0.join("link")).unwrap();
        fs::write(shm.0.join("file"), "").unwrap();
        let elsewhere = "is not below /run or /dev/shm, where nothing waits for a disk";
        for path in ["/tmp", "/dev/shm", "run/x", "/runs/x", "", "/var/run/x"] {
            assert_eq!(said(Path::new(path)), elsewhere, "{path}");
        }
        for name in ["link", "file", "none"] {
            assert!(said(&shm.0.join(name)).starts_with("cannot be opened: "), "{name}");
        }
        for name in ["../../tmp", "../../../tmp"] {
            assert_eq!(said(&shm.0.join(name)), "leads to another file system");
        }
        assert!(RunFolder::open(&shm.0).is_ok());
    }
}
