//! Jobs run where they should, on Slurm's own plugin and on ours.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case, Setup};
use anyhow::ensure;
use std::collections::BTreeSet;
use tests::Cluster;
use tests::limits::SOON;

pub(crate) const CASES: &[Case] = &[
    Case { name: "jobs::of_1_2_and_4_trays_stay_in_a_block", body: Body::OnBoth(Setup::PLAIN_SMALL, sizes) },
    Case { name: "jobs::on_all_trays", body: Body::OnBoth(Setup::PLAIN_SMALL, all_trays) },
    Case { name: "jobs::see_their_gpus", body: Body::OnBoth(Setup::PLAIN_SMALL, gpus) },
    Case {
        name: "jobs::survive_a_restart_of_slurmctld",
        body: Body::OnBoth(Setup::PLAIN_SMALL, controller_restart),
    },
];

fn sizes(cluster: &Cluster) -> anyhow::Result<()> {
    let blocks = cluster.blocks()?;
    for size in [1, 2, 4] {
        let output = format!("/home/alice/job-{size}");
        let job = cluster.submit(
            &[&format!("--nodes={size}"), &format!("--output={output}"), "--exclusive"],
            "srun hostname",
        )?;
        let job = cluster.wait_ended(job, SOON)?;
        ensure!(job.state == "COMPLETED" && job.exit_code == 0, "{job:?}");
        ensure!(job.nodes.len() == size, "{job:?}");
        let used: BTreeSet<&str> = job.nodes.iter().map(|node| node.as_str()).collect();
        let in_block = |nodes: &[String]| used.iter().all(|node| nodes.iter().any(|known| known == node));
        ensure!(
            blocks.iter().any(|block| in_block(&block.nodes)),
            "{used:?} is in no single block of {blocks:?}"
        );
        let printed = cluster.ctl(&["cat", &output])?;
        ensure!(printed.lines().collect::<BTreeSet<_>>() == used, "printed {printed:?}, nodes {used:?}");
    }
    Ok(())
}

fn all_trays(cluster: &Cluster) -> anyhow::Result<()> {
    let nodes: BTreeSet<String> = cluster.nodes().into_iter().collect();
    let printed = cluster.ctl(&["srun", &format!("--nodes={}", nodes.len()), "hostname"])?;
    ensure!(printed.lines().map(str::to_owned).collect::<BTreeSet<_>>() == nodes, "{printed}");
    cluster.wait_idle(&cluster.nodes())
}

fn gpus(cluster: &Cluster) -> anyhow::Result<()> {
    let printed = cluster.ctl(&["srun", "--nodes=1", "--gres=gpu:4", "printenv", "CUDA_VISIBLE_DEVICES"])?;
    ensure!(printed.trim() == "0,1,2,3", "{printed}");
    cluster.wait_idle(&cluster.nodes())
}

fn controller_restart(cluster: &Cluster) -> anyhow::Result<()> {
    let job = cluster.submit(&["--nodes=2"], "srun sleep 1000")?;
    let before = cluster.wait_running(job, SOON)?;
    cluster.stop_daemon("ctl", nix::sys::signal::Signal::SIGTERM)?;
    cluster.start_daemon("ctl")?;
    let after = cluster.wait_running(job, SOON)?;
    ensure!(after.nodes == before.nodes && after.restarts == 0, "{after:?}");
    cluster.cancel(job)?;
    cluster.wait_idle(&cluster.nodes())
}
