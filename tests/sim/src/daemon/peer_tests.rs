//! Tests of the connection's state machine.

use super::*;
use proptest::prelude::*;

fn timing(grace: Option<u64>) -> Timing {
    let settings =
        Settings { quick_attempts: 2, quick_ms: 10, backoff_ms: vec![100, 300], ..Settings::default() };
    Timing::new(&settings, grace.map(Duration::from_secs))
}

fn hello(version: &str, map: u64, incarnation: u64) -> Hello {
    Hello { node: 0, version: version.to_owned(), map, incarnation }
}

/// A peer in service since `now`.
fn connected(now: Millis, timing: &Timing) -> Peer {
    let mut peer = Peer::new(now);
    assert_eq!(peer.tick(now, timing), Some(Action::Dial(1)));
    peer.dialed(now, timing);
    let greeting = peer.greeted(now, timing, &hello("v", 1, 1), &hello("v", 1, 2));
    assert_eq!(greeting, Greeting::Connected { times: 1, replaced: false });
    peer
}

#[test]
fn attempts_are_quick_at_first_and_then_back_off() {
    let timing = timing(None);
    let mut peer = Peer::new(0);
    let mut now = 0;
    let mut waits = Vec::new();
    for attempt in 1..=6 {
        assert_eq!(peer.tick(now, &timing), Some(Action::Dial(attempt)));
        assert!(!peer.ended(now, &timing));
        let next = peer.deadline().unwrap();
        waits.push(next - now);
        now = next;
    }
    assert_eq!(waits, [10, 100, 300, 300, 300, 300]);
    assert_eq!(peer.state(), Connection::NeverConnected);
}

#[test]
fn the_real_backoff_is_the_default() {
    let timing = Timing::new(&Settings::default(), None);
    let waits: Vec<Millis> = [1, 24, 25, 26, 27, 28, 29].map(|failures| timing.wait(failures)).to_vec();
    assert_eq!(waits, [200, 200, 15_000, 31_000, 62_000, 125_000, 125_000]);
}

#[test]
fn a_lost_peer_recovers_for_ever_by_default() {
    let timing = timing(None);
    let mut peer = connected(0, &timing);
    assert!(peer.ended(5, &timing));
    assert_eq!(peer.state(), Connection::Recovering);
    let mut now = 5;
    for _ in 0..20 {
        now = peer.deadline().unwrap();
        assert!(matches!(peer.tick(now, &timing), Some(Action::Dial(_))));
        peer.ended(now, &timing);
    }
    assert_eq!(peer.state(), Connection::Recovering);
    peer.tick(peer.deadline().unwrap(), &timing);
    peer.dialed(now, &timing);
    let again = peer.greeted(now, &timing, &hello("v", 1, 1), &hello("v", 1, 2));
    assert_eq!(again, Greeting::Connected { times: 2, replaced: false });
}

#[test]
fn grace_time_over_means_disconnected() {
    let timing = timing(Some(0));
    let mut peer = connected(0, &timing);
    peer.ended(5, &timing);
    assert_eq!(peer.tick(5, &timing), Some(Action::CleanUp));
    assert_eq!(peer.state(), Connection::Disconnected);
}

#[test]
fn a_new_instance_is_noticed() {
    let timing = timing(None);
    let mut peer = connected(0, &timing);
    peer.ended(5, &timing);
    peer.tick(peer.deadline().unwrap(), &timing);
    peer.dialed(20, &timing);
    let greeting = peer.greeted(20, &timing, &hello("v", 1, 1), &hello("v", 1, 3));
    assert_eq!(greeting, Greeting::Connected { times: 2, replaced: true });
}

#[test]
fn an_unanswered_ping_makes_the_connection_invalid() {
    let timing = timing(None);
    let mut peer = connected(0, &timing);
    let ping = peer.deadline().unwrap();
    assert_eq!(peer.tick(ping, &timing), Some(Action::Ping));
    peer.ponged(ping, &timing);
    assert_eq!(peer.state(), Connection::Connected);
    let ping = peer.deadline().unwrap();
    assert_eq!(peer.tick(ping, &timing), Some(Action::Ping));
    assert_eq!(peer.tick(peer.deadline().unwrap(), &timing), Some(Action::Close));
    assert_eq!(peer.state(), Connection::Invalid);
}

#[test]
fn a_map_mismatch_stays_and_a_version_mismatch_ends_with_the_peer() {
    let timing = timing(None);
    let mut peer = Peer::new(0);
    peer.tick(0, &timing);
    peer.dialed(0, &timing);
    assert_eq!(peer.greeted(0, &timing, &hello("v", 1, 1), &hello("v", 2, 2)), Greeting::MapMismatch);
    peer.ended(1, &timing);
    assert!(!peer.restart(1));
    assert_eq!((peer.deadline(), peer.state()), (None, Connection::MapMismatch));

    let mut peer = Peer::new(0);
    peer.tick(0, &timing);
    peer.dialed(0, &timing);
    assert_eq!(peer.greeted(0, &timing, &hello("v", 1, 1), &hello("w", 1, 2)), Greeting::VersionMismatch);
    assert_eq!(peer.deadline(), None);
    peer.ended(1, &timing);
    assert_eq!(peer.state(), Connection::VersionMismatch);
    assert_eq!(peer.tick(peer.deadline().unwrap(), &timing), Some(Action::Dial(1)));
}

proptest! {
    /// Whatever happens in whatever order: only a hello makes CONNECTED, nothing but a hello leaves
    /// NEVER_CONNECTED, and without a map mismatch there is always a next deadline or an open connection.
    #[test]
    fn no_order_of_events_strands_a_peer(events in prop::collection::vec(0u8..6, 1..60)) {
        let timing = timing(Some(1));
        let (own, good) = (hello("v", 1, 1), hello("v", 1, 2));
        let mut peer = Peer::new(0);
        let mut now = 0;
        let mut greeted = false;
        for event in events {
            let before = peer.state();
            match event {
                0 => { now = peer.deadline().unwrap_or(now).max(now); peer.tick(now, &timing); }
                1 if matches!(peer.phase, Phase::Dialing { .. }) => peer.dialed(now, &timing),
                2 if matches!(peer.phase, Phase::Greeting { .. }) => {
                    peer.greeted(now, &timing, &own, &good);
                    greeted = true;
                }
                3 => { peer.ended(now, &timing); }
                4 => peer.ponged(now, &timing),
                5 => { peer.restart(now); }
                _ => {}
            }
            if peer.state() == Connection::Connected && before != Connection::Connected {
                prop_assert_eq!(event, 2);
            }
            prop_assert_eq!(peer.state() == Connection::NeverConnected, !greeted);
            prop_assert!(peer.deadline().is_some());
        }
    }
}
