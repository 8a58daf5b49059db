//! Where words go: standard error, which slurmd keeps when a script fails, a log file of this tray, and the journal where
//! there is one.
//!
//! slurmd throws away what a successful prolog prints (debug2 only), so the file is what an operator reads. Printing
//! never fails and never panics: slurmd may close its end at any time.
#![forbid(unsafe_code)]

use crate::journal::Journal;
use crate::paths::Paths;
use crate::secure_fs::Dir;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Mutex;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

/// A log file larger than this (in bytes) is set aside as `imex.log.1` before a run.
const FILE_MAX: u64 = 16 << 20;

/// Standard error and, if it can be opened, the log file.
#[derive(Debug)]
pub struct Sinks {
    file: Option<Mutex<File>>,
}

impl Sinks {
    /// Opens the log file; without one, words go to standard error alone.
    #[must_use]
    pub fn open(paths: &Paths) -> Self {
        Self { file: open_file(paths).map(Mutex::new) }
    }
}

fn open_file(paths: &Paths) -> Option<File> {
    let dir = Dir::create(&paths.log_dir, 0o755).ok()?;
    let path = paths.own_log();
    let name = path.file_name()?.to_str()?.to_owned();
    let full = dir
        .look(&name)
        .ok()
        .flatten()
        .is_some_and(|stat| u64::try_from(stat.st_size).unwrap_or(0) > FILE_MAX);
    if full {
        let aside = path.with_extension("log.1");
        // A failed rename costs nothing: the old file goes on.
        let _goes_on = std::fs::rename(&path, aside);
    }
    dir.append(&name, 0o640).ok()
}

/// One writer for one event.
#[derive(Debug)]
pub struct Tee<'a>(&'a Sinks);

impl Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Whoever reads standard error may be gone; the event still goes to the file, and the run goes on.
        let _reader_gone = io::stderr().write_all(bytes);
        if let Some(file) = &self.0.file
            && let Ok(mut file) = file.lock()
        {
            let _disk_full = file.write_all(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sinks {
    type Writer = Tee<'a>;

    fn make_writer(&'a self) -> Tee<'a> {
        Tee(self)
    }
}

/// Sends all events of this process to the sinks, and to the journal under the name `program`. A second call changes
/// nothing.
pub fn init(paths: &Paths, program: &'static str) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(Sinks::open(paths))
        .with_ansi(false)
        .with_target(false)
        .log_internal_errors(false);
    let subscriber = tracing_subscriber::registry()
        .with(LevelFilter::INFO)
        .with(lines)
        .with(Journal::connect(&paths.journal, program));
    // Refused only when one is set already.
    let _already_set = tracing::subscriber::set_global_default(subscriber);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn events_reach_the_file_in_one_piece_and_nobody_else_may_read_it() {
        let temp = tempfile::tempdir().unwrap();
        let paths = Paths::below(temp.path());
        let sinks = Sinks::open(&paths);
        sinks.make_writer().write_all(b"one\n").unwrap();
        drop(sinks);
        Sinks::open(&paths).make_writer().write_all(b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(paths.own_log()).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::metadata(paths.own_log()).unwrap().permissions().mode() & 0o7777, 0o640);
    }

    #[test]
    fn a_large_file_is_set_aside() {
        let temp = tempfile::tempdir().unwrap();
        let paths = Paths::below(temp.path());
        drop(Sinks::open(&paths));
        File::options().write(true).open(paths.own_log()).unwrap().set_len(FILE_MAX + 1).unwrap();
        Sinks::open(&paths).make_writer().write_all(b"new\n").unwrap();
        assert_eq!(std::fs::read_to_string(paths.own_log()).unwrap(), "new\n");
        assert!(paths.own_log().with_extension("log.1").exists());
    }

    #[test]
    fn without_a_usable_directory_words_still_go_to_standard_error() {
        let temp = tempfile::tempdir().unwrap();
        let mut paths = Paths::below(temp.path());
        paths.log_dir = "/proc/nowhere".into();
        assert_eq!(Sinks::open(&paths).make_writer().write(b"x").unwrap(), 1);
    }
}
