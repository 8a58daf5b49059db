//! The supervisor of one cluster: the first process of a pid namespace in which everything else of the cluster runs.
//!
//! ```text
//!   program ─exec─▶ "cluster supervise" ─unshare─fork─▶ supervisor
//!      │  stdin: the ClusterSpec, later "adopt"; end of file before that ends the cluster
//!      ◀─ stdout: Events
//! ```
//!
//! It is a program image of its own (the same executable, started anew), so it has one thread and nothing of the
//! starter's memory or descriptors. It must never mount, or make an interface, outside its own namespaces.
#![forbid(unsafe_code)]

mod boot;
mod serve;

use crate::limits;
use crate::process;
use crate::spec::ClusterSpec;
use crate::state::{self, HostProcess};
use anyhow::{Context as _, bail};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Stdin, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};

/// Arguments with which a program is started as a supervisor.
const ARGUMENTS: [&str; 2] = ["cluster", "supervise"];

/// File in the state directory with the supervisor's own words.
pub(crate) const LOG: &str = "supervisor.log";

/// What the starter says when the cluster is to live on without it.
const ADOPT: &str = "adopt";

/// What a supervisor tells its starter, one JSON line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Event {
    /// The state directory is ours.
    Locked,
    /// All nodes stand and all daemons are ready.
    Booted,
    /// It will not come up.
    Failed(String),
}

/// Call this first in the `main` of a program that starts clusters. When the program was started as a supervisor,
/// this does a supervisor's work and gives the exit code to return.
pub fn take_over() -> Option<ExitCode> {
    std::env::args().skip(1).eq(ARGUMENTS).then(main)
}

/// A supervisor's work, to be called in a process that has one thread.
pub(crate) fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&Event::Failed(format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// The helper between the starter and the supervisor: takes the directory, makes the namespaces, forks, ends.
fn start() -> anyhow::Result<()> {
    process::close_inherited().context("cannot close inherited descriptors")?;
    let mut owner = BufReader::new(std::io::stdin());
    let mut text = String::new();
    owner.read_line(&mut text).context("cannot read the specification")?;
    let spec: ClusterSpec = serde_json::from_str(&text).context("the specification is damaged")?;

    let lock = state::hold(&spec.state_dir)?;
    tell(&Event::Locked);
    nix::unistd::setsid().context("cannot start a session")?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let log_path = spec.state_dir.join(LOG);
    let log = OpenOptions::new().create(true).append(true).open(&log_path);
    let log = log.with_context(|| format!("cannot open {}", log_path.display()))?;
    nix::unistd::dup2_stderr(&log).context("cannot redirect stderr")?;

    let flags = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(flags).context("cannot make namespaces (the test cluster needs root)")?;
    process::fork(|| match supervise(&spec, owner) {
        Ok(()) => 0,
        Err(error) => {
            // The directory stays: the starter shows what the logs in it say, and removes it.
            tell(&Event::Failed(format!("{error:#}")));
            serve::end_processes();
            1
        }
    })
    .context("cannot fork")?;
    // The supervisor shares the lock; dropping it here would unlock it for both.
    std::mem::forget(lock);
    Ok(())
}

fn supervise(spec: &ClusterSpec, owner: BufReader<Stdin>) -> anyhow::Result<()> {
    let signals = serve::block_signals()?;
    let (pid, start_time) = process::seen_in_proc().context("cannot read /proc/self")?;
    let booted = boot::boot(spec, HostProcess { pid, start_time })?;
    tell(&Event::Booted);
    serve::serve(spec, booted, owner, &signals)
}

/// Writes an event for the starter; a starter that is gone is noticed elsewhere.
fn tell(event: &Event) {
    let mut out = std::io::stdout().lock();
    if let Ok(text) = serde_json::to_string(event) {
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

/// The starter's end of a supervisor. When it is dropped before [`Owner::adopt`], the cluster ends.
#[derive(Debug)]
pub(crate) struct Owner {
    stdin: Option<ChildStdin>,
    events: BufReader<std::process::ChildStdout>,
}

impl Owner {
    /// Starts a supervisor, up to the point where it holds the state directory.
    pub(crate) fn start(spec: &ClusterSpec) -> anyhow::Result<Self> {
        let mut child: Child = Command::new("/proc/self/exe")
            .arg0(format!("slurm-nvlink-cluster:{}", spec.name))
            .args(ARGUMENTS)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the supervisor")?;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the supervisor has no pipes");
        };
        let mut text = serde_json::to_string(spec)?;
        text.push('\n');
        stdin.write_all(text.as_bytes()).context("the supervisor does not listen")?;
        let mut owner = Self { stdin: Some(stdin), events: BufReader::new(stdout) };
        match owner.event() {
            Ok(Event::Locked) => {}
            other => {
                let program = std::env::current_exe().unwrap_or_default();
                drop(owner.stdin.take());
                let status = child.wait();
                bail!(
                    "{} did not become a supervisor ({other:?}, {status:?}); does its main call tests::supervisor::take_over()?",
                    program.display()
                );
            }
        }
        // The helper ends as soon as the supervisor proper is forked.
        let status = child.wait().context("cannot wait for the supervisor's helper")?;
        if !status.success() {
            bail!("the supervisor did not start: {:?}", owner.event());
        }
        Ok(owner)
    }

    /// Waits until the daemons are ready.
    pub(crate) fn wait_booted(&mut self) -> anyhow::Result<()> {
        match self.event()? {
            Event::Booted => Ok(()),
            Event::Failed(why) => bail!("{why}"),
            Event::Locked => bail!("the supervisor speaks out of turn"),
        }
    }

    /// Lets the cluster live on without this process.
    pub(crate) fn adopt(mut self) -> anyhow::Result<()> {
        match self.stdin.take() {
            Some(mut stdin) => writeln!(stdin, "{ADOPT}").context("the supervisor is gone"),
            None => Ok(()),
        }
    }

    fn event(&mut self) -> anyhow::Result<Event> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd as _;
        if self.events.buffer().is_empty() {
            let mut fds = [PollFd::new(self.events.get_ref().as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::try_from(limits::BOOT).unwrap_or(PollTimeout::MAX))? == 0 {
                bail!("the supervisor said nothing for {} s", limits::BOOT.as_secs());
            }
        }
        let mut text = String::new();
        if self.events.read_line(&mut text).context("cannot listen to the supervisor")? == 0 {
            bail!("the supervisor ended without a word");
        }
        serde_json::from_str(&text).with_context(|| format!("the supervisor said {text:?}"))
    }
}

/// The supervisor's log, for an error message.
pub(crate) fn log_of(state_dir: &Path) -> String {
    std::fs::read_to_string(state_dir.join(LOG)).unwrap_or_default()
}
