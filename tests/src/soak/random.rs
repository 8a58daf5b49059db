//! Random jobs with random faults. The seed and the number of a job give its plan, whatever the others do.
#![forbid(unsafe_code)]

use super::plan::{Deed, Event, Phase, Plan};
use super::table::Steps;
use crate::dice::Dice;
use crate::fault::{Fault, FaultKind};
use clap::ValueEnum as _;

/// Most trays of a job on its share of the trays; the share has one more.
pub const TRAYS_MAX: usize = 5;

/// The plan of the job with this number; there must be steps of both hooks.
pub fn plan(seed: u64, number: u32, steps: &Steps) -> Plan {
    let mut dice = Dice::new(seed, number);
    let trays = 1 + dice.below(TRAYS_MAX);
    let mut plan = Plan::quiet(trays);
    let count = dice.pick(&[0, 1, 1, 1, 2, 2]);
    for _ in 0..count {
        let tray = dice.below(trays);
        let (phase, deed) = deed(&mut dice, steps);
        plan.events.push(Event { phase, tray, deed });
    }
    let touched = |position: usize| plan.events.iter().any(|event| event.tray == position);
    // To be seen forming, a domain needs a tray that may be slow.
    if (0..trays).all(touched) {
        plan.events.retain(|event| event.phase != Phase::Forming);
    }
    plan.crowded = trays >= 2 && count == 0 && dice.below(2) == 0;
    plan
}

fn deed(dice: &mut Dice, steps: &Steps) -> (Phase, Deed) {
    let any = [Phase::Before, Phase::Forming, Phase::Running, Phase::Ending];
    let later = [Phase::Forming, Phase::Running, Phase::Ending];
    match dice.below(12) {
        0 => (Phase::Before, Deed::KillProlog(dice.pick(&steps.prolog))),
        1 => (Phase::Before, Deed::KillEpilog(dice.pick(&steps.epilog))),
        2 => (dice.pick(&later), Deed::Cancel),
        3 => (Phase::Running, Deed::Requeue),
        4 => (dice.pick(&later), Deed::Reboot),
        5 => (dice.pick(&later), Deed::RestartSlurmd),
        6 => (Phase::Before, Deed::Late(dice.below(3_000) as u64)),
        _ => {
            let kind = dice.pick(FaultKind::value_variants());
            let phase = if kind == FaultKind::PortTaken { Phase::Before } else { dice.pick(&any) };
            let slow = matches!(kind, FaultKind::ImexSlowStart | FaultKind::ImexSlowStop);
            (phase, Deed::Fault(Fault { kind, ms: slow.then(|| dice.below(3_000) as u64) }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps() -> Steps {
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect();
        Steps { prolog: names(&["a", "b"]), epilog: names(&["c"]) }
    }

    #[test]
    fn a_seed_gives_the_same_jobs_and_another_one_others() {
        let jobs = |seed: u64| -> Vec<Plan> { (0..50).map(|number| plan(seed, number, &steps())).collect() };
        assert_eq!(jobs(1), jobs(1));
        assert_ne!(jobs(1), jobs(2));
    }

    #[test]
    fn plans_can_be_played_and_show_everything() {
        let plans: Vec<Plan> = (0..2_000).map(|number| plan(7, number, &steps())).collect();
        for plan in &plans {
            assert!((1..=TRAYS_MAX).contains(&plan.trays));
            assert!(plan.events.iter().all(|event| event.tray < plan.trays), "{plan:?}");
            let free = (0..plan.trays).any(|tray| plan.events.iter().all(|event| event.tray != tray));
            assert!(free || plan.at(Phase::Forming).next().is_none(), "{plan:?}");
        }
        let all = |wanted: fn(&Plan) -> bool| plans.iter().filter(|plan| wanted(plan)).count();
        assert!(all(|plan| plan.crowded) > 50 && all(|plan| plan.events.len() == 2) > 200);
        for kind in FaultKind::value_variants() {
            let has = |event: &Event| matches!(&event.deed, Deed::Fault(fault) if fault.kind == *kind);
            assert!(plans.iter().any(|plan| plan.events.iter().any(has)), "{kind:?}");
        }
    }
}
