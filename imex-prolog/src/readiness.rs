//! Waiting until this tray's part of the domain is complete.
//!
//! Complete means: the own daemon says READY, and it is connected to every member. `-q` alone says only that the
//! daemon has initialised; the domain's own word UP needs every peer's command port as well and is not waited for.
//!
//! What the wait ends with decides whose fault it was. A daemon that ends, or never becomes READY, is this tray's
//! fault. A member that does not connect is a peer's, as far as anybody can tell from here.
#![forbid(unsafe_code)]

use crate::ctl::{CtlError, OwnRow, OwnState};
use std::time::Duration;

/// First pause between two looks.
pub const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// Longest pause between two looks; also the longest time until an ending mark is seen, beside the calls themselves.
pub const PAUSE_LONGEST: Duration = Duration::from_millis(500);

/// Shortest time between two knocks at a missing member.
const PROBE_DISTANCE: Duration = Duration::from_secs(1);

/// What the wait looks at.
pub trait Probe {
    /// Time since the wait began.
    fn elapsed(&self) -> Duration;
    /// Time that is left.
    fn remaining(&self) -> Duration;
    /// Pauses; each time a little longer.
    fn pause(&mut self);
    /// Whether an epilog has ended this run of the job.
    fn has_ended(&mut self) -> bool;
    /// Whether the own daemon's process is there.
    fn is_daemon_alive(&mut self) -> bool;
    /// The own daemon's word.
    ///
    /// # Errors
    /// No clear answer.
    fn own_state(&mut self) -> Result<OwnState, CtlError>;
    /// The own connections.
    ///
    /// # Errors
    /// No clear answer.
    fn own_row(&mut self) -> Result<OwnRow, CtlError>;
    /// Whether a daemon listens on the member at this position.
    fn is_listening(&mut self, index: usize) -> bool;
}

/// How long the own daemon may not be READY, and members may be missing, before the whole time is over.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// With the own daemon, until it is READY for the first time.
    pub own: Duration,
    /// With one that had been connected.
    pub lost: Duration,
    /// With one on which no daemon listens.
    pub absent: Duration,
}

/// Why missing members were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The time is over. The daemons listen, but are not connected.
    Late,
    /// One had been connected and was lost again.
    Left,
    /// On one of them no daemon listens.
    Absent,
}

/// How the wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// The domain is complete.
    Ready {
        /// How long it took.
        after: Duration,
        /// The tool's word for the whole domain.
        domain: String,
    },
    /// An epilog ended the run meanwhile.
    RunEnded,
    /// The own daemon's process ended.
    DaemonDied,
    /// The own daemon did not become READY in time.
    NotReady {
        /// What it or the tool said last.
        last: String,
    },
    /// The own daemon is READY, but members are missing.
    PeersMissing {
        /// Their positions in the nodes file, each with the tool's word.
        missing: Vec<(usize, String)>,
        /// Why they were given up.
        why: Missing,
    },
    /// The own daemon is READY, but the tool never showed the connections.
    NoView {
        /// What it said last.
        last: String,
    },
}

impl Readiness {
    /// In a few words, for the record.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Ready { .. } => "complete".to_owned(),
            Self::RunEnded => "the run was ended by an epilog".to_owned(),
            Self::DaemonDied => "the daemon ended".to_owned(),
            Self::NotReady { last } => format!("the daemon was not READY; last answer: {last}"),
            Self::NoView { last } => format!("the connections could not be read; last answer: {last}"),
            Self::PeersMissing { missing, why } => {
                let list: Vec<String> =
                    missing.iter().map(|(index, word)| format!("{index} {word}")).collect();
                format!("members missing ({}): {}", format!("{why:?}").to_lowercase(), list.join(", "))
            }
        }
    }
}

