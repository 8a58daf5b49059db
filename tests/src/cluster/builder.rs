//! From wishes to a running cluster.
#![forbid(unsafe_code)]

use super::Cluster;
use crate::boot;
use crate::fault::Fault;
use crate::layers;
use crate::lost_packets;
use crate::profile::{self, PlannedNode, Profile};
use crate::slurm_conf::{self, CONTROLLER_IP, PORT, Settings};
use crate::spec::{About, CONTROLLER, ClusterSpec, DaemonSpec, Entry, Foreign, NodeSpec};
use crate::stage::{self, Artifact};
use crate::state::{self, Registry, State};
use crate::supervisor::Owner;
use crate::tree::Tree;
use anyhow::{Context as _, bail};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::RwLock;

/// Which topology/block plugin a cluster runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Plugin {
    /// Ours, from the staging directory.
    #[default]
    Ours,
    /// Slurm's own.
    Stock,
    /// This file, in the place of ours.
    File(PathBuf),
}

impl FromStr for Plugin {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "ours" => Self::Ours,
            "stock" => Self::Stock,
            path => Self::File(path.into()),
        })
    }
}

impl std::fmt::Display for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ours => f.write_str("ours"),
            Self::Stock => f.write_str("stock"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// What a cluster shall be like.
#[derive(Debug, Clone)]
pub struct ClusterBuilder {
    name: String,
    profile: String,
    plugin: Plugin,
    prolog: Option<PathBuf>,
    epilog: Option<PathBuf>,
    imex: bool,
    tree: Option<Tree>,
    controller_under: Vec<String>,
    orders: bool,
    overrides: Vec<(String, String)>,
    files: Vec<Entry>,
    foreign: Vec<ForeignTray>,
    under: Vec<(String, Vec<String>)>,
}

/// A tray of another architecture.
#[derive(Debug, Clone)]
struct ForeignTray {
    node: String,
    tree: Tree,
    stage: PathBuf,
}

impl Default for ClusterBuilder {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            profile: profile::DEFAULT.to_owned(),
            plugin: Plugin::Ours,
            prolog: None,
            epilog: None,
            imex: true,
            tree: None,
            controller_under: Vec::new(),
            orders: false,
            overrides: Vec::new(),
            files: Vec::new(),
            foreign: Vec::new(),
            under: Vec::new(),
        }
    }
}

impl ClusterBuilder {
    /// Its name, by which the command line finds it; `default` if not given.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Profile by name or path; [`profile::DEFAULT`] if not given.
    #[must_use]
    pub fn profile(mut self, profile: &str) -> Self {
        profile.clone_into(&mut self.profile);
        self
    }

    /// Which topology/block plugin; ours if not given.
    #[must_use]
    pub fn plugin(mut self, plugin: Plugin) -> Self {
        self.plugin = plugin;
        self
    }

    /// A prolog of one's own: a file on the host, copied into every node.
    #[must_use]
    pub fn prolog(mut self, file: impl Into<PathBuf>) -> Self {
        self.prolog = Some(file.into());
        self
    }

    /// An epilog of one's own.
    #[must_use]
    pub fn epilog(mut self, file: impl Into<PathBuf>) -> Self {
        self.epilog = Some(file.into());
        self
    }

    /// No prolog and epilog at all.
    #[must_use]
    pub fn without_imex(mut self) -> Self {
        self.imex = false;
        self
    }

    /// Another root tree than the one in use.
    #[must_use]
    pub fn tree(mut self, tree: Tree) -> Self {
        self.tree = Some(tree);
        self
    }

    /// A command under which slurmctld runs, for example a debugger with its options.
    #[must_use]
    pub fn controller_under(mut self, command: Vec<String>) -> Self {
        self.controller_under = command;
        self
    }

    /// Prolog and epilog take orders (see [`Cluster::order`]): `sim-hook` stands in front of each.
    #[must_use]
    pub fn with_orders(mut self) -> Self {
        self.orders = true;
        self
    }

