//! What is on this tray, from its records: for people, for programs (JSON), and for the health check.
#![forbid(unsafe_code)]

use crate::daemon::{DaemonOwner, DirectOwner};
use crate::mark::Mark;
use crate::paths::Paths;
use crate::procfs::{Proc, Process};
use crate::record::{self, Kind, Record, RecordError, State};
use crate::secure_fs::{Dir, FsError};
use crate::watch;
use fabric::names::JobId;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::SystemTime;
use thiserror::Error;

/// The tray cannot be looked at.
#[derive(Debug, Error)]
pub enum StatusError {
    /// Its state directory cannot be read.
    #[error("cannot read this node's state")]
    State(#[from] FsError),
    /// Its processes cannot be looked at.
    #[error("cannot look at this node's processes")]
    Proc(#[from] crate::procfs::ProcError),
    /// Its daemons cannot be looked for.
    #[error("cannot look for this node's daemons")]
    Daemon(#[from] crate::daemon::DaemonError),
    /// The answer cannot be put into JSON.
    #[error("cannot write the answer")]
    Json(#[from] serde_json::Error),
}

/// A recorded daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DaemonStatus {
    /// Its process id.
    pub pid: i32,
    /// Whether exactly this process runs.
    pub alive: bool,
    /// When it ended under its running job, in seconds since 1970, as far as somebody watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<u64>,
}

/// A member of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberStatus {
    /// Its Slurm name.
    pub node: String,
    /// Its address.
    pub address: String,
    /// Whether it is this tray.
    pub own: bool,
}

/// What a record says, and what has become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DomainStatus {
    /// Whose domain.
    pub kind: Kind,
    /// How far it is.
    pub state: State,
    /// Its block.
    pub block: String,
    /// Its members in nodes-file order.
    pub members: Vec<MemberStatus>,
    /// Number of the job's channel; absent where Slurm makes them.
    pub channel: Option<u32>,
    /// The daemon; absent for a guest and before its start.
    pub daemon: Option<DaemonStatus>,
    /// Whole seconds since its prolog was started; absent after a boot.
    pub age_seconds: Option<u64>,
    /// Whether an epilog has ended this run of the job, and this is left over.
    pub ended: bool,
    /// Why the state is what it is.
    pub note: Option<String>,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobStatus {
    /// The job; for the standing domain the one that had it started.
    pub job: JobId,
    /// What its record says.
    pub domain: Option<DomainStatus>,
    /// Why the record does not say anything.
    pub fault: Option<String>,
}

/// Everything that is stored on this tray.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TrayStatus {
    /// The standing domain of this NVLink partition.
    pub standing: Option<JobStatus>,
    /// Jobs by id.
    pub jobs: Vec<JobStatus>,
    /// Daemons that were started from our directory and have no record: process id and command line.
    pub strays: Vec<String>,
}

impl TrayStatus {
    /// Looks at the tray. Nothing is changed and no lock is taken.
    ///
    /// # Errors
    /// [`StatusError`], normally for want of permission.
    pub fn read(paths: &Paths, program: &str) -> Result<Self, StatusError> {
        if !paths.run_dir.exists() {
            return Ok(Self::default());
        }
        let proc = Proc::new(&paths.proc_dir);
        let state = Dir::open(&paths.run_dir)?;
        let look = Look {
            boot: proc.boot_id()?,
            nanos: proc.now_nanos()?,
            owner: DirectOwner::new(proc.clone(), Dir::open(&paths.run_dir)?),
            state,
        };
        let mut status = Self { standing: look.standing()?, jobs: look.jobs()?, strays: Vec::new() };
        status.strays = status.strays_among(proc.running_as(program), paths);
        Ok(status)
    }

    /// Of these processes those that run from our directory without a record.
    fn strays_among(&self, running: Vec<(i32, String)>, paths: &Paths) -> Vec<String> {
        let ours = format!("{}/", paths.run_dir.display());
        let jobs = self.jobs.iter().map(|job| format!("{ours}job-{}/", job.job));
        let standing = self.standing.iter().map(|_| format!("{ours}standing/"));
        let known: Vec<String> = jobs.chain(standing).collect();
        let stray =
            |line: &String| line.contains(&ours) && !known.iter().any(|path| line.contains(path.as_str()));
        let found = running.into_iter().filter(|(_, line)| stray(line));
        found.map(|(pid, line)| format!("{pid} {line}")).collect()
    }

    /// For programs: one JSON object in one line.
    ///
    /// # Errors
    /// [`StatusError::Json`] never in practice.
    pub fn to_json(&self) -> Result<String, StatusError> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// For people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let standing = self.standing.iter().map(|one| one.to_text("standing domain"));
        let jobs = self.jobs.iter().map(|job| job.to_text(&format!("job {}", job.job)));
        let strays = self.strays.iter().map(|line| format!("a daemon without a record: {line}\n"));
        let text: String = standing.chain(jobs).chain(strays).collect();
        if text.is_empty() { "no job has an IMEX domain on this node\n".to_owned() } else { text }
    }
}

