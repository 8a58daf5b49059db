//! Blocks that change under a running controller: nodes moved by hand, files changed, files broken. That block
//! scheduling still holds is shown by where jobs go, not by what `scontrol` prints.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case, Setup};
use crate::plugin_file::controller_log;
use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use tests::Cluster;
use tests::cluster::Target;
use tests::limits::SOON;

/// Two racks of four trays, without prologs.
const SMALL: Setup = Setup { profile: "small-2x4", stock: false, imex: false };

const TOPOLOGY: &str = "/etc/slurm/topology.yaml";

pub(crate) const CASES: &[Case] = &[
    Case { name: "live::a_moved_node_takes_jobs_in_its_new_block", body: Body::OnBoth(SMALL, moved) },
    Case { name: "live::the_same_move_again_changes_nothing", body: Body::OnBoth(SMALL, moved_twice) },
    Case { name: "live::an_unknown_block_is_refused", body: Body::OnBoth(SMALL, unknown_block) },
    Case { name: "live::a_changed_file_is_in_force_at_once", body: Body::OnBoth(SMALL, changed_file) },
    Case { name: "live::a_broken_file_leaves_all_as_it_was", body: Body::OnBoth(SMALL, broken_file) },
    Case { name: "live::our_log_names_every_fault_of_a_file", body: Body::On(SMALL, every_fault) },
    Case {
        name: "live::a_start_with_a_broken_file_is_survived",
        body: Body::On(SMALL, start_with_broken_file),
    },
];

/// Puts a node into a block by hand, without touching the file.
fn update(cluster: &Cluster, node: &str, block: &str) -> anyhow::Result<String> {
    cluster.ctl(&["scontrol", "update", &format!("nodename={node}"), &format!("topology=nvlink:{block}")])
}

