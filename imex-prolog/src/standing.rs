//! The standing domain of an NVLink partition, and a job that is a guest in it (mode `per-partition`).
//!
//! ```text
//!   prepare (tray locked)          wait (not locked)              settle (tray locked)
//!   leftovers removed,      ───▶   own daemon READY, the   ───▶   Ready: guest's record, channel
//!   daemon there or started        guest's trays connected        own fault: once more, with a new daemon
//! ```
//!
//! All trays of the block are its members, whether or not they are up: a guest needs only its own trays to be connected.
//! The domain outlives its guests; a job of mode `per-job`, which has the tray alone, ends it on its trays ([`give_way`]).
//! While other guests are here, a daemon that runs is never ended: that would take their imported memory from them.
#![forbid(unsafe_code)]

use crate::daemon::Ended;
use crate::lifecycle::{Begun, Stored, World, clear, take_down};
use crate::readiness::Readiness;
use crate::record::{Kind, Record, State};
use std::time::Duration;

/// What the steps do to the tray's standing domain. As in [`World`], doing it twice is doing it once.
pub trait StandingWorld: World {
    /// What is stored about it.
    ///
    /// # Errors
    /// The tray's state cannot be read.
    fn load_standing(&mut self) -> Result<Stored, Self::Error>;
    /// Ends its daemon, then removes its files and record.
    ///
    /// # Errors
    /// Something of it may still be there.
    fn drop_standing(&mut self, record: Option<&Record>) -> Result<Ended, Self::Error>;
    /// Waits until its daemon is READY and connected to the guest's trays.
    fn wait_joined(&mut self, standing: &Record, guest: &Record) -> Readiness;
}

/// How a guest found the standing domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prepared {
    /// There is a daemon.
    Daemon {
        /// Its record.
        record: Box<Record>,
        /// Whether it was started for this guest.
        fresh: bool,
    },
    /// Nothing is to be waited for.
    Settled(Begun),
}

/// The standing domain as this tray should have it, and the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// State `Starting`, no daemon.
    pub standing: Record,
    /// State `Starting`.
    pub guest: Record,
}

/// First step: a daemon with the right members runs. The caller holds the tray lock.
///
/// # Errors
/// The first step that failed.
pub fn prepare<W: StandingWorld>(world: &mut W, wanted: &Wanted) -> Result<Prepared, W::Error> {
    let Wanted { standing, guest } = wanted;
    if world.has_ended(guest.job, guest.prolog_started)? {
        return Ok(Prepared::Settled(Begun::RunEnded));
    }
    let others = others(world, guest)?;
    let taken = others.iter().find(|other| {
        other.channel.is_some_and(|theirs| guest.channel.is_some_and(|ours| ours.number == theirs.number))
    });
    if let Some(other) = taken {
        return Ok(Prepared::Settled(Begun::ChannelTaken(other.job)));
    }
    let stored = world.load_standing()?;
    if let Stored::Record(old) = &stored
        && world.is_daemon_alive(old)?
    {
        if is_same_domain(old, standing) {
            return Ok(Prepared::Daemon { record: old.clone(), fresh: false });
        }
        if let Some(other) = others.first() {
            return Ok(Prepared::Settled(Begun::Outdated(other.job)));
        }
    }
    restart(world, stored, standing)
}

/// Last step: what the wait means. `None`: once more from [`prepare`], which is for the caller to bound. The caller holds the
/// tray lock.
///
/// # Errors
/// The first step that failed.
pub fn settle<W: StandingWorld>(
    world: &mut W,
    wanted: &Wanted,
    record: &Record,
    fresh: bool,
    readiness: Readiness,
) -> Result<Option<Begun>, W::Error> {
    if world.has_ended(wanted.guest.job, wanted.guest.prolog_started)? {
        return Ok(Some(Begun::RunEnded));
    }
    match readiness {
        Readiness::Ready { after, domain } => {
            if record.state != State::Ready {
                world.save(&Record { state: State::Ready, ..record.clone() })?;
            }
            let mut guest = wanted.guest.clone();
            world.save(&guest)?;
            world.make_channel(&guest)?;
            guest.state = State::Ready;
            world.save(&guest)?;
            Ok(Some(Begun::Ready { after, agreed: Duration::ZERO, domain }))
        }
        Readiness::RunEnded => Ok(Some(Begun::RunEnded)),
        peers @ (Readiness::PeersMissing { .. }
        | Readiness::PartitionsMissing { .. }
        | Readiness::NoView { .. }) => Ok(Some(Begun::NoDomain(peers))),
        // Started anew it may take them, if nobody else needs it as it is.
        peers @ Readiness::Refused { .. } => Ok(match give_up_daemon(world, wanted, record)? {
            GivenUp::ByAnother | GivenUp::Now => None,
            GivenUp::InUse => Some(Begun::NoDomain(peers)),
        }),
        // No fault of the standing daemon's.
        own @ (Readiness::CutOff { .. } | Readiness::NoRollCall { .. }) => Ok(Some(Begun::Failed(own))),
        own @ (Readiness::DaemonDied | Readiness::NotReady { .. }) => {
            Ok(match give_up_daemon(world, wanted, record)? {
                GivenUp::ByAnother => None,
                GivenUp::Now if !fresh => None,
                GivenUp::Now | GivenUp::InUse => Some(Begun::Failed(own)),
            })
        }
    }
}

