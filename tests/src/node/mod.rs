//! One node: the namespaces, the root file system, and its first process, which reaps orphans, keeps the Slurm
//! daemon and answers the supervisor.
//!
//! ```text
//!   supervisor ─fork─▶ helper ─unshare─fork─▶ first process (PID 1 of the node)
//!                      (ends)                  mounts, Hello, then one request after the other
//! ```
//!
//! The first process stays this program: nothing of the tree has to run for the node to stand.
#![forbid(unsafe_code)]

mod daemon;
pub(crate) mod mounts;
pub(crate) mod protocol;

use crate::network;
use crate::process;
use crate::spec::{DaemonSpec, NodeSpec};
use anyhow::{Context as _, bail};
use daemon::Daemon;
use mounts::RootPlan;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SigSet, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use protocol::{Hello, Line, NodeReply, NodeRequest};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

/// Search path inside a node.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether a node counts its uptime with the machine, or from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Uptime {
    /// As the machine that the cluster runs on.
    OfTheMachine,
    /// From now on, in a time namespace of its own: the node has just booted.
    FromNow,
}

/// Unshares the time of processes to come; nix has no name for it (linux/sched.h).
const CLONE_NEWTIME: i32 = 0x80;

/// Starts a node. Returns its first process's pid in the caller's pid namespace, and the line to it, on which its
/// [`Hello`] comes when its root stands.
pub(crate) fn spawn(spec: &NodeSpec, root: &RootPlan, uptime: Uptime) -> anyhow::Result<(i32, Line)> {
    let (ours, theirs) = UnixStream::pair().context("cannot make a socket pair")?;
    let (pid_reader, mut pid_writer) = UnixStream::pair().context("cannot make a socket pair")?;
    let helper = process::fork(|| {
        let flags = CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWPID;
        let made =
            unshare(flags).map_err(std::io::Error::from).and_then(|()| begin_uptime(uptime)).and_then(|()| {
                process::fork(|| match first_process(spec, root, theirs) {
                    Ok(()) => 0,
                    Err(error) => {
                        eprintln!("node {}: {error:#}", spec.name);
                        1
                    }
                })
            });
        match made.and_then(|pid| writeln!(pid_writer, "{pid}")) {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("node {}: cannot make its namespaces: {error}", spec.name);
                1
            }
        }
    });
    let helper = helper.with_context(|| format!("node {}: cannot fork", spec.name))?;
    let status = waitpid(helper, None).with_context(|| format!("node {}: helper is gone", spec.name))?;
    if !matches!(status, WaitStatus::Exited(_, 0)) {
        bail!("node {}: its namespaces could not be made ({status:?})", spec.name);
    }
    let pid = Line::new(pid_reader).receive().with_context(|| format!("node {}: no pid", spec.name))?;
    Ok((pid, Line::new(ours)))
}

/// Must come before the first process of the new time namespace.
fn begin_uptime(uptime: Uptime) -> std::io::Result<()> {
    if uptime == Uptime::OfTheMachine {
        return Ok(());
    }
    let text = std::fs::read_to_string("/proc/uptime")?;
    let seconds = text.split('.').next().and_then(|word| word.parse::<u64>().ok());
    let seconds = seconds.ok_or_else(|| std::io::Error::other("/proc/uptime has an unknown form"))?;
    unshare(CloneFlags::from_bits_retain(CLONE_NEWTIME))?;
    std::fs::write("/proc/self/timens_offsets", format!("boottime -{seconds} 0\n"))
}

fn first_process(spec: &NodeSpec, root: &RootPlan, stream: UnixStream) -> anyhow::Result<()> {
    let signals = block_signals()?;
    // Before the node has its own /proc, the host's is in sight, and with it our pid there.
    let (pid, start_time) = process::seen_in_proc().context("cannot read /proc/self")?;
    nix::unistd::sethostname(&spec.name).context("cannot set the host name")?;
    mounts::enter_root(root)?;
    if let Some(settings) = &spec.hardware {
        settings.save(Path::new(sim::DEFAULT_DIR)).context("cannot write the simulated NVML's settings")?;
    }
    let mut line = Line::new(stream);
    line.send(&Hello { pid, start_time })?;
    let mut node = Node { spec, daemon: Daemon::new(spec.daemon.clone())?, held: None };
    node.serve(&mut line, &signals)
}

