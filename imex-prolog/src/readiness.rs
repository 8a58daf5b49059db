//! Waiting until this tray's part of the domain is complete.
//!
//! Complete means: the own daemon says READY, and it is connected to every member. `-q` alone says only that the
//! daemon has initialised; the domain's own word UP needs every peer's command port as well and is not waited for.
//!
//! What the wait ends with decides whose fault it was. A daemon that ends, or never becomes READY, is this tray's
//! fault, and so is a network on which nobody can be reached. A member that does not connect is otherwise a peer's, as far as
//! anybody can tell from here.
//!
//! A daemon that has met a member with another node list refuses it until it is started anew itself ("Node configuration
//! mapping mismatch", NVIDIA's daemon). So it is with the daemon of an earlier job whose epilog never came, while the
//! member's prolog has not removed it yet: the wait then ends with [`Readiness::Refused`], for another try.
#![forbid(unsafe_code)]

use crate::ctl::{CtlError, OwnRow, OwnState};
use crate::network::Knock;
use fabric::names::BlockName;
use std::time::Duration;

/// First pause between two looks, where nothing else tells when to look.
pub const PAUSE_FIRST: Duration = Duration::from_millis(60);
/// Longest pause between two looks; also the longest time until an ending mark is seen, beside the calls themselves.
pub const PAUSE_LONGEST: Duration = Duration::from_millis(500);

/// An own daemon that has answered and then gives no answer for so long is broken, whoever ended the run meanwhile.
const SILENCE: Duration = Duration::from_secs(4);

/// Shortest time between two knocks at a missing member.
const PROBE_DISTANCE: Duration = Duration::from_secs(1);

/// A member on which nothing has listened for so long while the own daemon was silent is gone by itself: those who give up
/// for this tray's sake end the run, which is seen here sooner.
const GONE: Duration = Duration::from_secs(2);

/// What the wait looks at.
pub trait Probe {
    /// Time since the wait began.
    fn elapsed(&self) -> Duration;
    /// Time that is left.
    fn remaining(&self) -> Duration;
    /// Pauses, each time a little longer, or until something has changed.
    fn pause(&mut self);
    /// Whether Slurm is ending this run of the job.
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
    /// Whether the own daemon has met a member with another node list, and refuses it from then on.
    fn has_refused(&mut self) -> bool;
    /// This tray's position among the members.
    fn own_index(&self) -> Option<usize>;
    /// Knocks at the daemons of the members at these positions.
    fn knock(&mut self, members: &[usize]) -> Vec<Knock>;
    /// Why it must be this tray that is cut off, when a knock at every other member gave this.
    fn cut_off(&mut self, knocks: &[Knock]) -> Option<String>;
}

/// How long the own daemon may not be READY, and members may be missing, before the whole time is over.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// With the own daemon, until it is READY for the first time.
    pub own: Duration,
    /// With one that had been connected, and with the own daemon when it has answered and does so no more.
    pub lost: Duration,
    /// With one on which no daemon listens.
    pub absent: Duration,
    /// With one that the own daemon refuses, until that is to be started anew. `None`: it is not.
    pub refused: Option<Duration>,
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
    /// All daemons are connected, but not all prologs have answered the roll call.
    Unanswered,
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
    /// Slurm has ended the run meanwhile.
    RunEnded,
    /// The own daemon refuses members that had another node list when it met them. It may take them when it is started anew.
    Refused {
        /// The positions in the nodes file of all that are missing, each with the tool's word.
        missing: Vec<(usize, String)>,
    },
    /// The own daemon's process ended.
    DaemonDied,
    /// The own daemon did not become READY in time.
    NotReady {
        /// What it or the tool said last.
        last: String,
    },
    /// This tray cannot take part in the roll call.
    NoRollCall {
        /// What the system said.
        why: String,
    },
    /// This tray cannot reach anybody.
    CutOff {
        /// What shows that it is this tray's fault.
        why: String,
    },
    /// The own daemon is READY, but members are missing.
    PeersMissing {
        /// Their positions in the nodes file, each with the tool's word.
        missing: Vec<(usize, String)>,
        /// Why they were given up.
        why: Missing,
    },
    /// The own domain is complete, but other NVLink partitions of the job are not.
    PartitionsMissing {
        /// Their blocks, each with what is known about it.
        missing: Vec<(BlockName, String)>,
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
            Self::RunEnded => "Slurm has ended the run".to_owned(),
            Self::NoRollCall { why } => format!("this node cannot take part in the roll call: {why}"),
            Self::CutOff { why } => format!("this node is cut off: {why}"),
            Self::DaemonDied => "the daemon ended".to_owned(),
            Self::NotReady { last } => format!("the daemon was not READY; last answer: {last}"),
            Self::NoView { last } => format!("the connections could not be read; last answer: {last}"),
            Self::PartitionsMissing { missing } => {
                let list: Vec<&str> = missing.iter().map(|(block, _)| block.as_str()).collect();
                format!("other NVLink partitions of the job are not complete: {}", list.join(", "))
            }
            Self::Refused { missing } => format!("members refused: {}", listed(missing)),
            Self::PeersMissing { missing, why } => {
                format!("members missing ({}): {}", format!("{why:?}").to_lowercase(), listed(missing))
            }
        }
    }
}

