//! The daemon's log: lines in the vendor's form, to a file or stderr.
//!
//! Form: `[Mon DD YYYY HH:MM:SS] [LEVEL] [tid N] text`; the very first line has no prefix. Rotation and syslog
//! are not simulated.
#![forbid(unsafe_code)]

use crate::clock::Stamp;
use crate::config::Config;
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

/// Weight of a line; LOG_LEVEL shows everything up to its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The daemon ends.
    Critical = 1,
    /// Something is broken.
    Error = 2,
    /// Something may break.
    Warning = 3,
    /// What goes on.
    Info = 4,
}

/// An open log. A line that cannot be written is lost, as a daemon must not end for that.
#[derive(Debug)]
pub struct Log {
    file: Option<File>,
    level: u8,
}

impl Log {
    /// Opens the log that the config names, else stderr with a word about why, and writes the first line.
    pub fn open(config: &Config) -> Self {
        let mut log = Self { file: None, level: config.log_level };
        if let Some(path) = &config.log_file {
            let mut options = OpenOptions::new();
            options.create(true).write(true).append(config.log_append).truncate(!config.log_append);
            match options.open(path) {
                Ok(file) => {
                    if let Err(error) = file.set_permissions(Permissions::from_mode(0o644)) {
                        eprintln!("WARNING: failed to chmod IMEX log file {}: {error}", path.display());
                    }
                    log.file = Some(file);
                }
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or_default();
                    eprintln!("WARNING: failed to open IMEX log file errno = {errno} ({})", path.display());
                    eprintln!("INFO: using stderr for IMEX logging");
                }
            }
        }
        log.raw(&format!("IMEX Log initializing at: {}", Stamp::now().slashed()));
        log
    }

    /// A log on stderr that shows everything.
    pub fn stderr() -> Self {
        Self { file: None, level: 4 }
    }

    /// Whether lines go to stderr.
    pub fn is_stderr(&self) -> bool {
        self.file.is_none()
    }

    /// Writes a line if the level is shown.
    pub fn line(&mut self, level: Level, text: &str) {
        if level as u8 <= self.level {
            let name = match level {
                Level::Critical => "CRITICAL",
                Level::Error => "ERROR",
                Level::Warning => "WARNING",
                Level::Info => "INFO",
            };
            self.raw(&format!("[{}] [{name}] [tid {}] {text}", Stamp::now().log(), nix::unistd::gettid()));
        }
    }

    /// [`Level::Info`].
    pub fn info(&mut self, text: &str) {
        self.line(Level::Info, text);
    }

    /// [`Level::Error`].
    pub fn error(&mut self, text: &str) {
        self.line(Level::Error, text);
    }

    fn raw(&mut self, text: &str) {
        let line = format!("{text}\n");
        // A full disk or a closed stderr must not end the daemon.
        let _ = match &mut self.file {
            Some(file) => file.write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: &std::path::Path, rest: &str) -> Config {
        Config::parse(&format!("LOG_FILE_NAME={}\n{rest}", path.display())).unwrap()
    }

    #[test]
    fn lines_have_the_vendor_form_and_the_level_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(&config(&path, "LOG_LEVEL=2"));
        log.info("not shown");
        log.error("shown");
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("IMEX Log initializing at: "), "{text}");
        assert_eq!(lines.len(), 2);
        let rest = lines[1].split_once("] [ERROR] [tid ").unwrap().1;
        assert!(rest.ends_with("] shown"), "{text}");
    }

    #[test]
    fn append_keeps_and_truncate_drops_the_last_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let lines = |rest| {
            drop(Log::open(&config(&path, rest)));
            std::fs::read_to_string(&path).unwrap().lines().count()
        };
        assert_eq!(lines(""), 1);
        assert_eq!(lines("LOG_APPEND_TO_LOG=1"), 2);
        assert_eq!(lines("LOG_APPEND_TO_LOG=0"), 1);
    }

    #[test]
    fn a_missing_directory_means_stderr() {
        assert!(Log::open(&config(std::path::Path::new("/no/such/dir/log"), "LOG_LEVEL=0")).is_stderr());
    }
}
