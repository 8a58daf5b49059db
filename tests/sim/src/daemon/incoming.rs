//! The connections that the server accepted: peers that dial, and control tools that ask.
#![forbid(unsafe_code)]

use super::peer::Millis;
use super::server::{Server, nobody_waits};
use super::sockets::{Interest, Token};
use crate::wire::{Hello, Inbox, NodeReport, PeerMessage, Query, Received, send};
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Accepted connections at most, of either kind; more are closed at once.
const CALLS_MAX: usize = 8_192;

/// Milliseconds that a control tool may take for its question.
const COMMAND_MS: Millis = 30_000;

/// A peer that dialled.
#[derive(Debug)]
pub(super) struct PeerCall {
    /// The socket.
    pub(super) stream: TcpStream,
    from: IpAddr,
    inbox: Inbox,
}

/// A control tool that asks.
#[derive(Debug)]
pub(super) struct CommandCall {
    /// The socket.
    pub(super) stream: CommandStream,
    from: Option<IpAddr>,
    inbox: Inbox,
    until: Millis,
}

/// Either way to the command service.
#[derive(Debug)]
pub(super) enum CommandStream {
    /// IMEX_CMD_PORT.
    Tcp(TcpStream),
    /// IMEX_CMD_UNIX_DOMAIN_PATH.
    Unix(UnixStream),
}

impl AsFd for CommandStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for CommandStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for CommandStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl PeerCall {
    /// Answers hello by hello and ping by pong; false when the call is over.
    fn answer(&mut self, own: &Hello, dropped: &[String]) -> bool {
        let received = self.inbox.fill(&mut self.stream);
        let silent = blocks(dropped, self.from);
        loop {
            let answer = match self.inbox.take::<PeerMessage>() {
                Ok(None) => return matches!(received, Ok(Received::Open)),
                Ok(Some(PeerMessage::Bye)) | Err(_) => return false,
                Ok(Some(PeerMessage::Hello(_))) if !silent => PeerMessage::Hello(own.clone()),
                Ok(Some(PeerMessage::Ping)) if !silent => PeerMessage::Pong,
                Ok(Some(_)) => continue,
            };
            if send(&mut self.stream, &answer).is_err() {
                return false;
            }
        }
    }
}

impl CommandCall {
    /// Answers the question once it is complete; false when the call is over.
    fn answer(&mut self, report: &NodeReport, dropped: &[String]) -> bool {
        let received = self.inbox.fill(&mut self.stream);
        let silent = self.from.is_some_and(|from| blocks(dropped, from));
        match self.inbox.take::<Query>() {
            Ok(Some(Query::Report)) if !silent => {
                // A tool that went away needs no answer.
                let _ = send(&mut self.stream, report);
                false
            }
            Ok(_) => matches!(received, Ok(Received::Open)),
            Err(_) => false,
        }
    }
}

/// Whether the settings drop what comes from this address.
fn blocks(list: &[String], from: IpAddr) -> bool {
    list.iter().any(|blocked| blocked.parse() == Ok(from.to_canonical()))
}

impl Server {
    pub(super) fn accept_peers(&mut self) {
        loop {
            let Some(ports) = &self.ports else { return };
            match ports.peers.accept() {
                Ok((stream, from))
                    if self.peer_calls.len() < CALLS_MAX && stream.set_nonblocking(true).is_ok() =>
                {
                    let key = self.next_call();
                    if self.sockets.add(&stream, Token::PeerCall(key), Interest::Read).is_ok() {
                        self.peer_calls
                            .insert(key, PeerCall { stream, from: from.ip(), inbox: Inbox::default() });
                    }
                }
                Ok(_) => {}
                Err(error) if nobody_waits(&error) => return,
                Err(error) => return self.log.error(&format!("failed to accept a peer: {error}")),
            }
        }
    }

    pub(super) fn accept_commands(&mut self) {
        loop {
            let Some(listener) = self.ports.as_ref().and_then(|ports| ports.commands.as_ref()) else {
                return;
            };
            match listener.accept() {
                Ok((stream, from)) => {
                    if stream.set_nonblocking(true).is_ok() {
                        self.add_command(CommandStream::Tcp(stream), Some(from.ip()));
                    }
                }
                Err(error) if nobody_waits(&error) => return,
                Err(error) => return self.log.error(&format!("failed to accept a command: {error}")),
            }
        }
    }

    pub(super) fn accept_socket(&mut self) {
        loop {
            let Some(listener) = self.ports.as_ref().and_then(|ports| ports.socket.as_ref()) else { return };
            match listener.accept() {
                Ok((stream, _)) => {
                    if stream.set_nonblocking(true).is_ok() {
                        self.add_command(CommandStream::Unix(stream), None);
                    }
                }
                Err(error) if nobody_waits(&error) => return,
                Err(error) => return self.log.error(&format!("failed to accept a command: {error}")),
            }
        }
    }

    fn add_command(&mut self, stream: CommandStream, from: Option<IpAddr>) {
        if self.command_calls.len() < CALLS_MAX {
            let until = self.now() + COMMAND_MS;
            let key = self.next_call();
            if self.sockets.add(&stream, Token::CommandCall(key), Interest::Read).is_ok() {
                self.command_calls.insert(key, CommandCall { stream, from, inbox: Inbox::default(), until });
            }
        }
    }

    /// A peer that dialled has said something.
    pub(super) fn peer_call_ready(&mut self, key: u32) {
        let dropped = &self.plan.watch.settings().block_peers_from;
        let Some(call) = self.peer_calls.get_mut(&key) else { return };
        if !call.answer(&self.plan.hello, dropped) {
            self.peer_calls.remove(&key);
        }
    }

    /// A control tool has asked.
    pub(super) fn command_call_ready(&mut self, key: u32) {
        let report = self.report();
        let dropped = &self.plan.watch.settings().block_commands_from;
        let Some(call) = self.command_calls.get_mut(&key) else { return };
        if !call.answer(&report, dropped) {
            self.command_calls.remove(&key);
        }
    }

    /// Ends calls of control tools that never ask.
    pub(super) fn drop_silent_calls(&mut self, now: Millis) {
        self.command_calls.retain(|_, call| now < call.until);
    }
}
