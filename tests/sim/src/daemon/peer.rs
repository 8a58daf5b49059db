//! The state machine of one outgoing connection. Pure: it is told what happened and when, and says what to do.
//!
//! ```text
//!            Dial              dialed              hello
//! Idle ------------> Dialing ---------> Greeting ---------> Talking --(ping unanswered: INVALID)--> Idle
//!   ^                   | failed           | failed/mismatch   | lost: RECOVERING, after grace DISCONNECTED
//!   +-------------------+------------------+-------------------+
//!                                          +--> Off (node lists differ: until this daemon restarts)
//! ```
//! Times are milliseconds since the daemon's start.
#![forbid(unsafe_code)]

use crate::imex::Settings;
use crate::state::Connection;
use crate::wire::Hello;
use std::time::Duration;

/// Milliseconds since the daemon's start.
pub type Millis = u64;

/// How a connection behaves over time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    quick_attempts: u32,
    quick: Millis,
    backoff: Vec<Millis>,
    heartbeat: Millis,
    answer: Millis,
    grace: Option<Millis>,
}

impl Timing {
    /// From the settings, and the grace time of the config file.
    pub fn new(settings: &Settings, grace: Option<Duration>) -> Self {
        Self {
            quick_attempts: settings.quick_attempts,
            quick: settings.quick_ms.max(1),
            backoff: settings.backoff_ms.iter().map(|wait| (*wait).max(1)).collect(),
            heartbeat: settings.heartbeat_ms.max(1),
            answer: settings.answer_timeout_ms.max(1),
            grace: grace.map(|grace| Millis::try_from(grace.as_millis()).unwrap_or(Millis::MAX)),
        }
    }

    /// When to ping next: all peers at the same moments, so that an idle daemon wakes once for all of them.
    fn ping_at(&self, now: Millis) -> Millis {
        (now / self.heartbeat + 1).saturating_mul(self.heartbeat)
    }

    /// The wait after `failures` failed attempts in a row (at least one).
    fn wait(&self, failures: u32) -> Millis {
        let Some(late) = failures.checked_sub(self.quick_attempts.max(1)) else {
            return self.quick;
        };
        let index = usize::try_from(late).unwrap_or(usize::MAX);
        self.backoff.get(index).or(self.backoff.last()).copied().unwrap_or(self.quick)
    }
}

/// What the owner of the socket must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open a connection; this is attempt number `.0` since the last success.
    Dial(u32),
    /// Send a ping.
    Ping,
    /// Close the connection: it has failed.
    Close,
    /// The grace time is over: what the peer imported is cleaned up.
    CleanUp,
}

/// What came of a peer's hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// In service, for the `times`-th time. `replaced`: another instance than last time.
    Connected {
        /// Connections so far, this one included.
        times: u32,
        /// Another instance than last time.
        replaced: bool,
    },
    /// Versions differ.
    VersionMismatch,
    /// Node lists differ.
    MapMismatch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle { until: Millis },
    Dialing { until: Millis },
    Greeting { until: Millis },
    Talking { ping_at: Millis },
    Pinged { until: Millis },
    Refused,
    Off,
}

/// One outgoing connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    state: Connection,
    phase: Phase,
    failures: u32,
    times: u32,
    incarnation: Option<u64>,
    clean_up_at: Option<Millis>,
}

impl Peer {
    /// A peer that is dialled at once.
    pub fn new(now: Millis) -> Self {
        let phase = Phase::Idle { until: now };
        Self {
            state: Connection::NeverConnected,
            phase,
            failures: 0,
            times: 0,
            incarnation: None,
            clean_up_at: None,
        }
    }

    /// What `nvidia-imex-ctl -N` shows.
    pub fn state(&self) -> Connection {
        self.state
    }

    /// When [`Peer::tick`] has something to do next.
    pub fn deadline(&self) -> Option<Millis> {
        let phase = match self.phase {
            Phase::Idle { until }
            | Phase::Dialing { until }
            | Phase::Greeting { until }
            | Phase::Talking { ping_at: until }
            | Phase::Pinged { until } => Some(until),
            Phase::Refused | Phase::Off => None,
        };
        [phase, self.clean_up_at].into_iter().flatten().min()
    }

