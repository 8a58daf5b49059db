//! The connections that the server accepted: peers that dial, and control tools that ask.
#![forbid(unsafe_code)]

use super::peer::Millis;
use super::server::{Server, nobody_waits};
use crate::wire::{Inbox, PeerMessage, Query, Received, send};
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
    /// False: to be dropped.
    pub(super) open: bool,
    from: IpAddr,
    inbox: Inbox,
}

/// A control tool that asks.
#[derive(Debug)]
pub(super) struct CommandCall {
    /// The socket.
    pub(super) stream: CommandStream,
    /// False: to be dropped.
    pub(super) open: bool,
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
                    self.peer_calls.push(PeerCall {
                        stream,
                        open: true,
                        from: from.ip(),
                        inbox: Inbox::default(),
                    });
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
            self.command_calls.push(CommandCall { stream, open: true, from, inbox: Inbox::default(), until });
        }
    }

    /// A peer that dialled has said something: hello is answered by hello, ping by pong.
    pub(super) fn peer_call_ready(&mut self, index: usize) {
        let Some(call) = self.peer_calls.get_mut(index) else { return };
        let received = call.inbox.fill(&mut call.stream);
        let dropped = blocks(&self.plan.watch.settings().block_peers_from, call.from);
        loop {
            let answer = match call.inbox.take::<PeerMessage>() {
                Ok(None) => break,
                Ok(Some(_)) if dropped => continue,
                Ok(Some(PeerMessage::Hello(_))) => PeerMessage::Hello(self.plan.hello.clone()),
                Ok(Some(PeerMessage::Ping)) => PeerMessage::Pong,
                Ok(Some(PeerMessage::Pong)) => continue,
                Ok(Some(PeerMessage::Bye)) | Err(_) => {
                    call.open = false;
                    break;
                }
            };
            if send(&mut call.stream, &answer).is_err() {
                call.open = false;
                break;
            }
        }
        call.open &= matches!(received, Ok(Received::Open));
    }

    /// A control tool has asked.
    pub(super) fn command_call_ready(&mut self, index: usize) {
        let report = self.report();
        let Some(call) = self.command_calls.get_mut(index) else { return };
        let received = call.inbox.fill(&mut call.stream);
        let list = &self.plan.watch.settings().block_commands_from;
        if call.from.is_some_and(|from| blocks(list, from)) {
            call.open = matches!(received, Ok(Received::Open));
            return;
        }
        let answer = match call.inbox.take::<Query>() {
            Ok(Some(Query::Report)) => Some(report),
            Ok(None) => None,
            Err(_) => {
                call.open = false;
                None
            }
        };
        if let Some(answer) = answer {
            // A tool that went away needs no answer.
            let _ = send(&mut call.stream, &answer);
            call.open = false;
        }
        call.open &= matches!(received, Ok(Received::Open));
    }

    /// Ends calls of control tools that never ask.
    pub(super) fn drop_silent_calls(&mut self, now: Millis) {
        self.command_calls.retain(|call| now < call.until);
    }
}
