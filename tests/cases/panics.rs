//! A panic in each entry point of the plugin: Slurm's own plugin answers in its place, jobs run, and the log says it once.
//! The plugin is the one with planted faults, which a file in each node switches on.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case, Setup};
use crate::plugin_file::controller_log;
use anyhow::{Context as _, ensure};
use std::collections::BTreeSet;
use std::fs;
use tests::cluster::Target;
use tests::limits::SOON;
use tests::stage::Artifact;
use tests::{Cluster, Plugin};

const OURS: Setup = Setup { profile: "small-2x4", stock: false, imex: false };

const FILE: &str = "/run/slurm-nvlink/planted-faults";

pub(crate) const CASES: &[Case] = &[
    Case { name: "panics::in_each_entry_point", body: Body::Own(OURS, each) },
    Case { name: "panics::are_not_planted_in_the_product", body: Body::Own(OURS, not_in_the_product) },
];

/// Entry points that fail when all but `init` fail, and in which program. The two that are missing are called by nothing
/// that this cluster runs: `destroy_config` and `jobinfo_get`.
const WHEN_ALL_FAIL: &[(&str, &[&str])] = &[
    (
        "slurmctld",
        &[
            "add_rm_node",
            "allow_one_node",
            "build_config",
            "eval_node",
            "eval_nodes",
            "generate_node_ranking",
            "get",
            "get_bitmap",
            "get_fragmentation",
            "get_rank",
            "get_topology_str",
            "jobinfo_free",
            "jobinfo_pack",
            "jobinfo_unpack",
            "split_hostlist",
            "topoinfo_free",
            "topoinfo_pack",
            "whole_topo",
        ],
    ),
    ("scontrol", &["topoinfo_print", "topoinfo_unpack"]),
    ("slurmd", &["build_config", "get_node_addr"]),
];

/// Those in which something of ours is at stake, each failing alone.
const ALONE: &[&str] =
    &["init", "topology_p_build_config", "topology_p_eval_nodes", "topology_p_add_rm_node"];

fn each(setup: &Setup) -> anyhow::Result<()> {
    let builder = setup.builder("panics").plugin(Plugin::File(Artifact::Planted.need()?));
    let scheduler = "batch_sched_delay=0,sched_interval=1,bf_interval=1,bf_topopt_enable";
    let builder = builder.set("TopologyParam", "BlockAsNodeRank").set("SchedulerParameters", scheduler);
    let cluster = builder.start()?;
    // A job that slurmctld reads back when it starts anew.
    let long = ["--output=/dev/null", "--nodelist=r01n01", "--network=unique-channel-per-segment"];
    let job = cluster.submit(&long, "sleep 1000")?;
    cluster.wait_running(job, SOON)?;
    let failed = round(&cluster, "all", &["r01n01"])?;
    let expected = WHEN_ALL_FAIL.iter().flat_map(|(program, entries)| {
        entries.iter().map(move |entry| format!("{program} topology_p_{entry}"))
    });
    let expected: BTreeSet<String> = expected.collect();
    let missing: Vec<_> = expected.difference(&failed).collect();
    ensure!(missing.is_empty(), "no line of {missing:?}, but of {failed:?}");
    cluster.cancel(job)?;
    for faults in ALONE {
        let failed = round(&cluster, faults, &[]).with_context(|| (*faults).to_owned())?;
        let by_slurmctld: Vec<_> = failed.iter().filter_map(|line| line.strip_prefix("slurmctld ")).collect();
        ensure!(by_slurmctld == [*faults], "{faults} planted, these failed: {by_slurmctld:?}");
    }
    Ok(())
}

