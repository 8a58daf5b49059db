//! Puts the plugin where Slurm loads it from, so that no process ever sees a part of it, and has it confirm the layout of
//! the installed Slurm.
//!
//! Slurm maps plugin files. One that is cut short kills the daemon that loads it (SIGBUS), and an empty one cannot be
//! told from a damaged disk. So the bytes are written beside the place, flushed to the disk, compared with the source,
//! and only then renamed over the old file: whatever happens meanwhile, the old file or the new one is there, whole.

#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Every ELF file begins so.
const ELF: &[u8] = b"\x7fELF";

/// Name of the program that measures the layout of the installed Slurm.
const CONFIRM: &str = "slurm-nvlink-confirm";

/// Puts the plugin into `folder` and the program that confirms the layout into `programs`, and runs that.
///
/// # Errors
/// When a file cannot be put in place (what was there is still there then), or the layout is not confirmed.
pub(crate) fn plugin(staged: &Path, folder: &Path, programs: &Path) -> Result<()> {
    let place = file(&staged.join("topology_block.so"), folder)?;
    println!("installed {}", place.display());
    let confirm = file(&staged.join(CONFIRM), programs)?;
    println!("installed {}", confirm.display());
    let status = Command::new(&confirm).status().with_context(|| format!("run {}", confirm.display()))?;
    ensure!(
        status.success(),
        "the plugin is installed; it refuses to load into a build of Slurm that it does not know until {CONFIRM}, run on the \
         host of slurmctld, has confirmed its layout"
    );
    Ok(())
}

/// Puts a staged file into `folder` and returns its place.
fn file(staged: &Path, folder: &Path) -> Result<PathBuf> {
    let bytes = fs::read(staged).with_context(|| format!("read {}", staged.display()))?;
    ensure!(bytes.starts_with(ELF), "{} is no program or library", staged.display());
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let name = staged.file_name().with_context(|| format!("{} is no file", staged.display()))?;
    let place = folder.join(name);
    put(&mut bytes.as_slice(), &place).with_context(|| format!("install {}", place.display()))?;
    Ok(place)
}

/// Writes all of `source` to `place` in one step.
fn put(source: &mut dyn Read, place: &Path) -> io::Result<()> {
    let beside = place.with_extension(format!("new-{}", std::process::id()));
    let written = write(source, &beside).and_then(|()| fs::rename(&beside, place));
    if written.is_err() {
        // The file may not have come into being at all.
        let _ = fs::remove_file(&beside);
        return written;
    }
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn write(source: &mut dyn Read, file: &Path) -> io::Result<()> {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes)?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o755).open(file)?;
    target.write_all(&bytes)?;
    target.set_permissions(fs::Permissions::from_mode(0o755))?;
    target.sync_all()?;
    if fs::read(file)? == bytes {
        Ok(())
    } else {
        Err(io::Error::other("the file does not read back as it was written"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A folder of the test's own.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("xtask-install-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn entries(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.to_string_lossy().into_owned()).collect()
    }

    /// Gives some bytes, then fails as a full or damaged disk does.
    struct Breaks(usize);

    impl Read for Breaks {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.min(buffer.len());
            self.0 -= count;
            if count == 0 { Err(io::Error::other("no more")) } else { Ok(count) }
        }
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_else() {
        let folder = folder("fails");
        let place = folder.join("topology_block.so");
        put(&mut &b"old"[..], &place).unwrap();
        assert!(put(&mut Breaks(100_000), &place).is_err());
        assert_eq!(fs::read(&place).unwrap(), b"old");
        // The folder itself may be what fails: here the name is taken by a folder.
        let taken = folder.join("taken");
        fs::create_dir_all(taken.join("inside")).unwrap();
        assert!(put(&mut &b"new"[..], &taken).is_err());
        let mut names = entries(&folder);
        names.sort_unstable();
        assert_eq!(names, ["taken", "topology_block.so"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_reader_never_sees_a_part() {
        let folder = folder("reads");
        let place = folder.join("topology_block.so");
        let versions = [vec![b'a'; 300_000], vec![b'b'; 500_000]];
        put(&mut versions[0].as_slice(), &place).unwrap();
        let done = AtomicBool::new(false);
        let (place, done) = (&place, &done);
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut looks = 0;
                while !done.load(Ordering::Relaxed) || looks == 0 {
                    let seen = fs::read(place).unwrap();
                    let whole = [(b'a', 300_000), (b'b', 500_000)].contains(&(seen[0], seen.len()));
                    assert!(whole && seen.iter().all(|byte| *byte == seen[0]), "{} bytes", seen.len());
                    looks += 1;
                }
            });
            for round in 0..20 {
                put(&mut versions[round % 2].as_slice(), place).unwrap();
            }
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap();
        });
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_no_library_is_not_installed() {
        let folder = folder("elf");
        let staged = folder.join("staged");
        for bytes in [&b""[..], b"\x7fEL", b"text"] {
            fs::write(&staged, bytes).unwrap();
            let refused = file(&staged, &folder.join("plugins")).unwrap_err().to_string();
            assert!(refused.ends_with("is no program or library"), "{refused}");
        }
        assert!(!folder.join("plugins").exists());
        fs::write(&staged, b"\x7fELF...").unwrap();
        let place = file(&staged, &folder.join("plugins")).unwrap();
        assert_eq!(fs::metadata(place).unwrap().permissions().mode() & 0o777, 0o755);
        fs::remove_dir_all(folder).unwrap();
    }
}
