//! What happens in a round, and when. The seed and the number of a round give its plan. Pure.
#![forbid(unsafe_code)]

use crate::dice::Dice;
use crate::fault::{Fault, FaultKind};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Jobs of a round.
const JOBS: usize = 28;
/// Other things that happen in it.
const DEEDS: usize = 9;
/// A job's script runs so many seconds at most.
const LONGEST: usize = 8;
/// A fault lasts so long at most, in milliseconds.
const FAULT_MS: usize = 15_000;

/// What a cluster is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Racks, all alike.
    pub racks: usize,
    /// Trays of a rack.
    pub rack: usize,
}

impl Shape {
    /// All trays.
    #[must_use]
    pub fn trays(self) -> usize {
        self.racks * self.rack
    }

    /// Positions of the trays of a rack that get another partition when it is cut.
    #[must_use]
    pub fn second_half(self, rack: usize) -> std::ops::Range<usize> {
        rack * self.rack + self.rack.div_ceil(2)..(rack + 1) * self.rack
    }
}

/// A job that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Whole trays.
    Whole,
    /// Whole trays in segments of this many; the job has a multiple of them.
    Segments(usize),
    /// An array of so many tasks, each with the trays.
    Array(usize),
    /// A heterogeneous job, with so many trays in its second component.
    Heterogeneous(usize),
    /// One GPU of a tray that others may share.
    Shared,
    /// All GPUs of whole trays, asked for by their number.
    Gpus,
    /// Starts when the job before it has ended.
    After,
    /// In a reservation made for it.
    Reserved,
    /// Never ends; its time limit of a minute ends it.
    Limited,
}

/// A job: what, how many trays, and for how many seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// What.
    pub kind: Kind,
    /// Trays, of one task of an array, of the first component of a heterogeneous job.
    pub trays: usize,
    /// How long its script runs.
    pub seconds: usize,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A job is submitted.
    Submit(Ask),
    /// A tray has a fault for so many milliseconds.
    Fault {
        /// Position of the tray in the cluster.
        tray: usize,
        /// What.
        fault: Fault,
        /// For how long.
        ms: u64,
    },
    /// The tray loses its power, and has it again [`crate::limits::SWITCHED_OFF`] later.
    PowerLoss(usize),
    /// The tray's slurmd is stopped with SIGTERM and started.
    RestartSlurmd(usize),
    /// slurmctld is stopped with SIGTERM and started.
    RestartController,
    /// slurmctld is killed and started.
    KillController,
    /// `scontrol reconfigure`.
    Reconfigure,
    /// The second half of a rack shows another NVLink partition from now on, and the topology is applied.
    CutRack(usize),
    /// The newest job that is not over is cancelled.
    Cancel,
    /// The newest job that runs is requeued.
    Requeue,
}

/// An event and its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed {
    /// Milliseconds after the begin of the round.
    pub at_ms: u64,
    /// What.
    pub event: Event,
}

/// A round's plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The cluster for which it was made.
    pub shape: Shape,
    /// In the order of their times.
    pub events: Vec<Timed>,
}

/// The plan of the round with this number, over so many milliseconds.
#[must_use]
pub fn random(seed: u64, number: u32, shape: Shape, ms: u64) -> Plan {
    let mut dice = Dice::new(seed, number);
    let mut events: Vec<Timed> = Vec::new();
    let at = |dice: &mut Dice| dice.below(usize::try_from(ms).unwrap_or(usize::MAX)) as u64;
    for _ in 0..JOBS {
        let event = Event::Submit(ask(&mut dice, shape));
        events.push(Timed { at_ms: at(&mut dice), event });
    }
    // Not all of them in each round: a rack that is cut stays cut until its end.
    for _ in 0..DEEDS {
        let event = deed(&mut dice, shape);
        let twice = |other: &Timed| {
            let cuts = |event: &Event| matches!(event, Event::CutRack(_));
            cuts(&event) && cuts(&other.event) || matches!(event, Event::PowerLoss(_)) && event == other.event
        };
        if !events.iter().any(twice) {
            events.push(Timed { at_ms: at(&mut dice), event });
        }
    }
    if number.is_multiple_of(2) {
        let limited = Ask { kind: Kind::Limited, trays: 1 + dice.below(shape.rack), seconds: 0 };
        events.push(Timed { at_ms: 0, event: Event::Submit(limited) });
    }
    events.sort_by_key(|timed| timed.at_ms);
    Plan { shape, events }
}

fn ask(dice: &mut Dice, shape: Shape) -> Ask {
    let rack = shape.rack;
    let small = |dice: &mut Dice| 1 + dice.below(rack.div_ceil(3));
    let (kind, trays) = match dice.below(16) {
        0..=4 => (Kind::Whole, 1 + dice.below(rack)),
        5 => (Kind::Whole, rack + 1 + dice.below(rack)),
        6 => (Kind::Whole, rack),
        7 | 8 => {
            let segment = 1 + dice.below(rack / 2);
            let most = (shape.trays() / 2 / segment).max(1);
            (Kind::Segments(segment), segment * (1 + dice.below(most)))
        }
        9 => (Kind::Array(2 + dice.below(4)), small(dice)),
        10 => (Kind::Heterogeneous(small(dice)), small(dice)),
        11 | 12 => (Kind::Shared, 1),
        13 => (Kind::Gpus, 1 + dice.below(rack)),
        14 => (Kind::After, small(dice)),
        _ => (Kind::Reserved, small(dice)),
    };
    Ask { kind, trays, seconds: 1 + dice.below(LONGEST) }
}

