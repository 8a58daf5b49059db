//! The prolog of a job that is a guest in the standing domain.
#![forbid(unsafe_code)]

use super::ending::{self, Run};
use super::prolog::{Place, Step, describe, outcome, settings_words};
use super::{Ground, Phases, begin_watch, let_go};
use crate::config::Settings;
use crate::daemon::TrayOwner;
use crate::lifecycle::{Begun, World};
use crate::lock::TrayLock;
use crate::members::Members;
use crate::readiness::Readiness;
use crate::record::{Kind, Record};
use crate::standing::{Prepared, StandingWorld, Wanted, prepare, settle, withdraw};
use crate::tray::{Tray, TrayError, log_name};
use crate::verdict::{Outcome, of_lock, with_fate};
use std::time::Duration;

/// How often a daemon that does not serve is replaced in one run.
const ATTEMPTS: usize = 3;

/// `record` is the standing domain's as this job's would be; `members` are the job's trays among its.
pub(super) fn wanted(record: Record, members: &Members) -> Wanted {
    let own = record.members.iter().filter(|member| members.nodes.contains(&member.node));
    let guest = Record {
        kind: Kind::Guest,
        members: own.cloned().collect(),
        own_index: members.own_index,
        ..record.clone()
    };
    Wanted {
        standing: Record { kind: Kind::Standing, channel: None, ..record },
        guest: in_order(guest, members),
    }
}

/// The guest's members in the job's order, to which its own position refers.
fn in_order(mut guest: Record, members: &Members) -> Record {
    guest.members.sort_by_key(|member| members.nodes.iter().position(|node| *node == member.node));
    guest
}

/// Sees to the standing domain and makes the job a guest.
pub(super) fn join(
    ground: Ground,
    wanted: Wanted,
    settings: Settings,
    place: Place<'_>,
    phases: &mut Phases,
) -> Step<Outcome> {
    let proc = ground.proc.clone();
    let program = settings.daemon.program.clone();
    let job = wanted.guest.job;
    let run = Run { job, started: wanted.guest.prolog_started, own: wanted.guest.own_index };
    let mut tray = ground.tray(place.paths, settings, place.times)?;
    tracing::info!(
        %job,
        block = %wanted.standing.block,
        members = %describe(&wanted.guest.members),
        standing_members = wanted.standing.members.len(),
        channel = wanted.guest.channel.map(|channel| channel.number),
        settings = settings_words(&tray.settings),
        "joining the standing domain"
    );
    let lifeline = begin_watch(place.helper, job, run.started);
    let ended = rounds(&mut tray, &wanted).map(|result| {
        phases.end_start(&result);
        let fate = ending::fate(&mut tray, &run, &result, place.conf, place.helper);
        phases.end("end");
        (result, fate)
    });
    // The standing domain is not this job's to watch.
    let_go(lifeline, job, false);
    let (result, fate) = ended?;
    let log = log_name(Kind::Standing, job);
    let outcome = outcome(result, place.paths, &program, &wanted.guest.members, &log, &proc);
    Ok(with_fate(outcome, fate.as_ref()))
}

/// The tray is not locked while a guest waits for its peers: other jobs may begin and end meanwhile.
fn rounds(tray: &mut Tray<TrayOwner>, wanted: &Wanted) -> Step<Result<Begun, TrayError>> {
    let limit = Duration::from_secs(tray.settings.deadlines.lock_seconds);
    let lock = |tray: &Tray<TrayOwner>| {
        TrayLock::take(&tray.state, tray.budget.within(limit)).map_err(|error| of_lock(&error))
    };
    let mut last = Begun::RunEnded;
    for _ in 0..ATTEMPTS {
        let prepared = {
            let _lock = lock(tray)?;
            prepare(tray, wanted)
        };
        let (record, fresh) = match prepared {
            Ok(Prepared::Daemon { record, fresh }) => (record, fresh),
            Ok(Prepared::Settled(begun)) => return Ok(Ok(begun)),
            Err(error) => return Ok(Err(error)),
        };
        let readiness = tray.wait_joined(&record, &wanted.guest);
        last = match &readiness {
            Readiness::Refused { .. } => Begun::NoDomain(readiness.clone()),
            _ => Begun::Failed(readiness.clone()),
        };
        let settled = {
            let _lock = lock(tray)?;
            settle(tray, wanted, &record, fresh, readiness)
        };
        match settled {
            Ok(Some(Begun::Ready { after, domain, .. })) => {
                let why = match tray.agree(&wanted.guest) {
                    Ok(agreed) => return Ok(Ok(Begun::Ready { after, agreed, domain })),
                    Err(why) => why,
                };
                let _lock = lock(tray)?;
                return Ok(withdraw(tray, wanted, why));
            }
            Ok(Some(begun)) => return Ok(Ok(begun)),
            Ok(None) => {
                tracing::warn!(job = %wanted.guest.job, "the standing domain's IMEX daemon did not serve; once more")
            }
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Member;
    use crate::record::tests::sample;
    use fabric::names::{BlockName, NodeName};

    #[test]
    fn a_guest_has_its_own_trays_in_its_own_order_and_the_domain_has_all() {
        let node = |name: &str| NodeName::new(name).unwrap();
        let member = |index: u8| Member {
            node: node(&format!("n{index}")),
            address: format!("10.0.0.{index}").parse().unwrap(),
        };
        let all = Record { members: (1..=4).map(member).collect(), own_index: 3, ..sample() };
        let members = Members {
            block: BlockName::new("b").unwrap(),
            nodes: vec![node("n4"), node("n2")],
            own_index: 0,
        };
        let Wanted { standing, guest } = wanted(all.clone(), &members);
        assert_eq!(standing, Record { kind: Kind::Standing, channel: None, ..all.clone() });
        assert_eq!(guest.members, [member(4), member(2)]);
        assert_eq!((guest.kind, guest.own_index, guest.channel), (Kind::Guest, 0, all.channel));
    }
}
