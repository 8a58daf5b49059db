//! The `cluster` commands of the task runner.
#![forbid(unsafe_code)]

use crate::cluster::{Cluster, Plugin, become_user};
use crate::fault::{Fault, FaultKind};
use crate::profile;
use crate::spec::CONTROLLER;
use anyhow::Context as _;
use clap::{Args, Subcommand};
use fabric::HostList;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// What can be done with a test cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Start a cluster: real Slurm daemons, simulated NVLink trays
    Up(Up),
    /// Run a command on the controller (a shell if none is given)
    Exec(Exec),
    /// Run a command on a tray (a shell if none is given)
    Tray(Tray),
    /// Let a fault act on trays, or heal them
    Fault(FaultArguments),
    /// Kill the Slurm daemon of a node, and start it again
    Restart(Restart),
    /// Kill everything on a tray at once and boot it anew, with another boot id
    Reboot(Reboot),
    /// Show the logs of a node
    Logs(Logs),
    /// Show the running clusters
    List,
    /// End a cluster; nothing of it is left
    Down(Named),
    /// Used by the harness itself
    #[command(hide = true)]
    Supervise,
}

/// Which cluster.
#[derive(Debug, Args)]
pub struct Named {
    /// Name of the cluster; SLURM_NVLINK_CLUSTER names another default
    #[arg(long, default_value_t = default_name(), hide_default_value = true)]
    name: String,
}

/// Arguments of `up`.
#[derive(Debug, Args)]
pub struct Up {
    #[command(flatten)]
    cluster: Named,
    /// Hardware shape: gb200-2x18, gb200-4x18, split-racks, mixed, nvl8, small-2x4, small-4x2, or a TOML file
    #[arg(long, default_value = profile::DEFAULT)]
    profile: String,
    /// The topology/block plugin: ours, stock, or a file
    #[arg(long, default_value = "ours")]
    plugin: Plugin,
    /// A prolog to run in the place of imex-prolog
    #[arg(long, value_name = "PATH")]
    prolog: Option<PathBuf>,
    /// An epilog to run in the place of imex-epilog
    #[arg(long, value_name = "PATH")]
    epilog: Option<PathBuf>,
    /// A setting of slurm.conf, replaced or added
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

/// Arguments of `exec`.
#[derive(Debug, Args)]
pub struct Exec {
    #[command(flatten)]
    cluster: Named,
    /// Run as the test user instead of root
    #[arg(long)]
    user: bool,
    /// The command
    #[arg(last = true)]
    argv: Vec<String>,
}

/// Arguments of `tray`.
#[derive(Debug, Args)]
pub struct Tray {
    #[command(flatten)]
    cluster: Named,
    /// Node name
    node: String,
    /// The command
    #[arg(last = true)]
    argv: Vec<String>,
}

/// Arguments of `fault`.
#[derive(Debug, Args)]
pub struct FaultArguments {
    #[command(flatten)]
    cluster: Named,
    /// Nodes as Slurm writes them, for example r01n[01-04]; `all` only with heal
    nodes: String,
    /// What goes wrong, or `heal`
    #[arg(value_parser = kind_or_heal, long_help = kinds_in_words())]
    kind: KindOrHeal,
    /// For how long; without it until healed
    #[arg(long, value_name = "N")]
    seconds: Option<f64>,
    /// Milliseconds, for kinds that take them
    #[arg(long, value_name = "N")]
    ms: Option<u64>,
}

/// A kind of fault, or the end of all.
#[derive(Debug, Clone, Copy)]
pub enum KindOrHeal {
    /// This fault begins.
    Kind(FaultKind),
    /// All faults end.
    Heal,
}

/// Arguments of `restart`.
#[derive(Debug, Args)]
pub struct Restart {
    #[command(flatten)]
    cluster: Named,
    /// Node name; ctl is the controller
    node: String,
    /// End the daemon with SIGKILL instead of SIGTERM
    #[arg(long)]
    kill: bool,
}

/// Arguments of `reboot`.
#[derive(Debug, Args)]
pub struct Reboot {
    #[command(flatten)]
    cluster: Named,
    /// Node name
    node: String,
}

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    #[command(flatten)]
    cluster: Named,
    /// Node name; ctl is the controller
    #[arg(default_value = CONTROLLER)]
    node: String,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn kind_or_heal(text: &str) -> Result<KindOrHeal, String> {
    use clap::ValueEnum as _;
    if text == "heal" {
        return Ok(KindOrHeal::Heal);
    }
    FaultKind::from_str(text, false)
        .map(KindOrHeal::Kind)
        .map_err(|_| format!("the faults are {}, and heal ends them", kinds()))
}

/// The names of all faults.
fn kinds() -> String {
    use clap::ValueEnum as _;
    let names: Vec<String> = FaultKind::value_variants().iter().map(|kind| kind.name()).collect();
    names.join(", ")
}

/// The same with what each is.
fn kinds_in_words() -> String {
    use clap::ValueEnum as _;
    let line = |kind: &FaultKind| {
        let about = kind.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
        format!("\n{:<20} {}", kind.name(), about.unwrap_or_default())
    };
    let lines: String = FaultKind::value_variants().iter().map(line).collect();
    format!("What goes wrong:{lines}\n{:<20} all faults end", "heal")
}

/// The cluster that is meant where none is named.
fn default_name() -> String {
    std::env::var("SLURM_NVLINK_CLUSTER").unwrap_or_else(|_| "default".to_owned())
}

impl ClusterCommand {
    /// Does it.
    ///
    /// # Errors
    /// It could not be done; the text is for people.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Up(up) => up.run()?,
            Self::Exec(exec) => return inside(&exec.cluster.name, CONTROLLER, exec.user, &exec.argv),
            Self::Tray(tray) => return inside(&tray.cluster.name, &tray.node, false, &tray.argv),
            Self::Fault(fault) => fault.run()?,
            Self::Restart(restart) => restart.run()?,
            Self::Reboot(Reboot { cluster: Named { name }, node }) => {
                let cluster = Cluster::attach(&name)?;
                cluster.switch_off(&node)?;
                cluster.switch_on(&node)?;
            }
            Self::Logs(logs) => logs.run()?,
            Self::List => list()?,
            Self::Down(Named { name }) => {
                if !Cluster::end(&name)? {
                    eprintln!("no cluster called {name} is running");
                }
            }
            Self::Supervise => return Ok(crate::supervisor::main()),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Up {
    fn run(self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let name = self.cluster.name;
        let mut builder = Cluster::builder().name(&name).profile(&self.profile).plugin(self.plugin);
        if let Some(prolog) = self.prolog {
            builder = builder.prolog(prolog);
        }
        if let Some(epilog) = self.epilog {
            builder = builder.epilog(epilog);
        }
        for (key, value) in &self.set {
            builder = builder.set(key, value);
        }
        let cluster = builder.start()?;
        let about = cluster.about();
        let mut text = format!(
            "cluster {name}: {} nodes idle after {:.1} s; Slurm {} is real, the NVLink hardware is simulated ({}); plugin: {}\n",
            cluster.nodes().len(),
            begin.elapsed().as_secs_f64(),
            about.slurm,
            about.profile,
            about.plugin
        );
        for block in cluster.blocks()? {
            text += &format!("  block {}: {}\n", block.name, fold(&block.nodes)?);
        }
        cluster.let_go()?;
        say(text.as_bytes())
    }
}

/// Prints; a reader that has gone away is no failure.
fn say(text: &[u8]) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("cannot print"),
        _ => Ok(()),
    }
}

