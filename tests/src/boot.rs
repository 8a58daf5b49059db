//! The Slurm side of a start: nodes register, topology-gen makes the topology from what they say of themselves, Slurm
//! takes it.
#![forbid(unsafe_code)]

use crate::cluster::{BlockLine, Cluster, Target};
use crate::fault::FaultKind;
use crate::limits;
use crate::profile::Profile;
use crate::slurm_conf::FABRIC_TOPOLOGY;
use crate::stage::TOPOLOGY_GEN;
use crate::wait_for;
use anyhow::{Context as _, bail};
use fabric::{Block, Topology, slurm_yaml};
use std::fs;
use std::path::Path;

const TOPOLOGY_YAML: &str = "/etc/slurm/topology.yaml";
/// Where slurmd keeps what slurmctld sends it, below the node's root.
const CACHED_TOPOLOGY_YAML: &str = "var/spool/slurmd/conf-cache/topology.yaml";

/// Waits until the nodes are idle, brings the blocks into force, and waits again.
pub(crate) fn bring_up(cluster: &Cluster, profile: &Profile) -> anyhow::Result<()> {
    let cut_off = |kind: FaultKind| matches!(kind, FaultKind::SlurmdKill | FaultKind::Unreachable);
    let mut nodes = cluster.nodes();
    nodes.retain(|node| !profile.faults.iter().any(|fault| fault.node == *node && cut_off(fault.kind)));
    cluster.wait_idle(&nodes)?;
    if profile.nvlink_partitions().is_empty() {
        return Ok(());
    }
    make_topology(cluster, profile)?;
    cluster.reload_topology(&nodes)?;
    cluster.wait_idle(&nodes)
}

/// Lets topology-gen make the controller's topology.yaml from what the trays say of themselves.
fn make_topology(cluster: &Cluster, profile: &Profile) -> anyhow::Result<()> {
    let mut argv: Vec<String> =
        [TOPOLOGY_GEN, "generate", "--topology", FABRIC_TOPOLOGY, "--out", TOPOLOGY_YAML]
            .map(str::to_owned)
            .to_vec();
    if let Some(size) = profile.base_size {
        argv.extend(["--base-size".to_owned(), size.to_string()]);
    }
    if profile.faults.is_empty() {
        return cluster.ctl(&argv).map(drop);
    }
    // Trays with a fault may be left out of the blocks; topology-gen writes the file and says so with exit status 1.
    argv.push("--accept-partial".to_owned());
    let captured = cluster.capture(&Target::controller(), &argv)?;
    match captured.status.code() {
        Some(0 | 1) => Ok(()),
        _ => bail!("{}: {}\n{}", argv.join(" "), captured.status, captured.stderr),
    }
}

impl Cluster {
    /// Lets Slurm read the controller's topology.yaml again, and waits until slurmctld reports exactly its blocks and
    /// the named nodes have got the file.
    ///
    /// # Errors
    /// The file or Slurm refuses, or it is not in force within [`limits::TOPOLOGY`].
    pub fn reload_topology<S: AsRef<str>>(&self, nodes: &[S]) -> anyhow::Result<()> {
        let text = self.ctl(&["cat", TOPOLOGY_YAML])?;
        let wanted = blocks_of(&text).with_context(|| format!("{TOPOLOGY_YAML} on the controller"))?;
        self.ctl(&["scontrol", "reconfigure"])?;
        wait_for("the blocks of topology.yaml are in force", limits::TOPOLOGY, || {
            Ok(match self.blocks() {
                Ok(blocks) if blocks == wanted => Ok(()),
                Ok(blocks) => Err(format!(
                    "slurmctld has {} blocks, the file {}: {blocks:?}",
                    blocks.len(),
                    wanted.len()
                )),
                Err(error) => Err(format!("{error:#}")),
            })
        })?;
        wait_for("the nodes have the new topology.yaml", limits::TOPOLOGY, || {
            let late = nodes.iter().map(AsRef::as_ref).find(|node| {
                let cached = self.root_of(node).map(|root| root.join(CACHED_TOPOLOGY_YAML));
                cached.ok().and_then(|path| fs::read_to_string(path).ok()).as_deref() != Some(&text)
            });
            Ok(late.map_or(Ok(()), |node| Err(format!("{node} has another one"))))
        })
    }

    /// Replaces a text file inside a node, in one step.
    ///
    /// # Errors
    /// There is no such node, or the file cannot be written.
    pub fn write_file(&self, target: &Target<'_>, path: &str, text: &str) -> anyhow::Result<()> {
        let name = Path::new(path).file_name().context("the path has no file name")?.to_string_lossy();
        let script = r#"umask 022; cat > "$1.new" && mv -- "$1.new" "$1""#;
        self.feed(target, &["sh", "-c", script, &name, path], text).map(drop)
    }
}

/// The blocks with nodes of the cluster's default topology.
fn blocks_of(yaml: &str) -> anyhow::Result<Vec<BlockLine>> {
    let topologies = slurm_yaml::parse(yaml)?;
    let Some(block) = fabric::topology::cluster_default(&topologies).and_then(Topology::block) else {
        return Ok(Vec::new());
    };
    let line = |block: &Block| BlockLine {
        name: block.name.to_string(),
        nodes: block.nodes.iter().map(ToString::to_string).collect(),
    };
    Ok(block.blocks.iter().map(line).collect())
}
