//! What happened how often, as a table.
#![forbid(unsafe_code)]

use super::plan::{Event, Plan};
use std::collections::BTreeMap;
use std::fmt;

/// Counts over all rounds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// By name of the event.
    happened: BTreeMap<String, usize>,
    /// Jobs by the state in which they were last seen; tasks of arrays and components are counted one by one. One that was not seen to
    /// end was forgotten by a slurmctld that was killed, or by one that forgets ended jobs soon.
    seen: BTreeMap<String, usize>,
    /// How many of the events were no jobs.
    deeds: usize,
}

impl Report {
    /// Adds a round: its plan, and the states in which its jobs were last seen.
    pub(super) fn add<'a>(&mut self, plan: &Plan, seen: impl IntoIterator<Item = &'a str>) {
        for timed in &plan.events {
            *self.happened.entry(timed.event.name()).or_default() += 1;
            self.deeds += usize::from(!matches!(timed.event, Event::Submit(_)));
        }
        for state in seen {
            *self.seen.entry(state.to_owned()).or_default() += 1;
        }
    }

    /// How often something that is not a job happened.
    pub(super) fn deeds(&self) -> usize {
        self.deeds
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.happened.keys().map(String::len).max().unwrap_or(0);
        for (name, count) in &self.happened {
            writeln!(f, "{name:<width$} {count:>6}")?;
        }
        let seen: Vec<String> = self.seen.iter().map(|(state, count)| format!("{count} {state}")).collect();
        writeln!(f, "jobs as last seen: {}", seen.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Ask, Kind, Shape, Timed};
    use super::*;

    #[test]
    fn the_table_counts() {
        let shape = Shape { racks: 2, rack: 5 };
        let ask = Ask { kind: Kind::Shared, trays: 1, seconds: 1 };
        let events = [Event::Submit(ask.clone()), Event::CutRack(1), Event::Submit(ask)];
        let events = events.map(|event| Timed { at_ms: 0, event }).to_vec();
        let mut report = Report::default();
        report.add(&Plan { shape, events }, ["COMPLETED", "FAILED", "COMPLETED"]);
        assert_eq!(
            report.to_string(),
            "job on a shared tray        2\nrack cut in two, apply      1\njobs as last seen: 2 COMPLETED, 1 FAILED\n"
        );
        assert_eq!(report.deeds(), 1);
    }
}
