//! Where each node stands, in the words of `scontrol update nodename=... topology=...` and of `NodeName=... Topology=...`:
//! `topology:unit[,topology:unit]`, all topologies of the file in one text. Slurm takes a node out of every topology that the
//! text leaves out (Slurm 26.05.5).
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use fabric::topology::{Body, OtherTopology};
use fabric::{HostList, NodeName, Topology, TopologyKind};

/// A topology of which it is not known how a node's place in it is said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("topology {name:?} is of kind {kind}, in which a node's place cannot be told")]
pub struct KindError {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
}

/// The text of each node that stands in a block or below a switch.
///
/// # Errors
/// [`KindError`] for a topology that is neither block, tree nor flat.
pub fn assignments(topologies: &[Topology]) -> Result<BTreeMap<NodeName, String>, KindError> {
    let mut all: BTreeMap<NodeName, Vec<String>> = BTreeMap::new();
    for Topology { name, kind, .. } in topologies {
        let units: Vec<(&str, HostList)> = match kind {
            TopologyKind::Flat => continue,
            TopologyKind::Block(block) => {
                block.blocks.iter().map(|block| (block.name.as_str(), block.nodes.clone())).collect()
            }
            TopologyKind::Other(OtherTopology { kind, body }) if kind == "tree" => switches(body),
            TopologyKind::Other(OtherTopology { kind, .. }) if kind == "flat" => continue,
            TopologyKind::Other(OtherTopology { kind, .. }) => {
                return Err(KindError { name: name.clone(), kind: kind.clone() });
            }
        };
        let mut here: BTreeMap<&NodeName, &str> = BTreeMap::new();
        for (unit, nodes) in &units {
            for node in nodes {
                here.entry(node).or_insert(unit);
            }
        }
        for (node, unit) in here {
            all.entry(node.clone()).or_default().push(format!("{name}:{unit}"));
        }
    }
    Ok(all.into_iter().map(|(node, pairs)| (node, pairs.join(","))).collect())
}

/// The leaf switches of a tree with their nodes; what cannot be read has none.
fn switches(body: &Body) -> Vec<(&str, HostList)> {
    let Body::Map(entries) = body else { return Vec::new() };
    let lists = entries.iter().filter(|(key, _)| key == "switches").map(|(_, list)| list);
    let switches = lists.flat_map(|list| match list {
        Body::List(items) => items.as_slice(),
        _ => &[],
    });
    switches.filter_map(leaf).collect()
}

fn leaf(switch: &Body) -> Option<(&str, HostList)> {
    let Body::Map(fields) = switch else { return None };
    let text = |wanted: &str| {
        fields.iter().find_map(|(key, value)| match value {
            Body::Text(text) if key == wanted => Some(text.as_str()),
            _ => None,
        })
    };
    Some((text("switch")?, HostList::parse(text("nodes")?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topology_is_named() {
        let file = fabric::slurm_yaml::parse(
            "- topology: nvl\n  block: {blocks: [{block: a, nodes: 'n[1-2]'}, {block: b, nodes: 'n[2-3]'}]}\n\
             - topology: ib\n  tree: {switches: [{switch: s0, children: s1}, {switch: s1, nodes: 'n[1-2]'}]}\n\
             - topology: flat\n  flat: true\n",
        )
        .unwrap();
        let told: Vec<String> =
            assignments(&file).unwrap().into_iter().map(|(node, text)| format!("{node} {text}")).collect();
        assert_eq!(told, ["n1 nvl:a,ib:s1", "n2 nvl:a,ib:s1", "n3 nvl:b"]);
        let ring = fabric::slurm_yaml::parse("topology: r\nring: {rings: [{ring: a, nodes: n1}]}").unwrap();
        assert_eq!(
            assignments(&ring).unwrap_err().to_string(),
            "topology \"r\" is of kind ring, in which a node's place cannot be told"
        );
    }
}
