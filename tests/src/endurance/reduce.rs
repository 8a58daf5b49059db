//! From a plan that breaks a rule to the smallest part of it that still does. Pure but for what the caller plays.
#![forbid(unsafe_code)]

use super::plan::{Plan, Timed};

/// Leaves out what the violation does not need, by ever smaller parts (delta debugging, Zeller 1999). `breaks` plays a plan
/// and is asked at most `tries` times.
pub(super) fn smallest(plan: &Plan, tries: usize, mut breaks: impl FnMut(&Plan) -> bool) -> Plan {
    let mut events = plan.events.clone();
    let mut parts = 2;
    let mut left = tries;
    while parts <= events.len() && left > 0 {
        let size = events.len().div_ceil(parts);
        let without = |at: usize| -> Vec<Timed> {
            let end = (at + size).min(events.len());
            [&events[..at], &events[end..]].concat()
        };
        let mut smaller = None;
        for at in (0..events.len()).step_by(size) {
            if left == 0 {
                break;
            }
            left -= 1;
            let candidate = Plan { events: without(at), ..plan.clone() };
            if breaks(&candidate) {
                smaller = Some(candidate.events);
                break;
            }
        }
        match smaller {
            Some(found) => {
                events = found;
                parts = (parts - 1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(events.len()),
        }
    }
    Plan { events, ..plan.clone() }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Event, Shape, random};
    use super::*;

    fn restarts(plan: &Plan) -> usize {
        plan.events.iter().filter(|timed| timed.event == Event::RestartController).count()
    }

    fn with_two_restarts() -> Plan {
        let mut plan = random(1, 1, Shape { racks: 2, rack: 4 }, 1000);
        plan.events.retain(|timed| timed.event != Event::RestartController);
        for at in [3, 20] {
            plan.events.insert(at, Timed { at_ms: plan.events[at].at_ms, event: Event::RestartController });
        }
        plan
    }

    #[test]
    fn what_is_needed_stays_and_nothing_else() {
        let smallest = smallest(&with_two_restarts(), 1000, |plan| restarts(plan) == 2);
        assert_eq!(smallest.events.len(), 2);
        assert_eq!(restarts(&smallest), 2);
    }

    #[test]
    fn with_few_tries_it_still_breaks() {
        let mut asked = 0;
        let plan = smallest(&with_two_restarts(), 5, |plan| {
            asked += 1;
            restarts(plan) == 2
        });
        assert!(asked <= 5 && restarts(&plan) == 2);
    }
}
