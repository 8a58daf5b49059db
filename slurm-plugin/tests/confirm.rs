//! slurm-nvlink-confirm where there is no Slurm that it could measure: it says what is wrong, and writes nothing.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A folder of the test's own, and what the program says of it as a folder of Slurm's plugins.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> io::Result<Self> {
        let place = std::env::temp_dir().join(format!("slurm-nvlink-confirm-{name}-{}", std::process::id()));
        fs::create_dir_all(&place)?;
        Ok(Self(place))
    }

    fn confirm(&self) -> io::Result<(Output, String)> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slurm-nvlink-confirm"));
        command.arg("--plugins").arg(&self.0).arg("--folder").arg(self.0.join("layout"));
        let output = command.output()?;
        let words = String::from_utf8_lossy(&output.stderr).replace(&self.0.display().to_string(), ".");
        Ok((output, words))
    }

    fn is_refused_for(&self, why: &str) -> io::Result<()> {
        let (output, words) = self.confirm()?;
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains(why), "{words}");
        assert!(
            words
                .ends_with("nothing was written; without a confirmation Slurm runs its own topology/block\n")
        );
        assert!(!self.0.join("layout").exists());
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_folder_without_slurm_is_refused() -> io::Result<()> {
    Place::new("empty")?.is_refused_for("./libslurmfull.so cannot be opened: ")
}

#[test]
fn a_file_that_is_no_library_is_refused() -> io::Result<()> {
    let place = Place::new("text")?;
    fs::write(place.0.join("libslurmfull.so"), "no library")?;
    place.is_refused_for("./libslurmfull.so cannot be opened: ")
}

/// A library that is cut short kills who loads it: that is why measuring is done by a process of its own.
#[test]
fn what_kills_the_measuring_process_is_told() -> io::Result<()> {
    let place = Place::new("cut")?;
    let program = fs::read(env!("CARGO_BIN_EXE_slurm-nvlink-confirm"))?;
    fs::write(place.0.join("libslurmfull.so"), &program[..8192])?;
    place.is_refused_for("Slurm's own code ended the measuring process (signal: 7 (SIGBUS)")
}

#[test]
fn wrong_words_on_the_command_line_are_explained() -> io::Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_slurm-nvlink-confirm")).arg("--force").output()?;
    assert_eq!(output.status.code(), Some(2));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.starts_with("slurm-nvlink-confirm: what is --force?\n\nMeasures where "), "{words}");
    Ok(())
}
