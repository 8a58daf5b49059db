//! Hardware shapes of the simulated trays, as TOML: `tests/profiles/*.toml` or a file of one's own.
//!
//! Node names and addresses follow from the profile: tray 2 of the first rack is `r01n02` at 10.75.1.2.
#![forbid(unsafe_code)]

use crate::fault::FaultKind;
use crate::limits;
use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;

/// The profiles that are compiled in: name and text.
const BUILT_IN: [(&str, &str); 7] = [
    ("gb200-2x18", include_str!("../profiles/gb200-2x18.toml")),
    ("gb200-4x18", include_str!("../profiles/gb200-4x18.toml")),
    ("split-racks", include_str!("../profiles/split-racks.toml")),
    ("mixed", include_str!("../profiles/mixed.toml")),
    ("nvl8", include_str!("../profiles/nvl8.toml")),
    ("small-2x4", include_str!("../profiles/small-2x4.toml")),
    ("small-4x2", include_str!("../profiles/small-4x2.toml")),
];

/// The profile that is taken when none is named.
pub const DEFAULT: &str = "gb200-2x18";

/// Clique of a rack that names no NVLink partitions: the default partition of GB200 firmware.
const DEFAULT_CLIQUE: u32 = sim::nvml::DEFAULT_CLIQUE;

/// A hardware shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// One line for people.
    pub description: String,
    /// Base size of the blocks; absent: `topology-gen` decides.
    pub base_size: Option<u32>,
    /// CPU sockets, cores and memory of a node as Slurm is told; the machine under it does not matter.
    #[serde(default)]
    pub node: NodeShape,
    /// Racks of trays on an NVLink fabric, simulated.
    #[serde(default)]
    pub racks: Vec<Rack>,
    /// Nodes without NVLink fabric and without GPUs.
    pub plain: Option<Plain>,
    /// Faults that are there from the beginning.
    #[serde(default)]
    pub faults: Vec<FaultAtStart>,
}

/// What Slurm is told about each node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeShape {
    /// CPU sockets.
    pub sockets: u32,
    /// Cores of a socket.
    pub cores_per_socket: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
}

impl Default for NodeShape {
    /// Two Grace CPUs with 480 GB each.
    fn default() -> Self {
        Self { sockets: 2, cores_per_socket: 72, memory_mib: 960_000 }
    }
}

/// One rack: one NVLink domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rack {
    /// First part of the node names, for example `r01`.
    pub name: String,
    /// Compute trays.
    pub trays: u32,
    /// GPUs of a tray.
    pub gpus_per_tray: u32,
    /// NVML's cluster UUID; all zero: a fabric that does not leave the tray.
    pub cluster_uuid: String,
    /// NVLink partitions in tray order; empty: one with the default clique.
    #[serde(default)]
    pub partitions: Vec<Partition>,
}

/// One NVLink partition: the next `trays` trays of the rack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// NVML's clique ID.
    pub clique: u32,
    /// Number of trays.
    pub trays: u32,
}

/// Nodes without NVLink fabric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plain {
    /// How many.
    pub nodes: u32,
}

/// A fault that is there from the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultAtStart {
    /// Node name.
    pub node: String,
    /// What is wrong with it.
    pub kind: FaultKind,
}

/// A node that follows from a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedNode {
    /// Slurm's node name and the host name.
    pub name: String,
    /// Address in the cluster's own network.
    pub ip: Ipv4Addr,
    /// Number of GPUs.
    pub gpus: u32,
    /// The place in the NVLink fabric, absent on plain nodes.
    pub fabric: Option<FabricPlace>,
}

/// Where a tray sits in the NVLink fabric.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FabricPlace {
    /// NVLink domain.
    pub cluster_uuid: String,
    /// NVLink partition in it.
    pub clique: u32,
}

impl FabricPlace {
    /// Whether the fabric leaves the tray: an all-zero UUID says that it does not.
    pub fn reaches_other_trays(&self) -> bool {
        self.cluster_uuid.chars().any(|c| !matches!(c, '0' | '-'))
    }
}

