//! Brings a `topology.yaml` into force, or leaves everything as it was.
//!
//! ```text
//! lock -> check -> compare -> jobs -> mode -> backup -> mark -> write -> reload -> verify -> nodes -> unmark
//!                                                                  |        \_ refused, or not as planned
//!                                                                  |             restore -> reload -> verify -> unmark
//!                                                                  \_ killed here: the mark tells the next run which backup
//!                                                                     was in force
//! ```
//!
//! At each moment the file is the old one or the new one as a whole. Only a change in meaning is reloaded. The file is not
//! touched again before the slurmds have taken it: a slurmd that reads a bad file while it reloads dies.
#![forbid(unsafe_code)]

pub mod backup;
pub mod foreground;
pub mod moves;
mod reload;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fabric::{HostList, NodeName, Topology};

use crate::check::{Finding, Input, Severity, check};
use crate::conf::SlurmConf;
use crate::controller::{Controller, ControllerError, LiveJob};
use crate::diff::{Change, diff};
use crate::site::Site;
use crate::write::{self, WriteError, Written};
use backup::{BackupError, Backups, Undo};
use foreground::Mode;
use moves::{Moves, NeedsReload};

/// A point that a run has passed. Tests end the process there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// No other run works on this file now.
    Locked,
    /// The file is sound and differs from what is in force.
    Checked,
    /// The present file is in the backups.
    BackedUp,
    /// The mark tells what was in force.
    Marked,
    /// The new file is in place.
    Replaced,
    /// The controller was told, and has answered.
    Reloaded,
    /// The controller reports the plan.
    Verified,
    /// The nodes have the new file.
    NodesReady,
    /// After a refusal: the old file is in place again.
    Restored,
    /// After a refusal: the controller reports what was before.
    RestoreVerified,
}

impl Step {
    /// All of them, in the order of a run.
    pub const ALL: [Self; 10] = [
        Self::Locked,
        Self::Checked,
        Self::BackedUp,
        Self::Marked,
        Self::Replaced,
        Self::Reloaded,
        Self::Verified,
        Self::NodesReady,
        Self::Restored,
        Self::RestoreVerified,
    ];
}

/// What a run shall do.
#[derive(Debug)]
pub struct Order<'a> {
    /// The file that Slurm reads.
    pub target: &'a Path,
    /// Where old files are kept.
    pub backups: &'a Path,
    /// The controller.
    pub controller: &'a Controller,
    /// `slurm.conf`, for the check.
    pub conf: Option<&'a SlurmConf>,
    /// Where processes are listed: `/proc`.
    pub proc: &'a Path,
    /// Longest time until the controller reports the plan, and until the nodes have the file; each.
    pub deadline: Duration,
    /// Reload also a controller that would die of a bad file, or of which that is not known.
    pub allow_foreground: bool,
    /// Move nodes between blocks by updates, without a reload, or do nothing.
    pub without_reload: bool,
    /// Go on though running jobs stand on trays that change their block.
    pub move_running_jobs: bool,
    /// Go on though the check found something wrong that Slurm accepts.
    pub accept_wrong: bool,
    /// Change nothing.
    pub dry_run: bool,
}

/// What is told while a run goes on.
pub struct Watch<'a> {
    /// Takes a line for the operator.
    pub say: &'a mut dyn FnMut(&dyn fmt::Display),
    /// Called at each step.
    pub step: &'a dyn Fn(Step),
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// The controller has this topology already.
    Unchanged,
    /// A dry run: this would change.
    WouldChange(Vec<Change>),
    /// The new topology is in force. `late` nodes have not taken the file within the deadline.
    Applied {
        /// What changed.
        changes: Vec<Change>,
        /// Nodes without the new file.
        late: HostList,
    },
    /// Nothing was touched.
    Refused(Refusal),
    /// The controller refused; file and controller are as before.
    RolledBack {
        /// What went wrong.
        why: String,
        /// The controller's own words.
        log: Vec<String>,
    },
}

/// Why nothing was touched.
#[derive(Debug)]
pub enum Refusal {
    /// The file is not sound.
    Check(Vec<Finding>),
    /// Running jobs stand on trays that would change their block.
    Jobs(Vec<(LiveJob, HostList)>),
    /// A bad file would end this controller, or that is not known.
    Foreground(Mode),
    /// The change cannot be made without a reload.
    Reload(NeedsReload),
}