    /// A key of slurm.conf: replaces the harness's value or comes in addition.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.overrides.push((key.to_owned(), value.to_owned()));
        self
    }

    /// A text file that every node gets.
    #[must_use]
    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.files.push(Entry::text(path, text));
        self
    }

    /// A copy of a file or program of the host that every node gets.
    #[must_use]
    pub fn copy(mut self, path: impl Into<PathBuf>, file: impl Into<PathBuf>) -> Self {
        self.files.push(Entry::program(path, file));
        self
    }

    /// Makes a tray one of another architecture, with its own root tree and staged artifacts. The kernel must be able to run its
    /// programs.
    #[must_use]
    pub fn foreign_tray(mut self, node: &str, tree: Tree, stage: impl Into<PathBuf>) -> Self {
        self.foreign.push(ForeignTray { node: node.to_owned(), tree, stage: stage.into() });
        self
    }

    /// A command under which a tray's slurmd runs.
    #[must_use]
    pub fn under(mut self, node: &str, command: &[&str]) -> Self {
        self.under.push((node.to_owned(), command.iter().map(|word| (*word).to_owned()).collect()));
        self
    }

    /// Starts the cluster and waits until all nodes are idle and the blocks are in force.
    ///
    /// # Errors
    /// Something is missing or does not come up in time. The end of the logs is in the error; nothing is left.
    pub fn start(self) -> anyhow::Result<Cluster> {
        // What is lost from now on counts.
        lost_packets::since_first_asked();
        if !nix::unistd::geteuid().is_root() {
            bail!(
                "the test cluster needs root (it makes namespaces and mounts, nothing of it outside of them)"
            );
        }
        state::check_name(&self.name)?;
        let profile = Profile::load(&self.profile)?;
        let tree = self.tree.clone().map_or_else(Tree::ensure, Ok)?;
        let registry = Registry::lock()?;
        let dir = registry.create(&self.name)?;
        let spec = match self.spec(&profile, &tree, &dir) {
            Ok(spec) => spec,
            Err(error) => {
                state::remove(&dir)?;
                return Err(error);
            }
        };
        let owner = match Owner::start(&spec) {
            Ok(owner) => owner,
            Err(error) => {
                let log = crate::supervisor::log_of(&dir);
                state::remove(&dir)?;
                return Err(error.context(log));
            }
        };
        drop(registry);
        boot_or_explain(&self.name, &profile, &spec, owner)
    }

    fn spec(&self, profile: &Profile, tree: &Tree, dir: &Path) -> anyhow::Result<ClusterSpec> {
        let mut shared = slurm_conf::shared_files(profile);
        shared.extend(layers::accounts(tree.root())?);
        for artifact in [Artifact::TopologyGen, Artifact::Imex, Artifact::ImexCtl, Artifact::Nvml] {
            shared.push(artifact.entry(artifact.need()?));
        }
        match &self.plugin {
            Plugin::Stock => {}
            Plugin::Ours => shared.push(Artifact::Plugin.entry(Artifact::Plugin.need()?)),
            Plugin::File(file) => {
                let file = file.canonicalize().with_context(|| format!("cannot find {}", file.display()))?;
                shared.push(Artifact::Plugin.entry(file));
            }
        }
        let prolog = self.hook(&mut shared, &self.prolog, Artifact::Prolog, stage::PROLOG)?;
        let epilog = self.hook(&mut shared, &self.epilog, Artifact::Epilog, stage::EPILOG)?;
        shared.extend(self.files.iter().cloned());
        let mut overrides = self.overrides.clone();
        let mut nodes = node_specs(profile, &self.controller_under);
        for (node, command) in &self.under {
            node_named(&mut nodes, node)?.daemon.argv.splice(0..0, command.iter().cloned());
        }
        self.add_foreign(tree, &mut nodes, &mut shared, &mut overrides)?;
        let controller = slurm_conf::controller_files(&Settings {
            cluster: &self.name,
            profile,
            stock_plugins: tree.plugin_dir(),
            our_plugin: self.plugin != Plugin::Stock,
            prolog,
            epilog,
            overrides: &overrides,
        })?;
        Ok(ClusterSpec {
            name: self.name.clone(),
            state_dir: dir.to_owned(),
            tree: tree.root().to_owned(),
            about: About {
                profile: self.profile.clone(),
                plugin: self.plugin.to_string(),
                slurm: tree.slurm_version().to_owned(),
            },
            shared,
            controller,
            nodes,
        })
    }

    /// What trays of another architecture need: Slurm refuses a plugin directory that is not there, and the architectures have
    /// different ones.
    fn add_foreign(
        &self,
        tree: &Tree,
        nodes: &mut [NodeSpec],
        shared: &mut Vec<Entry>,
        overrides: &mut Vec<(String, String)>,
    ) -> anyhow::Result<()> {
        let mut plugin_dirs = vec![Path::new(crate::paths::PLUGIN_DIR), tree.plugin_dir()];
        for tray in &self.foreign {
            let mut files = layers::accounts(tray.tree.root())?;
            for artifact in Artifact::ALL.into_iter().filter(|artifact| *artifact != Artifact::Planted) {
                files.push(artifact.entry(tray.stage.join(artifact.file_name())));
            }
            files.push(Entry::directory(tree.plugin_dir()));
            shared.push(Entry::directory(tray.tree.plugin_dir()));
            if !plugin_dirs.contains(&tray.tree.plugin_dir()) {
                plugin_dirs.push(tray.tree.plugin_dir());
            }
            let foreign = Foreign { tree: tray.tree.root().to_owned(), files };
            node_named(nodes, &tray.node)?.foreign = Some(foreign);
        }
        if !self.foreign.is_empty() {
            let dirs: Vec<String> = plugin_dirs.iter().map(|dir| dir.display().to_string()).collect();
            overrides.push(("PluginDir".to_owned(), dirs.join(":")));
        }
        Ok(())
    }

    /// Path of the prolog or epilog inside the nodes: the given file, else the staged one.
    fn hook(
        &self,
        shared: &mut Vec<Entry>,
        given: &Option<PathBuf>,
        artifact: Artifact,
        place: &str,
    ) -> anyhow::Result<Option<PathBuf>> {
        let place = match given {
            Some(file) => {
                let file = file.canonicalize().with_context(|| format!("cannot find {}", file.display()))?;
                let place = Path::new(stage::HOOKS).join(artifact.file_name());
                shared.push(Entry::program(&place, file));
                return Ok(Some(place));
            }
            None => PathBuf::from(place),
        };
        if !self.imex {
            return Ok(None);
        }
        shared.push(artifact.entry(artifact.need()?));
        if !self.orders {
            return Ok(Some(place));
        }
        let place = Path::new(stage::HOOKS).join(artifact.file_name());
        shared.push(Entry::program(&place, Artifact::Hook.need()?));
        Ok(Some(place))
    }
}

