//! The supervisor at work: requests on the socket, faults and their clocks, orphans, the end.
#![forbid(unsafe_code)]

use super::ADOPT;
use super::boot::{Booted, RunningNode};
use crate::control::{self, DaemonState, NodeStatus, Reply, Request};
use crate::fault::{self, Fault, FaultKind};
use crate::node::protocol::{Line, NodeReply, NodeRequest};
use crate::spec::ClusterSpec;
use crate::stage;
use crate::state;
use anyhow::{Context as _, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::{SfdFlags, SigSet, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io::{BufRead as _, BufReader, Stdin};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest wait for a client that has connected and says nothing.
const CLIENT: Duration = Duration::from_secs(2);
/// How a daemon is started for somebody who then goes on.
const READY: NodeRequest = NodeRequest::Start { after_boot: false };

pub(super) fn block_signals() -> anyhow::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        set.add(signal);
    }
    set.thread_block().context("cannot block signals")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .context("cannot make a signal descriptor")
}

/// Serves until a signal, or the owner's end, ends the cluster.
pub(super) fn serve(
    spec: &ClusterSpec,
    cluster: Booted,
    owner: BufReader<Stdin>,
    signals: &SignalFd,
) -> anyhow::Result<()> {
    let listener =
        UnixListener::bind(spec.state_dir.join(control::SOCKET)).context("cannot make the control socket")?;
    let acting = cluster
        .nodes
        .iter()
        .map(|node| node.spec.faults.iter().map(|fault| (fault.clone(), None)).collect())
        .collect();
    let mut supervisor = Supervisor { spec, cluster, acting };
    let mut owner = Some(owner);
    loop {
        let mut fds = vec![
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(owner.as_ref().map(|owner| PollFd::new(owner.get_ref().as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, supervisor.next_clock()) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("cannot poll"),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any() == Some(true)).collect();
        if ready[1] && ended_by_signal(signals)? {
            break;
        }
        if ready.get(2) == Some(&true) && !owner_lets_go(&mut owner) {
            break;
        }
        if ready[0] {
            // A client that misbehaves must not end the cluster.
            if let Err(error) = listener
                .accept()
                .map_err(anyhow::Error::from)
                .and_then(|(stream, _)| supervisor.client(stream))
            {
                eprintln!("a request failed: {error:#}");
            }
        }
        supervisor.heal_what_is_over();
    }
    end_processes();
    leave_no_directory(&spec.state_dir);
    Ok(())
}

/// Reaps what has ended; whether a signal asks for the end.
fn ended_by_signal(signals: &SignalFd) -> anyhow::Result<bool> {
    let mut end = false;
    while let Some(info) = signals.read_signal()? {
        end |= i32::try_from(info.ssi_signo).is_ok_and(|signal| signal != Signal::SIGCHLD as i32);
    }
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return Ok(end),
            Ok(status) => eprintln!("a node's first process, or a helper, has ended: {status:?}"),
            Err(errno) => return Err(errno).context("cannot wait for processes"),
        }
    }
}

/// Reads the owner's pipe: "adopt" means to live on without it, its end means to end with it.
fn owner_lets_go(owner: &mut Option<BufReader<Stdin>>) -> bool {
    let mut text = String::new();
    let adopted =
        owner.as_mut().is_some_and(|owner| owner.read_line(&mut text).is_ok_and(|_| text.trim() == ADOPT));
    *owner = None;
    adopted
}

/// Kills every other process of the cluster. The mounts and interfaces go with the namespaces.
pub(super) fn end_processes() {
    // From the first process of a pid namespace this means: every other process in it.
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    while waitpid(None, None).is_ok() {}
}

fn leave_no_directory(state_dir: &Path) {
    let _ = nix::mount::umount2(&state_dir.join("mnt"), nix::mount::MntFlags::MNT_DETACH);
    if let Err(error) = state::remove(state_dir) {
        eprintln!("{error:#}");
    }
}

struct Supervisor<'a> {
    spec: &'a ClusterSpec,
    cluster: Booted,
    /// Faults of each node, the earliest first, and when they end.
    acting: Vec<Vec<(Fault, Option<Instant>)>>,
}

