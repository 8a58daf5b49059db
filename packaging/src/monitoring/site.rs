//! A test cluster with node exporters and a Prometheus, set up as the operator's guide says.
//!
//! The programs are Debian's, run by the users that Debian's units name; there is no systemd in the nodes. Everything talks
//! inside the cluster's own network, and ends with it.

#![forbid(unsafe_code)]

use std::fs::File;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::cluster::Target;
use tests::tree::{Recipe, Tree};
use tests::{Cluster, wait_for};

use super::api::{Api, Target as Scraped};
use super::sources::Sources;

/// Two racks of four trays.
const PROFILE: &str = "small-2x4";
/// The controller's node.
pub(super) const CTL: &str = "ctl";
/// Where Debian's node exporter looks by itself.
pub(super) const TEXTFILES: &str = "/var/lib/prometheus/node-exporter";
/// Where the plugin writes: Debian's slurmctld has it from its unit.
pub(super) const RUN: &str = "/run/slurmctld";
const PORT: u16 = 9100;
/// Seconds between two scrapes, and between two looks at the alerts.
pub(super) const SCRAPE: u32 = 5;
/// Anything that takes a few scrapes.
pub(super) const SOON: Duration = Duration::from_secs(60);

const RULES: &str = "/etc/prometheus/slurm-nvlink.rules.yml";
const CONFIG: &str = "/etc/prometheus/slurm-nvlink.yml";
const STORAGE: &str = "/var/lib/prometheus/metrics2";
const DEFAULTS: &str = "/etc/default/prometheus-node-exporter";

/// How `topology-gen watch` looks: often, and it lets a change settle for so long that its alert is seen.
pub(super) const WATCH_OPTIONS: &str =
    "--interval 2 --stable 3 --settle 25 --lost 2 --metrics /var/lib/prometheus/node-exporter";
/// Where its process number is.
const WATCH_PID: &str = "/run/topology-gen-watch.pid";

/// The running site.
#[derive(Debug)]
pub(super) struct Site {
    // Dropped first: what runs in the nodes ends with them.
    cluster: Cluster,
    programs: Programs,
}

/// Programs that run in the nodes.
#[derive(Debug, Default)]
struct Programs(Vec<Child>);

impl Site {
    /// Starts it and waits until everything is scraped.
    ///
    /// # Errors
    /// Something does not come up.
    pub(super) fn start(sources: &Sources) -> Result<Self> {
        let tree = Tree::made(&Recipe::for_monitoring()?)?;
        // What Debian's unit says by RuntimeDirectory.
        let made = format!("install --directory --mode=755 {RUN} && exec \"$0\" \"$@\"");
        let cluster = Cluster::builder()
            .name(&format!("monitoring-{}", std::process::id()))
            .profile(PROFILE)
            .tree(tree)
            .controller_under(["sh", "-c", &made].map(str::to_owned).to_vec())
            .set("TopologyParam", &sources.topology_param)
            .file("/etc/slurm-nvlink/imex.toml", &format!("[metrics]\ndirectory = \"{TEXTFILES}\"\n"))
            .start()?;
        let mut site = Self { cluster, programs: Programs::default() };
        site.exporters(&sources.exporter_args)?;
        site.watch(&sources.watch)?;
        site.prometheus(&sources.quick_rules()?)?;
        wait_for("every target is up", SOON, || {
            let targets = match site.api().targets() {
                Ok(targets) => targets,
                Err(error) => return Ok(Err(format!("{error:#}"))),
            };
            let wanted = site.nodes().len();
            if targets.len() != wanted {
                return Ok(Err(format!("{} targets of {wanted}", targets.len())));
            }
            Ok(targets.iter().try_for_each(Scraped::is_up))
        })
        .map_err(|error| error.context(site.log_tails()))?;
        Ok(site)
    }

