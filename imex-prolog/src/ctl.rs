//! Calls of `nvidia-imex-ctl`, each with a hard bound, and what they say.
//!
//! The tool can hang (DRA driver issue 1417), prints its errors as text with exit code 0 or not, and orders the keys of
//! its JSON as it likes. Anything that is not clearly "connected" is not connected.
#![forbid(unsafe_code)]

use crate::call::{Answer, Call};
use crate::deadline::Deadline;
use serde_json::Value;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

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
    /// State of the own daemon, where the view has it; it can be absent while `-q` has an answer.
    pub own: Option<OwnState>,
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

fn state_of(word: &str) -> Option<OwnState> {
    match word {
        "READY" => Some(OwnState::Ready),
        _ => STATES.contains(&word).then(|| OwnState::Other(word.to_owned())),
    }
}

impl Ctl {
    /// State of the own daemon.
    ///
    /// # Errors
    /// [`CtlError`] when there is no clear answer.
    pub fn own_state(&self, deadline: Deadline) -> Result<OwnState, CtlError> {
        let answer = self.call("-q", &["-q"], deadline)?;
        match state_of(answer.text.trim()) {
            Some(OwnState::Ready) if !answer.success => Err(self.refused(&answer, "-q")),
            Some(state) => Ok(state),
            None => Err(self.refused(&answer, "-q")),
        }
    }

    /// The own row of a domain of `count` members, ours at `own`.
    ///
    /// # Errors
    /// [`CtlError`] when there is no such answer.
    pub fn own_row(&self, own: usize, count: usize, deadline: Deadline) -> Result<OwnRow, CtlError> {
        let answer = self.call("-N", &["-N", "-j"], deadline)?;
        let row = if answer.success { parse_row(&answer.text, own, count) } else { None };
        row.ok_or_else(|| self.refused(&answer, "-N"))
    }

    fn call(&self, option: &'static str, options: &[&str], deadline: Deadline) -> Result<Answer, CtlError> {
        let fault = |source| CtlError::Run { program: self.program.clone(), source };
        let millis = deadline.remaining().as_millis();
        let arguments = [OsStr::new("-c"), self.config.as_os_str()];
        let call = Call::start(&self.program, arguments.into_iter().chain(options.iter().map(OsStr::new)));
        let answer = call.and_then(|call| call.finish(deadline)).map_err(fault)?;
        answer.ok_or_else(|| CtlError::Hung { program: self.program.clone(), option, millis })
    }

    fn refused(&self, answer: &Answer, option: &'static str) -> CtlError {
        CtlError::Answer {
            program: self.program.clone(),
            option,
            status: answer.status.clone(),
            quote: quote(&answer.text),
        }
    }
}

/// The own row: `nodes[own].connections[i].status` for each member, found by index and never by address. Of the nodes' states only
/// the own one is first-hand, and UNAVAILABLE is what the tool fills in where it has none.
fn parse_row(text: &str, own: usize, count: usize) -> Option<OwnRow> {
    let view: Value = serde_json::from_str(text).ok()?;
    let nodes = view.get("nodes")?.as_object()?;
    let node = nodes.get(&own.to_string())?;
    let connections = node.get("connections")?.as_object()?;
    let word = |index: usize| {
        let status = connections.get(&index.to_string()).and_then(|entry| entry.get("status"));
        status.and_then(Value::as_str).unwrap_or("missing").to_owned()
    };
    let domain = view.get("status").and_then(Value::as_str).unwrap_or("unknown").to_owned();
    let own =
        node.get("status").and_then(Value::as_str).filter(|word| *word != "UNAVAILABLE").and_then(state_of);
    Some(OwnRow { own, words: (0..count).map(word).collect(), domain })
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
