//! The protocol between simulated programs: one JSON object per line, in both directions.
//!
//! This is not NVIDIA's protocol (that is gRPC, and not public). On the peer port the dialling side sends
//! [`PeerMessage::Hello`] and the other side answers with its own; after that the dialling side probes with
//! `Ping`. On the command port one [`Query`] gets one [`NodeReport`].
#![forbid(unsafe_code)]

use crate::state::{Connection, DaemonState};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// Longest line, in bytes. A report on 1,000 nodes has about 60 KB.
pub const LINE_MAX: usize = 1 << 20;

/// Who speaks: enough for the other side to judge whether the two can work together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The speaker's line in its own list.
    pub node: usize,
    /// The speaker's version, or `NO_GPU`.
    pub version: String,
    /// [`crate::nodes::NodeList::key`] of the speaker's list.
    pub map: u64,
    /// Differs for each start of a daemon.
    pub incarnation: u64,
}

/// A line on the peer port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum PeerMessage {
    /// First line of each side.
    Hello(Hello),
    /// Are you there?
    Ping,
    /// Answer of a ping.
    Pong,
    /// The speaker ends gracefully.
    Bye,
}

/// A question on the command port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "query", rename_all = "kebab-case")]
pub enum Query {
    /// The daemon's state, its list and its row of connections.
    Report,
}

/// The answer of one daemon about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its line in its own list.
    pub node: usize,
    /// Its state.
    pub state: DaemonState,
    /// Its version.
    pub version: String,
    /// Its host name.
    pub host_name: String,
    /// Its list.
    pub hosts: Vec<String>,
    /// Its connections, one per line of its list.
    pub connections: Vec<Connection>,
    /// Its command port; `None` when it has only a socket.
    pub cmd_port: Option<u16>,
}

/// One message as a line.
pub fn encode(message: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Sends one message. On a non-blocking stream a line that does not fit at once is an error: lines are short
/// and the peer that reads none of them for so long is not worth waiting for.
///
/// # Errors
/// The stream does not take the whole line.
pub fn send(stream: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    stream.write_all(&encode(message))
}

/// Bytes received so far on one stream.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
}

/// What a read left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// The stream is still open.
    Open,
    /// The other side has closed.
    Closed,
}

impl Inbox {
    /// Reads what is there. On a blocking stream one read, on a non-blocking one all of it.
    ///
    /// # Errors
    /// The stream failed, or sends lines longer than [`LINE_MAX`].
    pub fn fill(&mut self, stream: &mut impl Read) -> io::Result<Received> {
        let mut chunk = [0; 4096];
        loop {
            match stream.read(&mut chunk) {
                Ok(0) => return Ok(Received::Closed),
                Ok(count) => {
                    self.bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
                    if self.bytes.len() > LINE_MAX {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, "line too long"));
                    }
                    if count < chunk.len() {
                        return Ok(Received::Open);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Received::Open),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next whole line, decoded.
    ///
    /// # Errors
    /// The line is no message of this protocol.
    pub fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let line: Vec<u8> = self.bytes.drain(..=end).collect();
        Ok(Some(serde_json::from_slice(&line)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_arrive_in_pieces_are_put_together() {
        let hello =
            PeerMessage::Hello(Hello { node: 1, version: "v".to_owned(), map: u64::MAX, incarnation: 7 });
        let bytes = [encode(&hello), encode(&PeerMessage::Ping)].concat();
        for cut in 0..bytes.len() {
            let mut inbox = Inbox::default();
            let mut seen = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                if !part.is_empty() {
                    inbox.fill(&mut &*part).unwrap();
                }
                while let Some(message) = inbox.take::<PeerMessage>().unwrap() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, [hello.clone(), PeerMessage::Ping]);
        }
    }

    #[test]
    fn foreign_and_endless_input_is_an_error() {
        let mut inbox = Inbox::default();
        inbox.fill(&mut &b"GET / HTTP/1.1\n"[..]).unwrap();
        assert!(inbox.take::<PeerMessage>().is_err());
        let endless = vec![b'x'; LINE_MAX + 4096];
        assert!(Inbox::default().fill(&mut endless.as_slice()).is_err());
    }
}
