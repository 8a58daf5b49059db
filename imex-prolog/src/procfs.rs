//! Who is running: process identity, boot identity, command lines.
//!
//! A process id alone says nothing after its process has ended: the kernel hands it out again. A [`Process`] is the
//! id with its start time, and counts only within one boot.
#![forbid(unsafe_code)]

use nix::time::ClockId;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// Clock ticks since boot, as `/proc/<pid>/stat` counts a start (normally 100 in a second).
pub type Ticks = u64;

/// When a process of this boot was started, for telling which of two came first.
///
/// The kernel's own word has steps of 10 ms; within one step the clock reading that each process took as its first act
/// decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// The kernel's word.
    pub ticks: Ticks,
    /// Nanoseconds since boot at the process's first look at the clock.
    pub nanos: u64,
}

/// The process file system did not say what was asked.
#[derive(Debug, Error)]
pub enum ProcError {
    /// A file of it cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file of it has an unknown form.
    #[error("{path} does not have the expected form")]
    Form {
        /// The file.
        path: PathBuf,
    },
}

/// One process of this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Start time; tells it from a later process with the same id.
    pub started: Ticks,
}

/// A mounted process file system.
#[derive(Debug, Clone)]
pub struct Proc {
    root: PathBuf,
}

impl Proc {
    /// Reads below `root`, normally `/proc`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The running kernel's boot id: another one after each boot.
    ///
    /// # Errors
    /// [`ProcError`] when it cannot be read.
    pub fn boot_id(&self) -> Result<String, ProcError> {
        let path = self.root.join("sys/kernel/random/boot_id");
        let text = read(&path)?;
        let id = text.trim();
        let plain = id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        if plain { Ok(id.to_owned()) } else { Err(ProcError::Form { path }) }
    }

    /// This process.
    ///
    /// # Errors
    /// [`ProcError`] when it cannot be read.
    pub fn myself(&self) -> Result<Process, ProcError> {
        let path = self.root.join("self/stat");
        let stat = read(&path)?;
        let pid = stat.split(' ').next().and_then(|text| text.parse().ok());
        match (pid, parse_stat(&stat)) {
            (Some(pid), Some(stat)) => Ok(Process { pid, started: stat.started }),
            _ => Err(ProcError::Form { path }),
        }
    }

    /// When this process was started. To be asked first thing.
    ///
    /// # Errors
    /// [`ProcError`] when it cannot be read.
    pub fn my_start(&self) -> Result<Started, ProcError> {
        let nanos = self.now_nanos()?;
        Ok(Started { ticks: self.myself()?.started, nanos })
    }

    /// Nanoseconds since boot.
    ///
    /// # Errors
    /// [`ProcError`] when the clock cannot be read.
    pub fn now_nanos(&self) -> Result<u64, ProcError> {
        let clock = ClockId::CLOCK_BOOTTIME.now().map_err(|error| ProcError::Read {
            path: PathBuf::from("the boot clock"),
            source: error.into(),
        })?;
        Ok(u64::try_from(Duration::from(clock).as_nanos()).unwrap_or(u64::MAX))
    }

