use super::*;
use crate::daemon::Ended;
use crate::record::State;
use crate::record::tests::sample;
use std::time::Duration;

fn begun(result: Result<Begun, TrayError>) -> Outcome {
    let record = sample();
    of_begin(result, Domain { members: &record.members, log_tail: &[], strangers: &[] })
}

fn text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Nothing(words) | Outcome::Done(_, words) => words.clone(),
        Outcome::Refused(report) => report.to_string(),
    }
}

#[test]
fn only_a_fault_of_this_tray_exits_nonzero() {
    for blame in [Blame::Node, Blame::Job, Blame::Config, Blame::Peer, Blame::Bug] {
        let outcome = Outcome::Refused(Report::new(blame, "x"));
        assert_eq!(outcome.exit_code(), u8::from(blame == Blame::Node), "{blame}");
    }
    assert_eq!(Outcome::Nothing(String::new()).exit_code(), 0);
}

#[test]
fn missing_members_are_named_and_do_not_drain_this_tray() {
    let readiness =
        Readiness::PeersMissing { missing: vec![(0, "NEVER_CONNECTED".to_owned())], why: Missing::Absent };
    let outcome = begun(Ok(Begun::NoDomain(readiness)));
    assert_eq!((outcome.exit_code(), outcome.word()), (0, "no-domain"));
    assert_eq!(
        text(&outcome),
        "1 of 2 members are missing, on one no IMEX daemon listens\n  \
         member 0: h001 at 10.75.1.1: NEVER_CONNECTED\n\
         hint: look at imex.log and the IMEX daemon's log of the members named here; this node stays in service"
    );
}

#[test]
fn what_became_of_the_job_is_told_with_the_missing_members() {
    let readiness = Readiness::PeersMissing { missing: vec![(0, "x".to_owned())], why: Missing::Unanswered };
    let outcome = begun(Ok(Begun::NoDomain(readiness)));
    let message = |fate: &Fate| match with_fate(outcome.clone(), Some(fate)) {
        Outcome::Refused(report) => (report.message, report.blame),
        other => panic!("{other:?}"),
    };
    let begin = "1 of 2 members are connected, but their prologs have not said that their nodes are complete";
    for (fate, end) in [
        (Fate::Ended, "Slurm has ended the job"),
        (
            Fate::EndedOnRequest("requeued and held it".to_owned()),
            "Slurm has ended the job at this node's request (requeued and held it)",
        ),
        (
            Fate::AskedFor,
            "Slurm has not answered yet; the request to end the job stands, and until it is heard the job runs without an IMEX channel here",
        ),
        (
            Fate::GoesOn("no answer".to_owned()),
            "the job could not be ended (no answer) and runs without an IMEX channel here",
        ),
    ] {
        assert_eq!(message(&fate), (format!("{begin}; {end}"), Blame::Peer));
    }
    let ended = begun(Ok(Begun::RunEnded));
    assert_eq!(with_fate(ended.clone(), Some(&Fate::Ended)), ended);
}

#[test]
fn where_nobody_said_who_is_missing_nobody_is_named() {
    let readiness = Readiness::PeersMissing { missing: Vec::new(), why: Missing::Unanswered };
    let outcome = begun(Ok(Begun::NoDomain(readiness)));
    assert!(
        text(&outcome)
            .starts_with("not all prologs of the job have said that their nodes are complete\nhint: "),
        "{}",
        text(&outcome)
    );
}

#[test]
fn another_partition_that_is_not_complete_drains_nobody_and_is_named() {
    let block = fabric::names::BlockName::new("nvl-b").unwrap();
    let missing = vec![(block, "its prolog does not answer".to_owned())];
    let outcome = begun(Ok(Begun::NoDomain(Readiness::PartitionsMissing { missing })));
    assert_eq!(outcome.exit_code(), 0);
    assert_eq!(
        text(&outcome),
        "1 other NVLink partitions of the job are not complete\n  block nvl-b: its prolog does not answer\n\
         hint: look at imex.log of the job's nodes in the blocks named here; this node stays in service"
    );
}

#[test]
fn a_tray_that_is_cut_off_drains_itself_and_says_what_to_look_at() {
    let why = "none of the 17 other members answers in any way".to_owned();
    let outcome = begun(Ok(Begun::Failed(Readiness::CutOff { why })));
    assert_eq!(outcome.exit_code(), 1);
    assert_eq!(
        text(&outcome),
        "this node is cut off from the job's other nodes: none of the 17 other members answers in any way\n\
         hint: check link, address, routes and firewall of this node's network interface"
    );
}

#[test]
fn the_own_daemons_fault_drains_this_tray_and_shows_its_log() {
    let record = sample();
    let domain = Domain {
        members: &record.members,
        log_tail: &["Failed to allocate Imex session".to_owned()],
        strangers: &["77 /usr/bin/nvidia-imex -c /etc/nvidia-imex/config.cfg".to_owned()],
    };
    let outcome = of_begin(Ok(Begun::Failed(Readiness::DaemonDied)), domain);
    assert_eq!((outcome.exit_code(), outcome.word()), (1, "fault"));
    assert_eq!(
        text(&outcome),
        "the IMEX daemon ended while its domain was forming\n  \
         daemon log: Failed to allocate Imex session\n  \
         another IMEX daemon runs here: 77 /usr/bin/nvidia-imex -c /etc/nvidia-imex/config.cfg\n\
         hint: only one IMEX daemon can run on a node: disable and mask nvidia-imex.service, then end that process"
    );
    let outcome = begun(Ok(Begun::Failed(Readiness::NotReady { last: "INIT_GPU".to_owned() })));
    assert_eq!(text(&outcome), "the IMEX daemon did not become READY; last answer: INIT_GPU");
}

#[test]
fn good_ends_say_how_long_and_what() {
    let (after, agreed) = (Duration::from_millis(1234), Duration::from_millis(56));
    let ready = Begun::Ready { after, agreed, domain: "UP".to_owned() };
    let outcome = begun(Ok(ready));
    assert_eq!((outcome.exit_code(), outcome.word()), (0, "ready"));
    assert_eq!(text(&outcome), "all 2 members connected after 1234 ms, all complete 56 ms later, domain UP");
    assert_eq!(begun(Ok(Begun::RunEnded)).word(), "ended");
    let gone = of_end(Ok(Closed::Gone { daemon: Ended::Gracefully, was: Some(State::Ready), lost: false }));
    assert_eq!(text(&gone), "the domain was complete; the daemon has ended in order");
    assert_eq!(of_end(Ok(Closed::Nothing)).exit_code(), 0);
}

#[test]
fn a_taken_port_says_how_to_find_its_holder() {
    let error = TrayError::Port {
        address: "10.0.0.1".parse().unwrap(),
        port: 50_000,
        source: std::io::Error::other("address in use"),
    };
    let outcome = begun(Err(error));
    assert_eq!(outcome.exit_code(), 1);
    assert_eq!(
        text(&outcome),
        "port 50000 of 10.0.0.1 is held by another program\n  because: address in use\n\
         hint: find who holds it with: ss -ltnp sport = 50000; keep it free with net.ipv4.ip_local_reserved_ports"
    );
}
