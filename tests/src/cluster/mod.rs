//! A running test cluster, for cases and for the command line.
#![forbid(unsafe_code)]

mod builder;
mod exec;
mod hooks;
mod inspect;
mod restart;

pub use builder::{ClusterBuilder, Plugin};
pub(crate) use exec::become_user;
pub use exec::{Captured, Target};
pub use inspect::BlockLine;

use crate::control::{self, NodeStatus, Reply, Request};
use crate::fault::Fault;
use crate::limits;
use crate::lost_packets;
use crate::spec::{About, CONTROLLER};
use crate::state::{self, Registry, State};
use crate::supervisor::{self, Owner};
use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::Signal;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

/// A running cluster. Dropping it ends the cluster, unless it was attached to or let go.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    dir: PathBuf,
    /// Changes when a node is booted anew.
    state: RwLock<State>,
    owner: Option<Owner>,
}

impl Cluster {
    /// What a new cluster shall be like.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// A cluster that runs already; dropping the value does not end it.
    ///
    /// # Errors
    /// No cluster of this name runs.
    pub fn attach(name: &str) -> anyhow::Result<Self> {
        state::check_name(name)?;
        let dir = state::directory(name);
        let state = State::load(&dir).with_context(|| {
            format!("no cluster called {name} is running; start one with `cargo xtask cluster up`")
        })?;
        state.supervisor.open().with_context(|| format!("the cluster {name} has ended"))?;
        Ok(Self { name: name.to_owned(), dir, state: RwLock::new(state), owner: None })
    }

    /// Ends a cluster by name. Whether there was one.
    ///
    /// # Errors
    /// It cannot be ended.
    pub fn end(name: &str) -> anyhow::Result<bool> {
        state::check_name(name)?;
        Registry::lock()?.end(name)
    }

    /// Names of the running clusters.
    ///
    /// # Errors
    /// The state directory cannot be read.
    pub fn running() -> anyhow::Result<Vec<String>> {
        Registry::lock()?.running()
    }

