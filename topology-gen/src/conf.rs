//! The lines of `slurm.conf` that have to do with topologies: partitions and nodes with `Topology=`, and what the plugin heeds.
//!
//! Keys are read as Slurm reads them: any case, `DEFAULT` lines carry on, a backslash joins lines, `Include` is followed.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fabric::{HostList, NodeName};

use crate::controller::Settings;

/// Deepest chain of `Include`.
const INCLUDES_MAX: usize = 8;

/// Why slurm.conf cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Files include each other.
    #[error("{path} is included more than {INCLUDES_MAX} levels deep")]
    Includes {
        /// The file.
        path: PathBuf,
    },
}

/// A `PartitionName` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfPartition {
    /// Its name.
    pub name: String,
    /// `Topology=`.
    pub topology: Option<String>,
    /// `Nodes=` as written.
    pub nodes: String,
    /// File and line, for a message.
    pub place: String,
}

/// A `NodeName` line with `Topology=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfNodes {
    /// Its nodes.
    pub nodes: Vec<NodeName>,
    /// `Topology=` as written: `name:unit,name:unit`.
    pub topology: String,
    /// File and line, for a message.
    pub place: String,
}

/// A setting of the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfSetting {
    /// As written.
    pub value: String,
    /// Where it comes from, for a message: file and line, or what the controller said.
    pub place: String,
}

/// Settings of the whole cluster that the plugin heeds. Of one that comes twice the last counts, as in Slurm.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterSettings {
    /// `TopologyParam=`.
    pub topology_param: Option<ConfSetting>,
    /// `SchedulerType=`.
    pub scheduler: Option<ConfSetting>,
}

impl ClusterSettings {
    /// Those that a controller runs with.
    pub fn in_force(settings: &Settings) -> Self {
        let setting = |key: &str| {
            let value = settings.get(key)?.to_owned();
            Some(ConfSetting { value, place: "in force".to_owned() })
        };
        Self { topology_param: setting("TopologyParam"), scheduler: setting("SchedulerType") }
    }
}

/// What slurm.conf says about topologies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlurmConf {
    /// What holds for the whole cluster.
    pub settings: ClusterSettings,
    /// All partitions.
    pub partitions: Vec<ConfPartition>,
    /// The nodes that name their topology.
    pub nodes: Vec<ConfNodes>,
}

/// `DEFAULT` lines in force.
#[derive(Default)]
struct Defaults {
    partition: BTreeMap<String, String>,
    node: BTreeMap<String, String>,
}

/// Reads slurm.conf and what it includes.
///
/// # Errors
/// [`ConfError`].
pub fn read(path: &Path) -> Result<SlurmConf, ConfError> {
    let mut conf = SlurmConf::default();
    read_file(path, 0, &mut Defaults::default(), &mut conf)?;
    Ok(conf)
}

fn read_file(
    path: &Path,
    depth: usize,
    defaults: &mut Defaults,
    conf: &mut SlurmConf,
) -> Result<(), ConfError> {
    if depth > INCLUDES_MAX {
        return Err(ConfError::Includes { path: path.to_owned() });
    }
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfError::Read { path: path.to_owned(), source })?;
    for (line, words) in joined_lines(&text) {
        if let Some(included) = words.strip_prefix("Include ").or_else(|| words.strip_prefix("include ")) {
            // A relative name is taken from the folder of slurm.conf.
            let included = path.parent().unwrap_or(Path::new(".")).join(included.trim());
            read_file(&included, depth + 1, defaults, conf)?;
            continue;
        }
        take(&words, format!("{}:{line}", path.display()), defaults, conf);
    }
    Ok(())
}

/// Lines without comments, continued ones joined, with the number of their first line.
fn joined_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        let (at, mut words) = open.take().unwrap_or((number, String::new()));
        if let Some(part) = line.strip_suffix('\\') {
            words.push_str(part);
            words.push(' ');
            open = Some((at, words));
            continue;
        }
        words.push_str(line);
        if !words.trim().is_empty() {
            lines.push((at, words.trim().to_owned()));
        }
    }
    lines.extend(open);
    lines
}

fn take(words: &str, place: String, defaults: &mut Defaults, conf: &mut SlurmConf) {
    let mut values: BTreeMap<String, String> = words
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
        .map(|(key, value)| (key.to_ascii_lowercase(), value.trim_matches('"').to_owned()))
        .collect();
    let ClusterSettings { topology_param, scheduler } = &mut conf.settings;
    for (key, setting) in [("topologyparam", topology_param), ("schedulertype", scheduler)] {
        if let Some(value) = values.remove(key) {
            *setting = Some(ConfSetting { value, place: place.clone() });
        }
    }
    let mut named = |key: &str, defaults: &mut BTreeMap<String, String>| {
        let name = values.remove(key)?;
        if name.eq_ignore_ascii_case("DEFAULT") {
            defaults.extend(std::mem::take(&mut values));
            return None;
        }
        for (key, value) in defaults.iter() {
            values.entry(key.clone()).or_insert_with(|| value.clone());
        }
        Some(name)
    };
    if let Some(name) = named("partitionname", &mut defaults.partition) {
        conf.partitions.push(ConfPartition {
            name,
            topology: values.remove("topology").filter(|name| !name.is_empty()),
            nodes: values.remove("nodes").unwrap_or_default(),
            place,
        });
    } else if let Some(names) = named("nodename", &mut defaults.node)
        && let Some(topology) = values.remove("topology").filter(|topology| !topology.is_empty())
        && let Ok(nodes) = HostList::parse(&names)
    {
        conf.nodes.push(ConfNodes { nodes: nodes.into_iter().collect(), topology, place });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_slurm_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("slurm.conf");
        std::fs::write(
            &main,
            "# top\nInclude nodes.conf\nPartitionName=DEFAULT Topology=nvlink\npartitionname=a Nodes=n[1-4] # x\n\
             PartitionName=b \\\n  Nodes=ALL topology=flat\n",
        )
        .unwrap();
        std::fs::write(
            dir.path().join("nodes.conf"),
            "NodeName=n[1-2] CPUs=1\nNodeName=n[3-4] Topology=nvlink:b1\n",
        )
        .unwrap();
        let conf = read(&main).unwrap();
        let partitions: Vec<_> = conf
            .partitions
            .iter()
            .map(|p| (p.name.as_str(), p.topology.as_deref().unwrap(), p.nodes.as_str()))
            .collect();
        assert_eq!(partitions, [("a", "nvlink", "n[1-4]"), ("b", "flat", "ALL")]);
        assert!(conf.partitions[1].place.ends_with("slurm.conf:5"), "{}", conf.partitions[1].place);
        assert_eq!((conf.nodes.len(), conf.nodes[0].topology.as_str()), (1, "nvlink:b1"));
        std::fs::write(&main, "TopologyParam=a\nTOPOLOGYPARAM=\"b,c\"\nPartitionName=a\n").unwrap();
        let conf = read(&main).unwrap();
        let place = format!("{}:2", main.display());
        assert_eq!(conf.settings.topology_param, Some(ConfSetting { value: "b,c".into(), place }));
        assert_eq!((conf.settings.scheduler, conf.partitions.len()), (None, 1));
        std::fs::write(&main, "Include slurm.conf\n").unwrap();
        assert!(matches!(read(&main), Err(ConfError::Includes { .. })));
    }
}
