//! The watch: a process of its own, begun by a prolog before it touches the tray, that ends with the job's daemon.
//!
//! First it watches over the prolog, which holds the other end of its standard input, the [`Lifeline`]. A prolog says there how
//! it has ended; one that was killed says nothing, and then what it had begun is removed, as no epilog may come: Slurm runs
//! none when slurmd itself is ending (seen on Slurm 26.05.5). Then it watches over the daemon.
//!
//! A daemon that ends under a running job takes the job's shared memory with it, and nobody else would notice before
//! the epilog. The watch writes down when that was, for [`crate::status`] and the epilog, and says it in the log at
//! once. An epilog puts its intention into the record before it ends a daemon, so an end in order is told from one that
//! is not.
#![forbid(unsafe_code)]

use crate::deadline::Deadline;
use crate::helper::{self, Helper};
use crate::metrics::{self, Event, MetricsError};
use crate::paths::Paths;
use crate::procfs::{Proc, Process, Started};
use crate::record::{self, Record, State};
use crate::secure_fs::{Dir, FsError};
use crate::wait::is_readable;
use fabric::names::JobId;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::time::{Duration, SystemTime};

/// Name of the process while it watches.
const NAME: &std::ffi::CStr = c"imex-watch";
/// Largest note in bytes.
const LEN_MAX: usize = 64;
/// One wait; they follow each other for as long as the daemon runs.
const WAIT: Duration = Duration::from_secs(3600);

/// What a watch is called among the program's arguments.
pub const WORD: &str = "watch";

/// Begins a watch, apart from slurmd, over the run of `job`'s prolog that was started then.
///
/// # Errors
/// It cannot be started.
pub fn begin(helper: &Helper, job: JobId, started: Started) -> io::Result<Lifeline> {
    let mut command = helper.command([WORD, &job.to_string(), &serde_json::to_string(&started)?]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // It has all the time in the world, and its job is waiting to start.
    crate::sys::give_way(&mut command);
    // Nobody waits for it: it outlives this program.
    let watch = command.spawn()?;
    watch.stdin.map(Lifeline).ok_or_else(|| io::Error::other("no standard input"))
}

/// A prolog's end of the pipe on which its watch waits. No other program has it: it is closed by exec.
#[derive(Debug)]
pub struct Lifeline(ChildStdin);

/// How a prolog has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrologEnd {
    /// It was killed.
    Killed,
    /// In order, and its domain's daemon is in service.
    InService,
    /// In order; there is nothing to watch.
    Nothing,
}

/// What a [`Lifeline`] says.
const IN_SERVICE: u8 = b'w';
const NOTHING: u8 = b'.';

impl Lifeline {
    /// The prolog ends in order.
    ///
    /// # Errors
    /// There is no watch any more.
    pub fn let_go(mut self, in_service: bool) -> io::Result<()> {
        self.0.write_all(&[if in_service { IN_SERVICE } else { NOTHING }])
    }
}

impl PrologEnd {
    /// Waits for the end of a prolog, whose lifeline's other end is `input`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn wait(mut input: impl Read) -> io::Result<Self> {
        let mut said = Vec::new();
        input.read_to_end(&mut said)?;
        Ok(match said.first() {
            Some(&IN_SERVICE) => Self::InService,
            Some(_) => Self::Nothing,
            None => Self::Killed,
        })
    }
}

/// Gives this process the name of a watch.
pub fn take_name() {
    helper::take_name(NAME);
}

/// Watches until the daemon of a domain in service has ended. Nothing to watch is no error: the job may be over.
///
/// # Errors
/// The tray's state or the process cannot be looked at.
pub fn over_daemon(paths: &Paths, job: JobId, metrics_dir: Option<&Path>) -> io::Result<()> {
    let proc = Proc::new(&paths.proc_dir);
    let boot = proc.boot_id().map_err(io::Error::other)?;
    let state = Dir::open(&paths.run_dir).map_err(io::Error::other)?;
    let Some(daemon) = in_service(&state, job, &boot) else { return Ok(()) };
    wait_for_end(&proc, daemon)?;
    if in_service(&state, job, &boot) != Some(daemon) {
        return Ok(());
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    state.write_atomic(&file_name(job), format!("{now}\n").as_bytes(), 0o600).map_err(io::Error::other)?;
    tracing::warn!(
        %job,
        pid = daemon.pid,
        "the IMEX daemon has ended under its running job: memory that the job shares between nodes is lost, and what waits for it may hang"
    );
    if let Some(directory) = metrics_dir
        && let Err(error) = metrics::count_event(directory, &state, Event::DaemonLost, now)
    {
        warn(&error);
    }
    Ok(())
}

fn warn(error: &MetricsError) {
    tracing::warn!("{error}");
}

/// The recorded daemon of a complete domain.
fn in_service(state: &Dir, job: JobId, boot: &str) -> Option<Process> {
    let bytes = state.read(&record::file_name(job), record::LEN_MAX).ok().flatten()?;
    let record = Record::decode(&bytes).ok()?;
    record.daemon.filter(|_| record.state == State::Ready && record.boot == boot && record.job == job)
}

fn wait_for_end(proc: &Proc, daemon: Process) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(daemon.pid) else { return Ok(()) };
    let fd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // Opened first, compared second: from here on the descriptor cannot come to mean another process.
    if proc.process(daemon.pid).map_err(io::Error::other)? != Some(daemon) {
        return Ok(());
    }
    while !is_readable(fd.as_fd(), Deadline::after(WAIT))? {}
    Ok(())
}

