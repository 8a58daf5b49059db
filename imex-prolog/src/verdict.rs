//! What a run's outcome means for Slurm. The only place that decides exit codes.
//!
//! A prolog that exits nonzero drains its node and takes the job away from all others; an epilog that does drains its
//! node. So nonzero is kept for a fault of *this* tray:
//!
//! | outcome | exit | why |
//! |---|---|---|
//! | domain complete, nothing to do, run already over | 0 | |
//! | own fabric wrong, own daemon does not start, dies or never is READY, port taken, no channel, state not writable, tray locked | 1 | this tray must not take the next job either |
//! | this tray's interface down, or nobody of several members answers it in any way | 1 | it is this tray that is cut off |
//! | own daemon READY, a member or another NVLink partition of the job missing | 0, no channel | the tray that is at fault exits 1 by itself; a healthy tray that drained itself for a peer would take the rack with it |
//! | settings, topology, names wrong | 0, no channel | the same on every tray: exit 1 would drain them all |
//! | bug in this program | 0, no channel | likewise |
//!
//! Exit 0 alone would let Slurm start the job, so a prolog that gives up for a peer's sake goes on until Slurm has
//! ended the job, and has it ended if need be ([`crate::giving_up`]). The tray that gives up also stops its daemon;
//! members that were connected to it see that and give up too, long before their deadline. What happened stands in the
//! log, with every missing member by name.
#![forbid(unsafe_code)]

use crate::daemon::Ended;
use crate::giving_up::Fate;
use crate::lifecycle::{Begun, Closed};
use crate::lock::LockError;
use crate::readiness::{Missing, Readiness};

use crate::record::{Member, State};
use crate::tray::TrayError;
use fabric::names::BlockName;
use fabric::report::{Blame, Report};

const NOTHING: &str = "nothing-to-do";
const READY: &str = "ready";
const ENDED: &str = "ended";
const REMOVED: &str = "removed";
const FAULT: &str = "fault";
const NO_DOMAIN: &str = "no-domain";

/// The words of [`Outcome::word`] by program.
pub const WORDS: [(&str, &[&str]); 2] = [
    ("prolog", &[READY, ENDED, NOTHING, FAULT, NO_DOMAIN]),
    ("epilog", &[REMOVED, NOTHING, FAULT, NO_DOMAIN]),
];

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This job is none of our business; in words.
    Nothing(String),
    /// Done; one word for the closing line, and what in words.
    Done(&'static str, String),
    /// Not done; the report says whose fault it is.
    Refused(Report),
}

impl Outcome {
    /// The exit code for slurmd.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Nothing(_) | Self::Done(..) => 0,
            Self::Refused(report) => match report.blame {
                Blame::Node => 1,
                Blame::Job | Blame::Config | Blame::Peer | Blame::Bug => 0,
            },
        }
    }

    /// One word for the closing line.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Nothing(_) => NOTHING,
            Self::Done(word, _) => word,
            Self::Refused(report) if report.blame == Blame::Node => FAULT,
            Self::Refused(_) => NO_DOMAIN,
        }
    }

    /// A refusal with the causes of `error`.
    pub fn refused(blame: Blame, error: &dyn std::error::Error, hint: &str) -> Self {
        Self::Refused(Report::of_error(blame, error).with_hint(hint))
    }
}

/// What is known of the domain, for messages.
#[derive(Debug, Clone, Copy)]
pub struct Domain<'a> {
    /// Its members in nodes-file order.
    pub members: &'a [Member],
    /// The last lines of the own daemon's log.
    pub log_tail: &'a [String],
    /// Other IMEX daemons on this tray, by process id and command line.
    pub strangers: &'a [String],
}

