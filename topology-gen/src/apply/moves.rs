//! Small moves without a reload: `scontrol update nodename=... topology=...` puts nodes into other blocks at once, and no slurmd
//! starts anew. It cannot end a controller, whatever mode that runs in.
//!
//! Slurm forgets these updates of nodes of slurm.conf at its next reload or start and takes the file then, so the file is
//! written first. A move is left to a reload where Slurm (26.05.5) would make something else of it.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use fabric::{HostList, NodeName, Topology};

use crate::assign::{KindError, assignments};
use crate::controller::{Controller, ControllerError};
use crate::diff::Change;

/// Why a change cannot be made without a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NeedsReload {
    /// More than nodes that change their block.
    Change(String),
    /// A topology in which places cannot be said.
    Kind(KindError),
    /// The node would be in no topology at all, which an update cannot say.
    Nowhere(NodeName),
    /// The node stays in its block of another topology. Slurm then no longer counts it among the nodes with blocks there
    /// (SchedMD/slurm PR 225).
    Stays {
        /// The node.
        node: NodeName,
        /// The other topology.
        topology: String,
    },
    /// Nodes that Slurm powers down come back into their old block.
    PowerSaving,
    /// Trays get the file from the controller, at a reload only.
    Configless,
    /// An earlier run was interrupted, so it is not known what the controller has read.
    Unfinished,
}

impl fmt::Display for NeedsReload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change(change) => write!(f, "not only nodes change their block: {change}"),
            Self::Kind(error) => error.fmt(f),
            Self::Nowhere(node) => write!(f, "{node} would be in no topology any more"),
            Self::Stays { node, topology } => {
                write!(f, "{node} keeps its block in topology {topology:?}, where Slurm would lose it")
            }
            Self::PowerSaving => f.write_str(
                "Slurm powers nodes down (SuspendProgram), and they would come back into their old block",
            ),
            Self::Configless => {
                f.write_str("the trays get topology.yaml from the controller (configless), at a reload only")
            }
            Self::Unfinished => f.write_str("an earlier run was interrupted"),
        }
    }
}

/// Updates that make one topology out of another, and those that take them back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moves {
    forth: Vec<(HostList, String)>,
    back: Vec<(HostList, String)>,
}

/// The updates, if they can do it.
///
/// # Errors
/// [`NeedsReload`].
pub fn moves(before: &[Topology], after: &[Topology], changes: &[Change]) -> Result<Moves, NeedsReload> {
    let mut moved: BTreeSet<&NodeName> = BTreeSet::new();
    for change in changes {
        let nodes = change.moved_nodes().ok_or_else(|| NeedsReload::Change(change.to_string()))?;
        moved.extend(nodes);
    }
    for (old, new) in before.iter().zip(after) {
        let (Some(old), Some(new), name) = (old.block(), new.block(), &new.name) else { continue };
        let here = |topology: &fabric::topology::BlockTopology| -> BTreeMap<NodeName, usize> {
            let mut places = BTreeMap::new();
            for (at, block) in topology.blocks.iter().enumerate() {
                for node in &block.nodes {
                    places.entry(node.clone()).or_insert(at);
                }
            }
            places
        };
        let (old, new) = (here(old), here(new));
        if let Some(node) =
            moved.iter().find(|node| new.contains_key(**node) && old.get(**node) == new.get(**node))
        {
            return Err(NeedsReload::Stays { node: (*node).clone(), topology: name.clone() });
        }
    }
    let forth = grouped(&moved, after)?;
    // A node that was nowhere before cannot be sent back by an update; a reload of the old file does it.
    let back = grouped(&moved, before).unwrap_or_default();
    Ok(Moves { forth, back })
}

fn grouped(moved: &BTreeSet<&NodeName>, file: &[Topology]) -> Result<Vec<(HostList, String)>, NeedsReload> {
    let places = assignments(file).map_err(NeedsReload::Kind)?;
    let mut groups: BTreeMap<&str, HostList> = BTreeMap::new();
    for node in moved {
        let place = places.get(*node).ok_or_else(|| NeedsReload::Nowhere((*node).clone()))?;
        groups.entry(place).or_default().push((*node).clone());
    }
    Ok(groups.into_iter().map(|(place, nodes)| (nodes, place.to_owned())).collect())
}