    /// Lets the cluster live on when this process ends.
    ///
    /// # Errors
    /// The supervisor is gone.
    pub fn let_go(mut self) -> anyhow::Result<()> {
        self.owner.take().map_or(Ok(()), Owner::adopt)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its state directory on the host: sockets, logs.
    pub fn state_dir(&self) -> &Path {
        &self.dir
    }

    /// What it was made from.
    pub fn about(&self) -> About {
        self.state().about.clone()
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pid of the supervisor on the host.
    pub fn supervisor_pid(&self) -> i32 {
        self.state().supervisor.pid
    }

    /// Names of the compute nodes, in the profile's order.
    pub fn nodes(&self) -> Vec<String> {
        self.state().nodes.iter().map(|node| node.name.clone()).filter(|name| name != CONTROLLER).collect()
    }

    /// A node's address.
    ///
    /// # Errors
    /// There is no such node.
    pub fn address(&self, node: &str) -> anyhow::Result<std::net::Ipv4Addr> {
        Ok(self.state().node(node)?.ip)
    }

    /// Directory on the host that is a node's `/var/log`.
    ///
    /// # Errors
    /// There is no such node.
    pub fn logs(&self, node: &str) -> anyhow::Result<PathBuf> {
        Ok(self.state().node(node)?.logs.clone())
    }

    /// A node's root directory as this process can see it, for reading files without entering the node; nothing is there while
    /// the node is switched off.
    ///
    /// # Errors
    /// There is no such node.
    pub fn root_of(&self, node: &str) -> anyhow::Result<PathBuf> {
        let process = self.state().node(node)?.process;
        // Another process may have its number by now.
        let pid = if process.open().is_ok() { process.pid } else { 0 };
        Ok(PathBuf::from(format!("/proc/{pid}/root")))
    }

    /// How the daemons are, and which faults act.
    ///
    /// # Errors
    /// The supervisor does not answer.
    pub fn status(&self) -> anyhow::Result<Vec<NodeStatus>> {
        match control::ask(&self.dir, &Request::Status)? {
            Reply::Status(all) => Ok(all),
            other => bail!("the supervisor answered {other:?}"),
        }
    }

    /// Sends the Slurm daemon of a node a signal and waits until it is gone.
    ///
    /// # Errors
    /// There is no such node, or the daemon does not end in time.
    pub fn stop_daemon(&self, node: &str, signal: Signal) -> anyhow::Result<()> {
        let request = Request::StopDaemon { node: node.to_owned(), signal: signal as i32 };
        control::ask(&self.dir, &request).map(drop)
    }

    /// Starts the Slurm daemon of a node and waits until it says that it is ready.
    ///
    /// # Errors
    /// There is no such node, it runs already, or it does not become ready.
    pub fn start_daemon(&self, node: &str) -> anyhow::Result<()> {
        self.start(node, false)
    }

    /// The same, and slurmd says that its node has booted just now, as after a power-up.
    ///
    /// # Errors
    /// As [`Cluster::start_daemon`].
    pub fn start_daemon_after_boot(&self, node: &str) -> anyhow::Result<()> {
        self.start(node, true)
    }

    fn start(&self, node: &str, after_boot: bool) -> anyhow::Result<()> {
        control::ask(&self.dir, &Request::StartDaemon { node: node.to_owned(), after_boot }).map(drop)
    }

    /// Kills everything on a node at once, as a power cut does; what is on its disk stays.
    ///
    /// # Errors
    /// There is no such node, or it is switched off already.
    pub fn switch_off(&self, node: &str) -> anyhow::Result<()> {
        control::ask(&self.dir, &Request::SwitchOff { node: node.to_owned() }).map(drop)
    }

    /// Boots a node that is switched off, with another boot id and an uptime from zero; faults go on acting. Comes back when its
    /// Slurm daemon is ready.
    ///
    /// # Errors
    /// There is no such node, it is not switched off, or it does not come up.
    pub fn switch_on(&self, node: &str) -> anyhow::Result<()> {
        let asked = control::ask(&self.dir, &Request::SwitchOn { node: node.to_owned() }).map(drop);
        // Also after a failure: the node may be there.
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = State::load(&self.dir)?;
        asked
    }

    /// Lets a fault act on a node, for a time or until it is healed.
    ///
    /// # Errors
    /// There is no such node, or the fault makes no sense on it.
    pub fn fault(&self, node: &str, fault: Fault, time: Option<Duration>) -> anyhow::Result<()> {
        control::ask(&self.dir, &Request::Fault { node: node.to_owned(), fault, time }).map(drop)
    }

    /// Tells what happens to the next prologs and epilogs of a node, in a cluster made [`ClusterBuilder::with_orders`].
    ///
    /// # Errors
    /// There is no such node, or the orders cannot be written.
    pub fn order(&self, node: &str, orders: &sim::hook::Settings) -> anyhow::Result<()> {
        let dir = self.root_of(node)?.join(sim::DEFAULT_DIR.trim_start_matches('/'));
        orders.save(&dir).with_context(|| format!("{node}: its hooks cannot be given orders"))
    }

    /// Ends all faults of a node, or of all nodes.
    ///
    /// # Errors
    /// There is no such node, or a fault cannot be ended.
    pub fn heal(&self, node: Option<&str>) -> anyhow::Result<()> {
        control::ask(&self.dir, &Request::Heal { node: node.map(str::to_owned) }).map(drop)
    }

    /// The last lines of all logs that say something, for a failure.
    pub fn log_tails(&self) -> String {
        let nodes: Vec<(String, PathBuf)> =
            self.state().nodes.iter().map(|node| (node.name.clone(), node.logs.clone())).collect();
        lost_packets::in_words(lost_packets::since_first_asked()) + &log_tails(&self.dir, &nodes)
    }

    /// Copies all logs into a folder that outlives the cluster; what the folder had is replaced.
    ///
    /// # Errors
    /// They cannot be read or written.
    pub fn keep_logs(&self, folder: &Path) -> anyhow::Result<()> {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let from = ["logs", "supervisor.log"].map(|name| self.dir.join(name));
        let copied =
            Command::new("cp").arg("--recursive").args(from).arg(folder).status().context("no cp")?;
        ensure!(copied.success(), "cp of the logs to {}: {copied}", folder.display());
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.owner.take().is_some()
            && let Err(error) = Self::end(&self.name)
        {
            eprintln!("the cluster {} could not be ended: {error:#}", self.name);
        }
    }
}

/// The supervisor's log, the controller's, and those of the first nodes whose daemons did not come up.
pub(crate) fn log_tails(dir: &Path, nodes: &[(String, PathBuf)]) -> String {
    let mut text = String::new();
    let mut show = |title: &str, log: &str| {
        let lines: Vec<&str> = log.lines().collect();
        if !lines.is_empty() {
            let _ = writeln!(text, "--- {title}, last lines");
            lines[lines.len().saturating_sub(limits::TAIL_LINES)..].iter().for_each(|line| {
                let _ = writeln!(text, "{line}");
            });
        }
    };
    show("supervisor", &supervisor::log_of(dir));
    // The controller and the first tray tell the story; dozens of equal trays do not tell it better.
    for (name, logs) in nodes.iter().take(2) {
        for file in log_files(logs).unwrap_or_default() {
            let log = fs::read(&file).unwrap_or_default();
            let file = file.strip_prefix(logs).unwrap_or(&file);
            show(&format!("{name}: {}", file.display()), &String::from_utf8_lossy(&log));
        }
    }
    text
}

/// The logs below a node's `/var/log` that say something. What a daemon printed (`.out`) is left out when its log file
/// says the same.
pub(crate) fn log_files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut directories = vec![dir.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            } else if entry.file_type()?.is_file() && entry.metadata()?.len() > 0 {
                files.push(entry.path());
            }
        }
    }
    files.sort_unstable();
    let shadowed = |file: &PathBuf| {
        file.extension().is_some_and(|end| end == "out") && files.contains(&file.with_extension("log"))
    };
    Ok(files.iter().filter(|file| !shadowed(file)).cloned().collect())
}