/// Waits until the domain is complete, its run has ended, its time is over, or a member was missing for too long.
///
/// All trays of a job begin at the same time, and a daemon tries an absent peer again only after 15, 31, 62 seconds. So a
/// member that is not connected yet may be fine; one on which nothing listens has failed or is about to.
pub fn wait_ready(probe: &mut impl Probe, patience: Patience) -> Readiness {
    let mut seen = Seen::default();
    loop {
        if probe.has_ended() {
            return Readiness::RunEnded;
        }
        if !probe.is_daemon_alive() {
            return Readiness::DaemonDied;
        }
        if let Some(ready) = seen.look(probe) {
            return ready;
        }
        if seen.gives_up(probe.elapsed(), patience) || probe.remaining().is_zero() {
            // A daemon that died during the last calls is the better explanation.
            return if probe.is_daemon_alive() { seen.verdict() } else { Readiness::DaemonDied };
        }
        probe.pause();
        if probe.remaining().is_zero() {
            // A look without time would only replace what was seen last by a complaint about time.
            return if probe.is_daemon_alive() { seen.verdict() } else { Readiness::DaemonDied };
        }
    }
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    was_ready: bool,
    was_ever_ready: bool,
    last_state: Option<String>,
    last_fault: Option<String>,
    last_row: Option<OwnRow>,
    last_view_fault: Option<String>,
    ever_connected: Vec<bool>,
    lost_since: Option<Duration>,
    /// For each member: since when nothing has listened there.
    absent_since: Vec<Option<Duration>>,
    probed_at: Option<Duration>,
}

impl Seen {
    fn look(&mut self, probe: &mut impl Probe) -> Option<Readiness> {
        match probe.own_state() {
            Ok(OwnState::Ready) => (self.was_ready, self.was_ever_ready) = (true, true),
            Ok(OwnState::Other(word)) => {
                self.was_ready = false;
                self.last_state = Some(word);
                return None;
            }
            Err(error) => {
                self.last_fault = Some(error.to_string());
                return None;
            }
        }
        match probe.own_row() {
            Ok(row) if row.missing().is_empty() && !row.words.is_empty() => {
                return Some(Readiness::Ready { after: probe.elapsed(), domain: row.domain });
            }
            Ok(row) => {
                self.take_row(row, probe.elapsed());
                self.probe_missing(probe);
            }
            Err(error) => self.last_view_fault = Some(error.to_string()),
        }
        None
    }

    fn take_row(&mut self, row: OwnRow, now: Duration) {
        self.ever_connected.resize(row.words.len(), false);
        let mut lost = false;
        for (index, ever) in self.ever_connected.iter_mut().enumerate() {
            let connected = row.is_connected(index);
            lost |= *ever && !connected;
            *ever |= connected;
        }
        self.lost_since = if lost { self.lost_since.or(Some(now)) } else { None };
        self.last_row = Some(row);
    }

    /// Knocks at the missing members, at most once in [`PROBE_DISTANCE`].
    fn probe_missing(&mut self, probe: &mut impl Probe) {
        let now = probe.elapsed();
        if self.probed_at.is_some_and(|at| now.saturating_sub(at) < PROBE_DISTANCE) {
            return;
        }
        self.probed_at = Some(now);
        let Some(row) = &self.last_row else { return };
        self.absent_since.resize(row.words.len(), None);
        for (index, since) in self.absent_since.iter_mut().enumerate() {
            let absent = !row.is_connected(index) && !probe.is_listening(index);
            *since = if absent { since.or(Some(now)) } else { None };
        }
    }

    fn gives_up(&self, now: Duration, patience: Patience) -> bool {
        let over =
            |since: &Option<Duration>, span| since.is_some_and(|since| now.saturating_sub(since) >= span);
        let own_is_late = !self.was_ever_ready && now >= patience.own;
        own_is_late
            || over(&self.lost_since, patience.lost)
            || self.absent_since.iter().any(|since| over(since, patience.absent))
    }

    fn why(&self) -> Missing {
        if self.lost_since.is_some() {
            Missing::Left
        } else if self.absent_since.iter().any(Option::is_some) {
            Missing::Absent
        } else {
            Missing::Late
        }
    }

    fn verdict(self) -> Readiness {
        let why = self.why();
        match (self.was_ready, self.last_row) {
            (true, Some(row)) => Readiness::PeersMissing { missing: row.missing(), why },
            (true, None) => Readiness::NoView { last: self.last_view_fault.unwrap_or_default() },
            (false, _) => Readiness::NotReady {
                last: self.last_state.or(self.last_fault).unwrap_or_else(|| "none".to_owned()),
            },
        }
    }
}

#[cfg(test)]
mod tests;
