//! Is what was seen of a job as it must be? Pure.
#![forbid(unsafe_code)]

use super::plan::Plan;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What was seen of a job and its trays.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Slurm's number of the job.
    pub job: u32,
    /// The trays that were at its disposal, its own first, in its order.
    pub trays: Vec<String>,
    /// What became of it, in words.
    pub outcome: String,
    /// Runs in which its script began with an IMEX channel: by restart count, the trays that were never ready in that run.
    pub unready: BTreeMap<u32, BTreeSet<String>>,
    /// Lists of members that were not the job's trays, by tray.
    pub strangers: BTreeMap<String, String>,
    /// Trays out of service at its end, with state and reason.
    pub out: BTreeMap<String, String>,
    /// What was left of any domain on a tray, when all of its epilogs were over.
    pub left: BTreeMap<String, BTreeSet<String>>,
    /// The same after the next job on these trays.
    pub left_later: BTreeMap<String, BTreeSet<String>>,
    /// What did not come to an end, or did not happen.
    pub stuck: Vec<String>,
}

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// The script began with a channel, and a tray of its domain never was ready.
    HalfFormed(u32, BTreeSet<String>),
    /// A tray without a fault went out of service.
    HealthyDrained(String, String),
    /// A tray with a fault did not.
    FaultyInService(String),
    /// A daemon, a channel or files.
    Left(String, BTreeSet<String>),
    /// A tray's daemon had a list of others than the job's trays.
    WrongMembers(String, String),
    /// Something did not come to an end.
    Stuck(String),
}

/// How often each rule was broken, in the order of the table's columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that began half-formed.
    pub half_formed: usize,
    /// Healthy trays that drained.
    pub healthy_drained: usize,
    /// Faulty trays that did not.
    pub faulty_in_service: usize,
    /// Trays with leftovers.
    pub left: usize,
    /// Trays with wrong members.
    pub wrong_members: usize,
    /// Things that did not come to an end.
    pub stuck: usize,
}

impl Counts {
    /// Counts violations.
    pub fn of(violations: &[Violation]) -> Self {
        let count = |wanted: fn(&Violation) -> bool| violations.iter().filter(|found| wanted(found)).count();
        Self {
            half_formed: count(|found| matches!(found, Violation::HalfFormed(..))),
            healthy_drained: count(|found| matches!(found, Violation::HealthyDrained(..))),
            faulty_in_service: count(|found| matches!(found, Violation::FaultyInService(..))),
            left: count(|found| matches!(found, Violation::Left(..))),
            wrong_members: count(|found| matches!(found, Violation::WrongMembers(..))),
            stuck: count(|found| matches!(found, Violation::Stuck(..))),
        }
    }

    /// The numbers in the order of the table's columns.
    pub fn columns(&self) -> [usize; 6] {
        [
            self.half_formed,
            self.healthy_drained,
            self.faulty_in_service,
            self.left,
            self.wrong_members,
            self.stuck,
        ]
    }
}

