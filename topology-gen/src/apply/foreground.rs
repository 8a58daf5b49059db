//! How slurmctld was started. With `-D` it answers a reconfiguration before it reads the files, replaces itself, and is gone
//! when a file is bad (seen on Slurm 26.05.5); otherwise a child tries first and the old process goes on.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs;
use std::path::Path;

use crate::controller::{Controller, ControllerError};

/// How slurmctld runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// In the background or under systemd: a bad file is refused.
    Daemon,
    /// In the foreground: a bad file ends it.
    Foreground {
        /// Its process.
        pid: u32,
    },
    /// No slurmctld runs here.
    Unknown,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Daemon => f.write_str("slurmctld runs as a daemon"),
            Self::Foreground { pid } => {
                write!(
                    f,
                    "slurmctld (process {pid}) runs in the foreground (-D); a file that it refuses would end it"
                )
            }
            Self::Unknown => f.write_str(
                "no slurmctld runs here, so it is not known whether a file that it refuses would end it",
            ),
        }
    }
}

/// Options of slurmctld with a value of their own (Slurm 26.05.3 src/slurmctld/controller.c).
const WITH_VALUE: [char; 3] = ['f', 'L', 'n'];

/// Finds out how the slurmctld of this machine runs: by its pid file, else by name among all processes.
///
/// # Errors
/// The controller cannot be asked for its settings.
pub fn mode(controller: &Controller, proc: &Path) -> Result<Mode, ControllerError> {
    let settings = controller.settings()?;
    let by_file = settings
        .get("SlurmctldPidFile")
        .and_then(|path| fs::read_to_string(path).ok())
        .and_then(|text| text.trim().parse().ok());
    Ok(mode_of(by_file, proc))
}

fn mode_of(pid: Option<u32>, proc: &Path) -> Mode {
    let mut pids: Vec<u32> = pid.into_iter().collect();
    let mut others: Vec<u32> = fs::read_dir(proc)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    others.sort_unstable();
    pids.extend(others);
    let Some((pid, words)) = pids.into_iter().find_map(|pid| Some((pid, slurmctld(pid, proc)?))) else {
        return Mode::Unknown;
    };
    if in_foreground(&words) { Mode::Foreground { pid } } else { Mode::Daemon }
}

/// The arguments of a process that is slurmctld.
fn slurmctld(pid: u32, proc: &Path) -> Option<Vec<String>> {
    let bytes = fs::read(proc.join(pid.to_string()).join("cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut words = text.split('\0').map(str::to_owned);
    let program = words.next()?;
    (Path::new(&program).file_name()? == "slurmctld").then(|| words.collect())
}

fn in_foreground(words: &[String]) -> bool {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.starts_with('-')) else { continue };
        for (at, letter) in letters.char_indices() {
            if letter == 'D' {
                return true;
            }
            if WITH_VALUE.contains(&letter) {
                if at + 1 == letters.len() {
                    words.next();
                }
                break;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_with(processes: &[(u32, &str)]) -> Mode {
        let dir = tempfile::tempdir().unwrap();
        for (pid, words) in processes {
            let folder = dir.path().join(pid.to_string());
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("cmdline"), words.replace(' ', "\0") + "\0").unwrap();
        }
        mode_of(None, dir.path())
    }

    #[test]
    fn the_way_of_starting_is_seen() {
        assert_eq!(mode_with(&[(1, "init"), (44, "slurmctld --systemd")]), Mode::Daemon);
        assert_eq!(mode_with(&[(7, "/usr/sbin/slurmctld -D")]), Mode::Foreground { pid: 7 });
        assert_eq!(mode_with(&[(7, "/usr/sbin/slurmctld -vvD -f x")]), Mode::Foreground { pid: 7 });
        assert_eq!(mode_with(&[(7, "slurmctld -f -D")]), Mode::Daemon);
        assert_eq!(mode_with(&[(7, "slurmctld -fD.conf --no-D")]), Mode::Daemon);
        assert_eq!(mode_with(&[(7, "slurmd -D"), (8, "bash slurmctld -D")]), Mode::Unknown);
    }
}
