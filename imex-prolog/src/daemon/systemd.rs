//! The daemon as a transient unit of the system's systemd, in a control group of its own instead of slurmd's.
//!
//! Only the start is systemd's: the daemon is known by its configuration file, watched and ended by process file descriptor
//! as without it, and the unit goes with its process. Nothing restarts it: a daemon that comes back by itself would have
//! lost what its job imported, and could come back after the epilog.
#![forbid(unsafe_code)]

use super::{DaemonError, DaemonOwner, DaemonSpec, DirectOwner, Ended};
use crate::call::Call;
use crate::ctl::quote;
use crate::deadline::Deadline;
use crate::procfs::Process;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest wait for systemd to start a unit, or to say that it has none.
const CALL: Duration = Duration::from_secs(20);
/// What all units begin with.
const PREFIX: &str = "slurm-nvlink-";
/// There exactly while systemd is the system's first process; sd_booted(3).
const BOOTED: &str = "/run/systemd/system";

/// The programs by which systemd is asked. Both speak to its private socket; no message bus is needed.
#[derive(Debug, Clone)]
pub struct Manager {
    /// `systemd-run`.
    pub run: PathBuf,
    /// `systemctl`.
    pub ctl: PathBuf,
}

impl Manager {
    /// The running system's manager, if systemd is its first process.
    #[must_use]
    pub fn of_system() -> Option<Self> {
        Path::new(BOOTED)
            .is_dir()
            .then(|| Self { run: "/usr/bin/systemd-run".into(), ctl: "/usr/bin/systemctl".into() })
    }
}

/// Owner of this tray's daemons: systemd where it runs, else nobody.
#[derive(Debug)]
pub struct TrayOwner {
    direct: DirectOwner,
    logs: PathBuf,
    manager: Option<Manager>,
    started: u32,
}

impl TrayOwner {
    /// Daemons write what they print into files in `logs`.
    #[must_use]
    pub fn new(direct: DirectOwner, logs: PathBuf, manager: Option<Manager>) -> Self {
        Self { direct, logs, manager, started: 0 }
    }

    fn start_unit(&mut self, manager: &Manager, spec: &DaemonSpec<'_>) -> Result<Process, DaemonError> {
        let program = spec.program.to_owned();
        self.started += 1;
        // A unit of the same name may still be on its way out.
        let unit = format!("{}{}-{}.service", stem(spec.log_name), std::process::id(), self.started);
        let arguments = arguments(&unit, &self.logs.join(spec.log_name), spec);
        let fault = |source| DaemonError::Start { program: program.clone(), source };
        let call = Call::start(&manager.run, arguments).map_err(fault)?;
        match call.finish(spec.deadline.within(CALL)).map_err(fault)? {
            Some(answer) if answer.success => {}
            Some(answer) => {
                let words = format!("systemd-run: {} ({})", quote(&answer.text), answer.status);
                return Err(fault(io::Error::other(words)));
            }
            None => return Err(fault(io::Error::other("systemd did not start the unit in time"))),
        }
        // The unit counts as started when its program has been executed; from then on its arguments can be seen.
        let found = self.direct.find(spec.config)?;
        found
            .into_iter()
            .min_by_key(|process| (process.started, process.pid))
            .ok_or(DaemonError::EndedAtOnce { program })
    }
}

/// Name of a daemon's unit up to the part that tells two starts apart.
fn stem(log_name: &str) -> String {
    format!("{PREFIX}{}-", log_name.strip_suffix(".log").unwrap_or(log_name))
}

fn arguments(unit: &str, log: &Path, spec: &DaemonSpec<'_>) -> Vec<OsString> {
    let mut output = OsString::from("--property=StandardOutput=append:");
    output.push(log);
    let fixed = [
        "--quiet",
        "--no-ask-password",
        "--collect",
        "--service-type=exec",
        "--description=IMEX daemon, begun by imex-prolog and ended by imex-epilog",
        "--property=StandardError=inherit",
        "--property=Restart=no",
        "--property=OOMPolicy=continue",
    ];
    let mut all: Vec<OsString> = fixed.into_iter().map(OsString::from).collect();
    all.extend([format!("--unit={unit}").into(), output, "--".into()]);
    all.extend([spec.program.into(), "-c".into(), spec.config.into()]);
    all
}

impl DaemonOwner for TrayOwner {
    fn start(&mut self, spec: &DaemonSpec<'_>) -> Result<Process, DaemonError> {
        match self.manager.clone() {
            Some(manager) => self.start_unit(&manager, spec),
            None => self.direct.start(spec),
        }
    }

    fn find(&self, config: &Path) -> Result<Vec<Process>, DaemonError> {
        self.direct.find(config)
    }

