//! Runs a program with a deadline and takes what it prints. At the deadline it is killed with all that it has started.
#![forbid(unsafe_code)]

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Most bytes taken of each stream; `scontrol show nodes --json` prints about 150 MB for 50,000 nodes.
const OUTPUT_MAX: u64 = 1 << 30;

/// Why a program gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It cannot be started.
    #[error("cannot run {program}")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It did not end in time.
    #[error("{what} does not end within {seconds} s")]
    Deadline {
        /// Program and arguments.
        what: String,
        /// The deadline.
        seconds: u64,
    },
    /// What it prints cannot be read.
    #[error("cannot read what {program} prints")]
    Output {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// How a program ended, and what it printed.
#[derive(Debug, Clone)]
pub struct Done {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output; bytes that are no text are replaced.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Done {
    /// The last line that it said on standard error.
    pub fn last_words(&self) -> String {
        let last = self.stderr.lines().rfind(|line| !line.trim().is_empty());
        last.unwrap_or("it says nothing").trim().to_owned()
    }
}

/// Runs the program without standard input.
///
/// # Errors
/// [`CommandError`]; how the program ended is no error here.
pub fn run(command: &mut Command, deadline: Duration) -> Result<Done, CommandError> {
    let program = PathBuf::from(command.get_program());
    let what = shown(command);
    let end = Instant::now() + deadline;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|source| CommandError::Start { program: program.clone(), source })?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let late = || CommandError::Deadline { what: what.clone(), seconds: deadline.as_secs() };
    let fault = |source| CommandError::Output { program: program.clone(), source };
    let status = wait(&mut child, end).map_err(fault)?.ok_or_else(late)?;
    // Something that the program left behind may hold its output open.
    let left = end.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
    let mut text = |stream: mpsc::Receiver<std::io::Result<String>>| match stream.recv_timeout(left) {
        Ok(text) => text.map_err(fault),
        Err(_) => {
            end_group(&mut child);
            Err(late())
        }
    };
    Ok(Done { status, stdout: text(stdout)?, stderr: text(stderr)? })
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Reads a pipe to its end in a thread, so that a full pipe never blocks the child.
fn collect(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<std::io::Result<String>> {
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = pipe.map_or(Ok(0), |pipe| pipe.take(OUTPUT_MAX).read_to_end(&mut bytes));
        // The receiver is gone after the deadline; then nobody wants the text.
        let _ = done.send(read.map(|_| text(bytes)));
    });
    wait
}

/// The bytes as text, without a second copy when they are.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Waits for the end of the child; at the deadline its whole group is killed and `None` comes back.
fn wait(child: &mut Child, end: Instant) -> std::io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            end_group(child);
            child.wait()?;
            return Ok(None);
        }
        pause(Duration::from_millis(5));
    }
}

fn end_group(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // The group is the child's own, made at its start; it may be gone already.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    // Gone already, or killed with its group.
    let _ = child.kill();
}

/// The distance between two looks at a condition that has a deadline.
#[expect(clippy::disallowed_methods, reason = "polls for a condition, within the deadline of the caller")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_status_come_back() {
        let done =
            run(Command::new("sh").args(["-c", "echo a; echo b >&2; exit 3"]), Duration::from_secs(20))
                .unwrap();
        assert_eq!(
            (done.status.code(), done.stdout.as_str(), done.last_words().as_str()),
            (Some(3), "a\n", "b")
        );
    }

    #[test]
    fn nothing_is_left_of_a_program_that_hangs() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", pid.display());
        let error = run(Command::new("sh").args(["-c", &script]), Duration::from_millis(300)).unwrap_err();
        assert!(matches!(error, CommandError::Deadline { .. }), "{error}");
        let pid = std::fs::read_to_string(&pid).unwrap();
        let gone = || {
            let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        };
        let end = Instant::now() + Duration::from_secs(10);
        while !gone() && Instant::now() < end {
            pause(Duration::from_millis(5));
        }
        assert!(gone(), "the program's own child still runs");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(&mut Command::new("/no/such/program"), Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.to_string(), "cannot run /no/such/program");
    }
}
