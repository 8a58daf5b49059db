//! The server's outgoing connections: the sockets under the [`Peer`](super::peer::Peer) state machines.
#![forbid(unsafe_code)]

use super::log::Level;
use super::peer::{Action, Greeting, Millis};
use super::ports;
use super::server::Server;
use super::sockets::{Interest, Token};
use crate::wire::{Inbox, PeerMessage, Received, send};
use std::io;
use std::net::{SocketAddr, TcpStream};

/// The socket to one peer.
#[derive(Debug)]
pub(super) struct Link {
    /// The socket.
    pub(super) stream: TcpStream,
    inbox: Inbox,
    dialing: bool,
}

/// The token of the connection to a node; a list has fewer lines than a u32 counts.
fn token(id: usize) -> Token {
    Token::Link(u32::try_from(id).unwrap_or(u32::MAX))
}

impl Server {
    /// Does what is due on each outgoing connection.
    pub(super) fn tick_peers(&mut self, now: Millis) {
        let own = self.plan.own.id;
        let timing = self.timing.clone();
        for id in (0..self.peers.len()).filter(|id| *id != own) {
            // Two steps at most are due at once: a clean-up and one of the connection.
            for _ in 0..2 {
                match self.peers.get_mut(id).and_then(|peer| peer.tick(now, &timing)) {
                    None => break,
                    Some(Action::Dial(attempt)) => self.dial(id, attempt, now),
                    Some(Action::Ping) => self.ping(id, now),
                    Some(Action::Close) => self.close(id),
                    Some(Action::CleanUp) => {
                        let host = self.host(id);
                        self.log.info(&format!("Cleaning up imports of node {id} with address {host}"));
                    }
                }
            }
        }
    }

    fn dial(&mut self, id: usize, attempt: u32, now: Millis) {
        let (host, port) = (self.host(id), self.plan.config.server_port);
        if attempt == 1 || attempt > self.plan.watch.settings().quick_attempts {
            self.log.info(&format!(
                "Attempting connection for target node {id} - {host}:{port}, attempt #{attempt}"
            ));
        }
        let from = self.plan.own.ip;
        let addresses = self.plan.nodes.members.get(id).map(|member| member.addresses.as_slice());
        let address = addresses.and_then(|all| all.iter().find(|ip| ip.is_ipv4() == from.is_ipv4()));
        let opened = match address {
            Some(ip) => ports::dial(from, SocketAddr::new(*ip, port)),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        match opened {
            Ok(stream) if self.sockets.add(&stream, token(id), Interest::Dial).is_ok() => {
                self.set_link(id, Some(Link { stream, inbox: Inbox::default(), dialing: true }));
            }
            _ => self.ended(id, now),
        }
    }

    fn ping(&mut self, id: usize, now: Millis) {
        let Some(Some(link)) = self.links.get_mut(id) else { return };
        if send(&mut link.stream, &PeerMessage::Ping).is_err() {
            self.ended(id, now);
        }
    }

    fn close(&mut self, id: usize) {
        self.set_link(id, None);
    }

    fn set_link(&mut self, id: usize, link: Option<Link>) {
        if let Some(slot) = self.links.get_mut(id) {
            *slot = link;
        }
    }

    /// The socket to a peer has something.
    pub(super) fn link_ready(&mut self, key: u32) {
        let (id, now) = (usize::try_from(key).unwrap_or(usize::MAX), self.now());
        let Some(Some(link)) = self.links.get_mut(id) else { return };
        if link.dialing {
            link.dialing = false;
            let hello = PeerMessage::Hello(self.plan.hello.clone());
            let open = matches!(link.stream.take_error(), Ok(None))
                && send(&mut link.stream, &hello).is_ok()
                && self.sockets.change(&link.stream, token(id), Interest::Read).is_ok();
            match self.peers.get_mut(id) {
                Some(peer) if open => peer.dialed(now, &self.timing),
                _ => self.ended(id, now),
            }
            return;
        }
        let mut received = link.inbox.fill(&mut link.stream);
        let mut messages = Vec::new();
        loop {
            match link.inbox.take::<PeerMessage>() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => {
                    received = Err(error);
                    break;
                }
            }
        }
        let bye = messages.contains(&PeerMessage::Bye);
        for message in messages {
            self.heard(id, &message, now);
        }
        if bye || !matches!(received, Ok(Received::Open)) {
            self.ended(id, now);
        }
    }

    fn heard(&mut self, id: usize, message: &PeerMessage, now: Millis) {
        if *message != PeerMessage::Pong {
            self.stir();
        }
        let host = self.host(id);
        let Some(peer) = self.peers.get_mut(id) else { return };
        match message {
            PeerMessage::Hello(theirs) => match peer.greeted(now, &self.timing, &self.plan.hello, theirs) {
                Greeting::Connected { times, replaced } => {
                    if replaced {
                        self.log
                            .info(&format!("Node {id} with address {host} is a new instance, cleaning up"));
                    }
                    self.log.info(&format!(
                        "Connection established to node {id} with ip address {host}. Number of times connected: {times}"
                    ));
                }
                Greeting::VersionMismatch => {
                    let (own, theirs) = (&self.plan.hello.version, &theirs.version);
                    self.log.error(&format!(
                        "IMEX version mismatch with node {id} ({host}): {own} here, {theirs} there; traffic disabled"
                    ));
                }
                Greeting::MapMismatch => {
                    self.log.error(&format!(
                        "Node configuration mapping mismatch with node {id} ({host}); traffic disabled until IMEX is restarted on all nodes"
                    ));
                    self.close(id);
                }
            },
            PeerMessage::Pong => peer.ponged(now, &self.timing),
            PeerMessage::Ping | PeerMessage::Bye => {}
        }
    }

    /// A connection has ended or did not come to be.
    fn ended(&mut self, id: usize, now: Millis) {
        self.stir();
        self.close(id);
        let lost = self.peers.get_mut(id).is_some_and(|peer| peer.ended(now, &self.timing));
        if lost {
            let (host, port) = (self.host(id), self.plan.config.server_port);
            self.log.line(Level::Warning, &format!("Connection lost to node {id}: {host}:{port}"));
            self.log.error(&format!(
                "Node disconnect event detected for node {id} with address {host}, attempting to reconnect"
            ));
        }
    }
}
