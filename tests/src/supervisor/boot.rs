//! Bringing up the nodes: layers, namespaces, the bridge between them, daemons.
#![forbid(unsafe_code)]

use crate::fault::{Fault, FaultKind};
use crate::layers;
use crate::network::{self, Port};
use crate::node::mounts::RootPlan;
use crate::node::protocol::{Hello, Line, NodeReply, NodeRequest};
use crate::node::{self, Uptime};
use crate::process;
use crate::spec::{ClusterSpec, Entry, NodeSpec};
use crate::state::{HostProcess, NodeState, State};
use anyhow::{Context as _, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};

/// A node that stands.
pub(super) struct RunningNode {
    pub(super) spec: NodeSpec,
    /// Its first process, in the supervisor's pid namespace.
    pid: i32,
    line: Line,
    /// How often it was booted.
    boots: u32,
}

impl RunningNode {
    pub(super) fn ask(&mut self, request: &NodeRequest) -> anyhow::Result<NodeReply> {
        self.send(request)?;
        self.answer()
    }

    /// Where it is plugged in.
    fn port(&self, number: usize) -> Port {
        Port { number, boots: self.boots, pid: self.pid }
    }

    fn is_dead_at_start(&self) -> bool {
        self.spec.faults.iter().any(|fault| fault.kind == FaultKind::SlurmdKill)
    }

    fn send(&mut self, request: &NodeRequest) -> anyhow::Result<()> {
        self.line.send(request).with_context(|| format!("{}: its first process is gone", self.spec.name))
    }

    fn answer(&mut self) -> anyhow::Result<NodeReply> {
        match self.line.receive().with_context(|| format!("{}: its first process is gone", self.spec.name))? {
            NodeReply::Failed(why) => bail!("{}: {why}", self.spec.name),
            reply => Ok(reply),
        }
    }
}

/// A cluster that stands.
pub(super) struct Booted {
    pub(super) nodes: Vec<RunningNode>,
    pub(super) state: State,
    pub(super) layers: Layers,
}

/// Builds the whole cluster and writes its description into the state directory.
pub(super) fn boot(spec: &ClusterSpec, supervisor: HostProcess) -> anyhow::Result<Booted> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("cannot make the mounts private")?;
    let scratch = spec.state_dir.join("mnt");
    mount(Some("tmpfs"), &scratch, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))
        .context("cannot mount a tmpfs")?;
    let layers = Layers::make(spec, &scratch)?;

    let mut started = Vec::new();
    for node in &spec.nodes {
        started.push(node::spawn(node, &layers.root_plan(spec, node)?, Uptime::OfTheMachine)?);
    }
    let mut described = Vec::new();
    for (node, (_, line)) in spec.nodes.iter().zip(&mut started) {
        let hello: Hello =
            line.receive().with_context(|| format!("{}: its root could not be made", node.name))?;
        described.push(NodeState {
            name: node.name.clone(),
            ip: node.ip,
            process: HostProcess { pid: hello.pid, start_time: hello.start_time },
            logs: logs_of(spec, node),
        });
    }
    let state = State { supervisor, about: spec.about.clone(), nodes: described };
    state.save(&spec.state_dir)?;

    let nodes = spec.nodes.iter().cloned().zip(started);
    let mut nodes: Vec<RunningNode> =
        nodes.map(|(spec, (pid, line))| RunningNode { spec, pid, line, boots: 1 }).collect();
    make_network(&spec.tree, &nodes)?;
    ask_all(&mut nodes, &NodeRequest::SetUpNetwork)?;
    for node in &mut nodes {
        let faults = node.spec.faults.clone();
        super::serve::begin_faults(node, &faults)?;
    }
    // slurmd asks slurmctld for its configuration, and waits for ten seconds when nobody answers.
    let (controller, trays) = nodes.split_at_mut(1);
    ask_all(controller, &NodeRequest::Start { after_boot: false })?;
    let mut started: Vec<&mut RunningNode> =
        trays.iter_mut().filter(|node| !node.is_dead_at_start()).collect();
    started.iter_mut().try_for_each(|node| node.send(&NodeRequest::Start { after_boot: false }))?;
    started.iter_mut().try_for_each(|node| node.answer().map(drop))?;
    drop(started);
    Ok(Booted { nodes, state, layers })
}

impl Booted {
    /// Kills everything on a node at once, as a power cut does. What is on its disk stays.
    pub(super) fn switch_off(&mut self, index: usize) -> anyhow::Result<()> {
        let node = &mut self.nodes[index];
        let first = Pid::from_raw(node.pid);
        kill(first, Signal::SIGKILL)
            .with_context(|| format!("{} is switched off already", node.spec.name))?;
        // As the first process of its pid namespace it is gone only when all others in there are.
        waitpid(first, None).with_context(|| format!("{}: its first process is gone", node.spec.name))?;
        Ok(())
    }

