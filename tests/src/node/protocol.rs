//! What the supervisor and the first process of a node say to each other: one JSON line each way, one at a time.
#![forbid(unsafe_code)]

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// A request to a node.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NodeRequest {
    /// The node has its network interface: give it the address and bring it up.
    SetUpNetwork,
    /// Start the daemon and wait until it is ready.
    Start {
        /// It says that the node has booted just now (`slurmd -b`); without, it goes by the machine's own boot.
        after_boot: bool,
    },
    /// Start the daemon, ready or not.
    Launch,
    /// Send the daemon a signal and wait until it is gone.
    Stop {
        /// Signal number.
        signal: i32,
    },
    /// How is the daemon?
    Status,
    /// Take the node off the network, or bring it back.
    Network {
        /// Back.
        up: bool,
    },
    /// Keep a TCP port busy.
    HoldPort(u16),
    /// Let go of the port.
    ReleasePort,
    /// Replace what the simulated NVML library shows.
    Nvml(Box<sim::nvml::Settings>),
    /// Replace how the simulated IMEX daemon behaves.
    Imex(Box<sim::imex::Settings>),
    /// Rename a file.
    Rename {
        /// Path now.
        from: PathBuf,
        /// Path then.
        to: PathBuf,
    },
}

/// The answer to a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NodeReply {
    /// Done.
    Done,
    /// The daemon's state.
    Daemon(DaemonState),
    /// It went wrong, and how.
    Failed(String),
}

/// First words of a node: who it is for the host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Pid of its first process on the host.
    pub(crate) pid: i32,
    /// Start time of that process.
    pub(crate) start_time: u64,
}

/// State of a node's daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DaemonState {
    /// Not started yet.
    NotStarted,
    /// Runs, with this pid inside the node.
    Running(i32),
    /// Has ended, and how.
    Ended(String),
}

/// One end of a line of JSON messages.
#[derive(Debug)]
pub(crate) struct Line {
    reader: BufReader<UnixStream>,
}

impl Line {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { reader: BufReader::new(stream) }
    }

    pub(crate) fn stream(&self) -> &UnixStream {
        self.reader.get_ref()
    }

    pub(crate) fn send<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        let mut text = serde_json::to_vec(message)?;
        text.push(b'\n');
        self.reader.get_mut().write_all(&text)
    }

    /// The next message; `UnexpectedEof` when the other side is gone.
    pub(crate) fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut text = String::new();
        if self.reader.read_line(&mut text)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&text)?)
    }
}