/// Why a run could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The controller gives no answer; nothing was touched.
    #[error("the controller gives no answer")]
    Controller(#[source] ControllerError),
    /// The backups.
    #[error("no change was made")]
    Backup(#[source] BackupError),
    /// The file could not be written; it is as before.
    #[error("{target} was not changed")]
    Write {
        /// The file.
        target: PathBuf,
        /// Why.
        source: WriteError,
    },
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The old file is back, but the controller does not report it.
    #[error("{why}; the old file is in place again, but the controller does not report it: {now}")]
    NotRestored {
        /// What went wrong first.
        why: String,
        /// What the controller says now.
        now: String,
        /// The controller's own words.
        log: Vec<String>,
    },
    /// The old file could not be put back.
    #[error("{why}; the old file could not be put back, it is {backup}")]
    Restore {
        /// What went wrong first.
        why: String,
        /// Where the old file is.
        backup: String,
        /// Why.
        source: WriteError,
    },
}

/// Brings the text into force as the target file.
///
/// # Errors
/// [`ApplyError`]. Everything but `NotRestored` and `Restore` left file and controller as they were.
pub fn apply(order: &Order<'_>, text: &str, watch: &mut Watch<'_>) -> Result<Outcome, ApplyError> {
    let backups = Backups::at(order.backups, order.target);
    let _lock = if order.dry_run { None } else { Some(backups.lock().map_err(ApplyError::Backup)?) };
    (watch.step)(Step::Locked);
    let present = read(order.target)?;
    let unfinished = backups.unfinished().map_err(ApplyError::Backup)?;
    if let Some(undo) = &unfinished {
        (watch.say)(&format_args!("an earlier run was interrupted; in force before it was {undo}"));
    }
    let live = order.controller.topologies().map_err(ApplyError::Controller)?;
    let site = order.controller.site().map_err(ApplyError::Controller)?;
    let new = match sound(order, text, &site, watch) {
        Ok(new) => new,
        Err(findings) => return Ok(Outcome::Refused(Refusal::Check(findings))),
    };
    let changes = diff(&live, &new);
    let on_disk = present.as_deref().and_then(|text| fabric::slurm_yaml::parse(text).ok());
    let same_file = on_disk.is_some_and(|old| diff(&old, &new).is_empty());
    if changes.is_empty() && same_file {
        if unfinished.is_some() && !order.dry_run {
            backups.finish().map_err(ApplyError::Backup)?;
        }
        return Ok(Outcome::Unchanged);
    }
    let moves = match order.without_reload {
        false => None,
        true => match updates(order, &live, &new, &changes, unfinished.is_some())? {
            Ok(moves) => Some(moves),
            Err(reason) => return Ok(Outcome::Refused(Refusal::Reload(reason))),
        },
    };
    if let Some(refusal) = refusal(order, &changes, watch)? {
        return Ok(Outcome::Refused(refusal));
    }
    (watch.step)(Step::Checked);
    if order.dry_run {
        return Ok(Outcome::WouldChange(changes));
    }
    let undo = match unfinished {
        Some(undo) => undo,
        None => {
            let saved = backups.save(order.target, present.as_deref()).map_err(ApplyError::Backup)?;
            (watch.say)(&format_args!("the present file is kept as {saved}"));
            (watch.step)(Step::BackedUp);
            backups.begin(&saved).map_err(ApplyError::Backup)?;
            saved
        }
    };
    (watch.step)(Step::Marked);
    let run = Run { order, backups: &backups, before: &live, site: &site, undo, moves };
    run.go(text, &new, changes, watch)
}

/// A run that has begun to change things.
struct Run<'a> {
    order: &'a Order<'a>,
    backups: &'a Backups,
    before: &'a [Topology],
    site: &'a Site,
    undo: Undo,
    /// The updates that do it, in the place of a reload.
    moves: Option<Moves>,
}