fn deed(dice: &mut Dice, shape: Shape) -> Event {
    use FaultKind as K;
    const FAULTS: [FaultKind; 17] = [
        K::ImexDie,
        K::ImexHang,
        K::ImexFreeze,
        K::ImexRefuse,
        K::ImexSlowStart,
        K::ImexSlowStop,
        K::ImexIgnoreSigterm,
        K::CtlHang,
        K::CtlGarbage,
        K::PortTaken,
        K::FabricNotStarted,
        K::FabricInProgress,
        K::GpuDisagrees,
        K::Degraded,
        K::NvmlMissing,
        K::Unreachable,
        K::SlurmdKill,
    ];
    let tray = dice.below(shape.trays());
    match dice.below(20) {
        0 => Event::PowerLoss(tray),
        1 => Event::RestartSlurmd(tray),
        2 => Event::RestartController,
        3 => Event::KillController,
        4 => Event::Reconfigure,
        5 => Event::CutRack(dice.below(shape.racks)),
        6 | 7 => Event::Cancel,
        8 | 9 => Event::Requeue,
        _ => {
            let fault = Fault::new(dice.pick(&FAULTS));
            Event::Fault { tray, fault, ms: (1_000 + dice.below(FAULT_MS)) as u64 }
        }
    }
}

impl Event {
    /// Its name in the table of what happened.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Submit(ask) => format!("job {}", ask.kind.name()),
            Self::Fault { fault, .. } => fault.kind.name(),
            Self::PowerLoss(_) => "power loss".to_owned(),
            Self::RestartSlurmd(_) => "slurmd restart".to_owned(),
            Self::RestartController => "slurmctld restart".to_owned(),
            Self::KillController => "slurmctld SIGKILL".to_owned(),
            Self::Reconfigure => "reconfigure".to_owned(),
            Self::CutRack(_) => "rack cut in two, apply".to_owned(),
            Self::Cancel => "scancel".to_owned(),
            Self::Requeue => "requeue".to_owned(),
        }
    }
}

impl Event {
    /// Positions of the trays that may go out of service for it.
    #[must_use]
    pub fn touches(&self, shape: Shape) -> Vec<usize> {
        match self {
            Self::Fault { tray, .. } | Self::PowerLoss(tray) | Self::RestartSlurmd(tray) => vec![*tray],
            Self::CutRack(rack) => shape.second_half(*rack).collect(),
            _ => Vec::new(),
        }
    }
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Whole => "of whole trays",
            Self::Segments(_) => "in segments",
            Self::Array(_) => "array",
            Self::Heterogeneous(_) => "heterogeneous",
            Self::Shared => "on a shared tray",
            Self::Gpus => "by GPUs",
            Self::After => "with a dependency",
            Self::Reserved => "in a reservation",
            Self::Limited => "ended by its time limit",
        }
    }
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} ms {:?}", self.at_ms, self.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const SHAPE: Shape = Shape { racks: 4, rack: 18 };

    #[test]
    fn a_plan_is_the_same_again_and_read_back_from_its_text() {
        let plan = random(7, 3, SHAPE, 60_000);
        assert_eq!(plan, random(7, 3, SHAPE, 60_000));
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }

    #[test]
    fn the_second_half_of_a_rack_is_touched_when_it_is_cut() {
        let shape = Shape { racks: 2, rack: 5 };
        assert_eq!(Event::CutRack(1).touches(shape), [8, 9]);
        assert_eq!(Event::PowerLoss(3).touches(shape), [3]);
        assert!(Event::Reconfigure.touches(shape).is_empty());
    }

    #[test]
    fn plans_ask_for_what_the_cluster_has_and_have_everything_in_them_sometime() {
        let mut names = BTreeSet::new();
        for number in 0..200 {
            let plan = random(1, number, SHAPE, 60_000);
            assert!(plan.events.is_sorted_by_key(|timed| timed.at_ms));
            for Timed { at_ms, event } in plan.events {
                assert!(at_ms < 60_000);
                names.insert(event.name());
                match event {
                    Event::Submit(Ask { kind, trays, .. }) => {
                        assert!((1..=SHAPE.trays()).contains(&trays), "{kind:?} {trays}");
                        if let Kind::Segments(segment) = kind {
                            assert!(segment <= SHAPE.rack && trays % segment == 0);
                        }
                    }
                    Event::Fault { tray, .. } | Event::PowerLoss(tray) | Event::RestartSlurmd(tray) => {
                        assert!(tray < SHAPE.trays());
                    }
                    Event::CutRack(rack) => assert!(rack < SHAPE.racks),
                    _ => {}
                }
            }
        }
        // Nine kinds of jobs, 17 faults, and 8 other things.
        assert_eq!(names.len(), 9 + 17 + 8, "{names:#?}");
    }
}
