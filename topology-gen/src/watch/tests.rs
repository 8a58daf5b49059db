use super::*;
use proptest::prelude::*;

const POLICY: Policy = Policy {
    stable: 3,
    settle: Duration::from_secs(100),
    per_hour: 2,
    lost: 2,
    back_off: Duration::from_secs(60),
};

fn nodes(text: &str) -> BTreeSet<NodeName> {
    HostList::parse(text).unwrap().into_iter().collect()
}

/// Four trays in force, those of `speaking` speak, and `change` would be made.
fn seen(speaking: &str, change: Option<&str>) -> Seen {
    Seen {
        speaking: nodes(speaking),
        in_force: nodes("n[1-4]"),
        change: change.map(str::to_owned),
        held: false,
    }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn told(decision: &Decision) -> String {
    match decision {
        Decision::Act => "act".to_owned(),
        Decision::Rest(rest) => rest.to_string(),
    }
}

#[test]
fn a_change_must_be_seen_often_and_long_enough_in_a_row() {
    let mut state = State::new(POLICY);
    let mut look = |change: Option<&str>, time| told(&state.look(&seen("n[1-4]", change), at(time)));
    let settling = |seen| format!("a change was seen {seen} of 3 times; it must be stable");
    assert_eq!(look(None, 0), "the topology in force is what the trays say");
    assert_eq!(look(Some("x"), 60), settling(1));
    assert_eq!(look(Some("y"), 120), settling(1));
    assert_eq!(look(Some("y"), 180), settling(2));
    assert_eq!(look(Some("y"), 215), settling(3), "not long enough");
    assert_eq!(look(Some("y"), 220), "act");
    assert_eq!(look(None, 300), "the topology in force is what the trays say");
    assert_eq!(look(Some("y"), 360), settling(1));
    assert_eq!(told(&state.blind("no answer".into())), "cannot see the trays: no answer");
    assert_eq!(told(&state.look(&seen("n[1-4]", Some("y")), at(500))), settling(1));
}

#[test]
fn many_trays_lost_at_once_wait_for_a_human() {
    let mut state = State::new(Policy { stable: 1, settle: Duration::ZERO, ..POLICY });
    let look =
        |state: &mut State, speaking: &str, time| told(&state.look(&seen(speaking, Some("x")), at(time)));
    let lost =
        "2 trays lost at once: n[3-4]; nothing is changed until they are back, or until somebody has looked";
    // Right after a start what the file has is expected to speak.
    assert_eq!(look(&mut state, "n[1-2]", 0), "2 trays missing: n[3-4]; looking again");
    assert_eq!(look(&mut state, "n[1-2]", 60), lost);
    assert_eq!(look(&mut state, "n[1-2]", 100_000), lost, "time heals nothing");
    assert_eq!(look(&mut state, "n[1-3]", 100_060), "act", "one is back");
    let two = "2 trays missing: n[2-3]; looking again";
    assert_eq!(look(&mut state, "n1", 100_120), two, "one that is away for a day is not lost at once");
    state.go_on();
    assert_eq!(look(&mut state, "n1", 100_180), "act");
    assert_eq!(look(&mut state, "n5", 100_240), "act", "those that somebody has looked at do not count");
    assert_eq!(state.silent().to_string(), "n[1-4]");
}

#[test]
fn trays_lost_one_by_one_are_daily_life() {
    let mut state = State::new(Policy { stable: 1, settle: Duration::ZERO, ..POLICY });
    for (hour, speaking) in [(0, "n[1-4]"), (1, "n[1-3]"), (3, "n[1-2]"), (5, "n1")] {
        let decision = state.look(&seen(speaking, Some("x")), at(hour * 3600));
        assert_eq!(decision, Decision::Act, "hour {hour}");
    }
    assert_eq!(state.silent().to_string(), "n[2-4]");
}

#[test]
fn trays_that_a_human_took_out_of_the_topology_are_not_missed() {
    let mut state = State::new(POLICY);
    assert!(matches!(state.look(&seen("n[1-2]", None), at(0)), Decision::Rest(Rest::Missing(_))));
    let by_hand = Seen { in_force: nodes("n[1-2]"), ..seen("n[1-2]", None) };
    assert_eq!(state.look(&by_hand, at(60)), Decision::Rest(Rest::InForce));
}

#[test]
fn what_was_tried_in_vain_is_tried_again_later_and_later() {
    let mut state = State::new(Policy { stable: 1, settle: Duration::ZERO, per_hour: 100, ..POLICY });
    let mut tries = Vec::new();
    for time in (0..20_000).step_by(20) {
        if state.look(&seen("n[1-4]", Some("x")), at(time)) == Decision::Act {
            tries.push(time);
            state.ended(End::Refused, at(time));
        }
    }
    assert_eq!(tries, [0, 60, 180, 420, 900, 1860, 3780, 7380, 10_980, 14_580, 18_180]);
    // Another change is not held back by it, nor is this one after a human has looked.
    assert_eq!(state.look(&seen("n[1-4]", Some("y")), at(20_000)), Decision::Act);
    assert!(matches!(
        state.look(&seen("n[1-4]", Some("x")), at(20_000)),
        Decision::Rest(Rest::BackOff { .. })
    ));
    state.go_on();
    assert_eq!(state.look(&seen("n[1-4]", Some("x")), at(20_000)), Decision::Act);
    state.ended(End::Busy, at(20_000));
    assert_eq!(state.look(&seen("n[1-4]", Some("x")), at(20_001)), Decision::Act);
}

#[test]
fn refused_trays_hold_the_change_back() {
    let mut state = State::new(POLICY);
    let held = Seen { held: true, ..seen("n[1-4]", Some("x")) };
    assert_eq!(state.look(&held, at(0)), Decision::Rest(Rest::Held));
}

/// One thing that happens.
#[derive(Debug, Clone)]
enum Event {
    Look { speaking: u8, change: u8, held: bool },
    Blind,
    GoOn,
}

fn event() -> impl Strategy<Value = (u64, Event, End)> {
    let look = (0u8..16, 0u8..3, proptest::bool::weighted(0.05))
        .prop_map(|(speaking, change, held)| Event::Look { speaking, change, held });
    let all_well = (0u8..3).prop_map(|change| Event::Look { speaking: 15, change, held: false });
    let event = prop_oneof![2 => look, 8 => all_well, 1 => Just(Event::Blind), 1 => Just(Event::GoOn)];
    let end = prop_oneof![
        4 => Just(End::Applied),
        1 => Just(End::RolledBack),
        1 => Just(End::Refused),
        1 => Just(End::Busy),
        1 => Just(End::Failed),
    ];
    (0u64..400, event, end)
}

proptest! {
    #[test]
    fn it_never_acts_too_soon_too_often_or_on_a_great_loss(events in proptest::collection::vec(event(), 0..120)) {
        let mut state = State::new(POLICY);
        let mut now = at(0);
        // The looks in a row with the same change, newest last, and the times at which the controller was told.
        let mut row: Vec<(Duration, u8)> = Vec::new();
        let mut told: Vec<Duration> = Vec::new();
        for (step, event, end) in events {
            now += at(step);
            let (speaking, change, held) = match event {
                Event::Look { speaking, change, held } => (speaking, change, held),
                Event::Blind => {
                    state.blind("x".into());
                    row.clear();
                    continue;
                }
                Event::GoOn => {
                    state.go_on();
                    continue;
                }
            };
            let names: Vec<String> = (0..4).filter(|bit| speaking & (1 << bit) != 0).map(|bit| format!("n{}", bit + 1)).collect();
            let what = Seen { held, ..seen(&names.join(","), (change > 0).then_some(["", "x", "y"][usize::from(change)])) };
            if row.last().is_some_and(|(_, last)| *last != change) {
                row.clear();
            }
            row.push((now, change));
            match state.look(&what, now) {
                Decision::Rest(Rest::InForce) => prop_assert_eq!(change, 0),
                Decision::Rest(Rest::Lost(lost) | Rest::Missing(lost)) => {
                    prop_assert!(lost.len() >= POLICY.lost);
                    row.clear();
                }
                Decision::Rest(Rest::Held) => row.clear(),
                Decision::Rest(_) => {}
                Decision::Act => {
                    prop_assert!(change > 0 && !held);
                    prop_assert!(row.len() >= 3 && now - row[0].0 >= POLICY.settle, "{:?}", row);
                    let hour = told.iter().filter(|at| now - **at < HOUR).count();
                    prop_assert!(hour < POLICY.per_hour, "{:?} at {:?}", told, now);
                    if matches!(end, End::Applied | End::RolledBack | End::Failed) {
                        told.push(now);
                    }
                    if end == End::Applied {
                        row.clear();
                    }
                    state.ended(end, now);
                }
            }
        }
    }

    #[test]
    fn a_stable_change_is_made_in_the_end(step in 1u64..300, others in proptest::collection::vec(event(), 0..30)) {
        let mut state = State::new(POLICY);
        let mut now = at(0);
        for (step, event, end) in others {
            now += at(step);
            if let Event::Look { change, .. } = event {
                let what = seen("n[1-4]", (change > 0).then_some(["", "x", "y"][usize::from(change)]));
                if state.look(&what, now) == Decision::Act {
                    state.ended(end, now);
                }
            }
        }
        let end = now + at(4 * 3600);
        let mut acted = false;
        while now < end && !acted {
            now += at(step);
            acted = state.look(&seen("n[1-4]", Some("z")), now) == Decision::Act;
        }
        prop_assert!(acted);
    }
}
