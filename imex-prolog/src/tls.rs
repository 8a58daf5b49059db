//! The files for TLS between daemons: which ones a job's daemon gets, and whether they can be trusted.
//!
//! They are the site's or the job's, never ours: nothing here is written. A key that others than root can read is no
//! secret, and one that others can write is anybody's.
#![forbid(unsafe_code)]

use crate::config::{Encryption, JOB};
use crate::secure_fs::{Dir, FsError};
use fabric::names::JobId;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Largest key or certificate file, in bytes.
const LEN_MAX: usize = 1 << 20;
/// What every PEM text has (RFC 7468).
const PEM: &[u8] = b"-----BEGIN ";

/// A file for TLS that cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// It is not there.
    #[error("encryption.{setting}: there is no {path}")]
    Missing {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read, or not safely.
    #[error("encryption.{setting}: cannot use {path}")]
    Unusable {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: FsError,
    },
    /// Others than its owner may read a private key.
    #[error(
        "encryption.{setting}: {path} has mode {mode:04o}; a private key must be closed to group and others"
    )]
    Open {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not a PEM file.
    #[error("encryption.{setting}: {path} holds no PEM text")]
    NotPem {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
    },
}

/// The daemon's keys and values for the files of `job`, each of them checked now.
///
/// # Errors
/// The first file that cannot be used.
pub fn checked(encryption: &Encryption, job: JobId) -> Result<Vec<(&'static str, PathBuf)>, TlsError> {
    let mut pairs = Vec::new();
    for (setting, key, path, secret) in encryption.files() {
        let path = PathBuf::from(path.to_string_lossy().replace(JOB, &job.to_string()));
        check(setting, &path, secret)?;
        pairs.push((key, path));
    }
    Ok(pairs)
}

fn check(setting: &'static str, path: &Path, secret: bool) -> Result<(), TlsError> {
    let missing = || TlsError::Missing { setting, path: path.to_owned() };
    let unusable = |source| TlsError::Unusable { setting, path: path.to_owned(), source };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(missing());
    };
    if !parent.is_dir() {
        return Err(missing());
    }
    let dir = Dir::open(parent).map_err(unusable)?;
    // Owner and permission to write are checked by the reading.
    let bytes = dir.read(name, LEN_MAX).map_err(unusable)?.ok_or_else(missing)?;
    let mode = dir.look(name).map_err(unusable)?.ok_or_else(missing)?.st_mode & 0o7777;
    if secret && mode & 0o077 != 0 {
        return Err(TlsError::Open { setting, path: path.to_owned(), mode });
    }
    let pem = bytes.windows(PEM.len()).any(|window| window == PEM);
    if pem { Ok(()) } else { Err(TlsError::NotPem { setting, path: path.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Keys {
        temp: tempfile::TempDir,
        encryption: Encryption,
    }

    impl Keys {
        /// All six files for job 17, in a directory of its own.
        fn new() -> Self {
            let temp = tempfile::tempdir().unwrap();
            let file = |name: &str| temp.path().join("%j").join(name);
            let encryption = Encryption {
                enabled: true,
                server_key: file("s.key"),
                server_cert: file("s.crt"),
                server_ca: file("ca.crt"),
                client_key: file("c.key"),
                client_cert: file("c.crt"),
                client_ca: file("ca.crt"),
                target_name: String::new(),
            };
            std::fs::create_dir(temp.path().join("17")).unwrap();
            let keys = Self { temp, encryption };
            for name in ["s.key", "s.crt", "ca.crt", "c.key", "c.crt"] {
                keys.write(name, "-----BEGIN TEST-----\n", 0o600);
            }
            keys
        }

        fn write(&self, name: &str, text: &str, mode: u32) {
            let path = self.temp.path().join("17").join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }

        fn check(&self, job: u32) -> Result<usize, String> {
            let root = format!("{}/", self.temp.path().display());
            let checked = checked(&self.encryption, JobId::new(job).unwrap());
            checked.map(|pairs| pairs.len()).map_err(|error| error.to_string().replace(&root, ""))
        }
    }

    #[test]
    fn the_files_of_the_job_are_taken() {
        let keys = Keys::new();
        assert_eq!(keys.check(17), Ok(6));
        assert_eq!(keys.check(18).unwrap_err(), "encryption.server_key: there is no 18/s.key");
        assert!(keys.encryption.is_by_job() && !Encryption::default().is_by_job());
    }

    #[test]
    fn a_key_that_others_can_read_or_write_and_a_file_that_is_none_are_refused() {
        let keys = Keys::new();
        keys.write("c.key", "-----BEGIN TEST-----\n", 0o640);
        assert_eq!(
            keys.check(17).unwrap_err(),
            "encryption.client_key: 17/c.key has mode 0640; a private key must be closed to group and others"
        );
        keys.write("c.key", "-----BEGIN TEST-----\n", 0o622);
        assert_eq!(keys.check(17).unwrap_err(), "encryption.client_key: cannot use 17/c.key");
        keys.write("c.key", "x", 0o400);
        assert_eq!(keys.check(17).unwrap_err(), "encryption.client_key: 17/c.key holds no PEM text");
        // A certificate is no secret.
        keys.write("c.key", "-----BEGIN TEST-----\n", 0o400);
        keys.write("ca.crt", "-----BEGIN TEST-----\n", 0o644);
        assert_eq!(keys.check(17), Ok(6));
        std::fs::remove_file(keys.temp.path().join("17/c.crt")).unwrap();
        assert_eq!(keys.check(17).unwrap_err(), "encryption.client_cert: there is no 17/c.crt");
    }
}