fn block_signals() -> anyhow::Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set.thread_block().context("cannot block SIGCHLD")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .context("cannot make a signal descriptor")
}

/// Reaps every process that has ended, and tells the daemon's keeper.
fn reap(daemon: &mut Daemon, signals: &SignalFd) -> anyhow::Result<()> {
    while signals.read_signal()?.is_some() {}
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return Ok(()),
            Ok(status) => daemon.ended(status),
            Err(errno) => return Err(errno).context("cannot wait for processes"),
        }
    }
}

struct Node<'a> {
    spec: &'a NodeSpec,
    daemon: Daemon,
    held: Option<TcpListener>,
}

impl Node<'_> {
    /// Answers requests until the supervisor is gone.
    fn serve(&mut self, line: &mut Line, signals: &SignalFd) -> anyhow::Result<()> {
        loop {
            let mut fds = [
                PollFd::new(line.stream().as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.daemon.socket().as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("cannot poll"),
            }
            let asked = fds[0].any() == Some(true);
            reap(&mut self.daemon, signals)?;
            self.daemon.listen();
            if !asked {
                continue;
            }
            let request = match line.receive() {
                Ok(request) => request,
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error).context("cannot read a request"),
            };
            let reply =
                self.answer(request, signals).unwrap_or_else(|error| NodeReply::Failed(format!("{error:#}")));
            line.send(&reply).context("cannot answer")?;
            // A child may have ended while its request had SIGCHLD unblocked.
            reap(&mut self.daemon, signals)?;
        }
    }

    fn answer(&mut self, request: NodeRequest, signals: &SignalFd) -> anyhow::Result<NodeReply> {
        let sim_dir = Path::new(sim::DEFAULT_DIR);
        match request {
            NodeRequest::SetUpNetwork => self.set_up_network()?,
            NodeRequest::Start { after_boot } => self.daemon.start(after_boot, signals)?,
            NodeRequest::Launch => self.daemon.launch(false)?,
            NodeRequest::Stop { signal } => self.daemon.stop(signal, signals)?,
            NodeRequest::Status => return Ok(NodeReply::Daemon(self.daemon.state().clone())),
            NodeRequest::Network { up: true } => ip_batch(&network::up(self.spec.ip))?,
            NodeRequest::Network { up: false } => ip_batch(network::DOWN)?,
            NodeRequest::HoldPort(port) => {
                self.held = Some(
                    TcpListener::bind(("0.0.0.0", port))
                        .with_context(|| format!("cannot bind port {port}"))?,
                );
            }
            NodeRequest::ReleasePort => self.held = None,
            NodeRequest::Nvml(settings) => {
                settings.save(sim_dir).context("cannot write the simulated NVML's settings")?
            }
            NodeRequest::Imex(settings) => {
                settings.save(sim_dir).context("cannot write the simulated IMEX settings")?
            }
            NodeRequest::Rename { from, to } => {
                std::fs::rename(&from, &to).with_context(|| format!("cannot rename {}", from.display()))?;
            }
        }
        Ok(NodeReply::Done)
    }

    fn set_up_network(&self) -> anyhow::Result<()> {
        let DaemonSpec { name, .. } = &self.spec.daemon;
        let ip = self.spec.ip;
        for (file, value) in network::NODE_SETTINGS {
            network::set(file, value)?;
        }
        ip_batch(&network::node(ip)).with_context(|| format!("network of {} ({name})", self.spec.name))
    }
}

/// Gives iproute2 several commands at once.
pub(crate) fn ip_batch(commands: &str) -> anyhow::Result<()> {
    let mut ip = Command::new("ip");
    ip.args(["-batch", "-"]).env_clear().env("PATH", PATH);
    // No Stdio::null: a tree that is not mounted as a node has no /dev/null.
    ip.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = process::with_no_signal_blocked(|| ip.spawn())?.context("cannot run ip")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(commands.as_bytes()).context("cannot talk to ip")?;
    }
    let output = child.wait_with_output().context("ip is gone")?;
    if !output.status.success() {
        bail!("ip: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
