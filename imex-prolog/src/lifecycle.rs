//! The life of one job's domain on one tray, as a pure order of steps.
//!
//! ```text
//!            save          files, daemon, peers, channel, save
//!   Absent ───────▶ Starting ──────────────────────────────────▶ Ready ── roll call
//!                     │   │ peers missing: save, ask daemon to stop │
//!                     │   └──────────────▶ NoDomain                 │
//!                     ▼ save                  ▼ save                ▼ save
//!                  Stopping ◀─────────────────┴─────────────────────┘
//!                     │ channel, daemon, files removed; erase
//!                     ▼
//!                   Gone (the same as Absent)
//! ```
//!
//! Each arrow's record is on disk before the step that it announces, and the record is erased after everything else is
//! gone. So whoever finds a record, in whatever state, after a kill at any instruction, can remove all that may exist:
//! [`end`] does so for an epilog, [`begin`] for what an earlier job left behind.
//!
//! The caller holds the tray lock. Nothing here touches the system: [`World`] does, and the tests put a world there that
//! dies at every step.
#![forbid(unsafe_code)]

use crate::daemon::Ended;
use crate::procfs::{Process, Started};
use crate::readiness::Readiness;
use crate::record::{Record, State};
use fabric::names::JobId;
use std::time::Duration;

/// How long a daemon may refuse members before it is started anew, the first time, the second, and so on. A member's prolog
/// ends the daemon that an earlier job left there as soon as it begins, and the prologs of a job begin within a second
/// or two; a list that really differs is not mended by more attempts.
const REFUSED: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

/// What is stored about a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// Nothing.
    Nothing,
    /// Files without a record: somebody removed the record by hand.
    FilesOnly,
    /// A record that cannot be read; in words.
    Damaged(String),
    /// A record.
    Record(Box<Record>),
}

/// Everything that the steps do to the tray. Each call can be repeated: doing it twice is doing it once.
pub trait World {
    /// A step that failed.
    type Error;

    /// Whether Slurm is ending the run whose prolog was started then, or an epilog has.
    ///
    /// # Errors
    /// The tray's state cannot be read.
    fn has_ended(&mut self, job: JobId, prolog_started: Started) -> Result<bool, Self::Error>;
    /// Jobs that something is stored about.
    ///
    /// # Errors
    /// The tray's state cannot be read.
    fn jobs(&mut self) -> Result<Vec<JobId>, Self::Error>;
    /// What is stored about a job.
    ///
    /// # Errors
    /// The tray's state cannot be read.
    fn load(&mut self, job: JobId) -> Result<Stored, Self::Error>;
    /// Stores the record, replacing an older one in one step.
    ///
    /// # Errors
    /// It is not stored.
    fn save(&mut self, record: &Record) -> Result<(), Self::Error>;
    /// Removes the record.
    ///
    /// # Errors
    /// It may still be there.
    fn erase(&mut self, job: JobId) -> Result<(), Self::Error>;
    /// Writes the daemon's configuration and nodes file.
    ///
    /// # Errors
    /// They may be there in part.
    fn make_files(&mut self, record: &Record) -> Result<(), Self::Error>;
    /// Removes them.
    ///
    /// # Errors
    /// They may be there in part.
    fn drop_files(&mut self, job: JobId) -> Result<(), Self::Error>;
    /// Starts the daemon.
    ///
    /// # Errors
    /// It does not run.
    fn start_daemon(&mut self, record: &Record) -> Result<Process, Self::Error>;
    /// Whether the recorded daemon runs.
    ///
    /// # Errors
    /// It cannot be told.
    fn is_daemon_alive(&mut self, record: &Record) -> Result<bool, Self::Error>;
    /// Waits for the whole domain; only so long with members that the daemon refuses.
    fn wait_ready(&mut self, record: &Record, refused: Option<Duration>) -> Readiness;
    /// Says that this tray is complete, and waits until all members have said so; how long that took.
    ///
    /// # Errors
    /// What came in the place of that; never [`Readiness::Ready`].
    fn agree(&mut self, record: &Record) -> Result<Duration, Readiness>;
    /// Tells the daemon to end, without waiting.
    ///
    /// # Errors
    /// It was not told.
    fn ask_daemon_to_stop(&mut self, record: &Record) -> Result<(), Self::Error>;
    /// Ends the recorded daemon and every other one that was started for the job.
    ///
    /// # Errors
    /// One may still run.
    fn stop_daemon(&mut self, job: JobId, record: Option<&Record>) -> Result<Ended, Self::Error>;
    /// Makes the job's channel, if this tray's channels are ours to make.
    ///
    /// # Errors
    /// There is no usable channel.
    fn make_channel(&mut self, record: &Record) -> Result<(), Self::Error>;
    /// Removes the job's channel; without a record the one that the settings give to this job.
    ///
    /// # Errors
    /// It may still be there.
    fn drop_channel(&mut self, job: JobId, record: Option<&Record>) -> Result<(), Self::Error>;
}