    fn call_off(&self, log_name: &str, deadline: Deadline) -> Result<(), DaemonError> {
        let Some(manager) = &self.manager else { return Ok(()) };
        let pattern = format!("{}*.service", stem(log_name));
        let call = Call::start(&manager.ctl, ["stop", "--quiet", pattern.as_str()]);
        match call.and_then(|call| call.finish(deadline.within(CALL))) {
            Ok(Some(answer)) if answer.success => Ok(()),
            // No unit of that name is no error of systemctl's for a pattern; anything else is one for us.
            Ok(Some(answer)) => Err(DaemonError::CallOff { words: quote(&answer.text) }),
            Ok(None) => Err(DaemonError::CallOff { words: "no answer in time".to_owned() }),
            Err(error) => Err(DaemonError::CallOff { words: error.to_string() }),
        }
    }

    fn is_alive(&self, process: Process) -> Result<bool, DaemonError> {
        self.direct.is_alive(process)
    }

    fn ask_to_stop(&self, process: Process) -> Result<(), DaemonError> {
        self.direct.ask_to_stop(process)
    }

    fn stop(&mut self, process: Process, patience: Deadline) -> Result<Ended, DaemonError> {
        self.direct.stop(process, patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::Proc;
    use crate::secure_fs::Dir;
    use std::os::unix::fs::PermissionsExt;

    struct Fixture {
        temp: tempfile::TempDir,
        owner: TrayOwner,
    }

    impl Fixture {
        /// With a `systemd-run` and a `systemctl` that are shell scripts.
        fn new(run: &str, ctl: &str) -> Self {
            let temp = tempfile::tempdir().unwrap();
            let logs = temp.path().join("log");
            let direct = DirectOwner::new(Proc::new(Path::new("/proc")), Dir::create(&logs, 0o755).unwrap());
            let script = |name: &str, body: &str| {
                let path = temp.path().join(name);
                std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
                path
            };
            let manager = Manager { run: script("systemd-run", run), ctl: script("systemctl", ctl) };
            Self { owner: TrayOwner::new(direct, logs, Some(manager)), temp }
        }

        fn start(&mut self) -> Result<Process, DaemonError> {
            let config = self.temp.path().join("config.cfg");
            let spec = DaemonSpec {
                program: Path::new("/usr/bin/nvidia-imex"),
                config: &config,
                log_name: "imexd-job-17.log",
                deadline: Deadline::after(CALL),
            };
            self.owner.start(&spec)
        }
    }

    #[test]
    fn the_unit_is_transient_named_after_the_job_and_never_restarted() {
        let config = PathBuf::from("/run/slurm-nvlink/imex/job-17/config.cfg");
        let spec = DaemonSpec {
            program: Path::new("/usr/bin/nvidia-imex"),
            config: &config,
            log_name: "imexd-job-17.log",
            deadline: Deadline::after(CALL),
        };
        let unit = format!("{}1-1.service", stem(spec.log_name));
        let words = arguments(&unit, Path::new("/var/log/slurm-nvlink/imexd-job-17.log"), &spec);
        let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
        assert_eq!(
            words,
            [
                "--quiet",
                "--no-ask-password",
                "--collect",
                "--service-type=exec",
                "--description=IMEX daemon, begun by imex-prolog and ended by imex-epilog",
                "--property=StandardError=inherit",
                "--property=Restart=no",
                "--property=OOMPolicy=continue",
                "--unit=slurm-nvlink-imexd-job-17-1-1.service",
                "--property=StandardOutput=append:/var/log/slurm-nvlink/imexd-job-17.log",
                "--",
                "/usr/bin/nvidia-imex",
                "-c",
                "/run/slurm-nvlink/imex/job-17/config.cfg"
            ]
        );
    }

    #[test]
    fn what_systemd_says_is_in_the_error() {
        let mut fixture = Fixture::new("echo Failed to connect to bus >&2; exit 1", "exit 0");
        let error = fixture.start().unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, "systemd-run: \"Failed to connect to bus\" (exit status: 1)");
        let mut fixture = Fixture::new("exit 0", "exit 0");
        assert!(matches!(fixture.start(), Err(DaemonError::EndedAtOnce { .. })));
    }

    #[test]
    fn a_start_that_nobody_recorded_is_called_off_by_name() {
        let fixture =
            Fixture::new("exit 0", "[ \"$*\" = 'stop --quiet slurm-nvlink-imexd-job-17-*.service' ]");
        fixture.owner.call_off("imexd-job-17.log", Deadline::after(CALL)).unwrap();
        let refused = fixture.owner.call_off("imexd-job-18.log", Deadline::after(CALL)).unwrap_err();
        assert!(matches!(refused, DaemonError::CallOff { .. }));
    }
}
