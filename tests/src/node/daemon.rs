//! The Slurm daemon of a node, started the way systemd does: `--systemd`, with a notification socket on which it says
//! that it is ready and which process is the main one after a reload.
#![forbid(unsafe_code)]

use super::protocol::DaemonState;
use super::{PATH, reap};
use crate::limits;
use crate::process::with_no_signal_blocked;
use crate::spec::DaemonSpec;
use anyhow::{Context as _, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use std::fs::{self, OpenOptions};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const NOTIFY_SOCKET: &str = "/run/notify";

/// The daemon and what was heard from it.
pub(super) struct Daemon {
    spec: DaemonSpec,
    socket: UnixDatagram,
    state: DaemonState,
    ready: bool,
}

impl Daemon {
    /// Opens the notification socket; the daemon is not started.
    pub(super) fn new(spec: DaemonSpec) -> anyhow::Result<Self> {
        let socket = UnixDatagram::bind(NOTIFY_SOCKET).context("cannot make the notification socket")?;
        socket.set_nonblocking(true)?;
        Ok(Self { spec, socket, state: DaemonState::NotStarted, ready: false })
    }

    pub(super) fn state(&self) -> &DaemonState {
        &self.state
    }

    pub(super) fn socket(&self) -> &UnixDatagram {
        &self.socket
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub(super) fn start(&mut self, after_boot: bool, signals: &SignalFd) -> anyhow::Result<()> {
        self.launch(after_boot)?;
        self.wait(signals, limits::DAEMON_READY, "is not ready", |daemon| {
            daemon.ready || matches!(daemon.state, DaemonState::Ended(_))
        })?;
        match &self.state {
            DaemonState::Ended(how) => bail!("{} did not start: {how}", self.spec.name),
            _ => Ok(()),
        }
    }

    /// Starts the daemon.
    pub(super) fn launch(&mut self, after_boot: bool) -> anyhow::Result<()> {
        if let DaemonState::Running(pid) = self.state {
            bail!("{} runs already (pid {pid} inside the node)", self.spec.name);
        }
        let mut command = self.command()?;
        if after_boot {
            command.arg("-b");
        }
        let child = with_no_signal_blocked(|| command.spawn())?
            .with_context(|| format!("cannot run {}", self.spec.argv.join(" ")))?;
        self.state = DaemonState::Running(i32::try_from(child.id())?);
        self.ready = false;
        Ok(())
    }

    /// Sends the daemon a signal and waits until it is gone; nothing to do when it does not run.
    pub(super) fn stop(&mut self, signal: i32, signals: &SignalFd) -> anyhow::Result<()> {
        self.listen();
        let DaemonState::Running(pid) = self.state else { return Ok(()) };
        let signal = Signal::try_from(signal).context("no such signal")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot signal {}", self.spec.name))?;
        self.wait(signals, limits::DAEMON_STOP, "did not end", |daemon| {
            matches!(daemon.state, DaemonState::Ended(_))
        })
    }

    /// Takes note of a process that has ended.
    pub(super) fn ended(&mut self, status: WaitStatus) {
        if self.state == DaemonState::Running(status.pid().map_or(0, Pid::as_raw)) {
            // A reload names the new main process before the old one goes.
            self.listen();
        }
        if self.state == DaemonState::Running(status.pid().map_or(0, Pid::as_raw)) {
            self.state = DaemonState::Ended(match status {
                WaitStatus::Exited(_, code) => format!("exit status {code}"),
                WaitStatus::Signaled(_, signal, _) => format!("killed by {signal}"),
                other => format!("{other:?}"),
            });
        }
    }

    /// Reads what the daemon has sent.
    pub(super) fn listen(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            for line in String::from_utf8_lossy(&buffer[..length]).lines() {
                match line.split_once('=') {
                    Some(("READY", "1")) => self.ready = true,
                    Some(("MAINPID", pid)) => {
                        self.state = pid.parse().map_or(self.state.clone(), DaemonState::Running);
                    }
                    _ => {}
                }
            }
        }
    }

    fn wait(
        &mut self,
        signals: &SignalFd,
        deadline: Duration,
        failure: &str,
        done: impl Fn(&Self) -> bool,
    ) -> anyhow::Result<()> {
        let end = Instant::now() + deadline;
        loop {
            reap(self, signals)?;
            self.listen();
            if done(self) {
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{} {failure} within {} s", self.spec.name, deadline.as_secs());
            }
            let mut fds = [
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            ];
            poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX))?;
        }
    }

    fn command(&self) -> anyhow::Result<Command> {
        let (program, arguments) = self.spec.argv.split_first().context("the daemon has no program")?;
        let log_path = format!("/var/log/slurm/{}.out", self.spec.name);
        fs::create_dir_all("/var/log/slurm")?;
        let log = OpenOptions::new().create(true).append(true).open(&log_path);
        let log = log.with_context(|| format!("cannot open {log_path}"))?;
        let mut command = Command::new(program);
        command.args(arguments).args(self.extra());
        command.env_clear().env("PATH", PATH).env("NOTIFY_SOCKET", NOTIFY_SOCKET);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).current_dir("/");
        Ok(command)
    }

    /// `--extra` and what the tray says of itself; nothing when it can say nothing.
    fn extra(&self) -> Vec<String> {
        let Some((program, arguments)) = self.spec.extra.as_deref().and_then(<[String]>::split_first) else {
            return Vec::new();
        };
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", PATH);
        let output = with_no_signal_blocked(|| command.output()).and_then(|output| output);
        match output {
            Ok(output) => {
                // Exit 1 is a tray that was rejected and says so; 2 has no output.
                let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                if !output.status.success() {
                    eprintln!(
                        "{program}: {}: {}",
                        output.status,
                        String::from_utf8_lossy(&output.stderr).trim()
                    );
                }
                if text.is_empty() { Vec::new() } else { vec!["--extra".to_owned(), text] }
            }
            Err(error) => {
                eprintln!("cannot run {program}: {error}");
                Vec::new()
            }
        }
    }
}
