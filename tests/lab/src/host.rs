//! Host programs as child processes: one with Slurm's own plugin, one with ours.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use tests::tree::Tree;

use crate::memcheck;
use crate::protocol::{Answer, Answerer, EntryQuestion, Question, Reply, Request, TraysQuestion};
use crate::scene::{Change, Cluster};

/// Bounds one reply: a batch of timed evaluations on the largest cluster.
const LIMIT: Duration = Duration::from_secs(120);

/// Puts a folder on the `/mnt` of a root tree and runs a command in there. Arguments: folder, tree, command. The mounts are
/// those of this process alone.
const INTO_THE_TREE: &str = "mount --bind \"$1\" \"$2/mnt\" && mount --rbind /proc \"$2/proc\" && \
                             root=$2 && shift 2 && exec chroot \"$root\" \"$@\"";

/// What host programs are made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The host program.
    pub program: PathBuf,
    /// Our plugin's file.
    pub plugin: PathBuf,
    /// The root tree with Slurm.
    pub tree: Tree,
}

/// Which plugin a host loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loads {
    /// Slurm's own topology/block.
    Stock,
    /// Ours.
    Ours,
}

/// A running host.
pub struct Host {
    child: Child,
    requests: Option<ChildStdin>,
    replies: Receiver<String>,
    directory: TempDir,
    loads: Loads,
    /// How long the plugin took to build its model, in nanoseconds.
    pub build_ns: u64,
}

impl Host {
    /// Starts a host with a cluster in it. It builds the cluster while the caller does other things; see [`Host::ready`].
    ///
    /// # Errors
    /// It does not start.
    pub fn start(parts: &Parts, loads: Loads, cluster: &Cluster, verbose: bool) -> anyhow::Result<Self> {
        Self::start_with(parts, loads, cluster, &cluster.topology_yaml(), verbose, &[])
    }

