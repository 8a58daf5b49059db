//! A cluster comes up as its profile says, beside others, and explains itself when it does not.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case, Setup, cluster_name};
use anyhow::{Context as _, bail, ensure};
use std::collections::BTreeSet;
use tests::{Cluster, Profile, paths};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "boot::blocks_are_the_nvlink_partitions",
        body: Body::OnBoth(Setup::PLAIN_SMALL, blocks_are_the_partitions),
    },
    Case {
        name: "boot::the_wanted_plugin_is_loaded",
        body: Body::OnBoth(Setup::PLAIN_SMALL, plugin_is_loaded),
    },
    Case {
        name: "boot::a_node_has_the_router_for_its_only_neighbour",
        body: Body::On(Setup::PLAIN_SMALL, one_neighbour),
    },
    Case { name: "boot::every_profile", body: Body::Own(Setup::PLAIN_SMALL, every_profile) },
    Case { name: "boot::two_clusters_side_by_side", body: Body::Own(Setup::PLAIN_SMALL, two_clusters) },
    Case {
        name: "boot::a_failure_shows_the_daemons_words",
        body: Body::Own(Setup::PLAIN_SMALL, failure_is_explained),
    },
    Case {
        name: "boot::a_tray_with_a_fault_from_the_beginning",
        body: Body::Own(Setup::PLAIN_SMALL, fault_at_start),
    },
];

/// The blocks as sets of nodes, in Slurm's order.
fn blocks(cluster: &Cluster) -> anyhow::Result<Vec<Vec<String>>> {
    Ok(cluster.blocks()?.into_iter().map(|block| block.nodes).collect())
}

fn compare(cluster: &Cluster, profile: &str) -> anyhow::Result<()> {
    let wanted = Profile::load(profile)?.nvlink_partitions();
    let found = blocks(cluster)?;
    ensure!(found == wanted, "blocks {found:?}, NVLink partitions {wanted:?}");
    let states = cluster.node_states()?;
    let not_idle: Vec<_> = states.iter().filter(|(_, state)| state != "idle").collect();
    ensure!(not_idle.is_empty() && states.len() == cluster.nodes().len(), "{states:?}");
    Ok(())
}

fn blocks_are_the_partitions(cluster: &Cluster) -> anyhow::Result<()> {
    compare(cluster, Setup::PLAIN_SMALL.profile)
}

fn plugin_is_loaded(cluster: &Cluster) -> anyhow::Result<()> {
    let ours = format!("{}/topology_block.so", paths::PLUGIN_DIR);
    let wanted = cluster.about().plugin == "ours";
    for node in ["ctl", "r01n01"] {
        let loaded = cluster.topology_plugins(node)?;
        ensure!(!loaded.is_empty() && loaded.contains(&ours) == wanted, "{node} has loaded {loaded:?}");
    }
    Ok(())
}

/// The kernel's table of neighbours is one for all namespaces: see `network.rs`.
fn one_neighbour(cluster: &Cluster) -> anyhow::Result<()> {
    let all = cluster.nodes().len().to_string();
    cluster.ctl(&["srun", "-N", &all, "true"])?;
    for node in ["ctl", "r01n01", "r02n04"] {
        let neighbours = cluster.tray(node, &["ip", "-4", "neighbour"])?;
        let known: Vec<&str> = neighbours.lines().filter_map(|line| line.split(' ').next()).collect();
        ensure!(known == ["10.75.255.254"], "{node} knows {known:?}");
    }
    Ok(())
}

fn every_profile(setup: &Setup) -> anyhow::Result<()> {
    for profile in ["gb200-2x18", "split-racks", "mixed", "nvl8"] {
        let cluster = Setup { profile, ..*setup }.start("profile").context(profile)?;
        compare(&cluster, profile).context(profile)?;
    }
    Ok(())
}

fn two_clusters(setup: &Setup) -> anyhow::Result<()> {
    let all = |cluster: &Cluster| -> anyhow::Result<BTreeSet<String>> {
        let nodes = cluster.nodes();
        let answer = cluster.ctl(&["srun", &format!("--nodes={}", nodes.len()), "hostname"])?;
        Ok(answer.lines().map(str::to_owned).collect())
    };
    let (first, second) = (setup.start("one")?, setup.start("two")?);
    let names: BTreeSet<String> = first.nodes().into_iter().collect();
    // The same names and addresses; what is written in one is not seen in the other.
    ensure!(all(&first)? == names && all(&second)? == names);
    first.tray("r01n01", &["touch", "/only-in-one"])?;
    ensure!(second.tray("r01n01", &["test", "-e", "/only-in-one"]).is_err());
    let running = Cluster::running()?;
    ensure!(running.contains(&cluster_name("one")) && running.contains(&cluster_name("two")), "{running:?}");
    let twice =
        setup.start("one").map(drop).err().context("a second cluster of the same name was started")?;
    ensure!(twice.to_string().contains("is running"), "{twice:#}");
    drop(first);
    ensure!(all(&second)? == names, "the end of one cluster harmed the other");
    Ok(())
}

fn failure_is_explained(setup: &Setup) -> anyhow::Result<()> {
    let Err(error) = setup.builder("broken").set("SelectType", "select/none_such").start() else {
        bail!("slurmctld took a select plugin that does not exist");
    };
    let text = format!("{error:#}");
    ensure!(text.contains("slurmctld did not start") && text.contains("select/none_such"), "{text}");
    ensure!(!Cluster::running()?.contains(&cluster_name("broken")), "the broken cluster is still there");
    Ok(())
}

fn fault_at_start(setup: &Setup) -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(cluster_name("profile"));
    std::fs::create_dir_all(&dir)?;
    let file = dir.join("sick.toml");
    let text = std::fs::read_to_string(tests::paths::workspace().join("tests/profiles/small-2x4.toml"))?;
    let faults = [("r01n02", "fabric-not-started"), ("r02n04", "slurmd-kill")]
        .map(|(node, kind)| format!("\n[[faults]]\nnode = \"{node}\"\nkind = \"{kind}\"\n"));
    std::fs::write(&file, text + &faults.concat())?;
    let started = setup.builder("sick").profile(&file.to_string_lossy()).start();
    std::fs::remove_dir_all(&dir)?;
    let cluster = started?;
    let (sick, dead) = ("r01n02".to_owned(), "r02n04".to_owned());
    let found = blocks(&cluster)?.concat();
    ensure!(!found.contains(&sick) && found.contains(&"r01n01".to_owned()), "blocks {found:?}");
    let states = cluster.node_states()?;
    ensure!(states.iter().filter(|(_, state)| state == "idle").all(|(node, _)| *node != dead), "{states:?}");
    Ok(())
}
