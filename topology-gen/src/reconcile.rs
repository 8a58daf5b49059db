//! From readings to trays by NVLink partition: every node ends in exactly one place, with its reason.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use fabric::{FabricId, NodeName, Verdict};

use crate::natural;
use crate::source::{Inventory, Observation, Seen};

/// A node and why it is where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The node.
    pub node: NodeName,
    /// In words.
    pub why: String,
}

/// The nodes of an inventory, sorted. Lists are in natural order of node names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trays {
    /// Trays by NVLink partition.
    pub partitions: BTreeMap<FabricId, Vec<NodeName>>,
    /// Nodes without multi-node NVLink.
    pub outside: Vec<Reason>,
    /// Trays whose reading cannot be trusted.
    pub rejected: Vec<Reason>,
    /// Trays whose fabric has not assigned a partition yet; a problem, but one that can pass.
    pub pending: Vec<Reason>,
    /// Nodes of which nothing is known now.
    pub silent: Vec<Reason>,
    /// Faults and doubts about trays that are taken nevertheless.
    pub warnings: Vec<Reason>,
    /// Nodes that can run no job now: drained, down, or not there.
    pub unusable: BTreeSet<NodeName>,
    /// Nodes whose reading is old, because they do not answer now.
    pub away: BTreeSet<NodeName>,
    /// Whether a node that is in none of the lists does not exist.
    pub complete: bool,
}

impl Trays {
    /// Whether some tray has a fault that an operator must see.
    pub fn has_problems(&self) -> bool {
        !self.rejected.is_empty() || !self.pending.is_empty()
    }

    /// Nodes of which it is known where they belong now.
    pub fn spoken(&self) -> BTreeSet<&NodeName> {
        let others = self.outside.iter().chain(&self.rejected).map(|reason| &reason.node);
        self.partitions.values().flatten().chain(others).collect()
    }

    /// Nodes that say nothing now, or not yet.
    pub fn quiet(&self) -> BTreeSet<&NodeName> {
        self.silent.iter().chain(&self.pending).map(|reason| &reason.node).collect()
    }

    /// The NVLink partition of a node.
    pub fn partition_of(&self, node: &NodeName) -> Option<FabricId> {
        self.partitions.iter().find(|(_, nodes)| nodes.contains(node)).map(|(id, _)| *id)
    }
}

/// Sorts all nodes. `expected_gpus` replaces what the source knows; nodes in `ignored` count as outside.
pub fn reconcile(inventory: &Inventory, expected_gpus: Option<u32>, ignored: &BTreeSet<NodeName>) -> Trays {
    let mut trays = Trays { complete: inventory.complete, ..Trays::default() };
    let mut nodes: BTreeMap<&NodeName, Vec<&Observation>> = BTreeMap::new();
    for observation in &inventory.observations {
        nodes.entry(&observation.node).or_default().push(observation);
    }
    let mut nodes: Vec<_> = nodes.into_iter().collect();
    nodes.sort_by(|(a, _), (b, _)| natural::compare(a.as_str(), b.as_str()));
    for (node, observations) in nodes {
        let reason = |why: &str| Reason { node: node.clone(), why: why.to_owned() };
        match observations.as_slice() {
            _ if ignored.contains(node) => trays.outside.push(reason("ignored by option")),
            [one] => place(one, expected_gpus, &mut trays),
            [first, rest @ ..] if rest.iter().all(|other| other.seen == first.seen) => {
                trays.warnings.push(reason("listed more than once"));
                place(first, expected_gpus, &mut trays);
            }
            _ => trays.rejected.push(reason("listed more than once with different readings")),
        }
    }
    warn_of_lone_trays(&mut trays);
    trays
}

fn place(observation: &Observation, expected_gpus: Option<u32>, trays: &mut Trays) {
    let node = &observation.node;
    let reason = |why: String| Reason { node: node.clone(), why };
    if observation.unusable {
        trays.unusable.insert(node.clone());
    }
    if observation.stale.is_some() {
        trays.away.insert(node.clone());
    }
    let reading = match &observation.seen {
        Seen::Reading(reading) => reading,
        Seen::Silent(why) => {
            let away = observation.stale.as_ref().map(|state| format!(" ({state})")).unwrap_or_default();
            return trays.silent.push(reason(format!("{why}{away}")));
        }
        Seen::NoGpus(why) => return trays.outside.push(reason(why.clone())),
    };
    match reading.judge(expected_gpus.or(observation.expected_gpus)) {
        Verdict::Member { id, warnings, .. } => {
            trays.partitions.entry(id).or_default().push(node.clone());
            trays.warnings.extend(warnings.into_iter().map(reason));
            let stale = observation.stale.iter();
            trays.warnings.extend(stale.map(|state| reason(format!("stale reading: {state}"))));
        }
        Verdict::NoFabric { why } => trays.outside.push(reason(why)),
        Verdict::Rejected { why } if reading.is_pending() => trays.pending.push(reason(why)),
        Verdict::Rejected { why } => trays.rejected.push(reason(why)),
    }
}

