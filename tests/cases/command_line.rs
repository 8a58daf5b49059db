//! The cluster commands as people type them.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case, Setup, cluster_name};
use anyhow::{Context as _, ensure};
use std::process::{Command, Output};
use tests::Cluster;

pub(crate) const CASES: &[Case] =
    &[Case { name: "command_line::from_up_to_down", body: Body::Own(Setup::PLAIN_SMALL, from_up_to_down) }];

/// A cluster by name; ends with the value, whatever the case did.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        if let Err(error) = Cluster::end(&self.0) {
            eprintln!("{error:#}");
        }
    }
}

impl Named {
    /// Runs `cluster COMMAND --name NAME REST`.
    fn output(&self, command: &str, rest: &[&str]) -> anyhow::Result<Output> {
        let mut program = Command::new(env!("CARGO_BIN_EXE_cluster"));
        program.args([command, "--name", &self.0]).args(rest).output().context("cannot run the command line")
    }

    /// The same; it must succeed. Gives its stdout.
    fn run(&self, command: &str, rest: &[&str]) -> anyhow::Result<String> {
        let output = self.output(command, rest)?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "cluster {command} {}: {}\n{stderr}", rest.join(" "), output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The cluster's line of `cluster list`.
    fn listed(&self) -> anyhow::Result<Option<String>> {
        let output = Command::new(env!("CARGO_BIN_EXE_cluster")).arg("list").output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().find(|line| line.starts_with(&format!("{}:", self.0))).map(str::to_owned))
    }
}

fn from_up_to_down(setup: &Setup) -> anyhow::Result<()> {
    let cluster = Named(cluster_name("cli"));
    let hooks = ["--prolog", "/bin/true", "--epilog", "/bin/true"];
    let arguments =
        [&["--profile", setup.profile, "--plugin", "stock", "--set", "KillWait=7"], &hooks[..]].concat();
    let said = cluster.run("up", &arguments)?;
    let (first, blocks) = said.split_once('\n').context("one line only")?;
    ensure!(first.starts_with(&format!("cluster {}: 8 nodes idle after ", cluster.0)), "{first}");
    ensure!(
        first.ends_with("is real, the NVLink hardware is simulated (small-2x4); plugin: stock"),
        "{first}"
    );
    ensure!(
        blocks == "  block nvl-3c9b1e52-32766: r01n[01-04]\n  block nvl-a45f0d97-32766: r02n[01-04]\n",
        "{blocks}"
    );

    let config = cluster.run("exec", &["--", "scontrol", "show", "config"])?;
    ensure!(config.lines().any(|line| line.starts_with("KillWait ") && line.contains("7 sec")), "{config}");
    let user = cluster.run("exec", &["--user", "--", "sh", "-c", "id -un; pwd"])?;
    ensure!(user == "alice\n/home/alice\n", "{user}");
    let status = cluster.output("exec", &["--", "sh", "-c", "exit 7"])?.status;
    ensure!(status.code() == Some(7), "{status}");
    let killed = cluster.output("exec", &["--", "sh", "-c", "kill -9 $$"])?.status;
    ensure!(killed.code() == Some(128 + 9), "{killed}");
    ensure!(cluster.run("tray", &["r02n03", "--", "hostname"])? == "r02n03\n");

    cluster.run("fault", &["r01n[01-02]", "degraded", "--seconds", "600"])?;
    let line = cluster.listed()?.context("the cluster is not listed")?;
    ensure!(line.ends_with("r01n01 degraded, r01n02 degraded"), "{line}");
    cluster.run("fault", &["all", "heal"])?;
    let line = cluster.listed()?.context("the cluster is not listed")?;
    ensure!(line.ends_with(", no faults"), "{line}");
    let unknown = cluster.output("fault", &["r09n01", "degraded"])?;
    ensure!(String::from_utf8_lossy(&unknown.stderr) == "cluster: no node is called r09n01\n", "{unknown:?}");

    cluster.run("restart", &["r01n01", "--kill"])?;
    ensure!(cluster.run("logs", &["r01n01"])?.matches("slurmd started on").count() >= 2);
    cluster.run("down", &[])?;
    ensure!(cluster.listed()?.is_none());
    let gone = cluster.output("exec", &["--", "true"])?;
    ensure!(
        String::from_utf8_lossy(&gone.stderr).contains("start one with `cargo xtask cluster up`"),
        "{gone:?}"
    );
    Ok(())
}