impl Profile {
    /// A profile by name (`gb200-2x18`) or by the path of a TOML file (anything with a `/` or ending in `.toml`).
    ///
    /// # Errors
    /// No such profile, or it contradicts itself.
    pub fn load(name_or_path: &str) -> anyhow::Result<Self> {
        if name_or_path.contains('/') || name_or_path.ends_with(".toml") {
            let text = std::fs::read_to_string(Path::new(name_or_path))
                .with_context(|| format!("cannot read the profile {name_or_path}"))?;
            return Self::parse(&text).with_context(|| format!("profile {name_or_path}"));
        }
        let Some((_, text)) = BUILT_IN.iter().find(|(name, _)| *name == name_or_path) else {
            bail!(
                "no profile is called {name_or_path}; there are {} and TOML files",
                Self::names().join(", ")
            );
        };
        Self::parse(text).with_context(|| format!("profile {name_or_path}"))
    }

    /// Names of the profiles that are compiled in.
    pub fn names() -> Vec<&'static str> {
        BUILT_IN.iter().map(|(name, _)| *name).collect()
    }

    /// Reads and checks the text of a profile.
    ///
    /// # Errors
    /// It is not TOML of this form, or it contradicts itself.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut profile: Self = toml::from_str(text)?;
        for rack in &mut profile.racks {
            if rack.partitions.is_empty() {
                rack.partitions.push(Partition { clique: DEFAULT_CLIQUE, trays: rack.trays });
            }
        }
        profile.check()?;
        Ok(profile)
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.racks.len() > limits::RACKS {
            bail!("{} racks; at most {}", self.racks.len(), limits::RACKS);
        }
        self.racks.iter().try_for_each(|rack| rack.check().with_context(|| format!("rack {}", rack.name)))?;
        let plain = self.plain.as_ref().map_or(0, |plain| plain.nodes);
        if plain > limits::TRAYS_PER_RACK {
            bail!("{plain} plain nodes; at most {}", limits::TRAYS_PER_RACK);
        }
        let nodes = self.nodes();
        if nodes.is_empty() || nodes.len() > limits::NODES {
            bail!("{} nodes; between 1 and {} are possible", nodes.len(), limits::NODES);
        }
        let names: BTreeSet<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        if names.len() != nodes.len() {
            bail!("two racks have the same name");
        }
        match self.faults.iter().find(|fault| !names.contains(fault.node.as_str())) {
            Some(fault) => bail!("a fault names the node {}, which the profile does not have", fault.node),
            None => Ok(()),
        }
    }

    /// All nodes in order: racks first, plain nodes last.
    pub fn nodes(&self) -> Vec<PlannedNode> {
        let mut nodes = Vec::new();
        for (rack, number) in self.racks.iter().zip(1u8..) {
            let mut places = rack.places();
            for tray in 1..=rack.trays {
                nodes.push(PlannedNode {
                    name: format!("{}n{tray:02}", rack.name),
                    ip: address(number, tray),
                    gpus: rack.gpus_per_tray,
                    fabric: places.next(),
                });
            }
        }
        for number in 1..=self.plain.as_ref().map_or(0, |plain| plain.nodes) {
            nodes.push(PlannedNode {
                name: format!("p{number:02}"),
                ip: address(240, number),
                gpus: 0,
                fabric: None,
            });
        }
        nodes
    }

    /// The blocks that healthy trays ask for: the trays of each NVLink partition, in order.
    pub fn nvlink_partitions(&self) -> Vec<Vec<String>> {
        let mut partitions: Vec<(FabricPlace, Vec<String>)> = Vec::new();
        for node in self.nodes() {
            let Some(place) = node.fabric.filter(FabricPlace::reaches_other_trays) else { continue };
            match partitions.iter_mut().find(|(known, _)| *known == place) {
                Some((_, trays)) => trays.push(node.name),
                None => partitions.push((place, vec![node.name])),
            }
        }
        partitions.into_iter().map(|(_, trays)| trays).collect()
    }
}

