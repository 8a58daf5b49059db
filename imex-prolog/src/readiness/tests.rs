use super::*;

/// A script of one character a round: what daemon and tool show. The last one repeats.
///
/// `i` initialising, `x` the tool fails, `q` complete, and only `-q` says READY, `v` READY but no view, `C` complete, `1`/`2` member 1/2 of three is
/// missing though its daemon listens, `a` member 1 is missing and nothing listens there, `s` both others are missing and
/// silent, `r` both are missing and refuse, `m` the daemon refuses member 1, whose list was another one, `g` the tool fails and member 1 is gone, `e` ended by Slurm, `d` daemon dead.
struct Script {
    rounds: Vec<char>,
    at: usize,
    pauses: u64,
    limit: u64,
}

impl Script {
    fn now(&self) -> char {
        self.rounds[self.at.min(self.rounds.len() - 1)]
    }
}

const PATIENCE: Patience = Patience {
    own: Duration::from_secs(12),
    lost: Duration::from_secs(5),
    absent: Duration::from_secs(9),
    refused: Some(Duration::from_secs(2)),
};

fn fault() -> CtlError {
    CtlError::Hung { program: "/ctl".into(), option: "-N", millis: 5 }
}

impl Probe for Script {
    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.pauses)
    }
    fn remaining(&self) -> Duration {
        Duration::from_secs(self.limit.saturating_sub(self.pauses))
    }
    fn pause(&mut self) {
        self.at += 1;
        self.pauses += 1;
    }
    fn has_ended(&mut self) -> bool {
        self.now() == 'e'
    }
    fn is_daemon_alive(&mut self) -> bool {
        self.now() != 'd'
    }
    fn own_state(&mut self) -> Result<OwnState, CtlError> {
        match self.now() {
            'x' | 'g' => Err(fault()),
            _ => Ok(OwnState::Ready),
        }
    }
    fn own_row(&mut self) -> Result<OwnRow, CtlError> {
        let now = self.now();
        if matches!(now, 'v' | 'x' | 'g') {
            return Err(fault());
        }
        let own = match now {
            'i' => Some(OwnState::Other("INITIALIZING".to_owned())),
            'q' => None,
            _ => Some(OwnState::Ready),
        };
        let word = |index: usize| match if matches!(now, 'a' | 'm') { Some(1) } else { now.to_digit(10) } {
            Some(missing) if missing as usize == index => "NEVER_CONNECTED".to_owned(),
            None if matches!(now, 's' | 'r') && index > 0 => "NEVER_CONNECTED".to_owned(),
            _ => "CONNECTED".to_owned(),
        };
        Ok(OwnRow { own, words: (0..3).map(word).collect(), domain: "UP".to_owned() })
    }
    fn has_refused(&mut self) -> bool {
        self.now() == 'm'
    }
    fn own_index(&self) -> Option<usize> {
        Some(0)
    }
    fn knock(&mut self, members: &[usize]) -> Vec<Knock> {
        let answer = |index: &usize| match self.now() {
            'a' | 'g' if *index == 1 => Knock::Refused,
            's' => Knock::Silent,
            'r' => Knock::Refused,
            _ => Knock::Listening,
        };
        members.iter().map(answer).collect()
    }
    fn cut_off(&mut self, knocks: &[Knock]) -> Option<String> {
        knocks.iter().all(|knock| *knock == Knock::Silent).then(|| "nobody answers".to_owned())
    }
}

fn outcome(rounds: &str) -> Readiness {
    let mut script = Script { rounds: rounds.chars().collect(), at: 0, pauses: 0, limit: 20 };
    wait_ready(&mut script, PATIENCE)
}

fn missing(index: usize, why: Missing) -> Readiness {
    Readiness::PeersMissing { missing: vec![(index, "NEVER_CONNECTED".to_owned())], why }
}

#[test]
fn ready_when_the_own_row_is_complete() {
    for rounds in ["xii1C", "xii1q"] {
        let ready = Readiness::Ready { after: Duration::from_secs(4), domain: "UP".to_owned() };
        assert_eq!(outcome(rounds), ready);
    }
}

#[test]
fn a_daemon_that_refuses_a_member_is_to_be_started_anew_after_a_while() {
    assert_eq!(outcome("imm1C"), Readiness::Refused { missing: vec![(1, "NEVER_CONNECTED".to_owned())] });
    assert!(
        matches!(outcome("immC"), Readiness::Ready { .. }),
        "one that is connected again was not refused"
    );
    let mut script = Script { rounds: vec!['i', 'm'], at: 0, pauses: 0, limit: 20 };
    assert_eq!(wait_ready(&mut script, Patience { refused: None, ..PATIENCE }), missing(1, Missing::Late));
}

#[test]
fn an_ending_mark_or_a_dead_daemon_ends_the_wait_at_once() {
    assert_eq!(outcome("ii1e"), Readiness::RunEnded);
    assert_eq!(outcome("i1d"), Readiness::DaemonDied);
    assert_eq!(outcome("e"), Readiness::RunEnded);
}