    /// Starts a host of ours with settings in slurm.conf's `TopologyParam`.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_with_param(parts: &Parts, cluster: &Cluster, param: &str) -> anyhow::Result<Self> {
        let more = format!("TopologyParam={param}\n");
        Self::start_as(parts, Loads::Ours, cluster, (&cluster.topology_yaml(), &more), false, &[])
    }

    /// Starts a host with any topology.yaml, which it may not survive, and with more in its environment.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_with(
        parts: &Parts,
        loads: Loads,
        cluster: &Cluster,
        topology_yaml: &str,
        verbose: bool,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        Self::start_as(parts, loads, cluster, (topology_yaml, ""), verbose, environment)
    }

    /// Starts a host with a topology.yaml and more lines in its slurm.conf.
    fn start_as(
        parts: &Parts,
        loads: Loads,
        cluster: &Cluster,
        (topology_yaml, more): (&str, &str),
        verbose: bool,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("slurm-nvlink-lab-").tempdir()?;
        let inside = |path: &Path| parts.tree.root().join(path.strip_prefix("/").unwrap_or(path));
        let stock = inside(parts.tree.plugin_dir());
        let mut plugin_dir = stock.display().to_string();
        if loads == Loads::Ours {
            let ours = directory.path().join("plugin");
            fs::create_dir(&ours)?;
            fs::copy(&parts.plugin, ours.join("topology_block.so"))
                .with_context(|| format!("cannot copy {}", parts.plugin.display()))?;
            plugin_dir = format!("{}:{plugin_dir}", ours.display());
        }
        let configuration = directory.path().join("slurm.conf");
        fs::write(&configuration, slurm_conf(&plugin_dir, cluster) + more)?;
        fs::write(directory.path().join("topology.yaml"), topology_yaml)?;
        let log = fs::File::create(directory.path().join("log"))?;

        // The tree's own loader and libraries: its C library is newer than that of many a development machine.
        let libraries = inside(parts.tree.library_dir());
        let mut command = Command::new(loader(parts.tree.root())?);
        command
            .arg("--library-path")
            .arg(format!("{}:{}", libraries.display(), stock.display()))
            // Before the C library, as in Slurm's own programs: both have a function error().
            .arg("--preload")
            .arg(stock.join("libslurmfull.so"))
            .arg(&parts.program)
            .args([&stock, &configuration])
            .arg(if verbose { "5" } else { "2" })
            .arg(cluster.gpus.to_string())
            .env("SLURM_CONF", &configuration)
            .envs(environment.iter().copied())
            .stderr(log);
        Self::spawn(command, directory, loads)
    }

    /// Starts a host under valgrind's memcheck, which the tree of `parts` must hold: valgrind must know the C library, so
    /// the host runs inside of the tree, with the lab's folder on the tree's `/mnt` for this process alone.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_under_memcheck(parts: &Parts, loads: Loads, cluster: &Cluster) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("slurm-nvlink-lab-").tempdir()?;
        let stock = parts.tree.plugin_dir().display().to_string();
        let mut plugin_dir = stock.clone();
        if loads == Loads::Ours {
            fs::create_dir(directory.path().join("plugin"))?;
            fs::copy(&parts.plugin, directory.path().join("plugin/topology_block.so"))
                .with_context(|| format!("cannot copy {}", parts.plugin.display()))?;
            plugin_dir = format!("/mnt/plugin:{stock}");
        }
        fs::copy(&parts.program, directory.path().join("lab-host"))
            .with_context(|| format!("cannot copy {}", parts.program.display()))?;
        fs::write(directory.path().join("slurm.conf"), slurm_conf(&plugin_dir, cluster))?;
        fs::write(directory.path().join("topology.yaml"), cluster.topology_yaml())?;
        let log = fs::File::create(directory.path().join("log"))?;
        let root = parts.tree.root();
        let loader = loader(root)?;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--", "sh", "-c", INTO_THE_TREE, "sh"])
            .args([directory.path(), root])
            .arg("valgrind")
            .args(memcheck::OPTIONS)
            .arg(Path::new("/").join(loader.strip_prefix(root)?))
            .arg("--library-path")
            .arg(format!("{}:{stock}", parts.tree.library_dir().display()))
            .args(["--preload", &format!("{stock}/libslurmfull.so"), "/mnt/lab-host", &stock])
            .args(["/mnt/slurm.conf", "2", &cluster.gpus.to_string()])
            .env("SLURM_CONF", "/mnt/slurm.conf")
            .stderr(log);
        Self::spawn(command, directory, loads)
    }

    fn spawn(mut command: Command, directory: TempDir, loads: Loads) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let output = child.stdout.take().context("the host has no output")?;
        let (sender, replies) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let requests = child.stdin.take();
        Ok(Self { child, requests, replies, directory, loads, build_ns: 0 })
    }

    /// Waits until the host has built its cluster, and makes the cluster's changes.
    ///
    /// # Errors
    /// It could not; the text holds Slurm's log.
    pub fn ready(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        match self.reply()? {
            Reply::Ready { build_ns } => self.build_ns = build_ns,
            other => bail!("the host began with {other:?}"),
        }
        if self.loads == Loads::Ours && self.log().contains("refuses to load") {
            bail!("our plugin refused to load:\n{}", self.log());
        }
        // What it does not take, it says and goes on without.
        if let Some(refused) = self.log().lines().find(|line| line.contains("TopologyParam=")) {
            bail!("our plugin did not take its settings: {refused}");
        }
        for &change in &cluster.changes {
            self.change(change)?;
        }
        Ok(())
    }

    /// Makes a change; Slurm's return code.
    ///
    /// # Errors
    /// As [`Host::ask`].
    pub fn change(&mut self, change: Change) -> anyhow::Result<i32> {
        match change {
            Change::Move { node, rack } => self.move_node(node, rack.map(|rack| format!("b{}", rack + 1))),
            Change::Rebuild => self.changed(&Request::Rebuild),
        }
    }

    /// Puts a node into the block of that name, or out of all; Slurm's return code.
    ///
    /// # Errors
    /// As [`Host::ask`].
    pub fn move_node(&mut self, node: u32, block: Option<String>) -> anyhow::Result<i32> {
        self.changed(&Request::Move { node, block })
    }

    fn changed(&mut self, request: &Request) -> anyhow::Result<i32> {
        self.send(request)?;
        match self.reply()? {
            Reply::Changed(rc) => Ok(rc),
            other => bail!("the host said {other:?} instead of a return code"),
        }
    }

    /// Memory that the host has now (its resident set), in kilobytes.
    ///
    /// # Errors
    /// The host has ended.
    pub fn resident_kb(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).context("the host has no memory any more")
    }

    /// Asks a question. The answer comes by [`Host::answer`], so that two hosts think at the same time.
    ///
    /// # Errors
    /// The host has ended.
    pub fn ask(&mut self, question: &Question) -> anyhow::Result<()> {
        self.send(&Request::Ask(Box::new(question.clone())))
    }

    /// Asks about whole trays that are all alike, and waits for the answer.
    ///
    /// # Errors
    /// The host has ended or cannot answer.
    pub fn ask_trays(&mut self, question: TraysQuestion) -> anyhow::Result<Answer> {
        self.send(&Request::AskTrays(question))?;
        self.answer()
    }

    /// The answer to the question.
    ///
    /// # Errors
    /// The host has ended or cannot answer.
    pub fn answer(&mut self) -> anyhow::Result<Answer> {
        match self.reply()? {
            Reply::Answer(answer) => Ok(answer),
            other => bail!("the host said {other:?} instead of an answer"),
        }
    }

    /// What all entry points but the choice of nodes answer, in lines.
    ///
    /// # Errors
    /// As [`Host::ask`].
    pub fn entries(&mut self, question: EntryQuestion) -> anyhow::Result<String> {
        self.send(&Request::Entries(question))?;
        match self.reply()? {
            Reply::Entries(lines) => Ok(lines),
            other => bail!("the host said {other:?} instead of lines"),
        }
    }

    /// Nanoseconds of each of so many answers to the last question.
    ///
    /// # Errors
    /// As [`Host::ask`].
    pub fn time(&mut self, answerer: Answerer, repetitions: u32) -> anyhow::Result<Vec<u64>> {
        self.send(&Request::Time { answerer, repetitions })?;
        match self.reply()? {
            Reply::Times(times) => Ok(times),
            other => bail!("the host said {other:?} instead of times"),
        }
    }

    /// Lets the host end by itself, and gives all that was logged.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn end(mut self, limit: Duration) -> anyhow::Result<String> {
        drop(self.requests.take());
        // Nothing more comes: the pipe's end is the process's.
        match self.replies.recv_timeout(limit) {
            Err(mpsc::RecvTimeoutError::Disconnected) => {}
            other => bail!("the host did not end, it said {other:?}"),
        }
        self.child.wait().context("cannot wait for the host")?;
        Ok(self.log())
    }

    /// What Slurm has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn send(&mut self, request: &Request) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        let requests = self.requests.as_mut().context("the host takes no more requests")?;
        if let Err(error) = requests.write_all(line.as_bytes()) {
            return Err(self.ended().context(error));
        }
        Ok(())
    }

    fn reply(&mut self) -> anyhow::Result<Reply> {
        let Ok(line) = self.replies.recv_timeout(LIMIT) else { return Err(self.ended()) };
        match serde_json::from_str(&line)? {
            Reply::Failed(why) => bail!("the host cannot go on: {why}; Slurm's log:\n{}", self.log()),
            reply => Ok(reply),
        }
    }

    fn ended(&mut self) -> anyhow::Error {
        // Alive, it has gone silent for the whole limit; Drop ends it.
        let status = self.child.try_wait();
        anyhow::anyhow!("the host gave no reply (status {status:?}); Slurm's log:\n{}", self.log())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It ends by itself when it is told nothing more; a hanging one does not. Errors mean that it is gone already.
        drop(self.requests.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The tree's dynamic loader.
fn loader(root: &Path) -> anyhow::Result<PathBuf> {
    ["lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1"]
        .iter()
        .map(|path| root.join(path))
        .find(|path| path.exists())
        .with_context(|| format!("no dynamic loader in {}", root.display()))
}

fn slurm_conf(plugin_dir: &str, cluster: &Cluster) -> String {
    let (nodes, gpus) = (cluster.nodes(), cluster.gpus);
    let (types, hardware) = match gpus {
        0 => (String::new(), "CPUs=4".to_owned()),
        _ => {
            let cores = cluster.cores / 2;
            let hardware = format!("Sockets=2 CoresPerSocket={cores} ThreadsPerCore=1 Gres=gpu:{gpus}");
            ("GresTypes=gpu\n".to_owned(), hardware)
        }
    };
    format!(
        "ClusterName=lab\nSlurmctldHost=localhost\nSlurmUser=root\nAuthType=auth/none\nCredType=cred/none\n\
         PluginDir={plugin_dir}\nTopologyPlugin=topology/block\nSelectType=select/cons_tres\n\
         SelectTypeParameters=CR_Core\nMaxNodeCount={nodes}\n{types}NodeName=n[1-{nodes}] {hardware} State=UNKNOWN\n\
         PartitionName=all Nodes=ALL Default=YES\n"
    )
}
