//! Old files, the lock that keeps two runs apart, and the mark of a run that has begun.
//!
//! In the folder: `<name>.<UTC time>` for each old file, `lock`, and while a run changes things `unfinished`, which names the
//! file that was in force before it. That file is meanwhile held by a second name beside the target too, so that going back
//! needs no space on the disk.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::write::{self, WriteError};

/// Old files that are kept.
const KEPT: usize = 30;
const LOCK: &str = "lock";
const MARK: &str = "unfinished";
/// What the mark says when there was no file.
const NONE: &str = "(no file)";

/// Why the backups cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or folder of the backups cannot be used.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something cannot be written.
    #[error("cannot keep the present file")]
    Write(#[source] WriteError),
    /// Another run works.
    #[error("another run of topology-gen is changing this file; it holds {path}")]
    Busy {
        /// The lock.
        path: PathBuf,
    },
    /// There is no such backup.
    #[error("there is no backup {name} in {folder}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Where.
        folder: PathBuf,
    },
}

/// What brings back the state before a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undo {
    /// This file.
    File(PathBuf),
    /// There was no file.
    Nothing,
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Nothing => f.write_str(NONE),
        }
    }
}

/// Keeps other runs away. A program that is being started at this moment may share the open file for an instant, so closing
/// alone would not end the lock at once.
#[derive(Debug)]
pub struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // The end of the process ends it, too.
        let _ = self.0.unlock();
    }
}

/// The backups of one file.
#[derive(Debug)]
pub struct Backups {
    folder: PathBuf,
    /// File name of the target; the backups' names begin with it.
    stem: String,
    /// Folder of the target, where a killed run may have left a temporary file.
    target_folder: PathBuf,
    /// Second name of the file that was in force before an unfinished run.
    held: PathBuf,
}

impl Backups {
    /// The backups of `target` in `folder`. Nothing is made yet.
    pub fn at(folder: &Path, target: &Path) -> Self {
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        let stem = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let target_folder = target.parent().unwrap_or(Path::new(".")).to_owned();
        let held = target_folder.join(format!(".{stem}.before"));
        Self { folder: folder.to_owned(), stem, target_folder, held }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Keeps other runs away until the value is dropped or the process ends, and removes what killed runs left behind.
    ///
    /// # Errors
    /// [`BackupError::Busy`] at once when another run works; else the folder cannot be used.
    pub fn lock(&self) -> Result<Lock, BackupError> {
        let path = self.path(LOCK);
        let io = |what, path: &Path| {
            let path = path.to_owned();
            move |source| BackupError::Io { what, path, source }
        };
        fs::create_dir_all(&self.folder).map_err(io("make", &self.folder))?;
        let file = File::options().create(true).append(true).open(&path).map_err(io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(BackupError::Busy { path }),
            Err(TryLockError::Error(source)) => return Err(io("lock", &path)(source)),
        }
        for folder in [&self.folder, &self.target_folder] {
            remove_leftovers(folder);
        }
        if !self.path(MARK).exists() {
            self.let_go();
        }
        Ok(Lock(file))
    }

    /// Keeps the present file under the time of now.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, target: &Path, present: Option<&str>) -> Result<Undo, BackupError> {
        let Some(text) = present else { return Ok(Undo::Nothing) };
        // The same text again needs no other copy.
        if let Some(newest) = self.list()?.pop()
            && fs::read(&newest).is_ok_and(|kept| kept == text.as_bytes())
        {
            return Ok(Undo::File(newest));
        }
        let time = utc(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
        // Several in one second are numbered; a number is never used again while a later one is there.
        let name = format!("{}.{time}", self.stem);
        let number = |path: &PathBuf| -> Option<u32> {
            let rest = path.file_name()?.to_str()?.strip_prefix(&name)?.to_owned();
            if rest.is_empty() { Some(0) } else { rest.strip_prefix('.')?.parse().ok() }
        };
        let last = self.list()?.iter().filter_map(number).max();
        let path = self.path(&match last {
            None => name,
            Some(last) => format!("{name}.{:03}", last.saturating_add(1)),
        });
        write::replace_like(&path, text, target).map_err(BackupError::Write)?;
        self.prune()?;
        Ok(Undo::File(path))
    }

    /// All backups, the oldest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self) -> Result<Vec<PathBuf>, BackupError> {
        let fault = |source| BackupError::Io { what: "read", path: self.folder.clone(), source };
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(fault)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(fault)?.file_name().to_string_lossy().into_owned();
            let time = name.strip_prefix(&self.stem).and_then(|rest| rest.strip_prefix('.'));
            if time.is_some_and(|time| time.starts_with(|c: char| c.is_ascii_digit())) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names.iter().map(|name| self.path(name)).collect())
    }

    fn prune(&self) -> Result<(), BackupError> {
        let all = self.list()?;
        let marked = self.unfinished()?;
        for path in all.iter().take(all.len().saturating_sub(KEPT)) {
            if marked != Some(Undo::File(path.clone())) {
                // One that stays costs a little space.
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }

    /// The text of a backup: the named one, else the newest with another text than `present`.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn find(&self, name: Option<&str>, present: Option<&str>) -> Result<(PathBuf, String), BackupError> {
        let mut all = self.list()?;
        all.reverse();
        for path in all {
            let matches = name.is_none_or(|name| path.file_name().is_some_and(|file| file == name));
            if !matches {
                continue;
            }
            let text = fs::read_to_string(&path).map_err(|source| BackupError::Io {
                what: "read",
                path: path.clone(),
                source,
            })?;
            if name.is_some() || present != Some(text.as_str()) {
                return Ok((path, text));
            }
        }
        let name = name.unwrap_or("that differs from the present file").to_owned();
        Err(BackupError::Unknown { name, folder: self.folder.clone() })
    }

    /// Marks that a run changes things, and what was before it.
    ///
    /// # Errors
    /// The mark cannot be written.
    pub fn begin(&self, undo: &Undo) -> Result<(), BackupError> {
        self.let_go();
        // Where there are no second names (or there is no file), going back writes the backup anew.
        let _ = fs::hard_link(self.target_folder.join(&self.stem), &self.held);
        let marked = write::replace(&self.path(MARK), &format!("{undo}\n"));
        if marked.is_err() {
            self.let_go();
        }
        marked.map_err(BackupError::Write).map(drop)
    }

    /// Takes the mark away.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn finish(&self) -> Result<(), BackupError> {
        let path = self.path(MARK);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(BackupError::Io { what: "remove", path, source: error });
            }
            _ => {}
        }
        self.let_go();
        Ok(())
    }

    fn let_go(&self) {
        // Mostly not there; one that stays is hidden and harmless.
        let _ = fs::remove_file(&self.held);
    }

    /// What was before a run that has not ended; `None` when there is no mark, or what it names is gone.
    ///
    /// # Errors
    /// The mark cannot be read.
    pub fn unfinished(&self) -> Result<Option<Undo>, BackupError> {
        let path = self.path(MARK);
        match fs::read_to_string(&path) {
            Ok(text) if text.trim_end() == NONE => Ok(Some(Undo::Nothing)),
            Ok(text) => {
                let file = PathBuf::from(text.trim_end());
                Ok(file.is_file().then_some(Undo::File(file)))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(BackupError::Io { what: "read", path, source }),
        }
    }

    /// Puts the old file back, or removes the file when there was none.
    ///
    /// # Errors
    /// It cannot be written; the present file stays.
    pub fn restore(&self, undo: &Undo, target: &Path) -> Result<(), WriteError> {
        let look = |path: &Path| {
            let path = path.to_owned();
            move |source| WriteError::Look { path, source }
        };
        match undo {
            Undo::File(path) => {
                let text = fs::read_to_string(path).map_err(look(path))?;
                let is_held = fs::read(&self.held).is_ok_and(|held| held == text.as_bytes());
                if is_held && fs::rename(&self.held, self.target_folder.join(&self.stem)).is_ok() {
                    return Ok(());
                }
                write::replace(target, &text).map(drop)
            }
            Undo::Nothing => match fs::remove_file(target) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(look(target)(error)),
                _ => Ok(()),
            },
        }
    }
}

