//! The server's signals: graceful end, dump, restart of the connections.
#![forbid(unsafe_code)]

use super::log::Level;
use super::peer::Millis;
use super::server::Server;
use crate::imex::Fault;
use crate::nodes;
use crate::wire::{PeerMessage, send};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Shortest time between two restarts of the connections by SIGUSR1, milliseconds.
const RESTART_MS: Millis = 5_000;

/// Holds the daemon's signals back from their usual effect; they are read from the descriptor instead.
///
/// # Errors
/// The system refuses.
pub(super) fn hold_back() -> Result<SignalFd, Errno> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGUSR1] {
        mask.add(signal);
    }
    mask.thread_block()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

impl Server {
    /// Handles every signal that has come.
    pub(super) fn take_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let now = self.now();
            match i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok()) {
                Some(Signal::SIGHUP) => self.dump(),
                Some(Signal::SIGUSR1) => self.restart_connections(now),
                Some(signal) => self.end(signal, now),
                None => {}
            }
        }
    }

    /// Begins a graceful end: peers are told, importers are forgotten.
    fn end(&mut self, signal: Signal, now: Millis) {
        if matches!(self.plan.watch.settings().fault, Some(Fault::IgnoreSigterm {})) {
            self.log.line(Level::Warning, &format!("{signal} ignored (simulated fault)"));
            return;
        }
        if self.ends_at.is_some() {
            return;
        }
        self.log.info(&format!("{signal} received, shutting down"));
        for link in self.links.iter_mut().flatten() {
            // A peer that is gone needs no goodbye.
            let _ = send(&mut link.stream, &PeerMessage::Bye);
        }
        for call in self.peer_calls.values_mut() {
            let _ = send(&mut call.stream, &PeerMessage::Bye);
        }
        self.record_importers(&[]);
        self.stir();
        self.ends_at = Some(now + self.plan.watch.settings().shutdown_delay_ms);
    }

    /// SIGHUP: what the daemon knows about its peers.
    fn dump(&mut self) {
        self.log.info(&format!("verbose log dump, state {}", self.plan.startup.state()));
        for (id, cell) in self.row().into_iter().enumerate() {
            let host = self.host(id);
            self.log.info(&format!("node {id} {host}: {cell}"));
        }
    }

    /// SIGUSR1: names are looked up again, all outgoing connections begin anew.
    fn restart_connections(&mut self, now: Millis) {
        if self.restarted.is_some_and(|last| now < last + RESTART_MS) {
            self.log.line(Level::Warning, "SIGUSR1 ignored: less than 5 seconds since the last one");
            return;
        }
        self.restarted = Some(now);
        self.log.info("SIGUSR1 received, restarting connections to all nodes");
        self.plan.nodes.resolve_again(nodes::resolve);
        self.stir();
        for (peer, link) in self.peers.iter_mut().zip(&mut self.links) {
            if peer.restart(now) {
                *link = None;
            }
        }
    }
}
