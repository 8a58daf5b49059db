//! What is done to one job, and what of it Slurm and the trays may show. Pure.
#![forbid(unsafe_code)]

use crate::fault::{Fault, FaultKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// When something happens, as the job sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Before the job is submitted.
    Before,
    /// While the tray's daemon runs and its domain is not complete; another tray's daemon is slow.
    Forming,
    /// While the job's script runs.
    Running,
    /// While the tray's epilog waits for its daemon to end; all daemons of the job need time to end.
    Ending,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// A fault of the tray, until the job is over; one that cuts the tray off ends by itself.
    Fault(Fault),
    /// The tray's prolog begins so many milliseconds late.
    Late(u64),
    /// The tray's prolog is killed when this step is done.
    KillProlog(String),
    /// The tray's epilog is killed when this step is done.
    KillEpilog(String),
    /// The job is cancelled.
    Cancel,
    /// The job is requeued; it may start again on the same trays.
    Requeue,
    /// The tray's slurmd is restarted as systemd does it.
    RestartSlurmd,
    /// The tray is switched off and on.
    Reboot,
}

/// Something that happens to a tray of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub phase: Phase,
    /// Position of the tray among the job's; the batch script runs on the first.
    pub tray: usize,
    /// What.
    pub deed: Deed,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// How many trays it has.
    pub trays: usize,
    /// What happens to it.
    pub events: Vec<Event>,
    /// A second job waits for the later half of its trays and one more, and starts while the others may still be busy.
    pub crowded: bool,
}

/// What the trays of a job may look like when it is over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// These must be out of service.
    pub must_drain: BTreeSet<usize>,
    /// These may be; all others must not.
    pub may_drain: BTreeSet<usize>,
    /// On these something of the domain may be left until the next prolog: Slurm runs no epilog twice.
    pub may_leave: BTreeSet<usize>,
}

impl Plan {
    /// A job to which nothing happens.
    pub fn quiet(trays: usize) -> Self {
        Self { trays, events: Vec::new(), crowded: false }
    }

    /// A job of three trays to which one thing happens.
    pub fn one(phase: Phase, tray: usize, deed: Deed) -> Self {
        Self { trays: 3, events: vec![Event { phase, tray, deed }], crowded: false }
    }

    /// The events of a phase, in their order.
    pub fn at(&self, phase: Phase) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.phase == phase)
    }

    /// What is allowed at its end.
    pub fn allowed(&self) -> Allowed {
        let mut allowed = Allowed::default();
        // Of several events each may keep the others from being noticed, and a job that is over asks for nobody's health.
        let alone = self.events.len() == 1;
        for Event { phase, tray, deed } in &self.events {
            // In a second run of the job the fault is there from the beginning.
            let again = self.events.iter().any(|event| event.deed.may_start_again());
            let phase = if again && !alone { Phase::Before } else { *phase };
            match deed.drains(phase) {
                Drains::Always if alone => {
                    allowed.must_drain.insert(*tray);
                }
                Drains::Always | Drains::Maybe => {
                    allowed.may_drain.insert(*tray);
                }
                Drains::Never => {}
            }
            if matches!(deed, Deed::KillEpilog(_)) {
                allowed.may_leave.insert(*tray);
            }
        }
        allowed.may_drain.extend(&allowed.must_drain);
        allowed
    }
}

/// Whether a tray goes out of service for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drains {
    Always,
    Maybe,
    Never,
}

impl Deed {
    fn drains(&self, phase: Phase) -> Drains {
        match self {
            Self::Fault(fault) => drains_for(fault.kind, phase),
            // slurmd sees its script killed and takes that for the script's own word.
            Self::KillProlog(_) | Self::KillEpilog(_) => Drains::Always,
            // Slurm's own business, as far as it notices.
            Self::Reboot | Self::RestartSlurmd => Drains::Maybe,
            Self::Late(_) | Self::Cancel | Self::Requeue => Drains::Never,
        }
    }

    /// Whether Slurm may take the job back for it and start it once more.
    fn may_start_again(&self) -> bool {
        self.is_outage() || matches!(self, Self::Requeue | Self::Reboot | Self::RestartSlurmd)
    }

    /// Whether it cuts the tray off from Slurm for a while.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Fault(Fault { kind: FaultKind::Unreachable | FaultKind::SlurmdKill, .. }))
    }
}

