//! Running commands inside a node, by entering its namespaces.
#![forbid(unsafe_code)]

use super::Cluster;
use crate::layers::USER;
use crate::limits;
use crate::node::PATH;
use crate::spec::CONTROLLER;
use anyhow::{Context as _, bail};
use std::io::Write as _;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// Where a command runs, as whom, and for how long.
#[derive(Debug, Clone)]
pub struct Target<'a> {
    node: &'a str,
    user: Option<&'a str>,
    deadline: Duration,
}

impl<'a> Target<'a> {
    /// The controller, as root.
    pub fn controller() -> Target<'static> {
        Target::node(CONTROLLER)
    }

    /// A node, as root.
    pub fn node(node: &'a str) -> Self {
        Self { node, user: None, deadline: limits::COMMAND }
    }

    /// The same as the test user, in his home.
    #[must_use]
    pub fn as_user(self) -> Self {
        Self { user: Some(USER), ..self }
    }

    /// The same with another deadline than [`limits::COMMAND`], in whole seconds.
    #[must_use]
    pub fn within(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }
}

/// The words in front of a command that make it run as a user, in his home.
pub(crate) fn become_user(user: &str) -> Vec<String> {
    // Slurm takes a job's directory from PWD, which a change of directory leaves as it was.
    let words =
        format!("runuser --user {user} -- env --chdir=/home/{user} HOME=/home/{user} PWD=/home/{user}");
    words.split(' ').map(str::to_owned).collect()
}

/// What a command printed, and how it ended.
#[derive(Debug, Clone)]
pub struct Captured {
    /// How it ended; 124 when it ran past its deadline.
    pub status: ExitStatus,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
}

impl Cluster {
    /// Runs a command on the controller as root and gives its stdout.
    ///
    /// # Errors
    /// It cannot be run, fails, or takes longer than [`limits::COMMAND`].
    pub fn ctl<S: AsRef<str>>(&self, argv: &[S]) -> anyhow::Result<String> {
        self.succeed(&Target::controller(), argv)
    }

    /// Runs a command on a node as root and gives its stdout.
    ///
    /// # Errors
    /// There is no such node; it cannot be run, fails, or takes longer than [`limits::COMMAND`].
    pub fn tray<S: AsRef<str>>(&self, node: &str, argv: &[S]) -> anyhow::Result<String> {
        self.succeed(&Target::node(node), argv)
    }

    /// Runs a command that must succeed and gives its stdout.
    ///
    /// # Errors
    /// As [`Cluster::tray`].
    pub fn succeed<S: AsRef<str>>(&self, target: &Target<'_>, argv: &[S]) -> anyhow::Result<String> {
        self.feed(target, argv, "")
    }

    /// The same for a command that reads `input` from its stdin.
    ///
    /// # Errors
    /// As [`Cluster::tray`].
    pub fn feed<S: AsRef<str>>(
        &self,
        target: &Target<'_>,
        argv: &[S],
        input: &str,
    ) -> anyhow::Result<String> {
        let captured = self.run(target, argv, input)?;
        if !captured.status.success() {
            let words: Vec<&str> = argv.iter().map(AsRef::as_ref).collect();
            let Captured { status, stdout, stderr } = captured;
            bail!("{} on {}: {status}\n{stderr}{stdout}", words.join(" "), target.node);
        }
        Ok(captured.stdout)
    }

    /// Runs a command, whatever its outcome.
    ///
    /// # Errors
    /// There is no such node, or it cannot be entered.
    pub fn capture<S: AsRef<str>>(&self, target: &Target<'_>, argv: &[S]) -> anyhow::Result<Captured> {
        self.run(target, argv, "")
    }

    fn run<S: AsRef<str>>(&self, target: &Target<'_>, argv: &[S], input: &str) -> anyhow::Result<Captured> {
        let mut command = self.enter(target.node)?;
        let seconds = target.deadline.as_secs().max(1).to_string();
        command.args(["timeout", "--kill-after=5", &seconds]);
        if let Some(user) = target.user {
            command.args(become_user(user));
        }
        command.args(argv.iter().map(AsRef::as_ref));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run nsenter")?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that does not read all of it tells so by its status.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().context("nsenter is gone")?;
        Ok(Captured {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// A command whose remaining arguments run inside a node, with this process's terminal and no deadline.
    ///
    /// # Errors
    /// There is no such node, or its first process is gone.
    pub fn enter(&self, node: &str) -> anyhow::Result<Command> {
        let process = self.state().node(node)?.process;
        process.open().with_context(|| format!("the node {node} is gone"))?;
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &process.pid.to_string(),
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--time",
            "--",
        ]);
        command.args([
            "env",
            "--ignore-environment",
            &format!("PATH={PATH}"),
            "HOME=/root",
            "LC_ALL=C.UTF-8",
        ]);
        if let Ok(term) = std::env::var("TERM") {
            command.arg(format!("TERM={term}"));
        }
        Ok(command)
    }
}
