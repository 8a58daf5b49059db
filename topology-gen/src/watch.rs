//! When to act on what the trays say: a pure function of what was seen, and of the time.
//!
//! ```text
//! each look -> lost trays? ---- too many --> wait for the trays, or for a human
//!                 \_ refused trays? -------> wait
//!                     \_ as in force? -----> rest
//!                         \_ seen often enough in a row, and long enough? -- no --> wait
//!                             \_ tried in vain lately, or too many changes this hour? -- yes --> wait
//!                                 \_ act
//! ```
//!
//! A tray counts as lost when it was in a block or had a usable reading and has none now. A few lost trays are daily life, and
//! their blocks keep them; many at once are a fault of something else, and what is planned then is planned on half the truth.
#![forbid(unsafe_code)]

pub mod metrics;
pub mod notify;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use fabric::{HostList, NodeName};

use crate::natural;

/// The span in which changes are counted.
const HOUR: Duration = Duration::from_secs(3600);
/// A tray that stays lost so long, without company, is no longer waited for.
const FORGET: Duration = Duration::from_secs(3600);
/// Longest wait before a change that failed is tried again.
const BACK_OFF_MAX: Duration = HOUR;

/// The bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// A change must be seen so often in a row, at least 1.
    pub stable: u32,
    /// And for so long.
    pub settle: Duration,
    /// Most changes in any hour.
    pub per_hour: usize,
    /// With so many lost trays nothing is done, at least 1.
    pub lost: usize,
    /// Wait after a first try in vain; each further one doubles it.
    pub back_off: Duration,
}

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Trays with a usable reading of their own, taken now.
    pub speaking: BTreeSet<NodeName>,
    /// Trays that are in a block of the topology in force.
    pub in_force: BTreeSet<NodeName>,
    /// The file to bring into force; `None` when it says what is in force already.
    pub change: Option<String>,
    /// Whether trays are refused and nobody has said that the rest will do.
    pub held: bool,
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The change is in force.
    Applied,
    /// The controller was told and is as before.
    RolledBack,
    /// Nothing was touched.
    Refused,
    /// Somebody else was at work.
    Busy,
    /// It is not known how things are.
    Failed,
}

impl End {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Applied, Self::RolledBack, Self::Refused, Self::Busy, Self::Failed];

    /// One word, for the metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::RolledBack => "rolled_back",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Failed => "failed",
        }
    }
}

/// What to do after a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Bring the change into force.
    Act,
    /// Nothing, for this reason.
    Rest(Rest),
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// There is nothing to do.
    InForce,
    /// The source gave nothing.
    Blind(String),
    /// Too many trays are lost in this one look. A slurmctld that has just started knows nothing of its nodes, for a moment.
    Missing(HostList),
    /// Too many trays are lost.
    Lost(HostList),
    /// Trays are refused.
    Held,
    /// The change is too new.
    Settling {
        /// How often it was seen in a row.
        seen: u32,
        /// How often it must be.
        wanted: u32,
    },
    /// The same change was tried in vain.
    BackOff {
        /// When it is tried again.
        wait: Duration,
    },
    /// Enough changes for this hour.
    TooOften {
        /// When the next one may come.
        wait: Duration,
    },
}

impl Rest {
    /// Whether only a human can end it.
    pub fn needs_human(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Held | Self::BackOff { .. })
    }

    /// Whether the other one tells an operator the same, times apart.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::BackOff { .. }, Self::BackOff { .. }) | (Self::TooOften { .. }, Self::TooOften { .. }) => {
                true
            }
            (one, two) => one == two,
        }
    }
}

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InForce => f.write_str("the topology in force is what the trays say"),
            Self::Blind(why) => write!(f, "cannot see the trays: {why}"),
            Self::Missing(nodes) => {
                write!(f, "{} missing: {nodes}; looking again", crate::emit::count(nodes.len(), "tray"))
            }
            Self::Lost(nodes) => write!(
                f,
                "{} lost at once: {nodes}; nothing is changed until they are back, or until somebody has looked",
                crate::emit::count(nodes.len(), "tray")
            ),
            Self::Held => f.write_str("refused trays hold the change back"),
            Self::Settling { seen, wanted } => {
                write!(f, "a change was seen {seen} of {wanted} times; it must be stable")
            }
            Self::BackOff { wait } => {
                write!(f, "this change was tried in vain; again in {} s", wait.as_secs())
            }
            Self::TooOften { wait } => {
                write!(f, "enough changes for this hour; the next one in {} s", wait.as_secs())
            }
        }
    }
}

/// A change, and since when it is seen.
#[derive(Debug, Clone)]
struct Candidate {
    text: String,
    seen: u32,
    since: Duration,
}

/// A change that was tried in vain.
#[derive(Debug, Clone)]
struct Failed {
    text: String,
    times: u32,
    until: Duration,
}

/// A tray that should speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tray {
    /// It does.
    Speaks,
    /// It does not, since then.
    LostSince(Duration),
    /// It does not, and that is known: for long, or to a human.
    Excused,
}

/// What is remembered between two looks. Times are since any fixed moment.
#[derive(Debug, Clone)]
pub struct State {
    policy: Policy,
    /// Trays that should speak.
    known: BTreeMap<NodeName, Tray>,
    too_many: bool,
    /// Looks in a row with too many.
    lost_looks: u32,
    candidate: Option<Candidate>,
    failed: Option<Failed>,
    changes: VecDeque<Duration>,
}