    /// Time has passed; call again until it says `None`.
    pub fn tick(&mut self, now: Millis, timing: &Timing) -> Option<Action> {
        if self.clean_up_at.is_some_and(|at| at <= now) {
            self.clean_up_at = None;
            self.state = Connection::Disconnected;
            return Some(Action::CleanUp);
        }
        if self.deadline().is_none_or(|at| at > now) {
            return None;
        }
        match self.phase {
            Phase::Idle { .. } => {
                self.phase = Phase::Dialing { until: now + timing.answer };
                Some(Action::Dial(self.failures + 1))
            }
            Phase::Talking { .. } => {
                self.phase = Phase::Pinged { until: now + timing.answer };
                Some(Action::Ping)
            }
            Phase::Dialing { .. } | Phase::Greeting { .. } => {
                self.failed(now, timing);
                Some(Action::Close)
            }
            Phase::Pinged { .. } => {
                self.state = Connection::Invalid;
                self.failures = 0;
                self.phase = Phase::Idle { until: now + timing.quick };
                Some(Action::Close)
            }
            Phase::Refused | Phase::Off => None,
        }
    }

    /// The socket is open and the own hello sent.
    pub fn dialed(&mut self, now: Millis, timing: &Timing) {
        self.phase = Phase::Greeting { until: now + timing.answer };
    }

    /// The peer has said who it is.
    pub fn greeted(&mut self, now: Millis, timing: &Timing, own: &Hello, theirs: &Hello) -> Greeting {
        if own.map != theirs.map {
            self.state = Connection::MapMismatch;
            self.phase = Phase::Off;
            self.clean_up_at = None;
            return Greeting::MapMismatch;
        }
        if own.version != theirs.version {
            self.state = Connection::VersionMismatch;
            self.phase = Phase::Refused;
            self.clean_up_at = None;
            return Greeting::VersionMismatch;
        }
        let replaced = self.incarnation.is_some_and(|last| last != theirs.incarnation);
        self.incarnation = Some(theirs.incarnation);
        self.state = Connection::Connected;
        self.phase = Phase::Talking { ping_at: timing.ping_at(now) };
        self.failures = 0;
        self.times += 1;
        self.clean_up_at = None;
        Greeting::Connected { times: self.times, replaced }
    }

    /// A pong has come.
    pub fn ponged(&mut self, now: Millis, timing: &Timing) {
        if matches!(self.phase, Phase::Pinged { .. }) {
            self.phase = Phase::Talking { ping_at: timing.ping_at(now) };
        }
    }

    /// The connection has ended, or never came to be. True when a connection in service was lost.
    pub fn ended(&mut self, now: Millis, timing: &Timing) -> bool {
        match self.phase {
            Phase::Talking { .. } | Phase::Pinged { .. } => {
                self.failures = 0;
                self.phase = Phase::Idle { until: now + timing.quick };
                self.state = Connection::Recovering;
                self.clean_up_at = timing.grace.map(|grace| now.saturating_add(grace));
                true
            }
            Phase::Dialing { .. } | Phase::Greeting { .. } => {
                self.failed(now, timing);
                false
            }
            Phase::Refused => {
                self.failures = 0;
                self.phase = Phase::Idle { until: now + timing.quick };
                false
            }
            Phase::Idle { .. } | Phase::Off => false,
        }
    }

    /// Dial now, whatever the back-off says (SIGUSR1). False where the connection is off for good.
    pub fn restart(&mut self, now: Millis) -> bool {
        if self.phase == Phase::Off {
            return false;
        }
        if self.state == Connection::Connected {
            self.state = Connection::Recovering;
        }
        self.failures = 0;
        self.phase = Phase::Idle { until: now };
        true
    }

    fn failed(&mut self, now: Millis, timing: &Timing) {
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Idle { until: now + timing.wait(self.failures) };
    }
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
