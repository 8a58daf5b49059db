//! This program once more, apart from slurmd: for what outlives a run.
#![forbid(unsafe_code)]

use std::ffi::{CStr, OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;

/// How the program is started.
#[derive(Debug, Clone)]
pub struct Helper {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<OsString>,
}

impl Helper {
    /// This program, whatever has become of its file meanwhile.
    #[must_use]
    pub fn own() -> Self {
        Self { program: PathBuf::from("/proc/self/exe"), arguments: Vec::new() }
    }

    /// What starts it with these words: in a session of its own, without environment, and with no open file but standard input,
    /// output and error.
    pub fn command<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args(words).env_clear().current_dir("/");
        crate::sys::detach(&mut command);
        command
    }
}

/// Gives this process a name of its own, for those who look at the list of processes.
pub fn take_name(name: &CStr) {
    let _unnamed = nix::sys::prctl::set_name(name);
}