/// Plants faults, starts slurmctld anew, has it do all that calls the plugin, and gives the entry points that failed.
fn round(cluster: &Cluster, faults: &str, busy: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    let plant = format!("mkdir --parents /run/slurm-nvlink && echo {faults} > {FILE}");
    for node in cluster.nodes().iter().map(String::as_str).chain(["ctl"]) {
        cluster.succeed(&Target::node(node), &["sh", "-c", &plant])?;
    }
    cluster.ctl(&["scontrol", "reconfigure"])?;
    let free = cluster.nodes().into_iter().filter(|node| !busy.contains(&node.as_str()));
    cluster.wait_idle(&free.collect::<Vec<_>>())?;
    let blocks = cluster.blocks()?;
    let [first, second] = blocks.as_slice() else { anyhow::bail!("not two blocks: {blocks:?}") };
    // A fault alone is about the choice of nodes: half of the jobs do.
    let kinds = if faults == "all" { 6 } else { 3 };
    jobs_run(cluster, &second.name, kinds)?;
    for block in [second, first] {
        let place = format!("topology=nvlink:{}", block.name);
        cluster.ctl(&["scontrol", "update", "nodename=r01n04", &place])?;
    }
    ensure!(cluster.blocks()? == blocks, "the blocks are not as they were");
    let shown = cluster.capture(&Target::controller(), &["scontrol", "show", "topology"])?;
    ensure!(shown.status.success() && shown.stdout.contains("Nodes=r01n[01-04]"), "{shown:?}");

    let mut failed = BTreeSet::new();
    let mut collect = |who: &str, log: &str| -> anyhow::Result<()> {
        for line in log.lines() {
            let Some((head, _)) = line.split_once(" failed inside (panicked at ") else { continue };
            let entry = head.rsplit(' ').next().unwrap_or_default();
            ensure!(failed.insert(format!("{who} {entry}")) || who != "slurmctld", "said twice: {line}");
        }
        Ok(())
    };
    // What the process before has said is not of this round.
    let log = controller_log(cluster)?;
    collect("slurmctld", log.rsplit_once(" started on cluster ").context("no start in the log")?.1)?;
    collect("scontrol", &shown.stderr)?;
    for node in cluster.nodes() {
        let log = cluster.logs(&node)?.join("slurm/slurmd.log");
        collect("slurmd", &fs::read_to_string(log).unwrap_or_default())?;
    }
    Ok(failed)
}

/// Jobs of all kinds that have to do with blocks run, and those of four trays in one rack.
fn jobs_run(cluster: &Cluster, block: &str, kinds: usize) -> anyhow::Result<()> {
    let in_block = format!("block{{{block}}}");
    let options: [&[&str]; 6] = [
        &["--nodes=4", "--exclusive", "--segment=2", "--network=unique-channel-per-segment"],
        &["--nodes=1", "--exclusive"],
        &["--nodes=3", "--exclusive"],
        &["--nodes=6", "--exclusive"],
        &["--nodes=2", "--exclusive=topo"],
        &["--nodes=4", "--exclusive", "--nodelist", &in_block],
    ];
    let submit = |options: &&[&str]| {
        let options: Vec<&str> = ["--output=/dev/null"].iter().chain(*options).copied().collect();
        cluster.submit(&options, "srun true")
    };
    let jobs = options.iter().take(kinds).map(submit).collect::<anyhow::Result<Vec<_>>>()?;
    for (job, options) in jobs.into_iter().zip(options) {
        let job = cluster.wait_ended(job, SOON)?;
        ensure!(job.state == "COMPLETED", "{options:?}: {job:?}");
        let racks: BTreeSet<String> = job.nodes.iter().map(|node| node.to_string()[..3].to_owned()).collect();
        let may_span = job.nodes.len() == 6 || options.contains(&"--segment=2");
        ensure!(racks.len() == 1 || may_span, "{options:?} over two racks: {job:?}");
    }
    Ok(())
}

fn not_in_the_product(_setup: &Setup) -> anyhow::Result<()> {
    let has = |artifact: Artifact| -> anyhow::Result<bool> {
        let bytes = fs::read(artifact.need()?)?;
        Ok(bytes.windows(FILE.len()).any(|window| window == FILE.as_bytes()))
    };
    ensure!(has(Artifact::Planted)?, "the plugin for tests has no planted faults: this check checks nothing");
    ensure!(!has(Artifact::Plugin)?, "the staged plugin has planted faults");
    Ok(())
}
