//! The same truth for others: NodeSet lines, Features and Extra for Slurm, labels and annotations for Kubernetes.
//!
//! All of it is text to look at and then to include or to give to a shell. Names come from checked types, and what does not
//! is quoted.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use fabric::{HostList, NodeName, Topology};

use crate::assign::{self, KindError};
use crate::plan::Plan;
use crate::source::{Inventory, Seen, extra};

/// What our Features begin with; others belong to the site.
pub const FEATURE_PREFIX: &str = "nvlink/";
/// Kubernetes label that NVIDIA's GPU feature discovery gives nodes with multi-node NVLink: `<cluster uuid>.<clique>`.
const CLIQUE_LABEL: &str = "nvidia.com/gpu.clique";
/// Annotation that Slinky's slurm-operator turns into the Topology of the Slurm node in a pod on this node.
const SLINKY_SPEC: &str = "topology.slinky.slurm.net/spec";

/// One NodeSet for each block that has trays, for `Nodes=` of partitions in slurm.conf.
pub fn node_sets(plan: &Plan) -> String {
    let mut text = String::from("# NodeSets for slurm.conf, written by slurm-nvlink's topology-gen\n");
    for block in plan.blocks.iter().filter(|block| !block.nodes.is_empty()) {
        let nodes: HostList = block.nodes.iter().cloned().collect();
        text.push_str(&format!("NodeSet={} Nodes={nodes}\n", block.name));
    }
    text
}

/// For each tray whose Features do not name its block as `nvlink/BLOCK` a command that makes them so, the other Features kept.
/// A node that has left its block loses the Feature. Slurm forgets these at its next start: slurm.conf wins.
pub fn features(plan: &Plan, inventory: &Inventory) -> String {
    let mut blocks: BTreeMap<&NodeName, String> = BTreeMap::new();
    for block in &plan.blocks {
        blocks.extend(block.nodes.iter().map(|node| (node, format!("{FEATURE_PREFIX}{}", block.name))));
    }
    let mut groups: BTreeMap<String, HostList> = BTreeMap::new();
    for observation in &inventory.observations {
        let kept = observation.features.iter().filter(|feature| !feature.starts_with(FEATURE_PREFIX));
        let mut wanted: Vec<String> = kept.cloned().collect();
        wanted.extend(blocks.get(&observation.node).cloned());
        if wanted != observation.features {
            groups.entry(wanted.join(",")).or_default().push(observation.node.clone());
        }
    }
    let line = |(features, nodes): (String, HostList)| {
        format!(
            "scontrol update nodename={} availablefeatures={}\n",
            quoted(&nodes.to_string()),
            quoted(&features)
        )
    };
    groups.into_iter().map(line).collect()
}

/// The reading of each tray as commands that put it into Slurm's field Extra, whatever is there now.
pub fn extra(inventory: &Inventory) -> String {
    let mut groups: BTreeMap<String, HostList> = BTreeMap::new();
    for observation in &inventory.observations {
        if let Seen::Reading(reading) = &observation.seen {
            groups.entry(extra::write(reading)).or_default().push(observation.node.clone());
        }
    }
    let line = |(extra, nodes): (String, HostList)| {
        format!("scontrol update nodename={} extra={}\n", quoted(&nodes.to_string()), quoted(&extra))
    };
    groups.into_iter().map(line).collect()
}

/// The label of each tray whose NVLink partition is known now.
pub fn cliques(plan: &Plan) -> String {
    let mut text = String::new();
    for block in &plan.blocks {
        let Some(id) = block.id else { continue };
        let nodes = block.nodes.iter().filter(|node| !block.stale.contains(*node));
        kubectl("label", nodes, CLIQUE_LABEL, &id.to_string(), &mut text);
    }
    text
}

/// The annotation of each node that stands in a topology.
///
/// # Errors
/// [`KindError`]: a text that leaves out a topology would take the node out of it.
pub fn slinky(topologies: &[Topology]) -> Result<String, KindError> {
    let mut groups: BTreeMap<String, Vec<NodeName>> = BTreeMap::new();
    for (node, place) in assign::assignments(topologies)? {
        groups.entry(place).or_default().push(node);
    }
    let mut text = String::new();
    for (place, mut nodes) in groups {
        nodes.sort_by(|a, b| crate::natural::compare(a.as_str(), b.as_str()));
        kubectl("annotate", nodes.iter(), SLINKY_SPEC, &place, &mut text);
    }
    Ok(text)
}

/// One command for all these nodes. Kubernetes has no node whose name begins with another sign than a letter or a digit.
fn kubectl<'a>(
    what: &str,
    nodes: impl Iterator<Item = &'a NodeName>,
    key: &str,
    value: &str,
    text: &mut String,
) {
    let plain =
        nodes.map(NodeName::as_str).filter(|name| name.starts_with(|c: char| c.is_ascii_alphanumeric()));
    let names: Vec<&str> = plain.collect();
    if !names.is_empty() {
        text.push_str(&format!(
            "kubectl {what} --overwrite node {} {}\n",
            names.join(" "),
            quoted(&format!("{key}={value}"))
        ));
    }
}

/// The text as one word of a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes_its_quotes() {
        assert_eq!(quoted("a:b,c=d"), "a:b,c=d");
        assert_eq!(quoted("n[1-2]"), "'n[1-2]'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("it's $(x)"), "'it'\\''s $(x)'");
    }
}
