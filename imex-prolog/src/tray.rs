//! The real tray: what [`crate::lifecycle::World`] means on a machine.
#![forbid(unsafe_code)]

mod probe;
mod roll;
mod standing;

use crate::channel::{self, ChannelError};
use crate::config::{Ports, Settings};
use crate::ctl::Ctl;
use crate::daemon::{DaemonError, DaemonOwner, DaemonSpec, Ended};
use crate::deadline::{Deadline, Pauses};
use crate::imexd_config::{CONFIG_FILE, NODES_FILE, Tls, config_text, nodes_text};
use crate::job_end::JobEnd;
use crate::lifecycle::{Stored, World};
use crate::mark::Mark;
use crate::paths::Paths;
use crate::procfs::{Process, Started};
use crate::readiness::{Patience, Probe, Readiness, wait_ready};
use crate::record::{self, Kind, Record, RecordError};
use crate::roll_call::{Partition, RollCall};
use crate::secure_fs::{Dir, FsError};
use crate::tls::{self, TlsError};
use crate::watch;
use fabric::names::JobId;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// How long a port of the daemon may still be held by somebody who is about to let go.
const PORT_PATIENCE: Duration = Duration::from_secs(5);

/// Between an exec's closing of files and its new arguments; far more than it takes.
const START_GAP: Duration = Duration::from_millis(50);