/// The meaning of a begin.
#[must_use]
pub fn of_begin(result: Result<Begun, TrayError>, domain: Domain<'_>) -> Outcome {
    match result {
        Ok(Begun::Ready { after, agreed, domain: word }) => Outcome::Done(
            READY,
            format!(
                "all {} members connected after {} ms, all complete {} ms later, domain {word}",
                domain.members.len(),
                after.as_millis(),
                agreed.as_millis()
            ),
        ),
        Ok(Begun::AlreadyReady) => Outcome::Done(READY, "the domain was complete already".to_owned()),
        Ok(Begun::RunEnded) => Outcome::Done(ENDED, "Slurm has ended this run of the job".to_owned()),
        Ok(Begun::ChannelTaken(job)) => Outcome::Refused(
            Report::new(Blame::Config, format!("job {job} on this node has the IMEX channel that this job would get"))
                .with_hint("let Slurm give the channels: SwitchType=switch/nvidia_imex; or raise channel.count together with NVreg_ImexChannelCount"),
        ),
        Ok(Begun::Outdated(job)) => Outcome::Refused(
            Report::new(
                Blame::Config,
                format!("the standing IMEX domain of this node has other members than topology.yaml, and job {job} still uses it"),
            )
            .with_hint("it is begun anew as soon as no job uses it; drain the NVLink partition to make that soon"),
        ),
        Ok(Begun::NoDomain(readiness)) => Outcome::Refused(peer_report(&readiness, domain.members)),
        Ok(Begun::Failed(readiness)) => Outcome::Refused(with_daemon(own_report(&readiness), domain)),
        Err(error) => Outcome::Refused(with_daemon(tray_report(&error), domain)),
    }
}

/// Adds to the outcome of a domain that was given up what became of its job.
#[must_use]
pub fn with_fate(outcome: Outcome, fate: Option<&Fate>) -> Outcome {
    let (Outcome::Refused(mut report), Some(fate)) = (outcome.clone(), fate) else { return outcome };
    let words = match fate {
        Fate::Ended => "Slurm has ended the job".to_owned(),
        Fate::EndedOnRequest(what) => format!("Slurm has ended the job at this node's request ({what})"),
        Fate::AskedFor => {
            "Slurm has not answered yet; the request to end the job stands, and until it is heard the job runs without an IMEX \
             channel here"
                .to_owned()
        }
        Fate::GoesOn(why) => {
            format!("the job could not be ended ({why}) and runs without an IMEX channel here")
        }
    };
    report.message = format!("{}; {words}", report.message);
    Outcome::Refused(report)
}

/// The meaning of an end.
#[must_use]
pub fn of_end(result: Result<Closed, TrayError>) -> Outcome {
    match result {
        Ok(Closed::Nothing) => Outcome::Nothing("no domain of this job on this tray".to_owned()),
        Ok(Closed::LaterRun) => Outcome::Nothing("the job's domain belongs to a later run".to_owned()),
        Ok(Closed::Gone { daemon, was, .. }) => {
            let was = match was {
                Some(State::Ready) => "the domain was complete",
                Some(State::Starting) => "the domain was still forming",
                Some(State::NoDomain) => "the domain had been given up, since a member was missing",
                Some(State::Stopping) => "the domain was being taken down already",
                None => "the record could not be used",
            };
            let daemon = match daemon {
                Ended::Already => "the daemon was not running",
                Ended::Gracefully => "the daemon has ended in order",
                Ended::Killed => "the daemon had to be killed",
            };
            Outcome::Done(REMOVED, format!("{was}; {daemon}"))
        }
        Err(error) => Outcome::Refused(tray_report(&error)),
    }
}

/// The meaning of a tray lock that could not be had.
#[must_use]
pub fn of_lock(error: &LockError) -> Outcome {
    Outcome::refused(
        Blame::Node,
        error,
        "look for a hanging imex-prolog or imex-epilog on this node: ps -C imex-prolog,imex-epilog",
    )
}

