//! The daemon as a plain detached process, held by process file descriptors.
#![forbid(unsafe_code)]

use super::{DaemonError, DaemonOwner, DaemonSpec, Ended};
use crate::deadline::Deadline;
use crate::procfs::{Proc, Process};
use crate::secure_fs::Dir;
use crate::wait::is_readable;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long the kernel may take to end a process after SIGKILL.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// The daemon's whole environment. Name resolution and logging need nothing more.
const SEARCH_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts daemons as detached processes.
#[derive(Debug)]
pub struct DirectOwner {
    proc: Proc,
    logs: Dir,
    /// Daemons started by this very process: they must be collected when they end.
    children: Vec<Child>,
}

impl DirectOwner {
    /// Daemons write what they print into `logs`.
    #[must_use]
    pub fn new(proc: Proc, logs: Dir) -> Self {
        Self { proc, logs, children: Vec::new() }
    }

    /// A descriptor of exactly this process; `None` when it has ended, also when its id has been given away since.
    fn open(&self, process: Process) -> Result<Option<OwnedFd>, DaemonError> {
        let Some(pid) = Pid::from_raw(process.pid) else { return Ok(None) };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(source) => return Err(DaemonError::Wait { pid: process.pid, source: source.into() }),
        };
        // Opened first, compared second: from here on the descriptor cannot come to mean another process.
        Ok((self.proc.process(process.pid)? == Some(process)).then_some(fd))
    }

    fn collect_ended(&mut self) {
        // An error means that there is nothing to collect.
        self.children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
}

impl DaemonOwner for DirectOwner {
    fn start(&mut self, spec: &DaemonSpec<'_>) -> Result<Process, DaemonError> {
        let program = spec.program.to_owned();
        let log = self.logs.append(spec.log_name, 0o640).map_err(DaemonError::Log)?;
        let fault = |source| DaemonError::Start { program: program.clone(), source };
        let mut command = Command::new(spec.program);
        command
            .arg("-c")
            .arg(spec.config)
            .env_clear()
            .env("PATH", SEARCH_PATH)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(fault)?)
            .stderr(log);
        crate::sys::detach(&mut command);
        let child = command.spawn().map_err(fault)?;
        // A child that nobody has collected keeps its id, so this is its own entry.
        let process = self.proc.process(child.id().cast_signed())?;
        self.children.push(child);
        process.ok_or(DaemonError::EndedAtOnce { program })
    }

    fn find(&self, config: &Path) -> Result<Vec<Process>, DaemonError> {
        Ok(self.proc.started_with_config(config)?)
    }

    fn is_alive(&self, process: Process) -> Result<bool, DaemonError> {
        Ok(self.proc.process(process.pid)? == Some(process))
    }

    fn ask_to_stop(&self, process: Process) -> Result<(), DaemonError> {
        match self.open(process)? {
            Some(fd) => send(&fd, process.pid, Signal::TERM, "SIGTERM"),
            None => Ok(()),
        }
    }

    fn stop(&mut self, process: Process, patience: Deadline) -> Result<Ended, DaemonError> {
        let pid = process.pid;
        let Some(fd) = self.open(process)? else { return Ok(Ended::Already) };
        let wait =
            |deadline| is_readable(fd.as_fd(), deadline).map_err(|source| DaemonError::Wait { pid, source });
        send(&fd, pid, Signal::TERM, "SIGTERM")?;
        let ended = if wait(patience)? {
            Ended::Gracefully
        } else {
            send(&fd, pid, Signal::KILL, "SIGKILL")?;
            if !wait(Deadline::after(KILL_PATIENCE))? {
                return Err(DaemonError::Stuck { pid });
            }
            Ended::Killed
        };
        self.collect_ended();
        Ok(ended)
    }
}