fn node_named<'a>(nodes: &'a mut [NodeSpec], name: &str) -> anyhow::Result<&'a mut NodeSpec> {
    nodes.iter_mut().find(|node| node.name == name).with_context(|| format!("the profile has no node {name}"))
}

fn node_specs(profile: &Profile, controller_under: &[String]) -> Vec<NodeSpec> {
    let probe = [stage::TOPOLOGY_GEN, "probe", "--extra"].map(str::to_owned).to_vec();
    let argv = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<String>>();
    let controller = NodeSpec {
        name: CONTROLLER.to_owned(),
        ip: CONTROLLER_IP,
        daemon: DaemonSpec {
            name: "slurmctld".to_owned(),
            argv: [controller_under, &argv("slurmctld --systemd")].concat(),
            extra: None,
        },
        foreign: None,
        hardware: None,
        faults: Vec::new(),
    };
    let tray = |(number, node): (u32, PlannedNode)| NodeSpec {
        daemon: DaemonSpec {
            name: "slurmd".to_owned(),
            argv: argv(&format!("slurmd --systemd --conf-server {CONTROLLER_IP}:{PORT}")),
            extra: node.fabric.as_ref().map(|_| probe.clone()),
        },
        hardware: node.fabric.as_ref().map(|place| {
            let fabric = sim::nvml::Fabric {
                cluster_uuid: place.cluster_uuid.clone(),
                clique_id: place.clique,
                ..sim::nvml::Fabric::default()
            };
            sim::nvml::Settings::tray(number, node.gpus, &fabric)
        }),
        faults: profile
            .faults
            .iter()
            .filter(|fault| fault.node == node.name)
            .map(|fault| Fault::new(fault.kind))
            .collect(),
        foreign: None,
        name: node.name,
        ip: node.ip,
    };
    std::iter::once(controller).chain((1..).zip(profile.nodes()).map(tray)).collect()
}

/// Waits for the nodes and brings the blocks into force; on failure the logs are added to the error and the cluster is
/// ended.
fn boot_or_explain(
    name: &str,
    profile: &Profile,
    spec: &ClusterSpec,
    mut owner: Owner,
) -> anyhow::Result<Cluster> {
    let dir = &spec.state_dir;
    let begun = owner.wait_booted().and_then(|()| State::load(dir)).and_then(|state| {
        let cluster =
            Cluster { name: name.to_owned(), dir: dir.clone(), state: RwLock::new(state), owner: None };
        boot::bring_up(&cluster, profile).map(|()| cluster)
    });
    let error = match begun {
        Ok(mut cluster) => {
            cluster.owner = Some(owner);
            return Ok(cluster);
        }
        Err(error) => error,
    };
    let nodes: Vec<_> =
        spec.nodes.iter().map(|node| (node.name.clone(), dir.join("logs").join(&node.name))).collect();
    let tails = super::log_tails(dir, &nodes);
    Cluster::end(name).context("the failed cluster could not be ended")?;
    drop(owner);
    Err(error.context(format!("the cluster did not come up\n{tails}")))
}
