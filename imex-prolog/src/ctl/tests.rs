use super::*;
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const TWO: &str = r#"{"nodes":{"1":{"status":"UNAVAILABLE","host":"10.20.0.12","connections":{}},
"0":{"status":"READY","host":"10.20.0.11","connections":{"1":{"host":"10.20.0.12","status":"CONNECTED","changed":true},
"0":{"status":"CONNECTED"}},"version":"580.95.05"}},"timestamp":"10/3/2026 09:15:02.117","status":"DEGRADED"}"#;

fn tool(body: &str) -> (tempfile::TempDir, Ctl) {
    let temp = tempfile::tempdir().unwrap();
    let program = temp.path().join("ctl");
    std::fs::write(&program, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    (temp, Ctl { program, config: "/x/config.cfg".into() })
}

fn state(body: &str) -> Result<OwnState, String> {
    let (_temp, ctl) = tool(body);
    ctl.own_state(Deadline::after(Duration::from_secs(20)))
        .map_err(|error| error.to_string().replace(&ctl.program.display().to_string(), "ctl"))
}

#[test]
fn the_own_row_counts_and_not_the_peers_report() {
    let row = parse_row(TWO, 0, 2).unwrap();
    assert_eq!((row.missing(), row.domain.as_str()), (vec![], "DEGRADED"));
    assert_eq!(row.own, Some(OwnState::Ready));
    let filled_in = parse_row(TWO, 1, 2).unwrap();
    assert_eq!((filled_in.missing().len(), filled_in.own), (2, None));
    let starting = parse_row(&TWO.replace("READY", "INIT_GPU"), 0, 2).unwrap();
    assert_eq!(starting.own, Some(OwnState::Other("INIT_GPU".to_owned())));
    assert_eq!(parse_row(&TWO.replace("READY", "ready"), 0, 2).unwrap().own, None);
}

#[test]
fn unknown_and_missing_words_are_not_connected() {
    let text = TWO.replace("\"CONNECTED\",\"changed\"", "\"connected\",\"changed\"");
    let row = parse_row(&text, 0, 3).unwrap();
    assert_eq!(row.missing(), [(1, "connected".to_owned()), (2, "missing".to_owned())]);
    assert!(!row.is_connected(7));
}

#[test]
fn only_the_exact_word_ready_is_ready() {
    assert_eq!(state("test \"$*\" = '-c /x/config.cfg -q' && echo READY"), Ok(OwnState::Ready));
    assert_eq!(state("echo INIT_GPU"), Ok(OwnState::Other("INIT_GPU".to_owned())));
    assert_eq!(
        state("echo READY; exit 3"),
        Err("ctl -q gave no usable answer (exit status: 3): \"READY\"".to_owned()),
        "a failing tool is not believed"
    );
    assert_eq!(
        state("echo Query Status returned error code: 14 >&2"),
        Err("ctl -q gave no usable answer (exit status: 0): \"Query Status returned error code: 14\""
            .to_owned())
    );
}

#[test]
fn a_hanging_tool_is_ended_at_the_deadline() {
    let (_temp, ctl) = tool("echo READY; exec sleep 60");
    let begin = Instant::now();
    let error = ctl.own_state(Deadline::after(Duration::from_millis(100))).unwrap_err();
    assert!(matches!(error, CtlError::Hung { .. }), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_tool_that_leaves_a_child_behind_is_not_waited_for() {
    let (_temp, ctl) = tool("sleep 20 & echo READY");
    let begin = Instant::now();
    assert_eq!(ctl.own_state(Deadline::after(Duration::from_secs(15))).unwrap(), OwnState::Ready);
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_missing_tool_says_so() {
    let ctl = Ctl { program: "/nonexistent/ctl".into(), config: "/x".into() };
    let error = ctl.own_state(Deadline::after(Duration::from_secs(1))).unwrap_err();
    assert_eq!(error.to_string(), "cannot run /nonexistent/ctl");
}

#[test]
fn foreign_text_is_shortened_and_has_no_control_characters() {
    assert_eq!(quote(" a\nb\x1b[0m "), "\"a b [0m\"");
    assert!(quote(&"x".repeat(999)).ends_with("x\"..."));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,200}", own in 0usize..4, count in 0usize..4) {
        let _ = parse_row(&text, own, count);
    }

    #[test]
    fn shuffled_keys_and_layout_do_not_matter(order in Just((0..4usize).collect::<Vec<_>>()).prop_shuffle()) {
        let cells: Vec<String> = order.iter().map(|index| {
            format!("\n  \"{index}\" : {{ \"changed\": false, \"status\": \"{}\" }}", if *index == 2 { "RECOVERING" } else { "CONNECTED" })
        }).collect();
        let text = format!("{{\"status\":\"UP\",\"nodes\":{{\"3\":{{\"connections\":{{{}}}}}}}}}", cells.join(","));
        prop_assert_eq!(parse_row(&text, 3, 4).unwrap().missing(), vec![(2, "RECOVERING".to_owned())]);
    }
}