impl Rack {
    fn check(&self) -> anyhow::Result<()> {
        let starts_well = self.name.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts_well || self.name.len() > 16 || !self.name.chars().all(|c| c.is_ascii_alphanumeric()) {
            bail!("the name must begin with a small letter and have at most 16 letters and digits");
        }
        if self.trays == 0 || self.trays > limits::TRAYS_PER_RACK {
            bail!("{} trays; between 1 and {} are possible", self.trays, limits::TRAYS_PER_RACK);
        }
        if self.gpus_per_tray == 0 || self.gpus_per_tray > limits::GPUS_PER_TRAY {
            bail!("{} GPUs a tray; between 1 and {} are possible", self.gpus_per_tray, limits::GPUS_PER_TRAY);
        }
        self.cluster_uuid
            .parse::<fabric::identity::DomainId>()
            .with_context(|| format!("cluster_uuid {:?}", self.cluster_uuid))?;
        let in_partitions: u64 = self.partitions.iter().map(|partition| u64::from(partition.trays)).sum();
        if in_partitions != u64::from(self.trays) {
            bail!("the NVLink partitions have {in_partitions} trays together, the rack has {}", self.trays);
        }
        Ok(())
    }

    /// The fabric place of each tray, in order.
    fn places(&self) -> impl Iterator<Item = FabricPlace> {
        self.partitions.iter().flat_map(|partition| {
            let place = FabricPlace { cluster_uuid: self.cluster_uuid.clone(), clique: partition.clique };
            std::iter::repeat_n(place, partition.trays as usize)
        })
    }
}

/// Address of a node; `number` is within the bounds that the check keeps.
fn address(third: u8, number: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 75, third, u8::try_from(number).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_profile_is_sound() {
        for name in Profile::names() {
            let profile = Profile::load(name).unwrap();
            let addresses: BTreeSet<Ipv4Addr> = profile.nodes().iter().map(|node| node.ip).collect();
            assert_eq!(addresses.len(), profile.nodes().len(), "{name}");
        }
    }

    #[test]
    fn two_full_racks_are_two_partitions_of_18() {
        let profile = Profile::load(DEFAULT).unwrap();
        assert_eq!(profile.nodes().len(), 36);
        assert_eq!(profile.nodes()[18].name, "r02n01");
        assert_eq!(profile.nodes()[18].ip, Ipv4Addr::new(10, 75, 2, 1));
        let sizes: Vec<usize> = profile.nvlink_partitions().iter().map(Vec::len).collect();
        assert_eq!(sizes, [18, 18]);
    }

    #[test]
    fn equal_cliques_of_two_racks_stay_apart() {
        let partitions = Profile::load("split-racks").unwrap().nvlink_partitions();
        let sizes: Vec<usize> = partitions.iter().map(Vec::len).collect();
        assert_eq!(sizes, [9, 9, 12, 6]);
        assert_eq!(partitions[3][0], "r02n13");
    }

    #[test]
    fn single_node_systems_and_plain_nodes_are_in_no_partition() {
        assert!(Profile::load("nvl8").unwrap().nvlink_partitions().is_empty());
        let mixed = Profile::load("mixed").unwrap();
        assert_eq!(mixed.nvlink_partitions().concat().len(), 18);
        assert_eq!(mixed.nodes()[18].name, "p01");
    }

    #[test]
    fn contradictions_are_named() {
        let rack = |more: &str| {
            let text = format!(
                "description = \"x\"\n[[racks]]\nname = \"r1\"\ntrays = 4\ngpus_per_tray = 4\n\
                 cluster_uuid = \"3c9b1e52-7a41-4d0e-9f63-5b1d8ae20c01\"\n{more}"
            );
            format!("{:#}", Profile::parse(&text).unwrap_err())
        };
        assert_eq!(
            rack("partitions = [{ clique = 1, trays = 3 }]"),
            "rack r1: the NVLink partitions have 3 trays together, the rack has 4"
        );
        assert_eq!(
            rack("[[faults]]\nnode = \"r9n01\"\nkind = \"slurmd-kill\""),
            "a fault names the node r9n01, which the profile does not have"
        );
        assert!(rack("colour = 1").contains("unknown field `colour`"));
        assert!(Profile::parse("description = \"x\"").unwrap_err().to_string().starts_with("0 nodes"));
        assert!(Profile::load("gb300").unwrap_err().to_string().contains("gb200-2x18, gb200-4x18"));
    }
}
