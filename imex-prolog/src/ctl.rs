//! Calls of `nvidia-imex-ctl`, each with a hard bound, and what they say.
//!
//! The tool can hang (DRA driver issue 1417), prints its errors as text with exit code 0 or not, and orders the keys of its JSON as it
//! likes. Anything that is not clearly "connected" is not connected.
#![forbid(unsafe_code)]

use crate::deadline::Deadline;
use crate::wait::readable;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use thiserror::Error;

/// Most that is read from one call, in bytes. A matrix of n trays has n x n entries of about 80 bytes: enough for 576
/// trays twice over.
const OUTPUT_MAX: usize = 64 << 20;
/// Longest piece of foreign text in a message.
const QUOTE_MAX: usize = 200;

/// A call that gave no answer.
#[derive(Debug, Error)]
pub enum CtlError {
    /// The tool cannot be started or read from.
    #[error("cannot run {program}")]
    Run {
        /// The tool.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It did not answer in time and was ended.
    #[error("{program} {option} did not answer within {millis} ms and was ended")]
    Hung {
        /// The tool.
        program: PathBuf,
        /// The question.
        option: &'static str,
        /// The bound.
        millis: u128,
    },
    /// It said something else than an answer.
    #[error("{program} {option} gave no usable answer ({status}): {quote}")]
    Answer {
        /// The tool.
        program: PathBuf,
        /// The question.
        option: &'static str,
        /// How it ended.
        status: String,
        /// The beginning of what it said.
        quote: String,
    },
}

/// State of the own daemon (`-q`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnState {
    /// It serves.
    Ready,
    /// Any other word of the known list, such as INITIALIZING or WAITING_FOR_RECOVERY.
    Other(String),
}

/// The own row of the connection matrix (`-N -j`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnRow {
    /// For each member in nodes-file order: the tool's word for the connection to it.
    pub words: Vec<String>,
    /// The tool's word for the whole domain, for messages only.
    pub domain: String,
}

impl OwnRow {
    /// Whether the member at `index` is connected.
    #[must_use]
    pub fn is_connected(&self, index: usize) -> bool {
        self.words.get(index).is_some_and(|word| word == "CONNECTED")
    }

    /// Members that are not connected, with the tool's word for each.
    #[must_use]
    pub fn missing(&self) -> Vec<(usize, String)> {
        let all = self.words.iter().cloned().enumerate();
        all.filter(|(index, _)| !self.is_connected(*index)).collect()
    }
}

/// The control tool for one job's daemon.
#[derive(Debug, Clone)]
pub struct Ctl {
    /// `nvidia-imex-ctl`.
    pub program: PathBuf,
    /// The job's configuration, from which the tool takes address and nodes file.
    pub config: PathBuf,
}

/// The states of the daemon as the tool prints them (NVIDIA DCGM, dcgmlib/src/DcgmImexManager).
const STATES: [&str; 8] = [
    "INITIALIZING",
    "STARTING_AUTH_SERVER",
    "WAITING_FOR_PEERS",
    "WAITING_FOR_RECOVERY",
    "INIT_GPU",
    "READY",
    "SHUTTING_DOWN",
    "UNAVAILABLE",
];

impl Ctl {
    /// State of the own daemon.
    ///
    /// # Errors
    /// [`CtlError`] when there is no clear answer.
    pub fn own_state(&self, deadline: Deadline) -> Result<OwnState, CtlError> {
        let answer = self.call("-q", &["-q"], deadline)?;
        let word = answer.text.trim();
        match word {
            "READY" if answer.success => Ok(OwnState::Ready),
            _ if word != "READY" && STATES.contains(&word) => Ok(OwnState::Other(word.to_owned())),
            _ => Err(answer.refused(self, "-q")),
        }
    }

    /// The own row of a domain of `count` members, ours at `own`.
    ///
    /// # Errors
    /// [`CtlError`] when there is no such answer.
    pub fn own_row(&self, own: usize, count: usize, deadline: Deadline) -> Result<OwnRow, CtlError> {
        let answer = self.call("-N", &["-N", "-j"], deadline)?;
        let row = if answer.success { parse_row(&answer.text, own, count) } else { None };
        row.ok_or_else(|| answer.refused(self, "-N"))
    }