/// When the daemon of `job` ended before its time, in seconds since 1970.
///
/// # Errors
/// The note is there but cannot be read.
pub fn lost_at(state: &Dir, job: JobId) -> Result<Option<u64>, FsError> {
    let bytes = state.read(&file_name(job), LEN_MAX)?;
    Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse().ok()))
}

/// Removes the note about `job`.
///
/// # Errors
/// It may still be there.
pub fn forget(state: &Dir, job: JobId) -> Result<(), FsError> {
    state.remove_file(&file_name(job)).map(drop)
}

fn file_name(job: JobId) -> String {
    format!("job-{job}.lost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;
    use std::process::Command;

    struct Tray {
        _temp: tempfile::TempDir,
        paths: Paths,
        state: Dir,
        daemon: std::process::Child,
        record: Record,
    }

    impl Tray {
        /// A tray with a complete domain, whose daemon waits for the end of its input.
        fn new() -> Self {
            let temp = tempfile::tempdir().unwrap();
            let paths = Paths::below(temp.path());
            let state = Dir::create(&paths.run_dir, 0o700).unwrap();
            let daemon =
                Command::new("/bin/sh").args(["-c", "read x"]).stdin(Stdio::piped()).spawn().unwrap();
            let proc = Proc::new(&paths.proc_dir);
            let process = proc.process(daemon.id().cast_signed()).unwrap();
            let boot = proc.boot_id().unwrap();
            let record = Record { state: State::Ready, boot, daemon: process, ..sample() };
            let tray = Self { _temp: temp, paths, state, daemon, record };
            tray.save();
            tray
        }

        fn save(&self) {
            self.state.write_atomic(&self.record.file_name(), &self.record.encode().unwrap(), 0o600).unwrap();
        }

        /// Watches on one thread, while `then` happens on another, and gives what was noted.
        fn watch(&mut self, then: impl FnOnce(&mut Self)) -> Option<u64> {
            let (paths, job) = (self.paths.clone(), self.record.job);
            let watching = std::thread::spawn(move || over_daemon(&paths, job, None).unwrap());
            then(self);
            drop(self.daemon.stdin.take());
            self.daemon.wait().unwrap();
            watching.join().unwrap();
            lost_at(&self.state, job).unwrap()
        }
    }

    #[test]
    fn a_prolog_says_how_it_has_ended_or_was_killed() {
        assert_eq!(PrologEnd::wait(&b"w"[..]).unwrap(), PrologEnd::InService);
        assert_eq!(PrologEnd::wait(&b"."[..]).unwrap(), PrologEnd::Nothing);
        assert_eq!(PrologEnd::wait(&b""[..]).unwrap(), PrologEnd::Killed);
    }

    #[test]
    fn an_end_under_a_running_job_is_noted_with_its_time() {
        let mut tray = Tray::new();
        let noted = tray.watch(|_| {}).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert!((now - 60..=now).contains(&noted), "{noted} {now}");
        forget(&tray.state, tray.record.job).unwrap();
        assert_eq!(lost_at(&tray.state, tray.record.job).unwrap(), None);
    }

    #[test]
    fn an_end_that_an_epilog_wants_is_not_noted() {
        let mut tray = Tray::new();
        let noted = tray.watch(|tray| {
            tray.record.state = State::Stopping;
            tray.save();
        });
        assert_eq!(noted, None);
    }

    #[test]
    fn nothing_to_watch_ends_the_watch_at_once() {
        let tray = Tray::new();
        let other = JobId::new(999).unwrap();
        over_daemon(&tray.paths, other, None).unwrap();
        assert_eq!(lost_at(&tray.state, other).unwrap(), None);
    }
}