/// A partition of one tray is possible, but systems without multi-node NVLink have reported such ids too.
fn warn_of_lone_trays(trays: &mut Trays) {
    if trays.partitions.len() < 2 && trays.partitions.values().all(|nodes| nodes.len() > 1) {
        return;
    }
    for (id, nodes) in &trays.partitions {
        if let [node] = nodes.as_slice() {
            let why = format!(
                "the only tray of NVLink partition {id}; leave it out with --ignore if it has no multi-node NVLink"
            );
            trays.warnings.push(Reason { node: node.clone(), why });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fabric::{FabricHealth, GpuFabric, GpuReading, TrayReading};

    const ID: &str = "7e1c0f5a-9d3b-4e52-8f01-2a6b5c4d3e2f.1";

    fn seen(node: &str, state: u8, gpus: u32) -> Observation {
        let id: FabricId = ID.parse().unwrap();
        let health = FabricHealth::default();
        let fabric =
            GpuFabric { domain: id.domain, partition: id.partition, state: state.into(), status: 0, health };
        let gpu =
            |index| GpuReading { index, uuid: String::new(), name: String::new(), fabric: Some(fabric) };
        let reading = TrayReading { driver_version: "1".into(), gpus: (0..gpus).map(gpu).collect() };
        let node = NodeName::new(node).unwrap();
        Observation { expected_gpus: Some(4), ..Observation::now(node, Seen::Reading(reading)) }
    }

    fn names(reasons: &[Reason]) -> Vec<&str> {
        reasons.iter().map(|r| r.node.as_str()).collect()
    }

    #[test]
    fn every_node_ends_in_exactly_one_list() {
        let silent = |node| Observation { seen: Seen::Silent("x".into()), ..seen(node, 3, 4) };
        let observations = vec![
            seen("n10", 3, 4),
            seen("n2", 3, 4),
            seen("n3", 3, 3),
            seen("n4", 2, 4),
            seen("n5", 0, 4),
            silent("n6"),
            seen("n7", 3, 4),
            silent("n7"),
            seen("n8", 3, 4),
            seen("n9", 3, 4),
            seen("n9", 3, 4),
        ];
        let inventory = Inventory { observations, complete: true, notes: vec![] };
        let ignored = [NodeName::new("n8").unwrap()].into();
        let trays = reconcile(&inventory, None, &ignored);
        let members: Vec<&str> = trays.partitions.values().flatten().map(NodeName::as_str).collect();
        assert_eq!(members, ["n2", "n9", "n10"]);
        assert_eq!(names(&trays.rejected), ["n3", "n7"]);
        assert_eq!(names(&trays.pending), ["n4"]);
        assert_eq!(names(&trays.outside), ["n5", "n8"]);
        assert_eq!(names(&trays.silent), ["n6"]);
        assert_eq!(
            trays.warnings,
            [Reason { node: NodeName::new("n9").unwrap(), why: "listed more than once".into() }]
        );
        assert!(trays.has_problems());
    }

    #[test]
    fn a_reading_of_a_node_that_is_away_is_taken_and_marked() {
        let away = Observation { stale: Some("the node is DOWN".into()), ..seen("n1", 3, 4) };
        let inventory =
            Inventory { observations: vec![away, seen("n2", 3, 4)], complete: true, notes: vec![] };
        let trays = reconcile(&inventory, Some(4), &BTreeSet::new());
        assert_eq!(trays.partitions.len(), 1);
        assert_eq!(trays.warnings[0].why, "stale reading: the node is DOWN");
        assert!(!trays.has_problems());
    }

    #[test]
    fn a_lone_tray_is_doubted() {
        let inventory = Inventory { observations: vec![seen("n1", 3, 4)], complete: true, notes: vec![] };
        let trays = reconcile(&inventory, None, &BTreeSet::new());
        assert!(
            trays.warnings[0].why.starts_with("the only tray of NVLink partition 7e1c"),
            "{:?}",
            trays.warnings
        );
    }
}
