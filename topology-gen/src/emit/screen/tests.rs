use super::*;
use crate::emit::tests::{node, racks, topology};
use crate::emit::{Facts, parse_jobs};

const PLAIN: Screen = Screen { width: 100, paint: Paint::Plain };

#[test]
fn a_small_cluster_with_everything_in_it() {
    insta::assert_snapshot!(text(&racks(), "Racks (simulated)", PLAIN), @r#"
    Racks (simulated)
    6 trays in 2 NVLink partitions and 1 empty place: 4 allocated, 1 idle, 1 stale
    base size 3: jobs and segments up to 3 trays stay in one NVLink partition

      nvl-aaaaaaaa-1  A A ·   1 idle   n[1-3]
      gone            empty place
      nvl-bbbbbbbb-1  B B -   1 stale  n[4-6]
      in no block: B

      letter: job   · idle   - stale

    segments of  1  2  3  trays
    fit now      1  0  0

       JOB  NAME         USER   TRAYS  WHERE
    A  7    train <a&b>  alice      2  nvl-aaaaaaaa-1
    B  8_1  -            -          4  2 NVLink partitions, 1 in no block: nvl-aaaaaaaa-1 (1), nvl-bbbb…
    and 1 job outside of these blocks
    "#);
}

#[test]
fn a_narrow_terminal_keeps_every_tray() {
    let racks = Racks::new(
        &topology(18, &[("a-very-long-name-of-a-block-indeed", "r01n[01-18]")]),
        vec![],
        &Facts::default(),
    );
    let text = text(&racks, "t", Screen { width: 44, paint: Paint::Plain });
    insta::assert_snapshot!(text, @r#"
    t
    18 trays in 1 NVLink partition
    base size 18: jobs and segments up to 18 trays stay in one NVLink partition

      a-very-long-name-of-a-b…  ? ? ? ? ? ? ? ?
                                ? ? ? ? ? ? ? ?
                                ? ?

      ? unknown
    "#);
    assert_eq!(text.matches("? ").count() + text.matches("?\n").count(), 18 + 1);
}

#[test]
fn many_partitions_stand_in_columns_within_the_width() {
    let blocks: Vec<(String, String)> =
        (1..=278).map(|rack| (format!("nvl-{rack:08x}-1"), format!("r{rack:03}n[01-18]"))).collect();
    let blocks: Vec<(&str, &str)> =
        blocks.iter().map(|(name, nodes)| (name.as_str(), nodes.as_str())).collect();
    let jobs: Vec<String> =
        (0..60).map(|job| format!(r#"{{"id":{job},"nodes":"r{:03}n[01-16]"}}"#, job + 1)).collect();
    let jobs = parse_jobs(&format!(r#"{{"jobs":[{}]}}"#, jobs.join(","))).unwrap();
    let facts = Facts { otherwise: Some(State::Idle), ..Facts::default() };
    let racks = Racks::new(&topology(18, &blocks), jobs, &facts);
    for width in [80, 120, 200] {
        let text = text(&racks, "t", Screen { width, paint: Paint::Plain });
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= width, "{widest} in {width}");
        assert_eq!(
            text.lines().filter(|line| line.starts_with("nvl-")).count(),
            278usize.div_ceil(width / 40),
            "{width}"
        );
        assert!(
            text.contains("letter: job, from A again after z")
                && text.contains("and 8 more jobs on these trays")
        );
        assert_eq!(text.matches("AAAAAAAAAAAAAAAA··").count(), 2);
    }
}

#[test]
fn colours_add_nothing_but_escapes() {
    let coloured = text(&racks(), "t", Screen { paint: Paint::Colour, ..PLAIN });
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    plain.push_str(rest);
    assert_eq!(plain, text(&racks(), "t", PLAIN));
    assert!(coloured.contains("\u{1b}[30;48;5;117mA \u{1b}[0m"), "{coloured:?}");
}

#[test]
fn names_of_jobs_do_not_reach_the_terminal_as_they_are() {
    let jobs =
        parse_jobs(r#"{"jobs":[{"id":"1\u001b[2J","name":"a\nb\u0007","user":"\u009b","nodes":"n1"}]}"#)
            .unwrap();
    let racks = Racks::new(&topology(1, &[("a", "n1")]), jobs, &Facts::default());
    let text = text(&racks, "t\r", PLAIN);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
}

#[test]
fn a_fault_under_a_job_is_seen_in_one_character() {
    let tray = |state, jobs: &[usize]| Tray { node: node("n1"), state, jobs: jobs.to_vec() };
    let cells =
        [(State::Down, 1), (State::Drained, 1), (State::Mixed, 1), (State::Down, 2), (State::Drained, 2)]
            .map(|(state, chars)| cell(&tray(state, &[0]), chars, Paint::Plain));
    assert_eq!(cells, ["!", "#", "A", "A!", "A#"]);
}

#[test]
fn every_state_has_a_cell() {
    let states = State::ALL;
    let names: Vec<String> = (0..states.len()).map(|at| format!("n{at}")).collect();
    let facts = Facts {
        states: names.iter().zip(states).map(|(name, state)| (node(name), state)).collect(),
        ..Facts::default()
    };
    let jobs = parse_jobs(r#"{"jobs":[{"id":1,"nodes":"n1"},{"id":2,"nodes":"n[5,6]"}]}"#).unwrap();
    let racks = Racks::new(&topology(10, &[("all", "n[0-9]")]), jobs, &facts);
    insta::assert_snapshot!(text(&racks, "t", PLAIN).lines().nth(4).unwrap_or_default(), @r#"  all  * A+~ · = B#B!_ - ?   1 idle, 1 reserved, 1 drained, 1 down, 1 powered down, 1 stale  n[0-9]"#);
}