/// The rule is: exactly a tray with a fault of its own that a start must notice goes out of service.
fn drains_for(kind: FaultKind, phase: Phase) -> Drains {
    use FaultKind as K;
    match (phase, kind) {
        // Not the domain's business; Slurm itself sets a tray down that does not answer for long.
        (_, K::Unreachable | K::SlurmdKill) => Drains::Maybe,
        // Slow or lame, but it works.
        (_, K::Degraded | K::ImexSlowStart | K::ImexSlowStop) => Drains::Never,
        // Its daemon must be killed to end: whether that is worth a drain is a matter of policy.
        (_, K::ImexIgnoreSigterm) => Drains::Maybe,
        (Phase::Before, _) => Drains::Always,
        (Phase::Forming, K::ImexDie | K::ImexHang | K::ImexFreeze | K::CtlHang | K::CtlGarbage) => {
            Drains::Always
        }
        // A daemon that runs already was not refused, and the fabric was read before.
        (Phase::Forming, K::ImexRefuse | K::PortTaken) => Drains::Never,
        (Phase::Forming, _) => Drains::Never,
        // The job has lost its domain; the next one has a daemon of its own.
        (Phase::Running, K::ImexDie) => Drains::Maybe,
        (Phase::Running | Phase::Ending, _) => Drains::Never,
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before start",
            Self::Forming => "during forming",
            Self::Running => "during the job",
            Self::Ending => "during the epilog",
        })
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(Fault { kind, ms: None }) => f.write_str(&kind.name()),
            Self::Fault(Fault { kind, ms: Some(ms) }) => write!(f, "{} {ms} ms", kind.name()),
            Self::Late(ms) => write!(f, "prolog {ms} ms late"),
            Self::KillProlog(step) => write!(f, "SIGKILL of the prolog after: {step}"),
            Self::KillEpilog(step) => write!(f, "SIGKILL of the epilog after: {step}"),
            Self::Cancel => f.write_str("scancel"),
            Self::Requeue => f.write_str("requeue"),
            Self::RestartSlurmd => f.write_str("slurmd restart"),
            Self::Reboot => f.write_str("tray reboot"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = if self.tray == 0 { "batch host" } else { "member" };
        write!(f, "{} {}, tray {} ({whose})", self.deed, self.phase, self.tray)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(phase: Phase, kind: FaultKind) -> Allowed {
        Plan::one(phase, 1, Deed::Fault(Fault::new(kind))).allowed()
    }

    #[test]
    fn exactly_the_tray_at_fault_must_drain() {
        let allowed = one(Phase::Before, FaultKind::ImexRefuse);
        assert_eq!(allowed.must_drain, BTreeSet::from([1]));
        assert_eq!(allowed.may_drain, allowed.must_drain);
        assert_eq!(one(Phase::Running, FaultKind::CtlHang), Allowed::default());
        assert_eq!(one(Phase::Before, FaultKind::Degraded), Allowed::default());
    }

    #[test]
    fn of_two_events_none_must_be_noticed_and_no_third_tray_may_drain() {
        let event = |tray, kind| Event { phase: Phase::Before, tray, deed: Deed::Fault(Fault::new(kind)) };
        let plan = Plan {
            trays: 3,
            events: vec![event(0, FaultKind::ImexHang), event(1, FaultKind::WrongClique)],
            crowded: false,
        };
        let allowed = plan.allowed();
        assert!(allowed.must_drain.is_empty());
        assert_eq!(allowed.may_drain, BTreeSet::from([0, 1]));
    }

    #[test]
    fn a_fault_that_a_second_run_meets_may_drain_its_tray() {
        let event = |deed| Event { phase: Phase::Running, tray: 1, deed };
        let fault = event(Deed::Fault(Fault::new(FaultKind::NvmlMissing)));
        let plan = Plan { trays: 3, events: vec![event(Deed::Requeue), fault], crowded: false };
        assert_eq!(plan.allowed().may_drain, BTreeSet::from([1]));
        assert!(plan.allowed().must_drain.is_empty());
    }

    #[test]
    fn only_a_killed_epilog_may_leave_something() {
        assert_eq!(
            Plan::one(Phase::Before, 2, Deed::KillEpilog("lock".to_owned())).allowed().may_leave,
            BTreeSet::from([2])
        );
        assert!(
            Plan::one(Phase::Before, 2, Deed::KillProlog("lock".to_owned())).allowed().may_leave.is_empty()
        );
    }

    #[test]
    fn a_plan_is_read_back_from_what_a_violation_prints() {
        let plan =
            Plan::one(Phase::Forming, 1, Deed::Fault(Fault { kind: FaultKind::ImexSlowStart, ms: Some(7) }));
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }
}
