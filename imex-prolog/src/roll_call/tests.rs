use super::*;
use crate::record::Member;
use crate::record::tests::sample;
use fabric::names::NodeName;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU16, Ordering};

/// Here nobody needs to be root.
const ANY: RangeInclusive<u16> = 20_000..=60_000;
static PORTS: AtomicU16 = AtomicU16::new(0);

/// A port that no other test of this run uses, and hardly anybody else.
fn port() -> u16 {
    let base = 10_000 + u16::try_from(std::process::id() % 900).unwrap() * 8;
    base + PORTS.fetch_add(1, Ordering::Relaxed) % 8
}

/// Member `own` of `count`, all on the loopback network.
fn record(own: usize, count: usize) -> Record {
    let member = |index: usize| Member {
        node: NodeName::new(format!("h{index}")).unwrap(),
        address: format!("127.0.0.{}", index + 1).parse().unwrap(),
    };
    Record { members: (0..count).map(member).collect(), own_index: own, ..sample() }
}

fn part(own: usize, count: usize, port: u16) -> RollCall {
    RollCall::new(&record(own, count), port, ANY)
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_millis(20))
}

/// Lets all take steps until all agree, or for `rounds` rounds; who agrees.
fn rounds(parts: &mut [RollCall], rounds: usize) -> Vec<bool> {
    let mut agreed = vec![false; parts.len()];
    for _ in 0..rounds {
        for (part, agreed) in parts.iter_mut().zip(&mut agreed) {
            *agreed = *agreed || part.step(soon()).unwrap();
        }
        if agreed.iter().all(|agreed| *agreed) {
            break;
        }
    }
    agreed
}

#[test]
fn one_alone_agrees_with_itself() {
    assert!(part(0, 1, 1).step(soon()).unwrap());
}

#[test]
fn all_agree_when_all_are_there_in_any_order() {
    for first in 0..3 {
        let port = port();
        let mut parts: Vec<RollCall> = (0..3).map(|own| part((own + first) % 3, 3, port)).collect();
        assert_eq!(rounds(&mut parts, 100), [true; 3], "{first}");
    }
}

#[test]
fn the_last_words_of_a_caller_that_has_gone_count() {
    let port = port();
    let mut caller = part(0, 2, port);
    caller.open().unwrap();
    let mut two = part(1, 2, port);
    two.step(soon()).unwrap();
    let deadline = Deadline::after(Duration::from_secs(10));
    while !caller.step(soon()).unwrap() {
        assert!(!deadline.has_passed());
    }
    drop(caller);
    assert!(two.step(soon()).unwrap());
}

#[test]
fn nobody_agrees_while_one_is_missing_and_all_know_which() {
    let port = port();
    let mut parts = [part(0, 3, port), part(1, 3, port)];
    let deadline = Deadline::after(TELL_AFTER * 3);
    while parts[1].missing().first().is_none_or(|(index, _)| *index != 2) && !deadline.has_passed() {
        assert_eq!(rounds(&mut parts, 2), [false, false]);
    }
    for part in &parts {
        let missing: Vec<usize> = part.missing().into_iter().map(|(index, _)| index).collect();
        assert_eq!(missing, [2]);
    }
    // It comes at last.
    let [one, two] = parts;
    assert_eq!(rounds(&mut [one, two, part(2, 3, port)], 100), [true; 3]);
}

#[test]
fn one_that_was_there_and_died_is_missing_again() {
    let port = port();
    let mut caller = part(0, 3, port);
    let mut two = part(1, 3, port);
    for _ in 0..5 {
        two.step(soon()).unwrap();
        caller.step(soon()).unwrap();
    }
    assert_eq!(caller.missing().len(), 1);
    drop(two);
    let mut three = part(2, 3, port);
    for _ in 0..10 {
        assert!(!three.step(soon()).unwrap() && !caller.step(soon()).unwrap());
    }
    assert_eq!(caller.missing().first().map(|(index, _)| *index), Some(1));
}

#[test]
fn another_run_another_list_and_another_position_do_not_count() {
    let changes: [fn(&mut Record); 4] = [
        |record| record.restarts = Some(9),
        |record| record.job = "9".parse().unwrap(),
        |record| record.members[1].node = NodeName::new("h7").unwrap(),
        // Says that it is member 1 from the address of member 2.
        |record| record.members.swap(1, 2),
    ];
    for change in changes {
        let port = port();
        let mut other = record(1, 3);
        change(&mut other);
        let mut parts = [part(0, 3, port), RollCall::new(&other, port, ANY), part(2, 3, port)];
        parts[0].open().unwrap();
        assert_eq!(rounds(&mut parts, 8), [false; 3], "{other:?}");
        let missing = parts[0].missing();
        assert_eq!(missing.first().map(|(index, _)| *index), Some(1), "{missing:?}");
    }
}

#[test]
fn a_stranger_and_one_who_talks_too_much_are_not_listened_to() {
    let port = port();
    let mut caller = part(0, 2, port);
    caller.open().unwrap();
    // Right words, right address, but not one of root's ports.
    let words = format!("{} 1 complete\n", caller.run);
    caller.from = ROOTS_PORTS;
    let mut stranger = net::dial([127, 0, 0, 2].into(), ([127, 0, 0, 1], port).into(), &ANY, soon()).unwrap();
    stranger.write_all(words.as_bytes()).unwrap();
    assert!(!caller.step(soon()).unwrap() && !caller.step(soon()).unwrap());
    caller.from = ANY;
    let mut talker: TcpStream =
        net::dial([127, 0, 0, 2].into(), ([127, 0, 0, 1], port).into(), &ANY, soon()).unwrap();
    talker.write_all(&vec![b'x'; 5000]).unwrap();
    assert!(!caller.step(soon()).unwrap() && !caller.step(soon()).unwrap());
    assert_eq!(rounds(&mut [caller, part(1, 2, port)], 100), [true; 2]);
}

#[test]
fn a_port_that_is_taken_is_waited_for() {
    let port = port();
    let holder = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut parts = [part(0, 2, port), part(1, 2, port)];
    parts[0].open().unwrap();
    assert!(!parts[0].step(soon()).unwrap());
    assert_eq!(parts[0].missing(), [(0, format!("port {port} is held by another program"))]);
    drop(holder);
    assert_eq!(rounds(&mut parts, 100), [true; 2]);
}
