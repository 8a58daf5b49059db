//! A command of a document, typed as it stands there, and what must have come of it.
#![forbid(unsafe_code)]

use anyhow::{Context as _, ensure};
use std::process::Command;
use tests::cluster::{Captured, Target};
pub(super) use tests::limits::SOON;
use tests::tree::Tree;
use tests::{Cluster, paths};

/// The folder on the controller in which commands are typed.
pub(super) const FOLDER: &str = "/run/documents";
const TOPOLOGY: &str = "/etc/slurm/topology.yaml";
/// What the documents call FILE, in that folder.
pub(super) const FILE: (&str, &str) = ("FILE", "/run/documents/file");

/// Where a command is typed.
#[derive(Debug, Clone, Copy)]
pub(super) enum At {
    /// On the controller, as root.
    Controller,
    /// On the controller, as a user, in his home.
    User,
    /// On this tray, as root.
    Tray(&'static str),
}

/// A command that is typed on a cluster.
#[derive(Clone, Copy)]
pub(super) struct Step {
    /// As the document has it.
    pub(super) typed: &'static str,
    /// Where.
    pub(super) at: At,
    /// The command that goes before, where the document names only an option of it.
    pub(super) of: &'static str,
    /// Words that stand for others, and what is typed in their place.
    pub(super) with: &'static [(&'static str, &'static str)],
    /// What comes before it.
    pub(super) before: fn(&Cluster) -> anyhow::Result<()>,
    /// What must have come of it.
    pub(super) then: fn(&Cluster, &Captured) -> anyhow::Result<()>,
}

/// On the controller, without anything before; it must succeed.
pub(super) const STEP: Step = Step {
    typed: "",
    at: At::Controller,
    of: "",
    with: &[],
    before: |_| Ok(()),
    then: |_, said| succeeds(said),
};

/// It has ended with 0.
pub(super) fn succeeds(said: &Captured) -> anyhow::Result<()> {
    ensure!(said.status.success(), "{}", said.status);
    Ok(())
}

/// It has ended with 0 and printed all of these.
pub(super) fn prints(said: &Captured, words: &[&str]) -> anyhow::Result<()> {
    succeeds(said)?;
    has(said, words)
}

/// It has printed all of these.
pub(super) fn has(said: &Captured, words: &[&str]) -> anyhow::Result<()> {
    let all = format!("{}{}", said.stdout, said.stderr);
    let missing: Vec<&&str> = words.iter().filter(|word| !all.contains(**word)).collect();
    ensure!(missing.is_empty(), "it does not say {missing:?}");
    Ok(())
}

/// It found something: it has ended with 1 and printed all of these.
pub(super) fn finds(said: &Captured, words: &[&str]) -> anyhow::Result<()> {
    ensure!(said.status.code() == Some(1), "{}", said.status);
    has(said, words)
}

/// A file in [`FOLDER`].
pub(super) fn file(cluster: &Cluster, name: &str) -> anyhow::Result<String> {
    cluster.ctl(&["cat", &format!("{FOLDER}/{name}")])
}

/// Writes a file in [`FOLDER`].
pub(super) fn put(cluster: &Cluster, name: &str, text: &str) -> anyhow::Result<()> {
    cluster.write_file(&Target::controller(), &format!("{FOLDER}/{name}"), text)
}

/// Types the steps one after the other; the cluster is as before then.
pub(super) fn play(cluster: &Cluster, steps: &[Step]) -> anyhow::Result<()> {
    cluster.ctl(&["mkdir", "--parents", FOLDER])?;
    let topology = cluster.ctl(&["cat", TOPOLOGY])?;
    let played = steps.iter().try_for_each(|step| step.play(cluster));
    let back = || -> anyhow::Result<()> {
        cluster.ctl(&["rm", "--recursive", "--force", FOLDER])?;
        cluster.ctl(&["scancel", "--user=alice"])?;
        cluster.wait_idle(&cluster.nodes())?;
        if cluster.ctl(&["cat", TOPOLOGY])? != topology {
            cluster.feed(&Target::controller(), &["topology-gen", "apply", "--file", "-"], &topology)?;
        }
        Ok(())
    };
    let back = back().context("back to the beginning");
    played.and(back)
}

impl Step {
    fn play(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let line = filled(&format!("{} {}", self.of, self.typed), self.with)?;
        let line = line.trim();
        (self.before)(cluster).with_context(|| format!("before {line}"))?;
        let (target, folder) = match self.at {
            At::Controller => (Target::controller(), FOLDER),
            At::User => (Target::controller().as_user(), "."),
            At::Tray(tray) => (Target::node(tray), "/root"),
        };
        let said = cluster.capture(&target, &["sh", "-c", &format!("cd {folder}\n{line}")])?;
        (self.then)(cluster, &said)
            .with_context(|| format!("{line}\n--- stdout\n{}--- stderr\n{}---", said.stdout, said.stderr))
    }
}

/// A command that is typed on this machine, in the root of the workspace.
#[derive(Clone, Copy)]
pub(super) struct HostStep {
    /// As the document has it.
    pub(super) typed: &'static str,
    /// Words that stand for others, or make it longer than a test can be, and what is typed in their place.
    pub(super) with: &'static [(&'static str, &'static str)],
    /// What is typed behind it, to have it short.
    pub(super) more: &'static str,
    /// What must have come of it.
    pub(super) then: fn(&Captured) -> anyhow::Result<()>,
}

/// As it stands; it must succeed.
pub(super) const HERE: HostStep = HostStep { typed: "", with: &[], more: "", then: succeeds };

/// Types the steps one after the other.
pub(super) fn play_here(steps: &[HostStep]) -> anyhow::Result<()> {
    steps.iter().try_for_each(|step| step.play(&[]))
}

impl HostStep {
    /// Types it, with some variables in its environment; HEADERS is the folder of the headers of the clusters' Slurm.
    pub(super) fn play(&self, variables: &[(&str, &str)]) -> anyhow::Result<()> {
        let line = format!("{} {}", filled(self.typed, self.with)?, self.more);
        let line = line.trim();
        let xtask = xtask()?;
        let mut shell = Command::new("sh");
        shell.args(["-c", &line.replace("cargo xtask", &xtask)]).current_dir(paths::workspace());
        shell.envs(variables.iter().copied()).env("HEADERS", Tree::ensure()?.include_dir());
        let output = shell.output().context("run sh")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said =
            Captured { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) };
        (self.then)(&said)
            .with_context(|| format!("{line}\n--- stdout\n{}--- stderr\n{}---", said.stdout, said.stderr))
    }
}

/// The program that `cargo xtask` runs: it lies beside the folder of this one.
fn xtask() -> anyhow::Result<String> {
    let here = std::env::current_exe().context("this program's place")?;
    let xtask = here.parent().and_then(|deps| deps.parent()).map(|folder| folder.join("xtask"));
    let xtask = xtask.filter(|file| file.is_file());
    Ok(xtask
        .context("no xtask beside this program; `cargo build -p packaging` makes it")?
        .display()
        .to_string())
}

/// The command with words in the place of those that stand for others; each must be there.
fn filled(typed: &str, with: &[(&str, &str)]) -> anyhow::Result<String> {
    with.iter().try_fold(typed.to_owned(), |line, (word, value)| {
        ensure!(line.contains(word), "{typed:?} has no {word:?}");
        Ok(line.replace(word, value))
    })
}
