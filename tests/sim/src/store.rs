//! Where the settings of the simulated parts lie, and how they are read and replaced.
#![forbid(unsafe_code)]

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Directory of the settings on a simulated tray.
pub const DEFAULT_DIR: &str = "/run/nvlink-sim";

/// Environment variable that moves the directory, so that tests can run several trays side by side.
///
/// A directory other than [`DEFAULT_DIR`] also takes the daemon's lock, pid and persistence files.
pub const DIR_VARIABLE: &str = "NVLINK_SIM_DIR";

/// The directory in use: [`DIR_VARIABLE`] if set and not empty, else [`DEFAULT_DIR`].
pub fn dir() -> PathBuf {
    match std::env::var_os(DIR_VARIABLE) {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from(DEFAULT_DIR),
    }
}

/// Reads one settings file; an absent file gives the default.
///
/// # Errors
/// The file exists and cannot be read, or is not the JSON of `T` (`InvalidData`). The text names the file.
pub(crate) fn load<T: DeserializeOwned + Default>(dir: &Path, name: &str) -> io::Result<T> {
    let path = dir.join(name);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
    };
    serde_json::from_slice(&text)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display())))
}

/// Replaces one settings file in one step (temporary file, rename), so that a reader never sees half of it.
///
/// # Errors
/// The directory or the file cannot be written.
pub(crate) fn save<T: Serialize>(value: &T, dir: &Path, name: &str) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let temporary = dir.join(format!(".{name}.{}", std::process::id()));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(serde_json::to_string_pretty(value)?.as_bytes())?;
    file.write_all(b"\n")?;
    drop(file);
    fs::rename(&temporary, dir.join(name))
}
