//! The hooks that are compared.
#![forbid(unsafe_code)]

use crate::cluster::{Cluster, Target};
use crate::stage;
use anyhow::Context as _;
use sim::hook::{Orders, Settings, floor};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Which hooks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Variant {
    /// None at all.
    None,
    /// The least that forms a domain.
    Floor,
    /// imex-prolog and imex-epilog.
    Ours,
    /// Those of the command line.
    Other,
}

/// Where the other hooks lie inside the nodes.
const OTHER: [&str; 2] = ["/usr/local/sbin/other-prolog", "/usr/local/sbin/other-epilog"];
/// Ports of the daemons of a floor: those that ours have by default.
const PORTS: (u16, u16) = (50_000, 50_005);

impl Variant {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "no prolog",
            Self::Floor => "floor",
            Self::Ours => "ours",
            Self::Other => "other",
        }
    }

    /// Makes them the cluster's hooks.
    pub(super) fn take(self, cluster: &Cluster, other: &[Option<PathBuf>; 2]) -> anyhow::Result<()> {
        let hooks = match self {
            Self::None => [None, None],
            Self::Floor => {
                let floor = Orders { floor: true, ..Orders::default() };
                let orders = Settings { prolog: floor.clone(), epilog: floor };
                cluster.nodes().iter().try_for_each(|node| cluster.order(node, &orders))?;
                ["imex-prolog", "imex-epilog"].map(|name| Some(format!("{}/{name}", stage::HOOKS)))
            }
            Self::Ours => [stage::PROLOG, stage::EPILOG].map(|path| Some(path.to_owned())),
            Self::Other => {
                let mut hooks = [None, None];
                for ((hook, file), place) in hooks.iter_mut().zip(other).zip(OTHER) {
                    let Some(file) = file else { continue };
                    put(cluster, file, place)?;
                    *hook = Some(place.to_owned());
                }
                hooks
            }
        };
        cluster.set_hooks(&hooks)
    }
}

fn put(cluster: &Cluster, file: &Path, place: &str) -> anyhow::Result<()> {
    for node in cluster.nodes() {
        let target = cluster.root_of(&node)?.join(place.trim_start_matches('/'));
        fs::copy(file, &target).with_context(|| format!("cannot copy {} to {node}", file.display()))?;
        cluster.tray(&node, &["chmod", "755", place])?;
    }
    Ok(())
}

/// Lays ready what the daemons of a floor need for a job on these trays: one domain in each rack.
pub(super) fn lay_floor(cluster: &Cluster, trays: &[String]) -> anyhow::Result<()> {
    let rack = |tray: &str| tray.split_once('n').map(|(rack, _)| rack.to_owned());
    for tray in trays {
        let mut nodes = String::new();
        for member in trays.iter().filter(|member| rack(member) == rack(tray)) {
            writeln!(nodes, "{}", cluster.address(member)?)?;
        }
        let own = cluster.address(tray)?;
        let (server, command) = PORTS;
        let list = Path::new(sim::DEFAULT_DIR).join("floor-nodes.cfg");
        let config = format!(
            "DAEMONIZE=0\nLOG_FILE_NAME=/var/log/slurm-nvlink-floor.log\nBIND_INTERFACE_IP={own}\nSERVER_PORT={server}\n\
             IMEX_NODE_CONFIG_FILE={}\nIMEX_CMD_BIND_INTERFACE_IP={own}\nIMEX_CMD_PORT={command}\n",
            list.display()
        );
        cluster.write_file(&Target::node(tray), &list.display().to_string(), &nodes)?;
        let place = Path::new(sim::DEFAULT_DIR).join(floor::CONFIG);
        cluster.write_file(&Target::node(tray), &place.display().to_string(), &config)?;
    }
    Ok(())
}

/// Takes the times that the floor's domains took to form on a tray, in milliseconds.
pub(super) fn take_formed(cluster: &Cluster, tray: &str) -> anyhow::Result<Vec<f64>> {
    let path = cluster.root_of(tray)?.join(sim::DEFAULT_DIR.trim_start_matches('/')).join(floor::FORMED);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let _none_yet = fs::remove_file(&path);
    text.lines().map(|line| line.parse().with_context(|| format!("{}: {line:?}", path.display()))).collect()
}