    fn call(&self, option: &'static str, options: &[&str], deadline: Deadline) -> Result<Answer, CtlError> {
        let fault = |source| CtlError::Run { program: self.program.clone(), source };
        let millis = deadline.remaining().as_millis();
        let (mut reader, writer) = io::pipe().map_err(fault)?;
        let mut command = Command::new(&self.program);
        command
            .arg("-c")
            .arg(&self.config)
            .args(options)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(fault)?)
            .stderr(writer);
        let mut child = command.spawn().map_err(fault)?;
        // The command still holds the pipe's other end.
        drop(command);
        let answer = collect(&mut child, &mut reader, deadline);
        match answer {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => {
                end(&mut child);
                Err(CtlError::Hung { program: self.program.clone(), option, millis })
            }
            Err(source) => {
                end(&mut child);
                Err(fault(source))
            }
        }
    }
}

/// What a call gave.
struct Answer {
    text: String,
    success: bool,
    status: String,
}

impl Answer {
    fn refused(&self, ctl: &Ctl, option: &'static str) -> CtlError {
        CtlError::Answer {
            program: ctl.program.clone(),
            option,
            status: self.status.clone(),
            quote: quote(&self.text),
        }
    }
}

/// Reads until the tool has ended; `None` when the deadline comes first or the output has no end.
///
/// Its end counts and not that of its output: a program that it left behind may hold the pipe.
fn collect(child: &mut Child, reader: &mut io::PipeReader, deadline: Deadline) -> io::Result<Option<Answer>> {
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or_else(|| io::Error::other("no process id"))?;
    let ended = pidfd_open(pid, PidfdFlags::empty())?;
    let mut bytes = Vec::new();
    let mut open = true;
    while bytes.len() <= OUTPUT_MAX {
        let [has_ended, has_output] = if open {
            readable([ended.as_fd(), reader.as_fd()], deadline)?
        } else {
            let [has_ended] = readable([ended.as_fd()], deadline)?;
            [has_ended, false]
        };
        if has_output {
            let mut piece = [0; 16 << 10];
            let length = reader.read(&mut piece)?;
            open = length > 0;
            bytes.extend(piece.iter().take(length));
        } else if has_ended {
            let status = child.wait()?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            return Ok(Some(Answer { text, success: status.success(), status: status.to_string() }));
        } else {
            return Ok(None);
        }
        if deadline.has_passed() {
            return Ok(None);
        }
    }
    Ok(None)
}

/// Ends a tool that hangs. It is our child and not collected, so its id is still its own.
fn end(child: &mut Child) {
    if child.kill().is_ok() {
        // After SIGKILL the wait is short unless the kernel holds the process; it is then collected when we end.
        let deadline = Deadline::after(std::time::Duration::from_millis(200));
        let mut pauses = crate::deadline::Pauses::new(
            std::time::Duration::from_millis(1),
            std::time::Duration::from_millis(20),
        );
        while matches!(child.try_wait(), Ok(None)) && !deadline.has_passed() {
            pauses.pause(deadline);
        }
    }
}

/// The own row: `nodes[own].connections[i].status` for each member, found by index and never by address.
fn parse_row(text: &str, own: usize, count: usize) -> Option<OwnRow> {
    let view: Value = serde_json::from_str(text).ok()?;
    let nodes = view.get("nodes")?.as_object()?;
    let connections = nodes.get(&own.to_string())?.get("connections")?.as_object()?;
    let word = |index: usize| {
        let status = connections.get(&index.to_string()).and_then(|entry| entry.get("status"));
        status.and_then(Value::as_str).unwrap_or("missing").to_owned()
    };
    let domain = view.get("status").and_then(Value::as_str).unwrap_or("unknown").to_owned();
    Some(OwnRow { words: (0..count).map(word).collect(), domain })
}

/// The beginning of foreign text in one line without control characters.
#[must_use]
pub fn quote(text: &str) -> String {
    let plain: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let short: String = plain.chars().take(QUOTE_MAX).collect();
    if short.len() < plain.len() { format!("{short:?}...") } else { format!("{short:?}") }
}

/// Whether the tool and the daemon are there at all, for a message before anything is begun.
#[must_use]
pub fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests;