    /// The cluster.
    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Prometheus.
    pub(super) fn api(&self) -> Api<'_> {
        Api(&self.cluster)
    }

    /// Slurm's version.
    pub(super) fn slurm(&self) -> String {
        self.cluster.about().slurm
    }

    /// Versions of Prometheus and the node exporter.
    pub(super) fn versions(&self) -> Result<String> {
        let version = |program: &str| -> Result<String> {
            let captured = self.cluster.capture(&Target::controller(), &[program, "--version"])?;
            let text = captured.stdout + &captured.stderr;
            let words: Vec<&str> = text.split_whitespace().collect();
            let at = words.iter().position(|word| *word == "version").context("no version")?;
            Ok((*words.get(at + 1).context("no version")?).to_owned())
        };
        Ok(format!(
            "Prometheus {}, node exporter {}",
            version("prometheus")?,
            version("prometheus-node-exporter")?
        ))
    }

    /// The ends of the logs.
    pub(super) fn log_tails(&self) -> String {
        self.cluster.log_tails()
    }

    /// The name by which Prometheus knows a node.
    pub(super) fn instance(node: &str) -> String {
        format!("{node}:{PORT}")
    }

    /// Starts a program on a node that ends with the cluster; its words go into a log of that name.
    fn spawn(&mut self, node: &str, log: &str, argv: &[&str]) -> Result<()> {
        let file = self.cluster.logs(node)?.join(log);
        let log = File::create(&file).with_context(|| format!("make {}", file.display()))?;
        let mut command = self.cluster.enter(node)?;
        command.args(argv).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.programs.0.push(command.spawn().with_context(|| format!("run {argv:?} on {node}"))?);
        Ok(())
    }

    /// Node exporters everywhere, with the options of their file as Debian's unit has them; on the controller those that the
    /// guide says.
    fn exporters(&mut self, args: &str) -> Result<()> {
        let defaults = format!("ARGS=\"{args}\"\n");
        self.cluster.write_file(&Target::controller(), DEFAULTS, &defaults)?;
        // Without systemd in the nodes, what asks it would only complain.
        let exporter = "prometheus-node-exporter --no-collector.systemd $ARGS";
        let run = format!(". {DEFAULTS} && exec runuser --user prometheus -- {exporter}");
        for node in self.nodes() {
            self.spawn(&node, "node-exporter.log", &["sh", "-c", &run])?;
        }
        Ok(())
    }

    /// The service's command, with its options.
    fn watch(&mut self, command: &str) -> Result<()> {
        let run = format!("echo $$ >{WATCH_PID}; TOPOLOGY_GEN_WATCH='{WATCH_OPTIONS}'; exec {command}");
        self.spawn(CTL, "topology-gen-watch.log", &["sh", "-c", &run])
    }

    /// Ends the service.
    pub(super) fn end_watch(&self) -> Result<()> {
        let pid = self.cluster.ctl(&["cat", WATCH_PID])?;
        self.cluster.ctl(&["kill", "-TERM", pid.trim()])?;
        wait_for("topology-gen watch ends", SOON, || {
            let is_there = self.cluster.capture(&Target::controller(), &["kill", "-0", pid.trim()])?;
            Ok(if is_there.status.success() { Err("it is still there".to_owned()) } else { Ok(()) })
        })
    }

    /// All nodes, the controller first.
    pub(super) fn nodes(&self) -> Vec<String> {
        std::iter::once(CTL.to_owned()).chain(self.cluster.nodes()).collect()
    }

    fn prometheus(&mut self, rules: &str) -> Result<()> {
        let targets: Vec<String> = self.nodes().iter().map(|node| Self::instance(node)).collect();
        let config = format!(
            "global: {{scrape_interval: {SCRAPE}s, scrape_timeout: {SCRAPE}s, evaluation_interval: {SCRAPE}s}}\n\
             rule_files: [{RULES}]\n\
             scrape_configs:\n  - job_name: node\n    static_configs: [targets: [{}]]\n",
            targets.join(", ")
        );
        self.cluster.write_file(&Target::controller(), RULES, rules)?;
        self.cluster.write_file(&Target::controller(), CONFIG, &config)?;
        let checked = self.cluster.ctl(&["promtool", "check", "config", CONFIG])?;
        ensure!(checked.contains("SUCCESS"), "promtool check config: {checked}");
        let listen = format!("--web.listen-address={}", super::api::LISTEN);
        let (config, storage) = (format!("--config.file={CONFIG}"), format!("--storage.tsdb.path={STORAGE}"));
        self.spawn(
            CTL,
            "prometheus.log",
            &["runuser", "--user", "prometheus", "--", "prometheus", &config, &storage, &listen],
        )
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        for program in &mut self.0 {
            let _gone = program.kill();
            let _gone = program.wait();
        }
    }
}