/// A step that failed on this tray.
#[derive(Debug, Error)]
pub enum TrayError {
    /// Own state cannot be read or written.
    #[error("cannot keep the state of job {job} in {dir}")]
    State {
        /// The job.
        job: JobId,
        /// The state directory.
        dir: PathBuf,
        /// Why not.
        #[source]
        source: FsError,
    },
    /// The state directory cannot be read.
    #[error("cannot read the state directory")]
    List(#[source] FsError),
    /// The standing domain's state cannot be read or removed.
    #[error("cannot keep the state of the standing domain")]
    Standing(#[source] FsError),
    /// A record cannot be put into words.
    #[error("cannot write the record of job {job}")]
    Encode {
        /// The job.
        job: JobId,
        /// Why not.
        #[source]
        source: RecordError,
    },
    /// The daemon cannot be started, found or ended.
    #[error("cannot manage the IMEX daemon of job {job}")]
    Daemon {
        /// The job.
        job: JobId,
        /// Why not.
        #[source]
        source: DaemonError,
    },
    /// A file for TLS cannot be used.
    #[error("cannot encrypt the IMEX domain of job {job}")]
    Tls {
        /// The job.
        job: JobId,
        /// Why not.
        #[source]
        source: TlsError,
    },
    /// A port that the daemon needs is taken.
    #[error("port {port} of {address} is held by another program")]
    Port {
        /// The tray's address.
        address: IpAddr,
        /// The port.
        port: u16,
        /// Why it cannot be used.
        #[source]
        source: io::Error,
    },
    /// The address that the members list for this tray is none of its own.
    #[error("{address} is listed for this node but is not an address of this machine")]
    ForeignAddress {
        /// The address.
        address: IpAddr,
    },
    /// The channel cannot be made or removed.
    #[error("cannot manage the IMEX channel of job {job}")]
    Channel {
        /// The job.
        job: JobId,
        /// Why not.
        #[source]
        source: ChannelError,
    },
    /// A record whose own position is outside its member list.
    #[error("the record of job {job} does not name this tray's own address")]
    NoOwnAddress {
        /// The job.
        job: JobId,
    },
}

/// This tray with everything that the steps need. The caller holds the tray lock.
#[derive(Debug)]
pub struct Tray<O> {
    /// Where things lie.
    pub paths: Paths,
    /// The open state directory.
    pub state: Dir,
    /// The settings.
    pub settings: Settings,
    /// Who owns daemons.
    pub owner: O,
    /// This boot.
    pub boot: String,
    /// The run's whole budget.
    pub budget: Deadline,
    /// Until when the domain may form: the rest is for the end of a job whose domain does not.
    pub forming: Deadline,
    /// Tells a prolog that Slurm is ending its job.
    pub job_end: Option<JobEnd>,
    /// The NVLink partitions of the job, where it has several and this tray calls the roll in one of them.
    pub partitions: Vec<Partition>,
    /// This tray's part in the roll call, once it is open.
    pub roll: Option<RollCall>,
}

/// Directory of a job's files in the state directory.
fn dir_name(job: JobId) -> String {
    format!("job-{job}")
}

/// Directory of the standing domain's files in the state directory.
const STANDING_DIR: &str = "standing";

/// Directory of a record's files in the state directory.
fn dir_of(record: &Record) -> String {
    if record.kind == Kind::Standing { STANDING_DIR.to_owned() } else { dir_name(record.job) }
}

/// File name of a daemon's log in the log directory.
#[must_use]
pub fn log_name(kind: Kind, job: JobId) -> String {
    match kind {
        Kind::Own => format!("imexd-job-{job}.log"),
        // A guest's daemon is the standing one.
        Kind::Guest | Kind::Standing => "imexd-standing.log".to_owned(),
    }
}

impl<O: DaemonOwner> Tray<O> {
    /// The configuration file by which a job's daemon is known.
    fn config_path(&self, job: JobId) -> PathBuf {
        self.paths.run_dir.join(dir_name(job)).join(CONFIG_FILE)
    }

    /// The configuration file of a record's daemon.
    fn config_of(&self, record: &Record) -> PathBuf {
        self.paths.run_dir.join(dir_of(record)).join(CONFIG_FILE)
    }

    /// The ports of a record's daemon.
    fn ports_of(&self, record: &Record) -> Ports {
        let standing = &self.settings.standing;
        match record.kind {
            Kind::Own => self.settings.daemon.ports_for(record.job.get()),
            Kind::Guest | Kind::Standing => {
                Ports { server: standing.server_port, command: standing.command_port }
            }
        }
    }

    fn state_fault(&self, job: JobId) -> impl Fn(FsError) -> TrayError + use<O> {
        let dir = self.paths.run_dir.clone();
        move |source| TrayError::State { job, dir: dir.clone(), source }
    }

    fn own_address(record: &Record) -> Result<IpAddr, TrayError> {
        let own = record.members.get(record.own_index);
        own.map(|member| member.address).ok_or(TrayError::NoOwnAddress { job: record.job })
    }

    /// What is stored in this record file, or in this directory without one.
    fn load_file(&self, name: &str, directory: &str) -> Result<Stored, FsError> {
        let bytes = match self.state.read(name, record::LEN_MAX) {
            Ok(bytes) => bytes,
            Err(fault @ (FsError::TooLarge { .. } | FsError::Kind { .. } | FsError::Unsafe { .. })) => {
                return Ok(Stored::Damaged(fault.to_string()));
            }
            Err(source) => return Err(source),
        };
        let Some(bytes) = bytes else {
            let files = self.state.look(directory)?;
            return Ok(if files.is_some() { Stored::FilesOnly } else { Stored::Nothing });
        };
        Ok(match Record::decode(&bytes) {
            Ok(record) => Stored::Record(Box::new(record)),
            Err(error) => Stored::Damaged(error.to_string()),
        })
    }

    /// Refuses a port that somebody else holds: the daemon would say so only in its log. A passing holder, such as an
    /// outgoing connection or a daemon that is just ending, is waited for.
    fn check_port(&self, address: IpAddr, port: u16) -> Result<(), TrayError> {
        let deadline = self.budget.within(PORT_PATIENCE);
        let mut pauses = Pauses::new(Duration::from_millis(20), Duration::from_millis(250));
        loop {
            match TcpListener::bind((address, port)) {
                Ok(_free) => return Ok(()),
                Err(source) if source.kind() == io::ErrorKind::AddrNotAvailable => {
                    return Err(TrayError::ForeignAddress { address });
                }
                Err(source) if deadline.has_passed() || source.kind() != io::ErrorKind::AddrInUse => {
                    return Err(TrayError::Port { address, port, source });
                }
                Err(_) => pauses.pause(deadline),
            }
        }
    }

    /// The recorded process, unless it was recorded in another boot.
    fn recorded(&self, record: &Record) -> Option<Process> {
        record.daemon.filter(|_| record.boot == self.boot)
    }

    /// Ends the recorded daemon and every other one that was started with `config`.
    fn stop_by_config(
        &mut self,
        job: JobId,
        config: &Path,
        record: Option<&Record>,
    ) -> Result<Ended, TrayError> {
        let fault = |source| TrayError::Daemon { job, source };
        let patience = self.budget.within(Duration::from_secs(self.settings.deadlines.stop_seconds));
        let mut processes: Vec<Process> =
            record.and_then(|record| self.recorded(record)).into_iter().collect();
        let mut found = self.owner.find(config).map_err(fault)?;
        let unrecorded = |record: &Record| record.kind != Kind::Guest && record.daemon.is_none();
        if found.is_empty() && record.is_some_and(unrecorded) {
            let kind = record.map_or(Kind::Own, |record| record.kind);
            self.owner.call_off(&log_name(kind, job), patience).map_err(fault)?;
            // A prolog that was killed while it started the daemon frees the lock a moment before the kernel shows the
            // daemon's arguments.
            Pauses::new(START_GAP, START_GAP).pause(Deadline::after(START_GAP));
            found = self.owner.find(config).map_err(fault)?;
        }
        found.retain(|process| !processes.contains(process));
        processes.extend(found);
        let mut worst = Ended::Already;
        for process in processes {
            match self.owner.stop(process, patience).map_err(fault)? {
                Ended::Already => {}
                Ended::Gracefully if worst == Ended::Killed => {}
                ended => worst = ended,
            }
        }
        if worst == Ended::Killed {
            tracing::warn!(%job, "IMEX daemon ignored SIGTERM and was killed; fabric memory may have been left exported");
        }
        Ok(worst)
    }

    /// A log has what one daemon says; that of the one before is kept beside it. A failure only makes it harder to read.
    fn put_log_aside(&self, name: &str) {
        let before = format!("{}.before.log", name.strip_suffix(".log").unwrap_or(name));
        if let Err(error) = Dir::open(&self.paths.log_dir).and_then(|logs| logs.rename(name, &before)) {
            tracing::debug!(%error, "the log of an earlier daemon stays in the way");
        }
    }

    /// Removes the oldest daemon logs beyond the number to keep. Failures only cost disk space.
    fn prune_logs(&self) {
        let Ok(logs) = Dir::open(&self.paths.log_dir) else { return };
        let mut found: Vec<(i64, String)> = Vec::new();
        for name in logs.names().unwrap_or_default() {
            if name.starts_with("imexd-job-")
                && let Ok(Some(stat)) = logs.look(&name)
            {
                found.push((stat.st_mtime, name));
            }
        }
        found.sort();
        let surplus = found.len().saturating_sub(self.settings.daemon.log_files_kept as usize);
        for (_, name) in found.into_iter().take(surplus) {
            if let Err(error) = logs.remove_file(&name) {
                tracing::debug!(%error, "an old daemon log stays");
            }
        }
    }
}

impl<O: DaemonOwner> World for Tray<O> {
    type Error = TrayError;

    fn has_ended(&mut self, job: JobId, prolog_started: Started) -> Result<bool, TrayError> {
        if let Some(end) = self.job_end.as_mut().filter(|end| end.job() == job)
            && end.is_over()
        {
            return Ok(true);
        }
        let mark = Mark::find(&self.state, job).map_err(self.state_fault(job))?;
        Ok(mark.is_some_and(|mark| mark.ends(prolog_started, &self.boot)))
    }

    fn jobs(&mut self) -> Result<Vec<JobId>, TrayError> {
        let names = self.state.names().map_err(TrayError::List)?;
        let of_dir = |name: &str| -> Option<JobId> {
            let job: JobId = name.strip_prefix("job-")?.parse().ok()?;
            (dir_name(job) == name).then_some(job)
        };
        let jobs: BTreeSet<JobId> =
            names.iter().filter_map(|name| record::job_of_file(name).or_else(|| of_dir(name))).collect();
        Ok(jobs.into_iter().collect())
    }

    fn load(&mut self, job: JobId) -> Result<Stored, TrayError> {
        let stored =
            self.load_file(&record::file_name(job), &dir_name(job)).map_err(self.state_fault(job))?;
        if let Stored::Damaged(error) = &stored {
            tracing::warn!(%job, error, "record cannot be used, cleaning up by job id");
        }
        Ok(match stored {
            Stored::Record(record) if record.job != job || record.kind == Kind::Standing => {
                Stored::Damaged(format!("it is the record of job {}", record.job))
            }
            stored => stored,
        })
    }

    fn save(&mut self, record: &Record) -> Result<(), TrayError> {
        let job = record.job;
        let bytes = record.encode().map_err(|source| TrayError::Encode { job, source })?;
        self.state.write_atomic(&record.file_name(), &bytes, 0o600).map_err(self.state_fault(job))
    }

    fn erase(&mut self, job: JobId) -> Result<(), TrayError> {
        watch::forget(&self.state, job)
            .and_then(|()| self.state.remove_file(&record::file_name(job)))
            .and_then(|_| self.state.sync())
            .map_err(self.state_fault(job))
    }

    fn make_files(&mut self, record: &Record) -> Result<(), TrayError> {
        let job = record.job;
        let fault = self.state_fault(job);
        let dir = self.state.subdir(&dir_of(record), 0o700).map_err(&fault)?;
        let nodes = dir.path().join(NODES_FILE);
        let log = self.paths.log_dir.join(log_name(record.kind, job));
        let (daemon, own) = (&self.settings.daemon, Self::own_address(record)?);
        let encryption = &self.settings.encryption;
        let files = match encryption.enabled {
            true => Some(tls::checked(encryption, job).map_err(|source| TrayError::Tls { job, source })?),
            false => None,
        };
        let tls = files.as_ref().map(|files| Tls { files, target_name: &encryption.target_name });
        let config = config_text(daemon, self.ports_of(record), own, &nodes, &log, tls.as_ref());
        dir.write_atomic(NODES_FILE, nodes_text(&record.members).as_bytes(), 0o600).map_err(&fault)?;
        dir.write_atomic(CONFIG_FILE, config.as_bytes(), 0o600).map_err(&fault)
    }

    fn drop_files(&mut self, job: JobId) -> Result<(), TrayError> {
        self.state.remove_flat_dir(&dir_name(job)).map(|_| ()).map_err(self.state_fault(job))
    }

    fn start_daemon(&mut self, record: &Record) -> Result<Process, TrayError> {
        let job = record.job;
        let address = Self::own_address(record)?;
        let ports = self.ports_of(record);
        self.check_port(address, ports.server)?;
        self.check_port(address, ports.command)?;
        self.prune_logs();
        let (config, log_name) = (self.config_of(record), log_name(record.kind, job));
        self.put_log_aside(&log_name);
        let spec = DaemonSpec {
            program: &self.settings.daemon.program,
            config: &config,
            log_name: &log_name,
            deadline: self.budget,
        };
        let process = self.owner.start(&spec).map_err(|source| TrayError::Daemon { job, source })?;
        tracing::info!(%job, pid = process.pid, "IMEX daemon started");
        Ok(process)
    }

    fn is_daemon_alive(&mut self, record: &Record) -> Result<bool, TrayError> {
        let job = record.job;
        match self.recorded(record) {
            Some(process) => self.owner.is_alive(process).map_err(|source| TrayError::Daemon { job, source }),
            None => Ok(false),
        }
    }

    fn wait_ready(&mut self, record: &Record, refused: Option<Duration>) -> Readiness {
        let deadlines = &self.settings.deadlines;
        let ctl = Ctl { program: self.settings.daemon.control.clone(), config: self.config_of(record) };
        let patience = Patience {
            own: Duration::from_secs(deadlines.own_ready_seconds),
            lost: Duration::from_secs(deadlines.peer_lost_seconds),
            absent: Duration::from_secs(deadlines.peer_absent_seconds),
            refused,
        };
        let call = Duration::from_secs(deadlines.control_call_seconds);
        self.open_roll(record);
        let mut probe = probe::TrayProbe::new(self, record, ctl, call);
        // A daemon that has just been started is not READY.
        probe.pause();
        let readiness = wait_ready(&mut probe, patience);
        if let Readiness::Refused { .. } = &readiness {
            tracing::warn!(
                job = %record.job,
                "the IMEX daemon has met daemons of earlier jobs and refuses these nodes; it is started anew"
            );
        }
        readiness
    }

    fn agree(&mut self, record: &Record) -> Result<Duration, Readiness> {
        self.answer_roll(record)
    }

    fn ask_daemon_to_stop(&mut self, record: &Record) -> Result<(), TrayError> {
        let job = record.job;
        match self.recorded(record) {
            Some(process) => {
                self.owner.ask_to_stop(process).map_err(|source| TrayError::Daemon { job, source })
            }
            None => Ok(()),
        }
    }

    fn stop_daemon(&mut self, job: JobId, record: Option<&Record>) -> Result<Ended, TrayError> {
        let config = self.config_path(job);
        self.stop_by_config(job, &config, record)
    }

    fn make_channel(&mut self, record: &Record) -> Result<(), TrayError> {
        let job = record.job;
        let Some(wanted) = record.channel else { return Ok(()) };
        channel::read_major(&self.paths.devices)
            .and_then(|major| channel::make(&self.paths.channel_dir, major, wanted))
            .map_err(|source| TrayError::Channel { job, source })
    }

    fn drop_channel(&mut self, job: JobId, record: Option<&Record>) -> Result<(), TrayError> {
        let number = match record {
            Some(record) => record.channel.map(|channel| channel.number),
            None => Some(self.settings.channel.number_for(job.get())),
        };
        let Some(number) = number else { return Ok(()) };
        channel::remove(&self.paths.channel_dir, number)
            .map(|_| ())
            .map_err(|source| TrayError::Channel { job, source })
    }
}