/// What became of a standing daemon that does not serve.
enum GivenUp {
    /// Another prolog has started it anew meanwhile.
    ByAnother,
    /// It is gone.
    Now,
    /// Other guests use it.
    InUse,
}

fn give_up_daemon<W: StandingWorld>(
    world: &mut W,
    wanted: &Wanted,
    record: &Record,
) -> Result<GivenUp, W::Error> {
    let stored = world.load_standing()?;
    if !matches!(&stored, Stored::Record(now) if now.daemon == record.daemon) {
        return Ok(GivenUp::ByAnother);
    }
    if world.is_daemon_alive(record)? && !others(world, &wanted.guest)?.is_empty() {
        return Ok(GivenUp::InUse);
    }
    let old = if let Stored::Record(old) = &stored { Some(old.as_ref()) } else { None };
    world.drop_standing(old)?;
    Ok(GivenUp::Now)
}

/// After [`settle`] has made the job a guest and its trays have not all become complete: it is a guest no more. The
/// caller holds the tray lock.
///
/// # Errors
/// Something of the guest may still be there.
pub fn withdraw<W: StandingWorld>(world: &mut W, wanted: &Wanted, why: Readiness) -> Result<Begun, W::Error> {
    let guest = Record { state: State::Ready, ..wanted.guest.clone() };
    take_down(world, guest.job, Stored::Record(Box::new(guest)))?;
    Ok(match why {
        Readiness::RunEnded | Readiness::Ready { .. } => Begun::RunEnded,
        peers @ (Readiness::PeersMissing { .. }
        | Readiness::Refused { .. }
        | Readiness::PartitionsMissing { .. }
        | Readiness::NoView { .. }) => Begun::NoDomain(peers),
        own => Begun::Failed(own),
    })
}

/// Ends the standing domain on a tray that a job has alone, if there is one. The caller holds the tray lock.
///
/// # Errors
/// Something of it may still be there.
pub fn give_way<W: StandingWorld>(world: &mut W) -> Result<(), W::Error> {
    match world.load_standing()? {
        Stored::Nothing => Ok(()),
        Stored::Record(record) => world.drop_standing(Some(&record)).map(drop),
        Stored::FilesOnly | Stored::Damaged(_) => world.drop_standing(None).map(drop),
    }
}

/// The other living guests. Whatever else is stored about jobs is left over, and removed: a job that has the tray alone cannot
/// be here at the same time.
fn others<W: StandingWorld>(world: &mut W, guest: &Record) -> Result<Vec<Record>, W::Error> {
    let mut others = Vec::new();
    for job in world.jobs()? {
        match world.load(job)? {
            Stored::Record(old) if old.kind == Kind::Guest && old.boot == guest.boot => {
                if is_same_guest(&old, guest) {
                    // Its prolog ran twice: the channel stays for the job that may be using it.
                } else if job == guest.job || world.has_ended(job, old.prolog_started)? {
                    clear(world, job, Stored::Record(old), guest.job)?;
                } else {
                    others.push(*old);
                }
            }
            leftover => clear(world, job, leftover, guest.job)?,
        }
    }
    Ok(others)
}

fn restart<W: StandingWorld>(world: &mut W, stored: Stored, standing: &Record) -> Result<Prepared, W::Error> {
    match stored {
        Stored::Nothing => {}
        Stored::Record(old) => {
            world.drop_standing(Some(&old))?;
        }
        Stored::FilesOnly | Stored::Damaged(_) => {
            world.drop_standing(None)?;
        }
    }
    let mut record = standing.clone();
    world.save(&record)?;
    world.make_files(&record)?;
    record.daemon = Some(world.start_daemon(&record)?);
    world.save(&record)?;
    Ok(Prepared::Daemon { record: Box::new(record), fresh: true })
}

fn is_same_domain(old: &Record, new: &Record) -> bool {
    old.boot == new.boot
        && old.block == new.block
        && old.members == new.members
        && old.own_index == new.own_index
}

fn is_same_guest(old: &Record, new: &Record) -> bool {
    old.job == new.job
        && old.restarts == new.restarts
        && old.channel == new.channel
        && is_same_domain(old, new)
}

#[cfg(test)]
mod tests;