fn listed(missing: &[(usize, String)]) -> String {
    let list: Vec<String> = missing.iter().map(|(index, word)| format!("{index} {word}")).collect();
    list.join(", ")
}

/// Waits until the domain is complete, its run has ended, its time is over, or a member was missing for too long.
///
/// All trays of a job begin at the same time, and a daemon tries an absent peer again only after 15, 31, 62 seconds. So a
/// member that is not connected yet may be fine; one on which nothing listens has failed or is about to.
pub fn wait_ready(probe: &mut impl Probe, patience: Patience) -> Readiness {
    let mut seen = Seen::default();
    loop {
        if probe.has_ended() {
            // Those who waited for this tray may have had the job ended: that must not hide whose fault it was.
            return if seen.is_silent_for(probe.elapsed(), SILENCE) {
                seen.verdict(probe)
            } else {
                Readiness::RunEnded
            };
        }
        if !probe.is_daemon_alive() {
            return Readiness::DaemonDied;
        }
        if let Some(ready) = seen.look(probe) {
            return ready;
        }
        if let Some(missing) = seen.refused(probe.elapsed(), patience) {
            return Readiness::Refused { missing };
        }
        if seen.gives_up(probe.elapsed(), patience) || probe.remaining().is_zero() {
            // A daemon that died during the last calls is the better explanation.
            return if probe.is_daemon_alive() { seen.verdict(probe) } else { Readiness::DaemonDied };
        }
        probe.pause();
        if probe.remaining().is_zero() {
            // A look without time would only replace what was seen last by a complaint about time.
            return if probe.is_daemon_alive() { seen.verdict(probe) } else { Readiness::DaemonDied };
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
    /// Since when the own daemon, which had answered, has given no answer.
    silent_since: Option<Duration>,
    answered_at: Option<Duration>,
    last_row: Option<OwnRow>,
    last_view_fault: Option<String>,
    ever_connected: Vec<bool>,
    lost_since: Option<Duration>,
    /// Since when the own daemon has refused members.
    refused_since: Option<Duration>,
    /// For each member: since when nothing has listened there.
    absent_since: Vec<Option<Duration>>,
    knocked_at: Duration,
    /// What the last knock at every missing member gave.
    knocks: Vec<Knock>,
}

impl Seen {
    fn look(&mut self, probe: &mut impl Probe) -> Option<Readiness> {
        // The view costs the tool one call and nearly always has the own state as well.
        let view = probe.own_row();
        let answer = match &view {
            Ok(OwnRow { own: Some(state), .. }) => Ok(state.clone()),
            _ => probe.own_state(),
        };
        match &answer {
            Ok(_) => (self.answered_at, self.silent_since) = (Some(probe.elapsed()), None),
            Err(_) => self.silent_since = self.silent_since.or(self.answered_at),
        }
        match answer {
            Ok(OwnState::Ready) => (self.was_ready, self.was_ever_ready) = (true, true),
            Ok(OwnState::Other(word)) => {
                self.was_ready = false;
                self.last_state = Some(word);
                return None;
            }
            Err(error) => {
                self.last_fault = Some(error.to_string());
                if self.silent_since.is_some() {
                    let row = self.last_row.iter().flat_map(|row| 0..row.words.len());
                    self.probe_members(
                        probe,
                        row.filter(|index| Some(*index) != probe.own_index()).collect(),
                    );
                }
                return None;
            }
        }
        match view {
            Ok(row) if row.missing().is_empty() && !row.words.is_empty() => {
                return Some(Readiness::Ready { after: probe.elapsed(), domain: row.domain });
            }
            Ok(row) => {
                self.take_row(row, probe.elapsed());
                if self.refused_since.is_none() && probe.has_refused() {
                    self.refused_since = Some(probe.elapsed());
                }
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

    /// Knocks at the members that the last view calls missing.
    fn probe_missing(&mut self, probe: &mut impl Probe) {
        let missing = self.last_row.as_ref().map(OwnRow::missing).unwrap_or_default();
        self.probe_members(probe, missing.into_iter().map(|(index, _)| index).collect());
    }

    /// Knocks at members, at most once in [`PROBE_DISTANCE`], and not before a healthy domain has formed.
    fn probe_members(&mut self, probe: &mut impl Probe, members: Vec<usize>) {
        let now = probe.elapsed();
        if now.saturating_sub(self.knocked_at) < PROBE_DISTANCE {
            return;
        }
        self.knocked_at = now;
        self.knocks = probe.knock(&members);
        let absent = |index: usize| {
            let knock = members.iter().position(|other| *other == index).and_then(|at| self.knocks.get(at));
            knock.is_some_and(|knock| *knock != Knock::Listening)
        };
        self.absent_since.resize(self.ever_connected.len(), None);
        for (index, since) in self.absent_since.iter_mut().enumerate() {
            *since = if absent(index) { since.or(Some(now)) } else { None };
        }
    }

    fn gives_up(&self, now: Duration, patience: Patience) -> bool {
        let over =
            |since: &Option<Duration>, span| since.is_some_and(|since| now.saturating_sub(since) >= span);
        let own_is_late = !self.was_ever_ready && now >= patience.own;
        own_is_late
            || self.is_silent_for(now, patience.lost)
            || over(&self.lost_since, patience.lost)
            || self.absent_since.iter().any(|since| over(since, patience.absent))
    }

    /// Who is missing, when the own daemon has refused members for too long.
    fn refused(&self, now: Duration, patience: Patience) -> Option<Vec<(usize, String)>> {
        let (since, span) = (self.refused_since?, patience.refused?);
        (now.saturating_sub(since) >= span)
            .then(|| self.last_row.as_ref().map(OwnRow::missing).unwrap_or_default())
    }

    fn is_silent_for(&self, now: Duration, span: Duration) -> bool {
        self.silent_since.is_some_and(|since| now.saturating_sub(since) >= span)
    }

    /// Members that went while the own daemon was silent, with what it said of them last. It may be silent for their sake.
    fn gone(&self, now: Duration) -> Vec<(usize, String)> {
        let gone = |since: &Option<Duration>| since.is_some_and(|since| now.saturating_sub(since) >= GONE);
        let word = |index: usize| {
            let row = self.last_row.as_ref()?;
            let word = row.words.get(index)?;
            Some((index, if row.is_connected(index) { "was CONNECTED".to_owned() } else { word.clone() }))
        };
        self.absent_since
            .iter()
            .enumerate()
            .filter(|(_, since)| gone(since))
            .filter_map(|(index, _)| word(index))
            .collect()
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

    fn verdict(self, probe: &mut impl Probe) -> Readiness {
        // One answer that did not come in time says nothing yet.
        if self.is_silent_for(probe.elapsed(), SILENCE) {
            let missing = self.gone(probe.elapsed());
            return if missing.is_empty() {
                Readiness::NotReady { last: self.last_fault.unwrap_or_default() }
            } else {
                Readiness::PeersMissing { missing, why: Missing::Absent }
            };
        }
        let why = self.why();
        // Only when everybody but this tray itself is missing.
        let alone = self.last_row.as_ref().is_some_and(|row| row.missing().len() + 1 == row.words.len());
        if alone
            && self.was_ready
            && self.knocks.len() + 1 == self.ever_connected.len()
            && let Some(why) = probe.cut_off(&self.knocks)
        {
            return Readiness::CutOff { why };
        }
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
