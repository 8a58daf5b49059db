//! What happens when: the event queue.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::Seconds;

/// What can happen. At one moment, events come in the order of this list: ends before outages before arrivals before the
/// scheduling cycle, which so sees all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A run of a job ends: the job, and its how manieth run it is.
    End(usize, u32),
    /// A tray goes out of service.
    Down(u32),
    /// A tray is back.
    Up(u32),
    /// A job is submitted.
    Submit(usize),
    /// The scheduler looks at the queue.
    Cycle,
}

/// Events in the order of time.
#[derive(Debug, Default)]
pub(crate) struct Agenda(BinaryHeap<Reverse<(Seconds, Event)>>);

impl Agenda {
    pub(crate) fn add(&mut self, at: Seconds, event: Event) {
        self.0.push(Reverse((at, event)));
    }

    /// The next event and its moment.
    pub(crate) fn next(&mut self) -> Option<(Seconds, Event)> {
        self.0.pop().map(|Reverse(next)| next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_kind() {
        let mut agenda = Agenda::default();
        for (at, event) in [
            (5, Event::Cycle),
            (5, Event::Submit(1)),
            (9, Event::End(1, 0)),
            (5, Event::Up(3)),
            (5, Event::Submit(0)),
            (5, Event::End(7, 0)),
            (5, Event::Down(3)),
        ] {
            agenda.add(at, event);
        }
        let order: Vec<_> = std::iter::from_fn(|| agenda.next()).collect();
        assert_eq!(
            order,
            [
                (5, Event::End(7, 0)),
                (5, Event::Down(3)),
                (5, Event::Up(3)),
                (5, Event::Submit(0)),
                (5, Event::Submit(1)),
                (5, Event::Cycle),
                (9, Event::End(1, 0)),
            ]
        );
    }
}