impl JobStatus {
    fn to_text(&self, title: &str) -> String {
        let mut text = String::new();
        let Some(domain) = &self.domain else {
            let fault = self.fault.as_deref().unwrap_or("nothing is known");
            return format!("{title}: {fault}\n");
        };
        let state = match domain.state {
            State::Starting => "starting",
            State::Ready => "ready",
            State::NoDomain => "without a domain, a member was missing",
            State::Stopping => "being taken down",
        };
        let daemon = match (&domain.daemon, domain.kind) {
            (Some(daemon), _) if daemon.alive => format!("daemon {} runs", daemon.pid),
            (Some(daemon), _) => match daemon.lost_at {
                Some(at) => format!("daemon {} is gone since {}", daemon.pid, ago(at)),
                None => format!("daemon {} is gone", daemon.pid),
            },
            (None, Kind::Guest) => "guest of the standing domain".to_owned(),
            (None, Kind::Own | Kind::Standing) => "no daemon yet".to_owned(),
        };
        let channel = match (domain.channel, domain.kind) {
            (_, Kind::Standing) => String::new(),
            (Some(number), _) => format!(", channel {number}"),
            (None, _) => ", Slurm's channel".to_owned(),
        };
        let age = domain.age_seconds.map(|seconds| format!(", for {seconds} s")).unwrap_or_default();
        let ended = if domain.ended { ", left over by an epilog" } else { "" };
        // Writing to a String cannot fail.
        let _infallible =
            writeln!(text, "{title}: {state}; block {}, {daemon}{channel}{age}{ended}", domain.block);
        if let Some(note) = &domain.note {
            let _infallible = writeln!(text, "  note: {note}");
        }
        for (index, member) in domain.members.iter().enumerate() {
            let own = if member.own { " (this node)" } else { "" };
            let _infallible = writeln!(text, "  member {index}: {} {}{own}", member.node, member.address);
        }
        text
    }
}

/// A time of the past, as people want it.
fn ago(at: u64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |span| span.as_secs());
    format!("{} s", now.saturating_sub(at))
}

/// One look at the tray.
struct Look {
    state: Dir,
    owner: DirectOwner,
    boot: String,
    nanos: u64,
}

impl Look {
    fn jobs(&self) -> Result<Vec<JobStatus>, StatusError> {
        let names = self.state.names()?;
        let of_dir = |name: &str| -> Option<JobId> {
            let job: JobId = name.strip_prefix("job-")?.parse().ok()?;
            (format!("job-{job}") == name).then_some(job)
        };
        let jobs: BTreeSet<JobId> =
            names.iter().filter_map(|name| record::job_of_file(name).or_else(|| of_dir(name))).collect();
        jobs.into_iter().map(|job| self.job(job)).collect()
    }

    fn job(&self, job: JobId) -> Result<JobStatus, StatusError> {
        match self.record(&record::file_name(job))? {
            None => Ok(JobStatus { job, domain: None, fault: Some("files without a record".to_owned()) }),
            Some(Ok(found)) if found.job == job => {
                Ok(JobStatus { job, domain: Some(self.domain(&found)?), fault: None })
            }
            Some(Ok(found)) => Ok(unreadable(job, &format!("it is the record of job {}", found.job))),
            Some(Err(why)) => Ok(unreadable(job, &why)),
        }
    }

    fn standing(&self) -> Result<Option<JobStatus>, StatusError> {
        let one = JobId::new(1).ok();
        Ok(match self.record(record::STANDING_FILE)? {
            None => None,
            Some(Ok(found)) => {
                Some(JobStatus { job: found.job, domain: Some(self.domain(&found)?), fault: None })
            }
            Some(Err(why)) => one.map(|job| unreadable(job, &why)),
        })
    }

    /// `None`: there is none; an error in words: it cannot be used.
    fn record(&self, name: &str) -> Result<Option<Result<Record, String>>, StatusError> {
        match self.state.read(name, record::LEN_MAX) {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => {
                Ok(Some(Record::decode(&bytes).map_err(|error: RecordError| error.to_string())))
            }
            Err(fault @ (FsError::TooLarge { .. } | FsError::Kind { .. } | FsError::Unsafe { .. })) => {
                Ok(Some(Err(fault.to_string())))
            }
            Err(other) => Err(other.into()),
        }
    }

    fn domain(&self, record: &Record) -> Result<DomainStatus, StatusError> {
        let this_boot = record.boot == self.boot;
        let alive = |process: Process| Ok::<bool, StatusError>(this_boot && self.owner.is_alive(process)?);
        let daemon = match record.daemon {
            Some(process) => {
                let lost_at = watch::lost_at(&self.state, record.job)?.filter(|_| record.kind == Kind::Own);
                Some(DaemonStatus { pid: process.pid, alive: alive(process)?, lost_at })
            }
            None => None,
        };
        let mark = if record.kind == Kind::Standing { None } else { Mark::find(&self.state, record.job)? };
        let members = record.members.iter().enumerate().map(|(index, member)| MemberStatus {
            node: member.node.to_string(),
            address: member.address.to_string(),
            own: index == record.own_index,
        });
        let age = self.nanos.saturating_sub(record.prolog_started.nanos) / 1_000_000_000;
        Ok(DomainStatus {
            kind: record.kind,
            state: record.state,
            block: record.block.to_string(),
            members: members.collect(),
            channel: record.channel.map(|channel| channel.number),
            daemon,
            age_seconds: this_boot.then_some(age),
            ended: mark.is_some_and(|mark| mark.ends(record.prolog_started, &self.boot)),
            note: record.note.clone(),
        })
    }
}

fn unreadable(job: JobId, why: &str) -> JobStatus {
    JobStatus { job, domain: None, fault: Some(format!("record cannot be read: {why}")) }
}

#[cfg(test)]
mod tests;
