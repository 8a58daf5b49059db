//! How a tray is, in one word, from Slurm's many.
#![forbid(unsafe_code)]

use crate::site::SlurmNode;

/// How a tray is, the most useful to know first: what it does, then what keeps it from work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// All of it belongs to jobs.
    Allocated,
    /// Part of it belongs to jobs.
    Mixed,
    /// Its last job is ending.
    Completing,
    /// Free for any job.
    Idle,
    /// Kept for somebody: a reservation, maintenance, a job that Slurm has planned, a neighbour that asked to be alone.
    Reserved,
    /// Drained by an operator or a health check; a job may still run on it.
    Drained,
    /// Down, not answering, failing, or never seen.
    Down,
    /// Switched off by Slurm to save power.
    PoweredDown,
    /// Says nothing now and is shown where it was last.
    Stale,
    /// Nothing is known of it.
    Unknown,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Allocated,
        Self::Mixed,
        Self::Completing,
        Self::Idle,
        Self::Reserved,
        Self::Drained,
        Self::Down,
        Self::PoweredDown,
        Self::Stale,
        Self::Unknown,
    ];

    /// From Slurm's state words (Slurm 26.05.3 src/plugins/data_parser, node states).
    pub fn of(node: &SlurmNode) -> Self {
        const ORDER: [(State, &[&str]); 8] = [
            (State::Down, &["DOWN", "FAIL", "UNKNOWN", "FUTURE", "INVALID_REG"]),
            (State::PoweredDown, &["POWERED_DOWN", "POWERING_DOWN", "POWER_DOWN"]),
            (State::Down, &["NOT_RESPONDING"]),
            (State::Drained, &["DRAIN"]),
            (State::Allocated, &["ALLOCATED"]),
            (State::Mixed, &["MIXED"]),
            (State::Completing, &["COMPLETING"]),
            (State::Reserved, &["RESERVED", "MAINTENANCE", "PLANNED", "BLOCKED"]),
        ];
        let has = |words: &[&str]| node.state.iter().any(|word| words.contains(&word.as_str()));
        let found = ORDER.iter().find(|(_, words)| has(words)).map(|(state, _)| *state);
        found.unwrap_or(if has(&["IDLE"]) { Self::Idle } else { Self::Unknown })
    }

    /// Its name, as in tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Allocated => "allocated",
            Self::Mixed => "mixed",
            Self::Completing => "completing",
            Self::Idle => "idle",
            Self::Reserved => "reserved",
            Self::Drained => "drained",
            Self::Down => "down",
            Self::PoweredDown => "powered down",
            Self::Stale => "stale",
            Self::Unknown => "unknown",
        }
    }

    /// Its sign where there is room for one character, never a letter, which is a job; blank for the usual state of a tray with a
    /// job.
    pub fn sign(self) -> char {
        match self {
            Self::Allocated => ' ',
            Self::Mixed => '+',
            Self::Completing => '~',
            Self::Idle => '·',
            Self::Reserved => '=',
            Self::Drained => '#',
            Self::Down => '!',
            Self::PoweredDown => '_',
            Self::Stale => '-',
            Self::Unknown => '?',
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> State {
        let state = words.iter().map(|word| (*word).to_owned()).collect();
        State::of(&SlurmNode { state, ..SlurmNode::default() })
    }

    #[test]
    fn slurms_words_become_one() {
        for (words, state) in [
            (&["IDLE"][..], State::Idle),
            (&["ALLOCATED"], State::Allocated),
            (&["MIXED", "RESERVED"], State::Mixed),
            (&["IDLE", "COMPLETING"], State::Completing),
            (&["IDLE", "MAINTENANCE", "RESERVED"], State::Reserved),
            (&["IDLE", "PLANNED"], State::Reserved),
            (&["ALLOCATED", "DRAIN"], State::Drained),
            (&["DOWN", "NOT_RESPONDING"], State::Down),
            (&["IDLE", "NOT_RESPONDING"], State::Down),
            (&["IDLE", "CLOUD", "POWERED_DOWN"], State::PoweredDown),
            (&["DOWN", "POWERED_DOWN"], State::Down),
            (&[], State::Unknown),
        ] {
            assert_eq!(of(words), state, "{words:?}");
        }
    }

    #[test]
    fn idle_is_what_counts_as_free_elsewhere() {
        let words = [
            "ALLOCATED",
            "MIXED",
            "COMPLETING",
            "RESERVED",
            "PLANNED",
            "BLOCKED",
            "DRAIN",
            "DOWN",
            "FAIL",
            "UNKNOWN",
            "FUTURE",
            "INVALID_REG",
            "NOT_RESPONDING",
            "POWERED_DOWN",
            "POWERING_DOWN",
            "CLOUD",
        ];
        for word in words {
            let state = vec!["IDLE".to_owned(), word.to_owned()];
            let node = SlurmNode { state, ..SlurmNode::default() };
            assert_eq!(State::of(&node) == State::Idle, node.is_free(), "{word}");
        }
    }

    #[test]
    fn signs_and_words_are_distinct() {
        let signs: std::collections::BTreeSet<char> = State::ALL.map(State::sign).into();
        let words: std::collections::BTreeSet<&str> = State::ALL.map(State::word).into();
        assert_eq!((signs.len(), words.len()), (10, 10));
        assert!(!signs.iter().any(char::is_ascii_alphanumeric));
    }
}