impl Supervisor<'_> {
    fn client(&mut self, stream: UnixStream) -> anyhow::Result<()> {
        stream.set_read_timeout(Some(CLIENT))?;
        let mut line = Line::new(stream);
        let request = line.receive().context("cannot read the request")?;
        let reply = self.answer(request).unwrap_or_else(|error| Reply::Failed(format!("{error:#}")));
        line.send(&reply).context("cannot answer")
    }

    fn answer(&mut self, request: Request) -> anyhow::Result<Reply> {
        match request {
            Request::Status => return self.status().map(Reply::Status),
            Request::StartDaemon { node, after_boot } => {
                let index = self.index(&node)?;
                self.cluster.nodes[index].ask(&NodeRequest::Start { after_boot })?;
            }
            Request::StopDaemon { node, signal } => {
                let index = self.index(&node)?;
                self.cluster.nodes[index].ask(&NodeRequest::Stop { signal })?;
            }
            Request::SwitchOff { node } => {
                let index = self.index(&node)?;
                self.cluster.switch_off(index)?;
            }
            Request::SwitchOn { node } => {
                let index = self.index(&node)?;
                let faults: Vec<Fault> = self.acting[index].iter().map(|(fault, _)| fault.clone()).collect();
                self.cluster.switch_on(self.spec, index, &faults)?;
            }
            Request::Fault { node, fault, time } => {
                let index = self.index(&node)?;
                self.begin(index, fault, time.map(|time| Instant::now() + time))?;
            }
            Request::Heal { node: Some(node) } => {
                let index = self.index(&node)?;
                self.heal(index, |_| true, READY)?;
            }
            Request::Heal { node: None } => {
                (0..self.cluster.nodes.len()).try_for_each(|index| self.heal(index, |_| true, READY))?
            }
        }
        Ok(Reply::Done)
    }

    fn index(&self, node: &str) -> anyhow::Result<usize> {
        self.cluster
            .nodes
            .iter()
            .position(|known| known.spec.name == node)
            .with_context(|| format!("no node is called {node}"))
    }

    fn status(&mut self) -> anyhow::Result<Vec<NodeStatus>> {
        let mut all = Vec::new();
        for (node, acting) in self.cluster.nodes.iter_mut().zip(&self.acting) {
            let daemon = match node.ask(&NodeRequest::Status) {
                Ok(NodeReply::Daemon(state)) => state,
                other => DaemonState::Ended(format!("{other:?}")),
            };
            let faults = acting.iter().map(|(fault, _)| fault.clone()).collect();
            all.push(NodeStatus { node: node.spec.name.clone(), daemon, faults });
        }
        Ok(all)
    }

    /// Lets a fault act. The same kind once more only sets its clock and numbers anew.
    fn begin(&mut self, index: usize, fault: Fault, until: Option<Instant>) -> anyhow::Result<()> {
        let node = &mut self.cluster.nodes[index];
        let acting = &mut self.acting[index];
        let known = acting.iter().position(|(known, _)| known.kind == fault.kind);
        if let Some(position) = known {
            acting.remove(position);
        }
        acting.push((fault.clone(), until));
        show(node, &acting.iter().map(|(fault, _)| fault.clone()).collect::<Vec<_>>())?;
        if known.is_none() { act(node, fault.kind, true) } else { Ok(()) }
    }

    /// Ends those faults of a node that `over` names, and starts its daemon like that if it was killed.
    fn heal(
        &mut self,
        index: usize,
        over: impl Fn(Option<Instant>) -> bool,
        start: NodeRequest,
    ) -> anyhow::Result<()> {
        let node = &mut self.cluster.nodes[index];
        let (ended, left): (Vec<_>, Vec<_>) =
            self.acting[index].drain(..).partition(|(_, until)| over(*until));
        self.acting[index] = left;
        if ended.is_empty() {
            return Ok(());
        }
        show(node, &self.acting[index].iter().map(|(fault, _)| fault.clone()).collect::<Vec<_>>())?;
        for (fault, _) in &ended {
            if fault.kind != FaultKind::SlurmdKill {
                act(node, fault.kind, false)?;
            } else if !matches!(node.ask(&NodeRequest::Status)?, NodeReply::Daemon(DaemonState::Running(_))) {
                node.ask(&start)?;
            }
        }
        Ok(())
    }

    /// A slurmd is not waited for: it may be waiting for a slurmctld that is about to be started, by a request to us.
    fn heal_what_is_over(&mut self) {
        let now = Instant::now();
        for index in 0..self.cluster.nodes.len() {
            if let Err(error) =
                self.heal(index, |until| until.is_some_and(|until| until <= now), NodeRequest::Launch)
            {
                eprintln!("a fault could not be ended: {error:#}");
            }
        }
    }

    fn next_clock(&self) -> PollTimeout {
        let ends = self.acting.iter().flatten().filter_map(|(_, until)| *until);
        let Some(next) = ends.min() else { return PollTimeout::NONE };
        // One millisecond more than the rounded-down distance, so that the fault is over when poll returns.
        let left = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    }
}

/// Lets faults act that are there from the beginning, before the daemons start.
pub(super) fn begin_faults(node: &mut RunningNode, faults: &[Fault]) -> anyhow::Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    show(node, faults)?;
    faults.iter().try_for_each(|fault| act(node, fault.kind, true))
}

/// Writes the simulators' settings of a node for these faults.
fn show(node: &mut RunningNode, faults: &[Fault]) -> anyhow::Result<()> {
    let Some(healthy) = &node.spec.hardware else {
        return match faults
            .iter()
            .find(|fault| !matches!(fault.kind, FaultKind::Unreachable | FaultKind::SlurmdKill))
        {
            Some(fault) => {
                bail!("{} has no simulated NVLink hardware for {}", node.spec.name, fault.kind.name())
            }
            None => Ok(()),
        };
    };
    let nvml = fault::nvml_settings(healthy, faults);
    node.ask(&NodeRequest::Nvml(Box::new(nvml)))?;
    node.ask(&NodeRequest::Imex(Box::new(fault::imex_settings(faults))))?;
    Ok(())
}

/// What a fault does beside the settings, when it begins and when it ends. The end of [`FaultKind::SlurmdKill`] is for the caller.
fn act(node: &mut RunningNode, kind: FaultKind, begins: bool) -> anyhow::Result<()> {
    let request = match (kind, begins) {
        (FaultKind::PortTaken, true) => NodeRequest::HoldPort(fault::IMEX_PORT),
        (FaultKind::PortTaken, false) => NodeRequest::ReleasePort,
        (FaultKind::Unreachable, begins) => NodeRequest::Network { up: !begins },
        (FaultKind::SlurmdKill, true) => NodeRequest::Stop { signal: Signal::SIGKILL as i32 },
        (FaultKind::NvmlMissing, _) => {
            let library = PathBuf::from(stage::NVML_LIBRARY);
            let hidden = library.with_file_name("not-there-libnvidia-ml");
            let (from, to) = if begins { (library, hidden) } else { (hidden, library) };
            NodeRequest::Rename { from, to }
        }
        _ => return Ok(()),
    };
    node.ask(&request).map(drop)
}