fn fold(nodes: &[String]) -> anyhow::Result<String> {
    Ok(HostList::parse(&nodes.join(","))?.to_string())
}

/// Runs a command with this terminal; its exit status is ours.
fn inside(cluster: &str, node: &str, user: bool, argv: &[String]) -> anyhow::Result<ExitCode> {
    let mut command: Command = Cluster::attach(cluster)?.enter(node)?;
    if user {
        command.args(become_user(crate::layers::USER));
    }
    if argv.is_empty() {
        command.arg("bash")
    } else {
        command.args(argv)
    };
    let status = command.status().context("cannot run nsenter")?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

impl FaultArguments {
    fn run(self) -> anyhow::Result<()> {
        let cluster = Cluster::attach(&self.cluster.name)?;
        let kind = match self.kind {
            KindOrHeal::Kind(kind) => kind,
            KindOrHeal::Heal if self.nodes == "all" => return cluster.heal(None),
            KindOrHeal::Heal => {
                return HostList::parse(&self.nodes)?
                    .iter()
                    .try_for_each(|node| cluster.heal(Some(node.as_str())));
            }
        };
        let time = match self.seconds {
            Some(seconds) => Some(Duration::try_from_secs_f64(seconds).context("--seconds")?),
            None => None,
        };
        let nodes = HostList::parse(&self.nodes)?;
        nodes.iter().try_for_each(|node| cluster.fault(node.as_str(), Fault { kind, ms: self.ms }, time))
    }
}

impl Restart {
    fn run(self) -> anyhow::Result<()> {
        use nix::sys::signal::Signal;
        let cluster = Cluster::attach(&self.cluster.name)?;
        cluster.stop_daemon(&self.node, if self.kill { Signal::SIGKILL } else { Signal::SIGTERM })?;
        cluster.start_daemon(&self.node)
    }
}

impl Logs {
    fn run(self) -> anyhow::Result<()> {
        let cluster = Cluster::attach(&self.cluster.name)?;
        for file in crate::cluster::log_files(&cluster.logs(&self.node)?).context("cannot list the logs")? {
            let log = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            say(format!("==> {} <==\n", file.display()).as_bytes())?;
            say(&log)?;
            say(b"\n")?;
        }
        Ok(())
    }
}

fn list() -> anyhow::Result<()> {
    for name in Cluster::running()? {
        let cluster = Cluster::attach(&name)?;
        let about = cluster.about();
        let faulty = cluster.status()?.into_iter().filter(|node| !node.faults.is_empty());
        let faulty: Vec<String> = faulty
            .map(|node| {
                let kinds: Vec<String> = node.faults.iter().map(|fault| fault.kind.name()).collect();
                format!("{} {}", node.node, kinds.join("+"))
            })
            .collect();
        let faults = if faulty.is_empty() { "no faults".to_owned() } else { faulty.join(", ") };
        let line = format!(
            "{name}: {} ({} nodes), plugin {}, supervisor {}, {faults}\n",
            about.profile,
            cluster.nodes().len(),
            about.plugin,
            cluster.supervisor_pid()
        );
        say(line.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: ClusterCommand,
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Line::command().debug_assert();
    }

    #[test]
    fn what_follows_two_dashes_is_the_command() {
        let line = Line::try_parse_from(["x", "exec", "--user", "--", "sinfo", "--Node"]).unwrap();
        assert!(
            matches!(line.command, ClusterCommand::Exec(Exec { user: true, ref argv, .. }) if argv.len() == 2)
        );
    }

    #[test]
    fn an_unknown_fault_is_answered_with_the_known_ones() {
        let text = Line::try_parse_from(["x", "fault", "r01n01", "imex-dies"]).err().unwrap().to_string();
        assert!(text.contains("imex-die, imex-hang") && text.contains("heal ends them"), "{text}");
    }
}
