//! The words of IMEX: states of a daemon, of a connection, and of a domain.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};
use std::fmt;

/// State of one daemon, as `nvidia-imex-ctl -q` prints it (words as DCGM reads them).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DaemonState {
    /// Started, ports not yet open.
    Initializing,
    /// After an unclean end: waiting for the nodes that imported memory.
    WaitingForRecovery,
    /// Waiting for the GPUs' fabric.
    InitGpu,
    /// In service.
    Ready,
    /// Ending gracefully.
    ShuttingDown,
    /// Not to be reached; never a daemon's own word.
    Unavailable,
}

impl DaemonState {
    /// The word on the wire and on paper.
    pub fn word(self) -> &'static str {
        match self {
            Self::Initializing => "INITIALIZING",
            Self::WaitingForRecovery => "WAITING_FOR_RECOVERY",
            Self::InitGpu => "INIT_GPU",
            Self::Ready => "READY",
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::Unavailable => "UNAVAILABLE",
        }
    }
}

/// State of a daemon's own connection to one node of its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Connection {
    /// Not reachable, or nobody could be asked.
    Invalid,
    /// No connection since the daemon's start.
    NeverConnected,
    /// Lost; what the peer imported is kept.
    Recovering,
    /// Lost; what the peer imported is cleaned up.
    Disconnected,
    /// Versions differ: traffic is off. The real word in JSON is not public.
    VersionMismatch,
    /// Node lists differ: traffic is off until the daemon restarts. The real word in JSON is not public.
    MapMismatch,
    /// In service.
    Connected,
}

impl Connection {
    /// The word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Invalid => "INVALID",
            Self::NeverConnected => "NEVER_CONNECTED",
            Self::Recovering => "RECOVERING",
            Self::Disconnected => "DISCONNECTED",
            Self::VersionMismatch => "VERSION_MISMATCH",
            Self::MapMismatch => "MAP_MISMATCH",
            Self::Connected => "CONNECTED",
        }
    }

    /// The cell in the connectivity table.
    pub fn cell(self) -> &'static str {
        match self {
            Self::Invalid => "I",
            Self::NeverConnected => "N",
            Self::Recovering => "R",
            Self::Disconnected => "D",
            Self::VersionMismatch => "!V!",
            Self::MapMismatch => "!M!",
            Self::Connected => "C",
        }
    }
}

/// State of the whole domain, seen from one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainState {
    /// Every node READY and every connection CONNECTED.
    Up,
    /// The asked node answers, and something is missing.
    Degraded,
    /// The asked node does not answer.
    Down,
}

impl DomainState {
    /// The word on paper.
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "UP",
            Self::Degraded => "DEGRADED",
            Self::Down => "DOWN",
        }
    }
}

impl fmt::Display for DaemonState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for DomainState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_carries_the_printed_words() {
        for state in [DaemonState::Initializing, DaemonState::WaitingForRecovery, DaemonState::InitGpu] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.word());
        }
        for connection in [Connection::NeverConnected, Connection::MapMismatch, Connection::Recovering] {
            assert_eq!(serde_json::to_value(connection).unwrap(), connection.word());
        }
    }
}