#[test]
fn an_own_daemon_that_is_never_ready_is_this_trays_fault() {
    assert_eq!(outcome("i"), Readiness::NotReady { last: "INITIALIZING".to_owned() });
    assert_eq!(
        outcome("x"),
        Readiness::NotReady { last: "/ctl -N did not answer within 5 ms and was ended".to_owned() }
    );
}

#[test]
fn an_own_daemon_that_is_not_ready_in_time_does_not_hold_the_job_for_the_whole_budget() {
    let mut script = Script { rounds: vec!['i'], at: 0, pauses: 0, limit: 1000 };
    let last = "INITIALIZING".to_owned();
    assert_eq!(wait_ready(&mut script, PATIENCE), Readiness::NotReady { last });
    assert_eq!(script.pauses, 12);
    // One that has been READY is waited for as long as there is time.
    let mut script = Script { rounds: "2i".chars().collect(), at: 0, pauses: 0, limit: 40 };
    wait_ready(&mut script, PATIENCE);
    assert_eq!(script.pauses, 40);
}

#[test]
fn a_member_that_never_came_is_named_at_the_deadline() {
    assert_eq!(outcome("i2"), missing(2, Missing::Late));
}

#[test]
fn a_member_that_left_is_given_up_early() {
    let mut script = Script { rounds: "2111111111C".chars().collect(), at: 0, pauses: 0, limit: 20 };
    assert_eq!(wait_ready(&mut script, PATIENCE), missing(1, Missing::Left));
    assert_eq!(script.pauses, 6);
    assert_eq!(
        outcome("21112C"),
        Readiness::Ready { after: Duration::from_secs(5), domain: "UP".to_owned() }
    );
}

#[test]
fn a_member_where_nothing_listens_is_given_up_early_unless_a_daemon_comes() {
    let mut script = Script { rounds: vec!['a'], at: 0, pauses: 0, limit: 20 };
    assert_eq!(wait_ready(&mut script, PATIENCE), missing(1, Missing::Absent));
    // The first knock comes after a second.
    assert_eq!(script.pauses, 10);
    assert!(matches!(outcome("aaaaaaaa1aaaaaaaaC"), Readiness::Ready { .. }));
    assert_eq!(outcome("aaaaaaaa11111111111111111"), missing(1, Missing::Late));
}

#[test]
fn a_tray_that_reaches_nobody_blames_itself_only_if_nobody_answers() {
    assert_eq!(outcome("s"), Readiness::CutOff { why: "nobody answers".to_owned() });
    assert!(matches!(outcome("r"), Readiness::PeersMissing { why: Missing::Absent, .. }));
    // One of them answered at last.
    assert!(matches!(outcome("sssss11111111111111111"), Readiness::PeersMissing { .. }));
}

#[test]
fn an_own_daemon_that_answers_no_more_is_this_trays_fault_before_and_after_the_job_is_ended_for_it() {
    let last = "/ctl -N did not answer within 5 ms and was ended".to_owned();
    let mut script = Script { rounds: "i1x".chars().collect(), at: 0, pauses: 0, limit: 1000 };
    assert_eq!(wait_ready(&mut script, PATIENCE), Readiness::NotReady { last: last.clone() });
    // 5 s after the last answer.
    assert_eq!(script.pauses, 6);
    assert_eq!(outcome("1xxxxe"), Readiness::NotReady { last });
    // Not silent for long enough, and one that had not answered yet: it may just be starting.
    assert_eq!(outcome("1xxe"), Readiness::RunEnded);
    assert_eq!(outcome("xxxxxxxe"), Readiness::RunEnded);
    assert_eq!(outcome("1xx1xxe"), Readiness::RunEnded);
    // A last answer that did not come does not make a missing member this tray's fault.
    assert_eq!(outcome("1111111111111111111x"), missing(1, Missing::Late));
}

#[test]
fn an_own_daemon_that_is_silent_while_a_member_is_gone_is_not_blamed() {
    let mut script = Script { rounds: "2g".chars().collect(), at: 0, pauses: 0, limit: 1000 };
    let missing = vec![(1, "was CONNECTED".to_owned())];
    assert_eq!(wait_ready(&mut script, PATIENCE), Readiness::PeersMissing { missing, why: Missing::Absent });
    assert_eq!(script.pauses, 5);
    // One that came back, and those who leave only because of this tray.
    for rounds in ["2ggxxxxxx", "2xxxxg"] {
        assert!(matches!(outcome(rounds), Readiness::NotReady { .. }), "{rounds}");
    }
    assert!(matches!(outcome("2xxxge"), Readiness::NotReady { .. }));
}

#[test]
fn a_tool_that_never_shows_the_connections_is_told_apart() {
    assert!(matches!(outcome("v"), Readiness::NoView { .. }));
    assert_eq!(outcome("2v"), missing(2, Missing::Late));
}