impl State {
    /// Nothing was seen yet.
    pub fn new(policy: Policy) -> Self {
        let (known, changes) = (BTreeMap::new(), VecDeque::new());
        Self { policy, known, too_many: false, lost_looks: 0, candidate: None, failed: None, changes }
    }

    /// The trays that should speak and do not.
    pub fn silent(&self) -> HostList {
        self.listed(|tray| tray != Tray::Speaks)
    }

    fn listed(&self, wanted: impl Fn(Tray) -> bool) -> HostList {
        let mut nodes: Vec<&NodeName> =
            self.known.iter().filter(|(_, tray)| wanted(**tray)).map(|(node, _)| node).collect();
        nodes.sort_by(|a, b| natural::compare(a.as_str(), b.as_str()));
        nodes.into_iter().cloned().collect()
    }

    fn lost(&self) -> HostList {
        self.listed(|tray| matches!(tray, Tray::LostSince(_)))
    }

    /// The source gave nothing. Whether what was seen before still holds is not known.
    pub fn blind(&mut self, why: String) -> Decision {
        self.candidate = None;
        Decision::Rest(Rest::Blind(why))
    }

    /// Decides after a look at `now`, which never goes back.
    pub fn look(&mut self, seen: &Seen, now: Duration) -> Decision {
        self.count_lost(seen, now);
        self.lost_looks = if self.too_many { self.lost_looks.saturating_add(1) } else { 0 };
        if self.too_many || seen.held {
            self.candidate = None;
            return Decision::Rest(match self.lost_looks {
                0 => Rest::Held,
                1 => Rest::Missing(self.lost()),
                _ => Rest::Lost(self.lost()),
            });
        }
        let Some(change) = &seen.change else {
            (self.candidate, self.failed) = (None, None);
            return Decision::Rest(Rest::InForce);
        };
        let candidate = match self.candidate.take().filter(|candidate| candidate.text == *change) {
            Some(known) => Candidate { seen: known.seen.saturating_add(1), ..known },
            None => Candidate { text: change.clone(), seen: 1, since: now },
        };
        let wanted = self.policy.stable.max(1);
        let is_stable = candidate.seen >= wanted && now.saturating_sub(candidate.since) >= self.policy.settle;
        let times = candidate.seen;
        self.candidate = Some(candidate);
        if !is_stable {
            return Decision::Rest(Rest::Settling { seen: times.min(wanted), wanted });
        }
        if let Some(failed) =
            self.failed.as_ref().filter(|failed| failed.text == *change && now < failed.until)
        {
            return Decision::Rest(Rest::BackOff { wait: failed.until.saturating_sub(now) });
        }
        while self.changes.front().is_some_and(|at| now.saturating_sub(*at) >= HOUR) {
            self.changes.pop_front();
        }
        match self.changes.front() {
            Some(first) if self.changes.len() >= self.policy.per_hour => {
                let wait = (*first + HOUR).saturating_sub(now);
                Decision::Rest(Rest::TooOften { wait })
            }
            _ => Decision::Act,
        }
    }

    /// Which trays are missed, and whether they are too many. A single one that stays away is forgotten after a while.
    fn count_lost(&mut self, seen: &Seen, now: Duration) {
        for node in seen.in_force.iter().chain(&seen.speaking) {
            self.known.entry(node.clone()).or_insert(Tray::Speaks);
        }
        // What a human has taken out of the topology is not missed.
        self.known.retain(|node, _| seen.speaking.contains(node) || seen.in_force.contains(node));
        let mut lost = 0;
        for (node, tray) in &mut self.known {
            *tray = match *tray {
                _ if seen.speaking.contains(node) => Tray::Speaks,
                Tray::Speaks => Tray::LostSince(now),
                Tray::LostSince(since) if !self.too_many && now.saturating_sub(since) >= FORGET => {
                    Tray::Excused
                }
                other => other,
            };
            lost += usize::from(matches!(tray, Tray::LostSince(_)));
        }
        self.too_many = lost >= self.policy.lost.max(1);
    }

    /// A human has looked: the trays that are lost now are not waited for, and what was tried in vain may be tried again.
    pub fn go_on(&mut self) {
        self.too_many = false;
        self.failed = None;
        for tray in self.known.values_mut().filter(|tray| **tray != Tray::Speaks) {
            *tray = Tray::Excused;
        }
    }

    /// What became of [`Decision::Act`].
    pub fn ended(&mut self, end: End, now: Duration) {
        if matches!(end, End::Applied | End::RolledBack | End::Failed) {
            self.changes.push_back(now);
        }
        let Some(candidate) = self.candidate.take() else { return };
        match end {
            End::Applied => self.failed = None,
            End::Busy => self.candidate = Some(candidate),
            End::RolledBack | End::Refused | End::Failed => {
                let before = self.failed.take().filter(|failed| failed.text == candidate.text);
                let times = before.map_or(0, |failed| failed.times);
                let wait = self.policy.back_off.saturating_mul(1 << times.min(16)).min(BACK_OFF_MAX);
                let times = times.saturating_add(1);
                self.failed = Some(Failed { text: candidate.text.clone(), times, until: now + wait });
                self.candidate = Some(candidate);
            }
        }
    }
}

#[cfg(test)]
mod tests;