/// Removes temporary files of writers that are gone.
fn remove_leftovers(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let writer = name
            .strip_prefix('.')
            .and_then(|rest| rest.strip_suffix(".tmp"))
            .and_then(|rest| rest.rsplit_once('.'));
        let Some(pid) = writer.and_then(|(_, pid)| pid.parse::<u32>().ok()) else { continue };
        if pid != std::process::id() && !Path::new("/proc").join(pid.to_string()).exists() {
            // One that stays is hidden and harmless.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Seconds since 1970 as `20261122T070809Z`.
pub(crate) fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{:02}T{hour:02}{minute:02}{second:02}Z", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (1_795_330_800, "20261122T070000Z"),
            (4_107_542_399, "21000228T235959Z"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }

    #[test]
    fn old_files_are_kept_found_and_pruned() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("topology.yaml");
        fs::write(&target, "x").unwrap();
        let backups = Backups::at(&dir.path().join("old"), &target);
        assert!(backups.list().unwrap().is_empty());
        let _lock = backups.lock().unwrap();
        for number in 0..KEPT + 5 {
            backups.save(&target, Some(&format!("text {number}"))).unwrap();
        }
        assert_eq!(backups.list().unwrap().len(), KEPT);
        let newest = format!("text {}", KEPT + 4);
        assert_eq!(backups.find(None, Some("other")).unwrap().1, newest);
        assert_eq!(backups.find(None, Some(&newest)).unwrap().1, format!("text {}", KEPT + 3));
        assert!(backups.find(Some("nothing"), None).is_err());
        assert_eq!(backups.save(&target, None).unwrap(), Undo::Nothing);
    }

    #[test]
    fn the_mark_names_what_was_before() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("topology.yaml");
        let backups = Backups::at(&dir.path().join("old"), &target);
        let _lock = backups.lock().unwrap();
        assert!(matches!(backups.lock(), Err(BackupError::Busy { .. })));
        for undo in [Undo::Nothing, backups.save(&target, Some("a")).unwrap()] {
            backups.begin(&undo).unwrap();
            assert_eq!(backups.unfinished().unwrap(), Some(undo.clone()));
            backups.restore(&undo, &target).unwrap();
            assert_eq!(target.exists(), undo != Undo::Nothing);
        }
        backups.finish().unwrap();
        assert_eq!(backups.unfinished().unwrap(), None);
    }

    #[test]
    fn what_a_killed_writer_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| fs::write(dir.path().join(name), "x").unwrap();
        let own = format!(".topology.yaml.{}.tmp", std::process::id());
        for name in [".topology.yaml.4194304.tmp", ".x.tmp", "topology.yaml.4194304.tmp", own.as_str()] {
            put(name);
        }
        remove_leftovers(dir.path());
        assert!(!dir.path().join(".topology.yaml.4194304.tmp").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