fn send(fd: &OwnedFd, pid: i32, signal: Signal, name: &'static str) -> Result<(), DaemonError> {
    match pidfd_send_signal(fd, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(source) => Err(DaemonError::Signal { signal: name, pid, source: source.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    struct Fixture {
        temp: tempfile::TempDir,
        owner: DirectOwner,
    }

    impl Fixture {
        fn new() -> Self {
            let temp = tempfile::tempdir().unwrap();
            let logs = Dir::create(&temp.path().join("log"), 0o755).unwrap();
            Self { temp, owner: DirectOwner::new(Proc::new(Path::new("/proc")), logs) }
        }

        fn script(&self, body: &str) -> PathBuf {
            let path = self.temp.path().join("daemon");
            std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        }

        fn config(&self) -> PathBuf {
            self.temp.path().join("config.cfg")
        }

        fn start(&mut self, body: &str) -> Result<Process, DaemonError> {
            let (program, config) = (self.script(body), self.config());
            self.owner.start(&DaemonSpec {
                program: &program,
                config: &config,
                log_name: "daemon.log",
                deadline: soon(),
            })
        }

        fn log(&self) -> String {
            std::fs::read_to_string(self.temp.path().join("log/daemon.log")).unwrap()
        }

        fn wait_for_log(&self, text: &str) {
            let deadline = Deadline::after(Duration::from_secs(20));
            let mut pauses =
                crate::deadline::Pauses::new(Duration::from_millis(2), Duration::from_millis(20));
            while !self.log().contains(text) {
                assert!(!deadline.has_passed(), "log has only {:?}", self.log());
                pauses.pause(deadline);
            }
        }
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    const WAITS: &str = "trap 'echo bye; exit 0' TERM\necho up\nwhile :; do sleep 0.02; done";
    const DEAF: &str = "trap '' TERM\necho up\nwhile :; do sleep 0.02; done";

    #[test]
    fn it_is_started_detached_found_by_its_config_and_stopped_gracefully() {
        let mut fixture = Fixture::new();
        let process = fixture.start(&format!("tr '\\0' '\\n' < /proc/$$/environ; pwd\n{WAITS}")).unwrap();
        fixture.wait_for_log("up");
        assert!(fixture.log().starts_with("PATH=/usr/sbin:/usr/bin:/sbin:/bin\n/\n"), "{}", fixture.log());
        // The shell's own children look the same until they run their program.
        assert!(fixture.owner.find(&fixture.config()).unwrap().contains(&process));
        assert!(fixture.owner.is_alive(process).unwrap());
        assert_eq!(fixture.owner.stop(process, soon()).unwrap(), Ended::Gracefully);
        assert!(fixture.log().contains("bye"));
        assert_eq!(fixture.owner.stop(process, soon()).unwrap(), Ended::Already);
    }

    #[test]
    fn one_that_ignores_sigterm_is_killed_at_the_deadline() {
        let mut fixture = Fixture::new();
        let process = fixture.start(DEAF).unwrap();
        fixture.wait_for_log("up");
        let patience = Deadline::after(Duration::from_millis(50));
        assert_eq!(fixture.owner.stop(process, patience).unwrap(), Ended::Killed);
        assert!(!fixture.owner.is_alive(process).unwrap());
    }

    #[test]
    fn a_stranger_with_the_same_process_id_is_left_alone() {
        let mut fixture = Fixture::new();
        let process = fixture.start(WAITS).unwrap();
        let reused = Process { started: process.started + 1, ..process };
        assert_eq!(fixture.owner.stop(reused, soon()).unwrap(), Ended::Already);
        fixture.owner.ask_to_stop(reused).unwrap();
        assert!(fixture.owner.is_alive(process).unwrap());
        fixture.wait_for_log("up");
        assert_eq!(fixture.owner.stop(process, soon()).unwrap(), Ended::Gracefully);
    }

    #[test]
    fn a_missing_program_is_an_error_and_a_short_lived_one_is_seen_as_ended() {
        let mut fixture = Fixture::new();
        let config = fixture.config();
        let program = fixture.temp.path().join("none");
        let spec =
            DaemonSpec { program: &program, config: &config, log_name: "daemon.log", deadline: soon() };
        assert!(matches!(fixture.owner.start(&spec), Err(DaemonError::Start { .. })));
        match fixture.start("exit 1") {
            Ok(process) => {
                assert!(matches!(
                    fixture.owner.stop(process, soon()),
                    Ok(Ended::Already | Ended::Gracefully)
                ));
            }
            Err(error) => assert!(matches!(error, DaemonError::EndedAtOnce { .. }), "{error}"),
        }
    }
}