/// A failed step on the tray is the tray's own fault, but for a wrong address, which is wrong for a reason all trays share.
#[must_use]
pub fn tray_report(error: &TrayError) -> Report {
    let report = Report::of_error(Blame::Node, error);
    match error {
        TrayError::ForeignAddress { .. } => Report { blame: Blame::Config, ..report }
            .with_hint("correct this node's NodeAddr in slurm.conf or its name resolution; every node must see the address that the node itself has"),
        TrayError::Port { port, .. } => report.with_hint(format!(
            "find who holds it with: ss -ltnp sport = {port}; keep it free with net.ipv4.ip_local_reserved_ports"
        )),
        TrayError::Channel { .. } => report.with_hint(
            "check that the driver is loaded with NVreg_ImexChannelCount above 0 and that /proc/devices lists nvidia-caps-imex-channels",
        ),
        TrayError::State { .. } | TrayError::List(_) | TrayError::Standing(_) | TrayError::Encode { .. } | TrayError::NoOwnAddress { .. } => {
            report.with_hint("check the state directory's owner and mode; it may be removed while no job runs here")
        }
        TrayError::Tls { .. } => report.with_hint(
            "the files under [encryption] in the settings must be root's own plain files, the keys closed to all others",
        ),
        TrayError::Daemon { .. } => report,
    }
}

fn own_report(readiness: &Readiness) -> Report {
    match readiness {
        Readiness::DaemonDied => {
            Report::new(Blame::Node, "the IMEX daemon ended while its domain was forming")
        }
        Readiness::NotReady { last } => {
            Report::new(Blame::Node, format!("the IMEX daemon did not become READY; last answer: {last}"))
        }
        Readiness::CutOff { why } => {
            Report::new(Blame::Node, format!("this node is cut off from the job's other nodes: {why}"))
                .with_hint("check link, address, routes and firewall of this node's network interface")
        }
        Readiness::NoRollCall { why } => {
            Report::new(Blame::Node, format!("this node cannot take part in the roll call: {why}"))
        }
        other => Report::new(Blame::Bug, format!("unexpected end of the wait: {other:?}")),
    }
}

fn with_daemon(mut report: Report, domain: Domain<'_>) -> Report {
    report.detail.extend(domain.log_tail.iter().map(|line| format!("daemon log: {line}")));
    report
        .detail
        .extend(domain.strangers.iter().map(|line| format!("another IMEX daemon runs here: {line}")));
    if !domain.strangers.is_empty() {
        report.hint = Some(
            "only one IMEX daemon can run on a node: disable and mask nvidia-imex.service, then end that process".to_owned(),
        );
    }
    report
}

fn peer_report(readiness: &Readiness, members: &[Member]) -> Report {
    let (message, missing) = match readiness {
        Readiness::PeersMissing { missing, why: Missing::Unanswered } if missing.is_empty() => {
            ("not all prologs of the job have said that their nodes are complete".to_owned(), [].as_slice())
        }
        Readiness::PeersMissing { missing, why } => {
            let how = match why {
                Missing::Late => "did not connect in time",
                Missing::Left => "are missing, one left again",
                Missing::Absent => "are missing, on one no IMEX daemon listens",
                Missing::Unanswered => {
                    "are connected, but their prologs have not said that their nodes are complete"
                }
            };
            (format!("{} of {} members {how}", missing.len(), members.len()), missing.as_slice())
        }
        Readiness::Refused { missing } => (
            format!(
                "{} of {} members are missing; this node's IMEX daemon refuses those that had another list of nodes",
                missing.len(),
                members.len()
            ),
            missing.as_slice(),
        ),
        Readiness::PartitionsMissing { missing } => return partitions_report(missing),
        Readiness::NoView { last } => {
            (format!("the members' connections could not be read; last answer: {last}"), [].as_slice())
        }
        other => return Report::new(Blame::Bug, format!("unexpected end of the wait: {other:?}")),
    };
    let mut report = Report::new(Blame::Peer, message).with_hint(
        "look at imex.log and the IMEX daemon's log of the members named here; this node stays in service",
    );
    for (index, word) in missing {
        report.detail.push(match members.get(*index) {
            Some(member) => format!("member {index}: {} at {}: {word}", member.node, member.address),
            None => format!("member {index}: {word}"),
        });
    }
    report
}

fn partitions_report(missing: &[(BlockName, String)]) -> Report {
    let message = format!("{} other NVLink partitions of the job are not complete", missing.len());
    let mut report = Report::new(Blame::Peer, message).with_hint(
        "look at imex.log of the job's nodes in the blocks named here; this node stays in service",
    );
    report.detail.extend(missing.iter().map(|(block, word)| format!("block {block}: {word}")));
    report
}

#[cfg(test)]
mod tests;