    /// Boots a node that is switched off: another boot id, uptime from zero, `/run`, `/dev` and the network made afresh. Its
    /// faults go on acting. Comes back when its Slurm daemon is ready.
    pub(super) fn switch_on(
        &mut self,
        spec: &ClusterSpec,
        index: usize,
        faults: &[Fault],
    ) -> anyhow::Result<()> {
        let node = &mut self.nodes[index];
        // Its number may have been given to another process meanwhile.
        if self.state.nodes[index].process.open().is_ok() {
            bail!("{} is not switched off", node.spec.name);
        }
        let plan = self.layers.root_plan(spec, &node.spec)?;
        (node.pid, node.line) = node::spawn(&node.spec, &plan, Uptime::FromNow)?;
        node.boots += 1;
        let hello: Hello = node.line.receive().context("its root could not be made")?;
        // The node itself counts from its own boot.
        let start_time = process::start_time(&hello.pid.to_string())?;
        self.state.nodes[index].process = HostProcess { pid: hello.pid, start_time };
        self.state.save(&spec.state_dir)?;
        in_tree(&spec.tree, || node::ip_batch(&node.port(index).plug_in()))?;
        node.ask(&NodeRequest::SetUpNetwork)?;
        super::serve::begin_faults(node, faults)?;
        if !faults.iter().any(|fault| fault.kind == FaultKind::SlurmdKill) {
            node.ask(&NodeRequest::Start { after_boot: false })?;
        }
        Ok(())
    }
}

/// Sends all nodes the same request at once, then takes the answers.
fn ask_all(nodes: &mut [RunningNode], request: &NodeRequest) -> anyhow::Result<()> {
    nodes.iter_mut().try_for_each(|node| node.send(request))?;
    nodes.iter_mut().try_for_each(|node| node.answer().map(drop))
}

/// The directories that all nodes share, on the supervisor's tmpfs.
pub(super) struct Layers {
    scratch: PathBuf,
    shared: PathBuf,
    controller: PathBuf,
    home: PathBuf,
}

impl Layers {
    fn make(spec: &ClusterSpec, scratch: &Path) -> anyhow::Result<Self> {
        let layer = |name: &str, entries: &[Entry]| -> anyhow::Result<PathBuf> {
            let path = scratch.join(name);
            fs::create_dir(&path)?;
            layers::write(entries, &path).with_context(|| format!("cannot fill the layer {name}"))?;
            Ok(path)
        };
        Ok(Self {
            scratch: scratch.to_owned(),
            shared: layer("shared", &spec.shared)?,
            controller: layer("controller", &spec.controller)?,
            home: layers::make_home(scratch)?,
        })
    }

    fn root_plan(&self, spec: &ClusterSpec, node: &NodeSpec) -> anyhow::Result<RootPlan> {
        let tree = node.foreign.as_ref().map_or(&spec.tree, |foreign| &foreign.tree);
        let mut layers = vec![self.shared.clone(), tree.clone()];
        if let Some(foreign) = &node.foreign {
            let own = self.scratch.join(format!("foreign-{}", node.name));
            fs::create_dir(&own)?;
            layers::write(&foreign.files, &own)
                .with_context(|| format!("cannot fill the layer of {}", node.name))?;
            layers.insert(0, own);
        }
        if node.name == crate::spec::CONTROLLER {
            layers.insert(0, self.controller.clone());
        }
        let logs = logs_of(spec, node);
        fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        Ok(RootPlan {
            layers,
            scratch: self.scratch.join("nodes").join(&node.name),
            home: self.home.clone(),
            logs,
            name: node.name.clone(),
            gpus: node.hardware.as_ref().map(|hardware| hardware.gpus.len() as u32),
            // Another one at each reading (random(4)).
            boot_id: fs::read_to_string("/proc/sys/kernel/random/uuid")
                .context("cannot make a boot id")?
                .trim()
                .to_owned(),
        })
    }
}

fn logs_of(spec: &ClusterSpec, node: &NodeSpec) -> PathBuf {
    spec.state_dir.join("logs").join(&node.name)
}

/// A router in the supervisor's network namespace, and a pair of virtual interfaces to each node.
fn make_network(tree: &Path, nodes: &[RunningNode]) -> anyhow::Result<()> {
    let ports: Vec<Port> = nodes.iter().enumerate().map(|(number, node)| node.port(number)).collect();
    in_tree(tree, || {
        for (file, value) in network::ROUTER_SETTINGS {
            network::set(file, value)?;
        }
        node::ip_batch(&network::router(&ports))
    })
}

/// Does this in the root tree and the supervisor's network namespace, with a `/proc` in which `ip` finds the nodes by their
/// pids. The host may lack iproute2; the tree has it.
fn in_tree(tree: &Path, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let child = process::fork(|| match enter(tree).and_then(|()| work()) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error:#}");
            1
        }
    });
    match waitpid(child.context("cannot fork")?, None).context("the network's maker is gone")? {
        WaitStatus::Exited(_, 0) => Ok(()),
        status => bail!("the cluster's network could not be made ({status:?})"),
    }
}

fn enter(tree: &Path) -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    let proc = tree.join("proc");
    mount(Some("proc"), &proc, Some("proc"), MsFlags::empty(), None::<&str>).context("cannot mount proc")?;
    nix::unistd::chroot(tree).context("cannot enter the root tree")
}
