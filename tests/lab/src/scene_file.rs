//! Scenes as text that people read and write.
//!
//! ```toml
//! [cluster]
//! racks = [18, 18]
//! block_sizes = [18]
//!
//! [trays]
//! busy = "n[1-4]"
//! drained = "n20"
//! cpus = 8
//!
//! [job]
//! nodes = 16
//! ```

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use fabric::HostList;
use serde::{Deserialize, Serialize};

use crate::protocol::{Gpus, JobQuestion};
use crate::scene::{Change, Cluster, Job, Scene, Tray, idle_tray};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cluster: Cluster,
    #[serde(default)]
    trays: Trays,
    job: Asked,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Trays {
    busy: String,
    drained: String,
    /// CPUs of every tray that `cpus_of` does not name.
    cpus: u16,
    /// Host list -> CPUs that are left for the job.
    cpus_of: BTreeMap<String, u16>,
    /// Host list -> CPUs that other jobs have; 0 for the rest.
    taken_of: BTreeMap<String, u16>,
    /// Host list -> GPUs that other jobs have; 0 for the rest.
    gpus_taken_of: BTreeMap<String, u16>,
    /// Host list -> weight; 1 for the rest.
    weight_of: BTreeMap<String, u32>,
}

impl Default for Trays {
    fn default() -> Self {
        Self {
            busy: String::new(),
            drained: String::new(),
            cpus: 4,
            cpus_of: BTreeMap::new(),
            taken_of: BTreeMap::new(),
            gpus_taken_of: BTreeMap::new(),
            weight_of: BTreeMap::new(),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    nodes: u32,
    /// Upper end of a range (`-N4-8`); the same as `nodes` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    most_nodes: Option<u32>,
    /// Nodes that are given if they are there; the same as `most_nodes` when left out, 1 for `-n` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    usual_nodes: Option<u32>,
    /// CPUs of the whole job; one for each node when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cpus: Option<u32>,
    #[serde(default = "one")]
    cpus_per_task: u16,
    #[serde(default)]
    tasks: u32,
    #[serde(default)]
    tasks_per_node: u16,
    #[serde(default)]
    segment: u16,
    #[serde(default)]
    spread_segments: bool,
    #[serde(default)]
    consolidate_segments: bool,
    #[serde(default = "yes")]
    exclusive: bool,
    #[serde(default)]
    required: String,
    #[serde(default)]
    excluded: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gpus_per_node: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gpus: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gpus_per_task: Option<u16>,
    /// Of a hierarchical resource, on each node.
    #[serde(default, skip_serializing_if = "is_none_wanted")]
    hres: u32,
    /// What is left of it on each rack, and at last on the loose nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hres_left: Vec<u32>,
}

fn is_none_wanted(hres: &u32) -> bool {
    *hres == 0
}

fn one() -> u16 {
    1
}

fn yes() -> bool {
    true
}

/// Reads a scene.
///
/// # Errors
/// The text is not a scene, or names nodes that the cluster does not have.
pub fn parse(text: &str) -> anyhow::Result<Scene> {
    let file: File = toml::from_str(text)?;
    let nodes = file.cluster.nodes();
    let mut trays = vec![idle_tray(file.trays.cpus); nodes];
    for node in positions(&file.trays.busy, nodes)? {
        trays[node as usize].busy = true;
    }
    for node in positions(&file.trays.drained, nodes)? {
        trays[node as usize].drained = true;
    }
    set(&mut trays, &file.trays.cpus_of, |tray, cpus| tray.cpus = cpus)?;
    set(&mut trays, &file.trays.taken_of, |tray, cpus| tray.taken = cpus)?;
    set(&mut trays, &file.trays.gpus_taken_of, |tray, gpus| tray.gpus_taken = gpus)?;
    set(&mut trays, &file.trays.weight_of, |tray, weight| tray.weight = weight)?;
    let cpus = |tray: &Tray| u32::from(tray.cpus) + u32::from(tray.taken);
    ensure!(trays.iter().all(|tray| tray.cpus >= 1 && cpus(tray) <= 64), "a tray has 1 to 64 CPUs");
    if file.cluster.gpus > 0 {
        let cores = u32::from(file.cluster.cores);
        ensure!(cores >= 2 && cores % 2 == 0, "nodes with GPUs have two sockets and an even number of cores");
        ensure!(trays.iter().all(|tray| cpus(tray) == cores), "each node with GPUs has {cores} CPUs");
    }
    let job = file.job;
    let most = job.most_nodes.unwrap_or(job.nodes);
    let asked = JobQuestion {
        min_nodes: job.nodes,
        req_nodes: job.usual_nodes.unwrap_or(most),
        max_nodes: most,
        min_cpus: job.cpus.unwrap_or(job.nodes),
        cpus_per_task: job.cpus_per_task,
        num_tasks: job.tasks,
        ntasks_per_node: job.tasks_per_node,
        segment: job.segment,
        spread: job.spread_segments,
        consolidate: job.consolidate_segments,
        exclusive: job.exclusive,
        required: positions(&job.required, nodes)?,
        gpus: match (job.gpus_per_node, job.gpus, job.gpus_per_task) {
            (None, None, None) => None,
            (Some(gpus), None, None) => Some(Gpus::PerNode(gpus)),
            (None, Some(gpus), None) => Some(Gpus::PerJob(gpus)),
            (None, None, Some(gpus)) => Some(Gpus::PerTask(gpus)),
            _ => bail!("one of gpus, gpus_per_node and gpus_per_task"),
        },
        hres: job.hres,
    };
    let leaves = if job.hres > 0 { file.cluster.racks.len() + 1 } else { 0 };
    ensure!(job.hres_left.len() == leaves, "hres_left has {leaves} numbers: racks and loose nodes");
    for change in &file.cluster.changes {
        if let Change::Move { node, rack } = *change {
            let racks = file.cluster.racks.len();
            ensure!((node as usize) < nodes, "there is no node n{}; nodes are n1 to n{nodes}", node + 1);
            ensure!(rack.is_none_or(|rack| (rack as usize) < racks), "blocks are b1 to b{racks}");
        }
    }
    let job = Job { asked, excluded: positions(&job.excluded, nodes)?, hres_left: job.hres_left };
    Ok(Scene { trays, job, cluster: file.cluster })
}

/// Writes a scene.
///
/// # Errors
/// Never for a scene that [`parse`] or the lab made.
pub fn emit(scene: &Scene) -> anyhow::Result<String> {
    let asked = &scene.job.asked;
    let cpus = scene.trays.iter().map(|tray| tray.cpus).min().unwrap_or(1);
    let file = File {
        cluster: scene.cluster.clone(),
        trays: Trays {
            busy: those(scene, |tray| tray.busy),
            drained: those(scene, |tray| tray.drained),
            cpus,
            cpus_of: groups(scene, |tray| tray.cpus, cpus),
            taken_of: groups(scene, |tray| tray.taken, 0),
            gpus_taken_of: groups(scene, |tray| tray.gpus_taken, 0),
            weight_of: groups(scene, |tray| tray.weight, 1),
        },
        job: Asked {
            nodes: asked.min_nodes,
            most_nodes: Some(asked.max_nodes).filter(|&most| most != asked.min_nodes),
            usual_nodes: Some(asked.req_nodes).filter(|&usual| usual != asked.max_nodes),
            cpus: Some(asked.min_cpus),
            cpus_per_task: asked.cpus_per_task,
            tasks: asked.num_tasks,
            tasks_per_node: asked.ntasks_per_node,
            segment: asked.segment,
            spread_segments: asked.spread,
            consolidate_segments: asked.consolidate,
            exclusive: asked.exclusive,
            required: names(asked.required.iter().copied()),
            excluded: names(scene.job.excluded.iter().copied()),
            gpus_per_node: match asked.gpus {
                Some(Gpus::PerNode(gpus)) => Some(gpus),
                _ => None,
            },
            gpus: match asked.gpus {
                Some(Gpus::PerJob(gpus)) => Some(gpus),
                _ => None,
            },
            gpus_per_task: match asked.gpus {
                Some(Gpus::PerTask(gpus)) => Some(gpus),
                _ => None,
            },
            hres: asked.hres,
            hres_left: scene.job.hres_left.clone(),
        },
    };
    Ok(toml::to_string(&file)?)
}

/// Nodes by name, folded.
pub fn names(nodes: impl Iterator<Item = u32>) -> String {
    let names: Vec<String> = nodes.map(|node| format!("n{}", node + 1)).collect();
    match HostList::parse(&names.join(",")) {
        Ok(list) => list.to_string(),
        Err(_) => names.join(","),
    }
}

fn set<T: Copy>(
    trays: &mut [Tray],
    values: &BTreeMap<String, T>,
    put: impl Fn(&mut Tray, T),
) -> anyhow::Result<()> {
    for (hosts, &value) in values {
        for node in positions(hosts, trays.len())? {
            put(&mut trays[node as usize], value);
        }
    }
    Ok(())
}

fn those(scene: &Scene, is: impl Fn(&Tray) -> bool) -> String {
    names((0..).zip(&scene.trays).filter(|(_, tray)| is(tray)).map(|(node, _)| node))
}

fn groups<T: Ord + Copy>(scene: &Scene, of: impl Fn(&Tray) -> T, usual: T) -> BTreeMap<String, T> {
    let values: std::collections::BTreeSet<T> = scene.trays.iter().map(&of).filter(|&v| v != usual).collect();
    values.into_iter().map(|value| (those(scene, |tray| of(tray) == value), value)).collect()
}

fn positions(hosts: &str, nodes: usize) -> anyhow::Result<Vec<u32>> {
    if hosts.is_empty() {
        return Ok(Vec::new());
    }
    let list = HostList::parse(hosts).with_context(|| format!("host list \"{hosts}\""))?;
    list.iter()
        .map(|name| {
            let number = name.as_ref().strip_prefix('n').and_then(|number| number.parse::<u32>().ok());
            number
                .filter(|&number| (1..=nodes).contains(&(number as usize)))
                .map(|number| number - 1)
                .with_context(|| format!("there is no node {name}; nodes are n1 to n{nodes}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, Variety};

    #[test]
    fn a_scene_survives_being_written() {
        for seed in 0..50 {
            let mut random = Random::new(seed);
            let mut cluster = random.cluster(&Variety::ALL, None, None);
            cluster.changes.push(Change::Move { node: 0, rack: None });
            let scene = random.scene(&Variety::ALL, &cluster);
            let text = emit(&scene).unwrap();
            assert!(parse(&text).unwrap() == scene, "seed {seed}:\n{text}");
        }
    }

    #[test]
    fn nodes_that_are_not_there_are_refused() {
        let text = "[cluster]\nracks = [2]\n[trays]\nbusy = \"n3\"\n[job]\nnodes = 1\n";
        assert_eq!(parse(text).unwrap_err().to_string(), "there is no node n3; nodes are n1 to n2");
    }
}
