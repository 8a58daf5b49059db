//! The table of faults and outcomes: every kind of fault in every phase on either side, and everything else that can happen
//! to a job. Its rows, and its print.
#![forbid(unsafe_code)]

use super::judge::{Counts, Seen, Violation};
use super::plan::{Deed, Event, Phase, Plan};
use crate::fault::{Fault, FaultKind};
use clap::ValueEnum as _;
use std::fmt::Write as _;

/// A row.
#[derive(Debug, Clone)]
pub struct Row {
    /// What happens, for people.
    pub what: String,
    /// When.
    pub when: String,
    /// To whom.
    pub whom: String,
    /// What is played.
    pub plan: Plan,
}

/// What the hooks do on a healthy tray, in the order in which they do it.
#[derive(Debug, Clone, Default)]
pub struct Steps {
    /// Steps of a prolog.
    pub prolog: Vec<String>,
    /// Steps of an epilog.
    pub epilog: Vec<String>,
}

const PHASES: [Phase; 4] = [Phase::Before, Phase::Forming, Phase::Running, Phase::Ending];
/// Positions of the tray to which it happens: the one on which the script runs, and another one.
const SIDES: [usize; 2] = [0, 1];

/// Trays of a job over two racks of 18.
const IN_TWO: usize = 20;

/// All rows that need three trays and one to spare.
pub fn rows(steps: &Steps) -> Vec<Row> {
    let mut rows = Vec::new();
    for kind in FaultKind::value_variants() {
        for phase in PHASES {
            rows.extend(SIDES.into_iter().filter_map(|side| fault(*kind, phase, side)));
        }
    }
    for (position, words) in steps.prolog.iter().enumerate() {
        rows.push(killed("prolog", position, words, Deed::KillProlog(words.clone())));
    }
    for (position, words) in steps.epilog.iter().enumerate() {
        rows.push(killed("epilog", position, words, Deed::KillEpilog(words.clone())));
    }
    for phase in [Phase::Forming, Phase::Running, Phase::Ending] {
        for side in SIDES {
            rows.push(single(phase, side, Deed::Reboot));
            rows.push(single(phase, side, Deed::RestartSlurmd));
        }
        rows.push(single(phase, 0, Deed::Cancel));
    }
    rows.push(single(Phase::Running, 0, Deed::Requeue));
    rows.push(single(Phase::Forming, 0, Deed::Requeue));
    rows.extend(SIDES.map(|side| single(Phase::Before, side, Deed::Late(2_000))));
    let both = |plan: Plan, what: &str| Row {
        what: what.to_owned(),
        when: "back to back".to_owned(),
        whom: "overlapping trays".to_owned(),
        plan: Plan { crowded: true, ..plan },
    };
    rows.push(both(Plan::quiet(3), "two jobs"));
    rows.push(both(
        Plan::one(Phase::Running, 1, Deed::Fault(Fault::new(FaultKind::ImexDie))),
        "two jobs, a daemon dies",
    ));
    rows
}

/// Rows that need whole racks.
pub fn wide_rows() -> Vec<Row> {
    let skewed = |trays: usize, deed: fn(u64) -> Deed, what: &str| Row {
        what: what.to_owned(),
        when: "before start".to_owned(),
        whom: format!("{trays} trays"),
        plan: Plan {
            trays,
            // Every tray another time, from none to three seconds.
            events: (0..trays)
                .map(|tray| Event { phase: Phase::Before, tray, deed: deed((tray as u64 * 1_187) % 3_000) })
                .collect(),
            crowded: false,
        },
    };
    let in_two = |tray: usize, phase, deed: Deed, whom: &str| Row {
        what: deed.to_string(),
        when: Phase::to_string(&phase),
        whom: format!("{whom}; {IN_TWO} trays in two NVLink partitions"),
        plan: Plan { trays: IN_TWO, events: vec![Event { phase, tray, deed }], crowded: false },
    };
    let fault = |kind| Deed::Fault(Fault { kind, ms: (kind == FaultKind::ImexSlowStart).then_some(3_000) });
    let (first, other) = (18, IN_TWO - 1);
    let slow = |ms| Deed::Fault(Fault { kind: FaultKind::ImexSlowStart, ms: Some(ms) });
    vec![
        skewed(18, slow, "daemons start skewed by 0 to 3 s"),
        skewed(18, Deed::Late, "prologs start skewed by 0 to 3 s"),
        skewed(36, Deed::Late, "prologs start skewed by 0 to 3 s"),
        in_two(other, Phase::Before, fault(FaultKind::ImexSlowStart), "member of the other partition"),
        in_two(other, Phase::Before, fault(FaultKind::ImexRefuse), "member of the other partition"),
        in_two(other, Phase::Before, fault(FaultKind::Unreachable), "member of the other partition"),
        in_two(first, Phase::Before, Deed::Late(3_000), "first tray of the other partition"),
        in_two(first, Phase::Forming, fault(FaultKind::ImexDie), "first tray of the other partition"),
        in_two(1, Phase::Before, fault(FaultKind::ImexHang), "member of the script's partition"),
    ]
}