    /// The process that has this id now; `None` when there is none or it has ended and only waits to be collected.
    ///
    /// # Errors
    /// [`ProcError::Form`] when the kernel's text is not understood.
    pub fn process(&self, pid: i32) -> Result<Option<Process>, ProcError> {
        let path = self.root.join(pid.to_string()).join("stat");
        match read(&path) {
            Ok(text) => match parse_stat(&text) {
                Some(Stat { state: 'Z' | 'X', .. }) => Ok(None),
                Some(Stat { started, .. }) => Ok(Some(Process { pid, started })),
                None => Err(ProcError::Form { path }),
            },
            Err(ProcError::Read { source, .. }) if is_gone(&source) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Root's processes whose arguments end in `-c <config>`: the daemon that was started for one job, also when
    /// nobody got round to writing down its process id.
    ///
    /// # Errors
    /// [`ProcError`] when the list of processes cannot be read; single processes may end meanwhile.
    pub fn started_with_config(&self, config: &Path) -> Result<Vec<Process>, ProcError> {
        let mut wanted = b"\0-c\0".to_vec();
        wanted.extend_from_slice(config.as_os_str().as_encoded_bytes());
        wanted.push(0);
        let mut found = Vec::new();
        for pid in self.pids()? {
            let dir = self.root.join(pid.to_string());
            let ours = std::fs::read(dir.join("cmdline")).is_ok_and(|line| line.ends_with(&wanted));
            if ours
                && effective_uid(&dir) == Some(nix::unistd::geteuid().as_raw())
                && let Some(process) = self.process(pid)?
            {
                found.push(process);
            }
        }
        Ok(found)
    }

    /// Command lines of processes whose program has this base name, for messages; arguments joined by blanks.
    #[must_use]
    pub fn running_as(&self, base_name: &str) -> Vec<(i32, String)> {
        let mut found = Vec::new();
        for pid in self.pids().unwrap_or_default() {
            let line = std::fs::read(self.root.join(pid.to_string()).join("cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&line);
            let mut words = text.split('\0').filter(|word| !word.is_empty());
            let Some(program) = words.next() else { continue };
            if program.rsplit('/').next() == Some(base_name) {
                let rest: Vec<&str> = words.collect();
                found.push((pid, format!("{program} {}", rest.join(" ")).trim_end().to_owned()));
            }
        }
        found
    }

    fn pids(&self) -> Result<Vec<i32>, ProcError> {
        let fault = |source| ProcError::Read { path: self.root.clone(), source };
        let mut pids = Vec::new();
        for entry in std::fs::read_dir(&self.root).map_err(fault)? {
            let name = entry.map_err(fault)?.file_name();
            if let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) {
                pids.push(pid);
            }
        }
        pids.sort_unstable();
        Ok(pids)
    }
}

fn read(path: &Path) -> Result<String, ProcError> {
    std::fs::read_to_string(path).map_err(|source| ProcError::Read { path: path.to_owned(), source })
}

/// A process may end between two looks at it; the kernel then answers ENOENT or ESRCH.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

fn effective_uid(dir: &Path) -> Option<u32> {
    let status = std::fs::read_to_string(dir.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

struct Stat {
    state: char,
    started: Ticks,
}

/// Fields 3 (state) and 22 (start time) of `/proc/<pid>/stat`; proc_pid_stat(5). The name in field 2 may hold
/// blanks and parentheses, so counting begins behind the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some(Stat { state, started })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_hostile_process_name_does_not_shift_the_fields() {
        let line = "42 (a ) Z 1 (x)) S 1 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 123456 9999 1 18";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.state, stat.started), ('S', 123_456));
        assert!(parse_stat("42 (x) S 1 2").is_none());
        assert!(parse_stat("").is_none());
    }

    #[test]
    fn this_process_is_found_and_an_impossible_one_is_not() {
        let proc = Proc::new(Path::new("/proc"));
        let me = proc.myself().unwrap();
        assert_eq!(proc.process(me.pid).unwrap(), Some(me));
        assert_eq!(proc.process(i32::MAX).unwrap(), None);
        assert_eq!(proc.boot_id().unwrap().len(), 36);
        let (first, second) = (proc.my_start().unwrap(), proc.my_start().unwrap());
        assert!(first < second && first.ticks == me.started);
    }

    #[test]
    fn a_process_is_found_by_the_config_file_in_its_arguments_and_not_by_a_longer_name() {
        let config = std::env::temp_dir().join(format!("imex-test-{}.cfg", std::process::id()));
        let mut child = Command::new("/bin/sh")
            .args(["-c", "read x", "sh", "-c"])
            .arg(&config)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let proc = Proc::new(Path::new("/proc"));
        // The kernel sets the arguments a moment after the caller of spawn goes on.
        let deadline = crate::deadline::Deadline::after(std::time::Duration::from_secs(10));
        let mut found = proc.started_with_config(&config).unwrap();
        while found.is_empty() && !deadline.has_passed() {
            found = proc.started_with_config(&config).unwrap();
        }
        let other = proc.started_with_config(&config.with_extension("cf")).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(found.iter().map(|process| process.pid).collect::<Vec<_>>(), [child.id().cast_signed()]);
        assert!(other.is_empty());
        assert!(proc.started_with_config(&config).unwrap().is_empty());
    }

    #[test]
    fn a_process_that_ended_but_was_not_collected_counts_as_gone() {
        let mut child = Command::new("/bin/true").spawn().unwrap();
        let proc = Proc::new(Path::new("/proc"));
        let pid = child.id().cast_signed();
        let deadline = crate::deadline::Deadline::after(std::time::Duration::from_secs(10));
        let mut pauses = crate::deadline::Pauses::new(
            std::time::Duration::from_millis(1),
            std::time::Duration::from_millis(5),
        );
        while proc.process(pid).unwrap().is_some() && !deadline.has_passed() {
            pauses.pause(deadline);
        }
        assert_eq!(proc.process(pid).unwrap(), None);
        child.wait().unwrap();
    }
}
