//! What a tray has once: the registration with the driver, and the files that a daemon leaves.
#![forbid(unsafe_code)]

use crate::store::DEFAULT_DIR;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

/// Directory of the pid and persistence files on a tray.
pub const STATE_DIR: &str = "/var/run/nvidia-imex";

/// The directory of the daemon's files: [`STATE_DIR`], or the settings directory when that was moved.
pub fn state_dir(settings_dir: &Path) -> PathBuf {
    if settings_dir == Path::new(DEFAULT_DIR) { PathBuf::from(STATE_DIR) } else { settings_dir.to_owned() }
}

/// The one registration of a tray. The kernel ends it with the process, however that ends.
///
/// It is an abstract socket name: a tray of the test cluster has its own network namespace and with it its own
/// names, as a real tray has its own driver. The name holds the state directory, for trays that share a namespace.
#[derive(Debug)]
pub struct Session {
    _held: UnixListener,
}

impl Session {
    /// Registers.
    ///
    /// # Errors
    /// `AddrInUse` when another daemon is registered.
    pub fn allocate(state_dir: &Path) -> io::Result<Self> {
        // The kernel takes 107 bytes; the end of a long path is what tells two trays apart.
        let path = state_dir.as_os_str().as_encoded_bytes();
        let tail = path.get(path.len().saturating_sub(80)..).unwrap_or_default();
        let address = SocketAddr::from_abstract_name([b"nvidia-imex-simulated:", tail].concat())?;
        Ok(Self { _held: UnixListener::bind_addr(&address)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tray_has_one_session_and_gets_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let first = Session::allocate(dir.path()).unwrap();
        assert_eq!(Session::allocate(dir.path()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        Session::allocate(dir.path()).unwrap();
    }

    #[test]
    fn files_follow_a_moved_settings_directory() {
        assert_eq!(state_dir(Path::new("/run/nvlink-sim")), Path::new("/var/run/nvidia-imex"));
        assert_eq!(state_dir(Path::new("/tmp/t1")), Path::new("/tmp/t1"));
    }
}
