//! What stands between slurmd and the programs under test: a hook that runs the real one late, or under a tracer that
//! kills it after its n-th step, or something else in its place.
//!
//! slurm.conf's Prolog and Epilog are two copies of this program, called `imex-prolog` and `imex-epilog`; each runs the
//! program of its own name in [`REAL`], with everything that slurmd gave it. So the programs under test are those of production
//! and know of nothing. Orders are in `hooks.json` (see [`crate::dir`]); without them the real program takes this one's place
//! by exec. Unsafe code exists in [`trace`] alone.

pub mod floor;
mod steps;
mod trace;

use crate::store;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Duration;

/// File name of the orders.
pub const FILE: &str = "hooks.json";
/// Where the real programs are.
pub const REAL: &str = "/usr/sbin";
/// Search path of what runs in place of a real program; slurmd gives none.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// What a failure of this program itself exits with: neither success nor what the real programs use.
const BROKEN: u8 = 99;

/// Orders for both hooks of a tray.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// For the prolog.
    pub prolog: Orders,
    /// For the epilog.
    pub epilog: Orders,
}

/// What happens to one hook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Orders {
    /// Milliseconds before it begins.
    pub after_ms: u64,
    /// It is killed (SIGKILL) when the step of this name is done (see [`Names`]); slurmd sees it killed.
    pub kill_after: Option<String>,
    /// Its steps are written into the file `steps-<name>`, one a line.
    pub note_steps: bool,
    /// Shell text that runs in its place.
    pub instead: Option<String>,
    /// The least that a hook can do runs in its place (see [`floor`]).
    pub floor: bool,
}

impl Settings {
    /// Reads `hooks.json` in `dir`; an absent file gives no orders.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn load(dir: &Path) -> io::Result<Self> {
        store::load(dir, FILE)
    }

    /// Replaces `hooks.json` in `dir` in one step.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, dir: &Path) -> io::Result<()> {
        store::save(self, dir, FILE)
    }
}

/// Name of the file with a hook's steps.
#[must_use]
pub fn steps_file(name: &str) -> String {
    format!("steps-{name}")
}

/// Gives each step of a run a name: what it did, and from the second time on how often it has.
#[derive(Debug, Default)]
pub struct Names(HashMap<String, usize>);

impl Names {
    fn of(&mut self, step: String) -> String {
        let times = self.0.entry(step.clone()).or_insert(0);
        *times += 1;
        if *times == 1 { step } else { format!("{step} ({times})") }
    }
}

/// Runs the hook of this program's own name.
#[must_use]
pub fn main() -> ExitCode {
    match run() {
        Ok(status) => end_as(status),
        Err(error) => {
            eprintln!("sim-hook: {error}");
            ExitCode::from(BROKEN)
        }
    }
}

fn run() -> io::Result<ExitStatus> {
    let own = PathBuf::from(std::env::args_os().next().unwrap_or_default());
    let name = own.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let dir = crate::dir();
    let settings = Settings::load(&dir)?;
    let orders = match name.as_str() {
        "imex-prolog" => settings.prolog,
        "imex-epilog" => settings.epilog,
        other => return Err(io::Error::other(format!("{other:?} is no hook"))),
    };
    pause(Duration::from_millis(orders.after_ms));
    if let Some(text) = &orders.instead {
        return Command::new("/bin/sh").args(["-c", text]).env("PATH", PATH).status();
    }
    if orders.floor {
        match name.as_str() {
            "imex-prolog" => floor::prolog(&dir)?,
            _ => floor::epilog(&dir)?,
        }
        return Ok(ExitStatus::default());
    }
    let mut real = Command::new(Path::new(REAL).join(&name));
    if orders.kill_after.is_none() && !orders.note_steps {
        return Err(real.exec());
    }
    let (mut names, mut seen) = (Names::default(), Vec::new());
    let status = trace::run(&mut real, |step| {
        let name = names.of(step);
        let goes_on = orders.kill_after.as_ref() != Some(&name);
        seen.push(name);
        goes_on
    })?;
    if orders.note_steps {
        let mut text = seen.join("\n");
        text.push('\n');
        std::fs::write(dir.join(steps_file(&name)), text)?;
    }
    Ok(status)
}

/// Ends as the real program did, so that slurmd sees the same.
fn end_as(status: ExitStatus) -> ExitCode {
    if let Some(signal) = status.signal().and_then(|signal| nix::sys::signal::Signal::try_from(signal).ok()) {
        let _dead = nix::sys::signal::raise(signal);
    }
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(BROKEN))
}

#[expect(clippy::disallowed_methods, reason = "the hook is to begin late: this is not a wait for something")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_need_only_what_they_change() {
        let read: Settings = serde_json::from_str(r#"{"epilog":{"kill_after":"lock"}}"#).unwrap();
        let orders = Orders { kill_after: Some("lock".to_owned()), ..Orders::default() };
        assert_eq!(read, Settings { epilog: orders, ..Settings::default() });
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Settings::load(dir.path()).unwrap(), Settings::default());
        read.save(dir.path()).unwrap();
        assert_eq!(Settings::load(dir.path()).unwrap(), read);
    }

    #[test]
    fn a_step_that_comes_again_has_a_number() {
        let mut names = Names::default();
        let seen = ["a", "b", "a"].map(|step| names.of(step.to_owned()));
        assert_eq!(seen, ["a", "b", "a (2)"]);
    }

    #[test]
    fn a_traced_program_is_killed_after_its_step_and_not_later() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["a", "b", "c"].map(|name| dir.path().join(name));
        let script = format!("mkdir {} {} {}", files[0].display(), files[1].display(), files[2].display());
        let mut command = Command::new("/bin/sh");
        // The shell takes mkdir's place, so that the traced process is the one that makes them.
        command.args(["-c", &format!("exec {script}")]).env("PATH", PATH);
        let mut seen = Vec::new();
        let status = trace::run(&mut command, |step| {
            seen.push(step);
            seen.len() != 2
        })
        .unwrap();
        assert_eq!(status.signal(), Some(9));
        assert_eq!(files.map(|file| file.exists()), [true, true, false], "{seen:?}");
        assert!(seen[0].starts_with("make directory ") && seen[0].ends_with("/a"), "{seen:?}");
    }

    #[test]
    fn a_program_that_is_not_killed_ends_as_always() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exit 7"]);
        let status = trace::run(&mut command, |_| true).unwrap();
        assert_eq!(status.code(), Some(7));
    }
}
