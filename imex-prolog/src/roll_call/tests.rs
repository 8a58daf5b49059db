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
    RollCall::new(&record(own, count), &[], port, ANY)
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
    while parts[1].missing().members.first().is_none_or(|(index, _)| *index != 2) && !deadline.has_passed() {
        assert_eq!(rounds(&mut parts, 2), [false, false]);
    }
    for part in &parts {
        let missing: Vec<usize> = part.missing().members.into_iter().map(|(index, _)| index).collect();
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
    assert_eq!(caller.missing().members.len(), 1);
    drop(two);
    let mut three = part(2, 3, port);
    for _ in 0..10 {
        assert!(!three.step(soon()).unwrap() && !caller.step(soon()).unwrap());
    }
    assert_eq!(caller.missing().members.first().map(|(index, _)| *index), Some(1));
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
        let mut parts = [part(0, 3, port), RollCall::new(&other, &[], port, ANY), part(2, 3, port)];
        parts[0].open().unwrap();
        assert_eq!(rounds(&mut parts, 8), [false; 3], "{other:?}");
        let missing = parts[0].missing().members;
        assert_eq!(missing.first().map(|(index, _)| *index), Some(1), "{missing:?}");
    }
}

#[test]
fn a_stranger_and_one_who_talks_too_much_are_not_listened_to() {
    let port = port();
    let mut caller = part(0, 2, port);
    caller.open().unwrap();
    // Right words, right address, but not one of root's ports.
    let words = format!("{}\n", member_words(&record(0, 2), 1));
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
    assert_eq!(parts[0].missing().members, [(0, format!("port {port} is held by another program"))]);
    drop(holder);
    assert_eq!(rounds(&mut parts, 100), [true; 2]);
}

/// Trays of a job in each of its partitions, and all their parts, by partition.
fn job(sizes: &[usize], port: u16) -> Vec<Vec<RollCall>> {
    let block = |index: usize| BlockName::new(format!("b{index}")).unwrap();
    let address = |partition: usize, tray: usize| format!("127.0.{partition}.{}", tray + 1).parse().unwrap();
    let member = |partition: usize, tray: usize| Member {
        node: NodeName::new(format!("p{partition}n{tray}")).unwrap(),
        address: address(partition, tray),
    };
    let partition = |(index, trays): (usize, &usize)| Partition {
        block: block(index),
        first: member(index, 0),
        trays: *trays,
    };
    let partitions: Vec<Partition> = sizes.iter().enumerate().map(partition).collect();
    let part = |index: usize, count: usize, own: usize| {
        let members = (0..count).map(|tray| member(index, tray)).collect();
        let record = Record { members, own_index: own, block: block(index), ..sample() };
        RollCall::new(&record, if own == 0 { &partitions } else { &[] }, port, ANY)
    };
    let all = sizes.iter().enumerate();
    all.map(|(index, count)| (0..*count).map(|own| part(index, *count, own)).collect()).collect()
}

#[test]
fn all_partitions_of_a_job_agree_in_any_order() {
    for sizes in [vec![2, 1], vec![1, 3], vec![1, 1, 1], vec![2, 2, 3]] {
        let mut parts: Vec<RollCall> = job(&sizes, port()).into_iter().flatten().collect();
        parts.reverse();
        assert_eq!(rounds(&mut parts, 200), vec![true; parts.len()], "{sizes:?}");
    }
}

#[test]
fn nobody_agrees_while_a_member_of_another_partition_is_missing() {
    let mut parts = job(&[2, 2, 2], port());
    // The last member of the second partition.
    let late = parts[1].pop().unwrap();
    let mut parts: Vec<RollCall> = parts.into_iter().flatten().collect();
    let deadline = Deadline::after(TELL_AFTER * 4);
    // Both trays of the third partition know which one it is, and so does the member of the first.
    let knows = |part: &RollCall| {
        part.missing().partitions.iter().map(|(block, _)| block.as_str()).collect::<Vec<_>>() == ["b1"]
    };
    while ![0, 1, 3, 4].iter().all(|index| knows(&parts[*index])) {
        assert_eq!(rounds(&mut parts, 1), [false; 5]);
        let all: Vec<Absent> = parts.iter().map(RollCall::missing).collect();
        assert!(!deadline.has_passed(), "{all:?}");
    }
    assert_eq!(parts[2].missing().members.first().map(|(index, _)| *index), Some(1));
    parts.push(late);
    assert_eq!(rounds(&mut parts, 200), [true; 6]);
}

#[test]
fn a_partition_of_which_a_member_dies_takes_its_word_back() {
    let mut parts = job(&[2, 2], port());
    // The first partition's other member is missing, so that nobody is told that all are complete.
    let late = parts[0].pop().unwrap();
    let mut parts: Vec<RollCall> = parts.into_iter().flatten().collect();
    let deadline = Deadline::after(Duration::from_secs(10));
    let is_there = |top: &RollCall| top.missing().partitions.is_empty();
    while !is_there(&parts[0]) {
        assert_eq!(rounds(&mut parts, 1), [false; 3]);
        assert!(!deadline.has_passed());
    }
    drop(parts.pop());
    while is_there(&parts[0]) {
        assert_eq!(rounds(&mut parts, 1), [false; 2]);
        assert!(!deadline.has_passed());
    }
    parts.push(late);
    assert_eq!(rounds(&mut parts, 20), [false; 3]);
}

#[test]
fn a_first_partition_that_nobody_hears_is_missing_and_no_member_is() {
    let mut parts: Vec<RollCall> = job(&[1, 2], port()).into_iter().flatten().skip(1).collect();
    let deadline = Deadline::after(TELL_AFTER * 4);
    let top = |part: &RollCall| part.missing().partitions.first().map(|(block, _)| block.to_string());
    while parts.iter().any(|part| top(part).as_deref() != Some("b0")) {
        assert_eq!(rounds(&mut parts, 1), [false; 2]);
        assert!(!deadline.has_passed());
    }
    assert!(parts.iter().all(|part| part.missing().members.is_empty()));
    assert!(parts[0].is_unheard() && !parts[1].is_unheard());
}

#[test]
fn what_callers_tell_is_read_back_and_nothing_else_is() {
    let blocks = ["b1", "partitions", "7"].map(|name| BlockName::new(name).unwrap());
    for told in [
        Told::default(),
        Told { members: vec![1, 20], partitions: Vec::new() },
        Told { members: vec![], partitions: blocks.to_vec() },
    ] {
        assert_eq!(Told::of_line(&told.to_line()), Some(told));
    }
    assert_eq!(Told::of_line("complete"), None);
    let odd = Told::of_line("missing 1 x -1 partitions a[b c").unwrap();
    assert_eq!((odd.members, odd.partitions.len()), (vec![1], 1));
}