/// Runs `body`, then puts the blocks back by reading the file again.
fn and_back(cluster: &Cluster, body: impl FnOnce(&str, &str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let blocks = cluster.blocks()?;
    let [first, second] = blocks.as_slice() else { anyhow::bail!("not two blocks: {blocks:?}") };
    let done = body(&first.name, &second.name);
    cluster.ctl(&["scancel", "--user=alice"])?;
    cluster.reload_topology(&cluster.nodes())?;
    cluster.wait_idle(&cluster.nodes())?;
    done
}

/// Where an exclusive job of so many nodes goes.
fn nodes_of(cluster: &Cluster, nodes: u32) -> anyhow::Result<Vec<String>> {
    let options = ["--output=/dev/null".to_owned(), "--exclusive".to_owned(), format!("--nodes={nodes}")];
    let job = cluster.wait_running(cluster.submit(&options, "sleep 1000")?, SOON)?;
    Ok(job.nodes.iter().map(ToString::to_string).collect())
}

/// Jobs of 5 and 3 trays fill the blocks of 5 and 3 that the move of r01n04 to rack 2 makes.
fn five_and_three(cluster: &Cluster) -> anyhow::Result<()> {
    let five = nodes_of(cluster, 5)?;
    ensure!(five == ["r01n04", "r02n01", "r02n02", "r02n03", "r02n04"], "{five:?}");
    let three = nodes_of(cluster, 3)?;
    ensure!(three == ["r01n01", "r01n02", "r01n03"], "{three:?}");
    Ok(())
}

fn moved(cluster: &Cluster) -> anyhow::Result<()> {
    and_back(cluster, |_, second| {
        update(cluster, "r01n04", second)?;
        let blocks = cluster.blocks()?;
        ensure!(blocks[1].nodes.len() == 5, "{blocks:?}");
        // The base size is 4: for stock five nodes are two blocks' worth, so only the three tell.
        if cluster.about().plugin == "stock" {
            let three = nodes_of(cluster, 3)?;
            ensure!(three == ["r01n01", "r01n02", "r01n03"], "{three:?}");
            return Ok(());
        }
        five_and_three(cluster)
    })
}

fn moved_twice(cluster: &Cluster) -> anyhow::Result<()> {
    and_back(cluster, |first, second| {
        for _ in 0..3 {
            update(cluster, "r01n04", second)?;
        }
        for _ in 0..3 {
            update(cluster, "r01n04", first)?;
        }
        // Every node named again where it is: nothing may be forgotten.
        for node in cluster.nodes() {
            update(cluster, &node, if node.starts_with("r01") { first } else { second })?;
        }
        for expected in ["r01", "r02"] {
            // One block is taken by each job of four, none is mixed.
            let four = nodes_of(cluster, 4)?;
            let rack = &four.first().context("no nodes")?[..3];
            ensure!(four.iter().all(|node| node.starts_with(rack)), "{four:?} ({expected})");
        }
        Ok(())
    })
}

fn unknown_block(cluster: &Cluster) -> anyhow::Result<()> {
    and_back(cluster, |_, _| {
        let before = cluster.blocks()?;
        let refused = update(cluster, "r01n04", "nowhere").err().context("an unknown block was accepted")?;
        ensure!(format!("{refused:#}").contains("topology"), "{refused:#}");
        ensure!(cluster.blocks()? == before);
        let four = nodes_of(cluster, 4)?;
        ensure!(four.iter().all(|node| node[..3] == four[0][..3]), "{four:?}");
        Ok(())
    })
}

/// Writes a file for the controller, runs `body`, and puts the old one back, in the file and in force.
pub(crate) fn with_file(
    cluster: &Cluster,
    change: impl FnOnce(&str) -> String,
    body: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let whole = cluster.ctl(&["cat", TOPOLOGY])?;
    cluster.write_file(&Target::controller(), TOPOLOGY, &change(&whole))?;
    let done = body();
    cluster.ctl(&["scancel", "--user=alice"])?;
    cluster.write_file(&Target::controller(), TOPOLOGY, &whole)?;
    cluster.reload_topology(&cluster.nodes())?;
    cluster.wait_idle(&cluster.nodes())?;
    done
}

fn changed_file(cluster: &Cluster) -> anyhow::Result<()> {
    let running = nodes_of(cluster, 1)?;
    let move_one =
        |text: &str| text.replace("r01n[01-04]", "r01n[01-03]").replace("r02n[01-04]", "r01n04,r02n[01-04]");
    with_file(cluster, move_one, || {
        cluster.reload_topology(&cluster.nodes())?;
        let blocks = cluster.blocks()?;
        ensure!(blocks[0].nodes.len() == 3 && blocks[1].nodes.len() == 5, "{blocks:?}");
        let squeue = cluster.ctl(&["squeue", "--noheader", "--format=%T %N"])?;
        ensure!(squeue.trim() == format!("RUNNING {}", running[0]), "the running job was touched: {squeue}");
        let four = nodes_of(cluster, 4)?;
        ensure!(!four.iter().any(|node| ["r01n01", "r01n02", "r01n03"].contains(&node.as_str())), "{four:?}");
        Ok(())
    })
}

/// A file with several faults that Slurm's parser lets through to the plugin.
fn faulty(whole: &str) -> String {
    let again = "      - block: twice\n        nodes: \"r01n[01-02]\"\n";
    format!("{}{again}{again}", whole.replace("block_sizes: [4]", "block_sizes: [4, 6]"))
}

fn broken_file(cluster: &Cluster) -> anyhow::Result<()> {
    let before = cluster.blocks()?;
    with_file(cluster, faulty, || {
        ensure!(cluster.ctl(&["scontrol", "reconfigure"]).is_err(), "the broken file was accepted");
        ensure!(cluster.blocks()? == before, "the blocks have changed");
        let squeue = cluster.ctl(&["squeue", "--noheader"])?;
        ensure!(squeue.is_empty(), "{squeue}");
        Ok(())
    })
}

fn every_fault(cluster: &Cluster) -> anyhow::Result<()> {
    with_file(cluster, faulty, || {
        ensure!(cluster.ctl(&["scontrol", "reconfigure"]).is_err(), "the broken file was accepted");
        let log = std::fs::read_to_string(cluster.logs("ctl")?.join("slurm/slurmctld.log"))?;
        for fault in [
            "topology nvlink: blocks 3 and 4 have the same name twice",
            "topology nvlink: block_sizes [4, 6]: ",
            "both have r01n[01-02]",
            "faults, listed above, on which Slurm's own topology/block ends this slurmctld; the one that runs goes on",
        ] {
            ensure!(log.contains(fault), "slurmctld's log does not say {fault:?}:\n{log}");
        }
        Ok(())
    })
}

/// slurmctld starts with a file on which Slurm's own plugin would end it: it lives, and jobs go where they may.
fn start_with_broken_file(cluster: &Cluster) -> anyhow::Result<()> {
    let blocks = cluster.blocks()?;
    let [first, second] = blocks.as_slice() else { anyhow::bail!("not two blocks: {blocks:?}") };
    let broken = |text: &str| {
        text.replace(&second.name, &first.name).replace("block_sizes: [4]", "block_sizes: [4, 6]")
    };
    with_file(cluster, broken, || {
        cluster.stop_daemon("ctl", Signal::SIGTERM)?;
        cluster.start_daemon("ctl")?;
        let free: Vec<String> = cluster.nodes().into_iter().filter(|node| node.starts_with("r01")).collect();
        cluster.wait_idle(&free)?;
        let log = controller_log(cluster)?;
        let left = "topology nvlink: 2 faults, listed above; 1 of 2 blocks are in force until the file is mended, \
                    block_sizes as if not set";
        ensure!(log.contains(left), "{log}");
        let four = nodes_of(cluster, 4)?;
        ensure!(four.iter().all(|node| node.starts_with("r01")), "{four:?}");
        Ok(())
    })
}