/// The row of a fault, where there can be one.
fn fault(kind: FaultKind, phase: Phase, side: usize) -> Option<Row> {
    // While the daemon runs, it holds its port itself.
    if kind == FaultKind::PortTaken && phase != Phase::Before {
        return None;
    }
    let ms = (kind == FaultKind::ImexSlowStart).then_some(2_000);
    Some(single(phase, side, Deed::Fault(Fault { kind, ms })))
}

fn single(phase: Phase, side: usize, deed: Deed) -> Row {
    let whom = match deed {
        Deed::Cancel | Deed::Requeue => "the job",
        _ if side == 0 => "batch host",
        _ => "member",
    };
    Row {
        what: deed.to_string(),
        when: phase.to_string(),
        whom: whom.to_owned(),
        plan: Plan::one(phase, side, deed),
    }
}

fn killed(hook: &str, position: usize, words: &str, deed: Deed) -> Row {
    // In turn on the batch host and on the others.
    let side = position % 3;
    Row {
        what: format!("SIGKILL of the {hook}"),
        when: format!("after step {}: {words}", position + 1),
        whom: if side == 0 { "batch host" } else { "member" }.to_owned(),
        plan: Plan::one(Phase::Before, side, deed),
    }
}

/// The rows as a Markdown table, with a sum.
pub fn print(rows: &[(Row, Seen, Vec<Violation>)]) -> String {
    let mut text = String::from(
        "| # | what | when | whom | became of the job | out of service | half-formed | healthy drained | faulty not drained | \
         left | wrong members | stuck |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut sums = [0; 6];
    for (number, (row, seen, violations)) in (1..).zip(rows) {
        let columns = Counts::of(violations).columns();
        sums.iter_mut().zip(columns).for_each(|(sum, column)| *sum += column);
        let hit = |position: usize| row.plan.events.iter().any(|event| event.tray == position);
        let positions = seen.out.keys().filter_map(|tray| seen.trays.iter().position(|known| known == tray));
        let out: Vec<&str> =
            positions.map(|position| if hit(position) { "the same tray" } else { "another tray" }).collect();
        let out = if out.is_empty() { "none".to_owned() } else { out.join(", ") };
        let _ = writeln!(
            text,
            "| {number} | {} | {} | {} | {} | {out} | {} |",
            row.what,
            row.when.replace('|', "/"),
            row.whom,
            seen.outcome,
            columns.map(|column| column.to_string()).join(" | ")
        );
    }
    let _ = writeln!(
        text,
        "| | **sum of {}** | | | | | {} |",
        rows.len(),
        sums.map(|sum| format!("**{sum}**")).join(" | ")
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_of_fault_has_a_row_for_each_phase_and_side_that_can_be() {
        let rows = rows(&Steps::default());
        for kind in FaultKind::value_variants() {
            let of_kind: BTreeSet<_> = rows
                .iter()
                .filter(|row| !row.plan.crowded)
                .flat_map(|row| &row.plan.events)
                .filter(|event| matches!(&event.deed, Deed::Fault(fault) if fault.kind == *kind))
                .map(|event| (event.phase, event.tray))
                .collect();
            let wanted = if *kind == FaultKind::PortTaken { 2 } else { 8 };
            assert_eq!(of_kind.len(), wanted, "{kind:?}");
        }
    }

    #[test]
    fn every_step_has_a_row() {
        let steps = Steps { prolog: vec!["a".to_owned(), "b".to_owned()], epilog: vec!["c".to_owned()] };
        let text: Vec<String> =
            rows(&steps).into_iter().map(|row| format!("{} {}", row.what, row.when)).collect();
        for wanted in ["SIGKILL of the prolog after step 2: b", "SIGKILL of the epilog after step 1: c"] {
            assert!(text.iter().any(|line| line == wanted), "{wanted}");
        }
    }

    #[test]
    fn a_violation_shows_in_its_column_and_in_the_sum() {
        let row = single(Phase::Before, 1, Deed::Fault(Fault::new(FaultKind::ImexHang)));
        let seen = Seen {
            outcome: "ran".to_owned(),
            trays: vec!["a".to_owned(), "b".to_owned()],
            ..Seen::default()
        };
        let text = print(&[(row, seen, vec![Violation::FaultyInService("b".to_owned())])]);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines[0],
            "| 1 | imex-hang | before start | member | ran | none | 0 | 0 | 1 | 0 | 0 | 0 |"
        );
        assert_eq!(lines[1], "| | **sum of 1** | | | | | **0** | **0** | **1** | **0** | **0** | **0** |");
    }
}