/// How a begin ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// The domain is complete and the channel exists.
    Ready {
        /// How long the wait for the own part took.
        after: Duration,
        /// How long the roll call took then.
        agreed: Duration,
        /// The control tool's word for the whole domain.
        domain: String,
    },
    /// It already was: the prolog ran twice.
    AlreadyReady,
    /// Slurm has ended this run of the job; nothing was begun, or the epilog removes it.
    RunEnded,
    /// Given up for want of a peer; there is no channel.
    NoDomain(Readiness),
    /// The own daemon failed.
    Failed(Readiness),
    /// The channel that this job would get is another job's on this tray.
    ChannelTaken(JobId),
    /// The standing domain has other members than it should, and this job still uses it.
    Outdated(JobId),
}

/// How an end ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// There was nothing.
    Nothing,
    /// What is there was begun after this epilog was started, so it belongs to a later run.
    LaterRun,
    /// All is removed.
    Gone {
        /// How the daemon ended.
        daemon: Ended,
        /// How far the domain had come.
        was: Option<State>,
        /// Whether a complete domain's own daemon had ended before.
        lost: bool,
    },
}

/// Brings a domain up. `record` is what is to be: state `Starting`, no daemon.
///
/// # Errors
/// The first step that failed. The record then says what may exist; an epilog or the next begin removes it.
pub fn begin<W: World>(world: &mut W, mut record: Record) -> Result<Begun, W::Error> {
    if world.has_ended(record.job, record.prolog_started)? {
        return Ok(Begun::RunEnded);
    }
    for job in world.jobs()? {
        let stored = world.load(job)?;
        if let Stored::Record(old) = &stored
            && is_same(old, &record)
            && world.is_daemon_alive(old)?
        {
            world.make_channel(old)?;
            return Ok(Begun::AlreadyReady);
        }
        clear(world, job, stored, record.job)?;
    }
    world.save(&record)?;
    world.make_files(&record)?;
    record.daemon = Some(world.start_daemon(&record)?);
    world.save(&record)?;
    let mut refused = REFUSED.into_iter();
    loop {
        match world.wait_ready(&record, refused.next()) {
            Readiness::Ready { after, domain } => return complete(world, record, after, domain),
            Readiness::Refused { .. } => start_anew(world, &mut record)?,
            other => return leave(world, record, other),
        }
    }
}

/// Ends the own daemon and starts it again.
fn start_anew<W: World>(world: &mut W, record: &mut Record) -> Result<(), W::Error> {
    world.stop_daemon(record.job, Some(record))?;
    record.daemon = None;
    world.save(record)?;
    record.daemon = Some(world.start_daemon(record)?);
    world.save(record)
}

/// The own part is complete: all is done and written down before that is said, so that nothing of this tray can fail
/// once all agree.
fn complete<W: World>(
    world: &mut W,
    mut record: Record,
    after: Duration,
    domain: String,
) -> Result<Begun, W::Error> {
    world.make_channel(&record)?;
    become_state(&mut record, State::Ready);
    world.save(&record)?;
    match world.agree(&record) {
        Ok(agreed) => Ok(Begun::Ready { after, agreed, domain }),
        Err(other) => {
            world.drop_channel(record.job, Some(&record))?;
            leave(world, record, other)
        }
    }
}

