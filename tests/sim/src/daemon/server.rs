//! The daemon at work: one thread, one wait for sockets, signals and deadlines.
//!
//! [`Server::run`] is the loop. What it does with the connections it opened is in `outgoing`, with those it
//! accepted in `incoming`, on signals in `signals`.
#![forbid(unsafe_code)]

use super::gpu;
use super::incoming::{CommandCall, PeerCall};
use super::log::{Level, Log};
use super::outgoing::Link;
use super::peer::{Millis, Peer, Timing};
use super::persist::Persistence;
use super::ports::{PortError, Ports};
use super::signals;
use super::sockets::{Interest, Sockets, Token};
use super::startup::{Sight, Startup};
use super::watch::Watch;
use crate::config::Config;
use crate::imex::Fault;
use crate::nodes::{NodeList, Own};
use crate::nvml;
use crate::state::{Connection, DaemonState};
use crate::wire::{Hello, NodeReport};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, raise};
use nix::sys::signalfd::SignalFd;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Instant;

/// Why the daemon ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A port does not open.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Signals cannot be received.
    #[error("failed to set up signal handling")]
    Signals(#[source] Errno),
    /// Waiting for sockets failed.
    #[error("failed to wait for sockets")]
    Wait(#[source] Errno),
}

/// Everything that was settled before the daemon serves.
#[derive(Debug)]
pub struct Plan {
    /// The config file.
    pub config: Config,
    /// The node list.
    pub nodes: NodeList,
    /// The own line in it.
    pub own: Own,
    /// What peers are told.
    pub hello: Hello,
    /// The host's name.
    pub host_name: String,
    /// Without GPU and driver.
    pub no_gpu: bool,
    /// Directory of the settings.
    pub settings_dir: PathBuf,
    /// The persistence file.
    pub persistence: Persistence,
    /// Begins with the importers to wait for.
    pub startup: Startup,
    /// The settings.
    pub watch: Watch,
}

/// A serving daemon.
pub struct Server {
    pub(super) plan: Plan,
    pub(super) log: Log,
    pub(super) timing: Timing,
    pub(super) ports: Option<Ports>,
    pub(super) peers: Vec<Peer>,
    pub(super) links: Vec<Option<Link>>,
    pub(super) peer_calls: BTreeMap<u32, PeerCall>,
    pub(super) command_calls: BTreeMap<u32, CommandCall>,
    pub(super) sockets: Sockets,
    calls: u32,
    due: Millis,
    pub(super) signals: SignalFd,
    started: Instant,
    pub(super) restarted: Option<Millis>,
    pub(super) ends_at: Option<Millis>,
    gpu_complaint: Option<String>,
}

impl Server {
    /// Gets ready to serve; signals are held back from here on until [`Server::run`] takes them.
    ///
    /// # Errors
    /// Signals cannot be received.
    pub fn new(plan: Plan, log: Log) -> Result<Self, ServeError> {
        let signals = signals::hold_back().map_err(ServeError::Signals)?;
        let count = plan.nodes.members.len();
        Ok(Self {
            timing: Timing::new(plan.watch.settings(), plan.config.grace),
            plan,
            log,
            ports: None,
            peers: (0..count).map(|_| Peer::new(0)).collect(),
            links: (0..count).map(|_| None).collect(),
            peer_calls: BTreeMap::new(),
            command_calls: BTreeMap::new(),
            sockets: Sockets::new().map_err(ServeError::Wait)?,
            calls: 0,
            due: 0,
            signals,
            started: Instant::now(),
            restarted: None,
            ends_at: None,
            gpu_complaint: None,
        })
    }

    /// Serves until told to end.
    ///
    /// # Errors
    /// A port does not open, or the system fails.
    pub fn run(&mut self) -> Result<(), ServeError> {
        loop {
            let now = self.now();
            self.look(now);
            if self.plan.watch.dies(now) {
                // As the kernel's own killer would do it: no goodbye, nothing cleaned up.
                let _ = raise(Signal::SIGKILL);
            }
            if now >= self.due {
                if self.ports.is_none() && now >= self.plan.watch.starts_at() && self.ends_at.is_none() {
                    self.open_ports(now)?;
                }
                self.advance();
                if self.ends_at.is_some_and(|at| at <= now) {
                    self.log.info("IMEX daemon has ended (simulated)");
                    return Ok(());
                }
                if self.serves() {
                    self.tick_peers(now);
                    self.drop_silent_calls(now);
                }
                self.due = self.next_deadline();
            }
            self.wait(now)?;
        }
    }

    /// Something has changed: everything is looked at before the next sleep.
    pub(super) fn stir(&mut self) {
        self.due = 0;
    }

    /// The log, once the daemon serves no more.
    pub fn into_log(self) -> Log {
        self.log
    }

    pub(super) fn now(&self) -> Millis {
        Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// Whether sockets are looked at: ports open, and no freeze.
    fn serves(&self) -> bool {
        self.ports.is_some() && !matches!(self.plan.watch.settings().fault, Some(Fault::Freeze {}))
    }

    /// The own row of the connectivity table.
    pub(super) fn row(&self) -> Vec<Connection> {
        let own = self.plan.own.id;
        let cell = |(id, peer): (usize, &Peer)| if id == own { Connection::Connected } else { peer.state() };
        self.peers.iter().enumerate().map(cell).collect()
    }

    /// What the control tool is told.
    pub(super) fn report(&self) -> NodeReport {
        NodeReport {
            node: self.plan.own.id,
            state: self.plan.startup.state(),
            version: self.plan.hello.version.clone(),
            host_name: self.plan.host_name.clone(),
            hosts: self.plan.nodes.members.iter().map(|member| member.text.clone()).collect(),
            connections: self.row(),
            cmd_port: self.plan.config.cmd_port,
        }
    }

    /// Takes up changed settings.
    fn look(&mut self, now: Millis) {
        match self.plan.watch.look(now) {
            None => {}
            Some(Ok(())) => {
                self.stir();
                self.timing = Timing::new(self.plan.watch.settings(), self.plan.config.grace);
                let fault = &self.plan.watch.settings().fault;
                self.log.info(&format!("simulation settings changed, fault now: {fault:?}"));
            }
            Some(Err(why)) => self.log.error(&format!("simulation settings ignored: {why}")),
        }
    }

    fn open_ports(&mut self, now: Millis) -> Result<(), ServeError> {
        let ports = Ports::open(&self.plan.config, self.plan.own.ip)?;
        self.watch_ports(&ports).map_err(ServeError::Wait)?;
        self.ports = Some(ports);
        for _ in 0..4 {
            self.log.info("Started processing of incoming messages.");
        }
        self.log.info(&format!("Creating gRPC channels to all peers (nPeers = {}).", self.peers.len()));
        self.log.info(
            "IMEX_WAIT_FOR_QUORUM != FULL, continuing initialization without waiting for connections to all nodes.",
        );
        self.peers.iter_mut().for_each(|peer| *peer = Peer::new(now));
        Ok(())
    }

    fn watch_ports(&self, ports: &Ports) -> Result<(), Errno> {
        self.sockets.add(&ports.peers, Token::Peers, Interest::Read)?;
        if let Some(port) = &ports.commands {
            self.sockets.add(port, Token::Commands, Interest::Read)?;
        }
        match &ports.socket {
            Some(port) => self.sockets.add(port, Token::Socket, Interest::Read),
            None => Ok(()),
        }
    }

    /// A key for an accepted connection that no other has.
    pub(super) fn next_call(&mut self) -> u32 {
        self.calls = self.calls.wrapping_add(1);
        self.calls
    }

    /// Moves the own state on and records importers.
    fn advance(&mut self) {
        let gpu_ready = self.plan.startup.gpu_ready() || self.ports.is_none() || self.gpus_ready();
        let connected: Vec<bool> = self.row().iter().map(|cell| *cell == Connection::Connected).collect();
        let sight = Sight {
            ports_open: self.ports.is_some(),
            connected: &connected,
            gpu_ready,
            held: matches!(self.plan.watch.settings().fault, Some(Fault::Hang {})),
            ending: self.ends_at.is_some(),
        };
        match self.plan.startup.step(sight) {
            Some(DaemonState::Ready) => self.log.info("GPU event successfully subscribed"),
            Some(DaemonState::WaitingForRecovery) => {
                self.log.info("Waiting for nodes that imported memory before the last, unclean end");
            }
            _ => {}
        }
        if self.plan.startup.state() == DaemonState::Ready {
            let importers = self.plan.watch.settings().importers.clone();
            self.record_importers(&importers);
        }
    }

    fn gpus_ready(&mut self) -> bool {
        let fault = match nvml::Settings::load(&self.plan.settings_dir) {
            _ if self.plan.no_gpu => None,
            Ok(driver) => gpu::fabric_fault(&driver),
            Err(error) => Some(format!("simulated driver: {error}")),
        };
        if fault != self.gpu_complaint {
            if let Some(text) = &fault {
                self.log.error(text);
            }
            self.gpu_complaint.clone_from(&fault);
        }
        fault.is_none()
    }

    pub(super) fn record_importers(&mut self, importers: &[u32]) {
        if let Err(error) = self.plan.persistence.record(importers) {
            let path = self.plan.persistence.path().display();
            self.log.line(Level::Warning, &format!("cannot write persistence file {path}: {error}"));
        }
    }

    /// Sleeps until a socket, a signal or a deadline, and handles what came.
    fn wait(&mut self, now: Millis) -> Result<(), ServeError> {
        let until = self.due.min(self.plan.watch.next()).saturating_sub(now);
        let timeout = PollTimeout::from(u16::try_from(until).unwrap_or(u16::MAX));
        let signals = PollFd::new(self.signals.as_fd(), PollFlags::POLLIN);
        let sockets = PollFd::new(self.sockets.as_fd(), PollFlags::POLLIN);
        // A frozen daemon leaves its sockets alone.
        let polled = if self.serves() {
            poll(&mut [signals, sockets], timeout)
        } else {
            poll(&mut [signals], timeout)
        };
        match polled {
            Ok(0) | Err(Errno::EINTR) => return Ok(()),
            Ok(_) => {}
            Err(errno) => return Err(ServeError::Wait(errno)),
        }
        self.take_signals();
        if !self.serves() {
            return Ok(());
        }
        for token in self.sockets.ready().map_err(ServeError::Wait)? {
            match token {
                Token::Peers => self.accept_peers(),
                Token::Commands => self.accept_commands(),
                Token::Socket => self.accept_socket(),
                Token::Link(id) => self.link_ready(id),
                Token::PeerCall(key) => self.peer_call_ready(key),
                Token::CommandCall(key) => self.command_call_ready(key),
            }
        }
        Ok(())
    }

    /// When something is due, apart from the look at the settings.
    fn next_deadline(&self) -> Millis {
        let own = self.plan.own.id;
        let peers = self.peers.iter().enumerate().filter(|(id, _)| *id != own && self.serves());
        let peers = peers.filter_map(|(_, peer)| peer.deadline());
        let waiting = self.ports.is_none() && self.ends_at.is_none();
        let start = waiting.then(|| self.plan.watch.starts_at());
        let gpu = (self.plan.startup.state() == DaemonState::InitGpu).then(|| self.plan.watch.next());
        peers.chain(start).chain(gpu).chain(self.ends_at).min().unwrap_or(Millis::MAX)
    }

    pub(super) fn host(&self, id: usize) -> String {
        self.plan.nodes.members.get(id).map(|member| member.text.clone()).unwrap_or_default()
    }
}

/// Whether an error on accept means that nobody is waiting any more.
pub(super) fn nobody_waits(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
