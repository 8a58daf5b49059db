//! The supervisor's socket: restart a daemon, set a fault, ask how the nodes are, stop.
//!
//! One connection carries one request and its answer, each one JSON line.
#![forbid(unsafe_code)]

use crate::fault::Fault;
use crate::limits;
use crate::node::protocol::Line;
use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use crate::node::protocol::DaemonState;

/// Name of the socket in the state directory.
pub(crate) const SOCKET: &str = "control.sock";

/// A request to the supervisor of a cluster.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// How are the daemons and which faults act?
    Status,
    /// Start the Slurm daemon of a node and wait until it is ready.
    StartDaemon {
        /// Node name.
        node: String,
        /// It says that the node has booted just now.
        after_boot: bool,
    },
    /// Send a signal to the Slurm daemon of a node and wait until it is gone.
    StopDaemon {
        /// Node name.
        node: String,
        /// Signal number.
        signal: i32,
    },
    /// Kill everything on a node.
    SwitchOff {
        /// Node name.
        node: String,
    },
    /// Boot a node that is switched off.
    SwitchOn {
        /// Node name.
        node: String,
    },
    /// Let a fault act on a node.
    Fault {
        /// Node name.
        node: String,
        /// What.
        fault: Fault,
        /// For how long; absent: until it is healed.
        time: Option<Duration>,
    },
    /// End all faults of a node.
    Heal {
        /// Node name; absent: of all nodes.
        node: Option<String>,
    },
}

/// The supervisor's answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Done.
    Done,
    /// The state of each node.
    Status(Vec<NodeStatus>),
    /// It went wrong, and how.
    Failed(String),
}

/// State of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Node name.
    pub node: String,
    /// Its Slurm daemon.
    pub daemon: DaemonState,
    /// The faults that act on it, the earliest first.
    pub faults: Vec<Fault>,
}

/// Sends a request to the supervisor whose state directory this is.
///
/// # Errors
/// The supervisor is gone, or does not answer in time, or could not do it.
pub fn ask(state_dir: &Path, request: &Request) -> anyhow::Result<Reply> {
    let path: PathBuf = state_dir.join(SOCKET);
    let stream =
        UnixStream::connect(&path).with_context(|| format!("no supervisor answers on {}", path.display()))?;
    stream.set_read_timeout(Some(limits::CONTROL))?;
    let mut line = Line::new(stream);
    line.send(request).context("cannot ask the supervisor")?;
    match line.receive().context("the supervisor did not answer")? {
        Reply::Failed(why) => bail!("{why}"),
        reply => Ok(reply),
    }
}