/// Compares what was seen with what the plan allows.
pub fn judge(plan: &Plan, seen: &Seen) -> Vec<Violation> {
    let allowed = plan.allowed();
    let names = |positions: &BTreeSet<usize>| -> BTreeSet<&String> {
        positions.iter().filter_map(|position| seen.trays.get(*position)).collect()
    };
    let (must, may, may_leave) =
        (names(&allowed.must_drain), names(&allowed.may_drain), names(&allowed.may_leave));
    let mut found = Vec::new();
    found.extend(
        seen.unready
            .iter()
            .filter(|(_, trays)| !trays.is_empty())
            .map(|(run, trays)| Violation::HalfFormed(*run, trays.clone())),
    );
    let healthy = seen.out.iter().filter(|(tray, _)| !may.contains(tray));
    found.extend(healthy.map(|(tray, why)| Violation::HealthyDrained(tray.clone(), why.clone())));
    let missing = must.into_iter().filter(|tray| !seen.out.contains_key(*tray));
    found.extend(missing.map(|tray| Violation::FaultyInService(tray.clone())));
    let left = seen.left.iter().filter(|(tray, _)| !may_leave.contains(tray)).chain(&seen.left_later);
    found.extend(left.map(|(tray, what)| Violation::Left(tray.clone(), what.clone())));
    found.extend(
        seen.strangers.iter().map(|(tray, list)| Violation::WrongMembers(tray.clone(), list.clone())),
    );
    found.extend(seen.stuck.iter().cloned().map(Violation::Stuck));
    found
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HalfFormed(run, trays) => {
                write!(f, "run {run} of the job began with a channel, but {trays:?} never was ready")
            }
            Self::HealthyDrained(tray, why) => write!(f, "{tray} has no fault and is out of service: {why}"),
            Self::FaultyInService(tray) => write!(f, "{tray} has a fault and is in service"),
            Self::Left(tray, what) => write!(f, "left on {tray}: {what:?}"),
            Self::WrongMembers(tray, list) => write!(f, "{tray} had the members {list:?}"),
            Self::Stuck(what) => f.write_str(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Deed, Phase};
    use super::*;
    use crate::fault::{Fault, FaultKind};

    fn seen() -> Seen {
        Seen { job: 7, trays: ["a", "b", "c", "d"].map(str::to_owned).to_vec(), ..Seen::default() }
    }

    fn refused() -> Plan {
        Plan::one(Phase::Before, 1, Deed::Fault(Fault::new(FaultKind::ImexRefuse)))
    }

    fn out(trays: &[&str]) -> BTreeMap<String, String> {
        trays.iter().map(|tray| ((*tray).to_owned(), "drained Prolog error".to_owned())).collect()
    }

    fn columns(plan: &Plan, seen: &Seen) -> [usize; 6] {
        Counts::of(&judge(plan, seen)).columns()
    }

    #[test]
    fn what_must_be_is_no_violation() {
        assert_eq!(judge(&Plan::quiet(3), &seen()), []);
        assert_eq!(judge(&refused(), &Seen { out: out(&["b"]), ..seen() }), []);
    }

    #[test]
    fn each_rule_is_seen_broken() {
        let names =
            |trays: &[&str]| -> BTreeSet<String> { trays.iter().map(|tray| (*tray).to_owned()).collect() };
        assert_eq!(columns(&refused(), &Seen { out: out(&["b", "c"]), ..seen() }), [0, 1, 0, 0, 0, 0]);
        assert_eq!(columns(&refused(), &seen()), [0, 0, 1, 0, 0, 0]);
        // Also a tray that was none of the job's.
        assert_eq!(columns(&Plan::quiet(3), &Seen { out: out(&["d"]), ..seen() }), [0, 1, 0, 0, 0, 0]);
        let half = Seen { unready: BTreeMap::from([(0, names(&["c"]))]), ..seen() };
        assert_eq!(columns(&Plan::quiet(3), &half), [1, 0, 0, 0, 0, 0]);
        let left = BTreeMap::from([("b".to_owned(), names(&["channel0"]))]);
        assert_eq!(columns(&Plan::quiet(3), &Seen { left: left.clone(), ..seen() }), [0, 0, 0, 1, 0, 0]);
        let strangers = BTreeMap::from([("b".to_owned(), "10.0.0.1\n".to_owned())]);
        assert_eq!(columns(&Plan::quiet(3), &Seen { strangers, ..seen() }), [0, 0, 0, 0, 1, 0]);
        assert_eq!(
            columns(&Plan::quiet(3), &Seen { stuck: vec!["x".to_owned()], ..seen() }),
            [0, 0, 0, 0, 0, 1]
        );
    }

    #[test]
    fn what_a_killed_epilog_leaves_must_be_gone_after_the_next_job() {
        let plan = Plan::one(Phase::Before, 1, Deed::KillEpilog("lock".to_owned()));
        let left: BTreeMap<_, _> =
            [("b".to_owned(), ["channel0".to_owned()].into_iter().collect::<BTreeSet<_>>())].into();
        let first = Seen { out: out(&["b"]), left: left.clone(), ..seen() };
        assert_eq!(columns(&plan, &first), [0; 6]);
        assert_eq!(columns(&plan, &Seen { left_later: left, ..first }), [0, 0, 0, 1, 0, 0]);
    }
}