/// Whether this controller keeps what it is told.
///
/// # Errors
/// It cannot be asked. Inside: what speaks against it.
pub fn allowed(controller: &Controller) -> Result<Result<(), NeedsReload>, ControllerError> {
    let settings = controller.settings()?;
    if settings.get("SuspendProgram").is_some() {
        return Ok(Err(NeedsReload::PowerSaving));
    }
    let parameters = settings.get("SlurmctldParameters").unwrap_or_default().to_ascii_lowercase();
    let configless = parameters.split(',').any(|word| word.trim() == "enable_configless");
    Ok(if configless { Err(NeedsReload::Configless) } else { Ok(()) })
}

impl Moves {
    /// Tells the controller.
    ///
    /// # Errors
    /// It refuses one of them; those before it are made.
    pub fn make(&self, controller: &Controller) -> Result<(), ControllerError> {
        self.forth.iter().try_for_each(|(nodes, place)| controller.place(nodes, place))
    }

    /// Takes all of them back, also those that were not made.
    ///
    /// # Errors
    /// The first refusal.
    pub fn unmake(&self, controller: &Controller) -> Result<(), ControllerError> {
        let mut done = Ok(());
        for (nodes, place) in &self.back {
            done = done.and(controller.place(nodes, place));
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::diff;

    fn file(more: &str, blocks: &[(&str, &str)]) -> Vec<Topology> {
        let lines: String = blocks
            .iter()
            .map(|(name, nodes)| format!("    - {{block: {name}, nodes: '{nodes}'}}\n"))
            .collect();
        fabric::slurm_yaml::parse(&format!(
            "- topology: t\n  block:\n    block_sizes: [4]\n    blocks:\n{lines}- topology: s\n  block:\n    block_sizes: [3]\n    blocks:\n{lines}{more}"
        ))
        .unwrap()
    }

    fn told(before: &[Topology], after: &[Topology]) -> Result<Vec<String>, String> {
        let moves = moves(before, after, &diff(before, after)).map_err(|error| error.to_string())?;
        let line = |(nodes, place): &(HostList, String)| format!("{nodes} {place}");
        Ok(moves.forth.iter().chain(&moves.back).map(line).collect())
    }

    const TREE: &str = "- topology: ib\n  tree: {switches: [{switch: s1, nodes: 'n[1-9]'}]}\n";
    const RACKS: [(&str, &str); 2] = [("a", "n[1-4]"), ("b", "n[5-8]")];

    #[test]
    fn moves_between_blocks_name_every_topology() {
        let after = [("a", "n[1-3]"), ("b", "n[4-9]")];
        let all = told(&file(TREE, &RACKS), &file(TREE, &after)).unwrap();
        assert_eq!(all, ["n[4,9] t:b,s:b,ib:s1", "n9 ib:s1", "n4 t:a,s:a,ib:s1"]);
    }

    #[test]
    fn what_needs_a_reload_says_so() {
        let racks = file("", &RACKS);
        let mut words = Vec::new();
        for after in [
            file("", &[("a", "n[1-4]"), ("b", "n[5-7]"), ("c", "n8")]),
            file("", &[("a", "n[1-4]"), ("b", "n[5-7]")]),
            file(
                "- topology: r\n  ring: {rings: [{ring: x, nodes: n1}]}\n",
                &[("a", "n[1-5]"), ("b", "n[6-8]")],
            ),
        ] {
            words.push(told(&racks, &after).unwrap_err());
        }
        // Only one of the two topologies changes.
        let mut one = file("", &[("a", "n[1-5]"), ("b", "n[6-8]")]);
        one[1] = racks[1].clone();
        words.push(told(&racks, &one).unwrap_err());
        assert_eq!(
            words,
            [
                "not only nodes change their block: topology \"t\": block c is new (n8)",
                "n8 would be in no topology any more",
                "not only nodes change their block: topology \"r\" is new",
                "n5 keeps its block in topology \"s\", where Slurm would lose it",
            ]
        );
    }
}