impl Run<'_> {
    fn go(
        &self,
        text: &str,
        new: &[Topology],
        changes: Vec<Change>,
        watch: &mut Watch<'_>,
    ) -> Result<Outcome, ApplyError> {
        let target = self.order.target;
        match write::replace(target, text) {
            Ok(Written::Replaced) => (watch.say)(&format_args!("wrote {}", target.display())),
            Ok(Written::Unchanged) => {}
            Err(source) => {
                // Nothing has changed; the mark, if it stays, only names the file that is still there.
                let _ = self.backups.finish();
                return Err(ApplyError::Write { target: target.to_owned(), source });
            }
        }
        (watch.step)(Step::Replaced);
        let reload = reload::Reload::begin(self.order.controller, self.site, self.order.deadline);
        let told = match &self.moves {
            None => reload.tell(),
            Some(moves) => {
                let refused = |error| format!("the controller refuses: {error}");
                moves.make(self.order.controller).map_err(refused)
            }
        };
        (watch.step)(Step::Reloaded);
        // Nodes are told by a reload only.
        let taken = told.is_ok() && self.moves.is_none();
        match told.and_then(|()| reload.wait_for(new)) {
            Ok(()) => {
                (watch.step)(Step::Verified);
                (watch.say)(&"the controller reports the new topology");
                let late = if taken { reload.wait_for_nodes() } else { HostList::default() };
                (watch.step)(Step::NodesReady);
                self.backups.finish().map_err(ApplyError::Backup)?;
                Ok(Outcome::Applied { changes, late })
            }
            Err(why) => {
                (watch.say)(&format_args!("error: {why}; going back"));
                let log = reload.log();
                if taken {
                    // Slurmds may be reading the file now.
                    reload.wait_for_nodes();
                }
                self.back(why, log, watch)
            }
        }
    }

    fn back(&self, why: String, log: Vec<String>, watch: &mut Watch<'_>) -> Result<Outcome, ApplyError> {
        let target = self.order.target;
        if let Err(source) = self.backups.restore(&self.undo, target) {
            let backup = self.undo.to_string();
            return Err(ApplyError::Restore { why, backup, source });
        }
        (watch.step)(Step::Restored);
        (watch.say)(&format_args!("{} is as before", target.display()));
        let reload = reload::Reload::begin(self.order.controller, self.site, self.order.deadline);
        // A controller that never took the new file may refuse this too, for reasons of its own; what counts is what it has.
        let told = match &self.moves {
            None => reload.tell().is_ok(),
            Some(moves) => moves.unmake(self.order.controller).is_err() && reload.tell().is_ok(),
        };
        match reload.wait_for(self.before) {
            Ok(()) => {
                if told {
                    reload.wait_for_nodes();
                }
                (watch.step)(Step::RestoreVerified);
                self.backups.finish().map_err(ApplyError::Backup)?;
                Ok(Outcome::RolledBack { why, log })
            }
            Err(now) => Err(ApplyError::NotRestored { why, now, log }),
        }
    }
}

fn read(path: &Path) -> Result<Option<String>, ApplyError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ApplyError::Read { path: path.to_owned(), source }),
    }
}

/// The topologies of a sound text; else what is not sound.
fn sound(
    order: &Order<'_>,
    text: &str,
    site: &Site,
    watch: &mut Watch<'_>,
) -> Result<Vec<Topology>, Vec<Finding>> {
    let found = check(&Input { text, version: None, site: Some(site), conf: order.conf, in_force: None });
    let bar = if order.accept_wrong { Severity::Fatal } else { Severity::Wrong };
    match (found.topologies, found.list.iter().any(|finding| finding.severity <= bar)) {
        (Some(topologies), false) => {
            for finding in found.list.iter().filter(|finding| finding.severity == Severity::Wrong) {
                (watch.say)(&format_args!("warning: {}", finding.what));
            }
            Ok(topologies)
        }
        _ => Err(found.list),
    }
}

/// The updates that make the change without a reload, or why there are none.
fn updates(
    order: &Order<'_>,
    live: &[Topology],
    new: &[Topology],
    changes: &[Change],
    unfinished: bool,
) -> Result<Result<Moves, NeedsReload>, ApplyError> {
    if unfinished {
        return Ok(Err(NeedsReload::Unfinished));
    }
    let allowed = moves::allowed(order.controller).map_err(ApplyError::Controller)?;
    Ok(allowed.and_then(|()| moves::moves(live, new, changes)))
}

/// What speaks against the change.
fn refusal(
    order: &Order<'_>,
    changes: &[Change],
    watch: &mut Watch<'_>,
) -> Result<Option<Refusal>, ApplyError> {
    let jobs = jobs_on_moved_trays(order.controller, changes).map_err(ApplyError::Controller)?;
    for (job, nodes) in jobs.iter().filter(|_| order.move_running_jobs || order.dry_run) {
        (watch.say)(&format_args!("job {} of {} runs on {nodes}, which changes its block", job.id, job.user));
    }
    if !jobs.is_empty() && !order.move_running_jobs {
        return Ok(Some(Refusal::Jobs(jobs)));
    }
    if order.without_reload {
        // Updates end no controller.
        return Ok(None);
    }
    let mode = foreground::mode(order.controller, order.proc).map_err(ApplyError::Controller)?;
    Ok((mode != Mode::Daemon && !order.allow_foreground).then_some(Refusal::Foreground(mode)))
}

/// Jobs on trays that leave their block, with these trays. A tray that was in no block had no partition to lose.
///
/// # Errors
/// The controller gives no answer.
pub fn jobs_on_moved_trays(
    controller: &Controller,
    changes: &[Change],
) -> Result<Vec<(LiveJob, HostList)>, ControllerError> {
    let moved: Vec<&NodeName> = changes
        .iter()
        .filter(|change| !matches!(change, Change::NodesJoined { .. }))
        .filter_map(Change::moved_nodes)
        .flatten()
        .collect();
    if moved.is_empty() {
        return Ok(Vec::new());
    }
    let jobs = controller.jobs()?.into_iter().map(|job| {
        let nodes: HostList = job.nodes.iter().filter(|node| moved.contains(node)).cloned().collect();
        (job, nodes)
    });
    Ok(jobs.filter(|(_, nodes)| !nodes.is_empty()).collect())
}