/// The domain has not come to be.
fn leave<W: World>(world: &mut W, mut record: Record, why: Readiness) -> Result<Begun, W::Error> {
    match why {
        // Not a way out of anything; the caller takes it.
        Readiness::RunEnded | Readiness::Ready { .. } => Ok(Begun::RunEnded),
        peers @ (Readiness::PeersMissing { .. }
        | Readiness::Refused { .. }
        | Readiness::PartitionsMissing { .. }
        | Readiness::NoView { .. }) => {
            give_up(world, &mut record, State::NoDomain, &peers)?;
            Ok(Begun::NoDomain(peers))
        }
        own @ (Readiness::DaemonDied
        | Readiness::NotReady { .. }
        | Readiness::CutOff { .. }
        | Readiness::NoRollCall { .. }) => {
            give_up(world, &mut record, State::Stopping, &own)?;
            Ok(Begun::Failed(own))
        }
    }
}

/// Takes a job's domain down, as far as it was begun before `epilog_started`.
///
/// # Errors
/// The first step that failed; the others were tried. The record stays until all have succeeded.
pub fn end<W: World>(world: &mut W, job: JobId, epilog_started: Started) -> Result<Closed, W::Error> {
    let stored = world.load(job)?;
    match &stored {
        Stored::Nothing => return Ok(Closed::Nothing),
        Stored::Record(record) if record.prolog_started > epilog_started => return Ok(Closed::LaterRun),
        Stored::Record(_) | Stored::FilesOnly | Stored::Damaged(_) => {}
    }
    let record = if let Stored::Record(record) = &stored { Some(record.as_ref().clone()) } else { None };
    let daemon = take_down(world, job, stored)?;
    let was = record.as_ref().map(|record| record.state);
    let served = record.is_some_and(|record| record.state == State::Ready && record.daemon.is_some());
    Ok(Closed::Gone { daemon, was, lost: served && daemon == Ended::Already })
}

/// The order of removal: the way into the fabric first, then the daemon, then its files, at last the record.
pub(crate) fn take_down<W: World>(world: &mut W, job: JobId, stored: Stored) -> Result<Ended, W::Error> {
    let (record, channel) = match stored {
        // No record, no channel: it might be that of the job which runs now.
        Stored::Nothing | Stored::FilesOnly => (None, Ok(())),
        Stored::Damaged(_) => (None, world.drop_channel(job, None)),
        Stored::Record(mut record) => {
            become_state(&mut record, State::Stopping);
            world.save(&record)?;
            let channel = world.drop_channel(job, Some(&record));
            (Some(record), channel)
        }
    };
    let daemon = world.stop_daemon(job, record.as_deref());
    channel?;
    let ended = daemon?;
    world.drop_files(job)?;
    world.erase(job)?;
    Ok(ended)
}

/// Removes what is stored about a job before another run begins, its own or that of job `next`.
pub(crate) fn clear<W: World>(
    world: &mut W,
    job: JobId,
    stored: Stored,
    next: JobId,
) -> Result<(), W::Error> {
    take_down(world, job, stored)?;
    if job != next {
        tracing::warn!(job = %next, earlier_job = %job, "removed what an earlier job had left here, as no epilog of it did");
    }
    Ok(())
}

/// Leaves the domain without waiting: peers that are connected see it at once. An epilog does the rest.
fn give_up<W: World>(
    world: &mut W,
    record: &mut Record,
    state: State,
    why: &Readiness,
) -> Result<(), W::Error> {
    record.note = Some(why.words());
    become_state(record, state);
    world.save(record)?;
    world.ask_daemon_to_stop(record)
}

/// Whether `old` is a complete domain of the very run that `new` wants to begin.
fn is_same(old: &Record, new: &Record) -> bool {
    old.state == State::Ready
        && old.job == new.job
        && old.restarts == new.restarts
        && old.boot == new.boot
        && old.block == new.block
        && old.members == new.members
        && old.own_index == new.own_index
        && old.channel == new.channel
}

fn become_state(record: &mut Record, next: State) {
    debug_assert!(may_become(record.state, next), "{:?} to {next:?}", record.state);
    record.state = next;
}

/// The arrows of the picture above.
fn may_become(from: State, to: State) -> bool {
    let gives_up = matches!((from, to), (State::Starting | State::Ready, State::NoDomain));
    gives_up || matches!((from, to), (State::Starting, State::Ready) | (_, State::Stopping))
}

#[cfg(test)]
mod tests;
