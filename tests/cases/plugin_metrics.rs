//! The plugin's metrics: what they say of jobs, and that nothing depends on them.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case};
use crate::placement::{PAIRS, clear, outcome, submit};
use crate::plugin_file::controller_log;
use crate::policy::with_param;
use anyhow::{Context as _, ensure};
use fabric::JobId;
use std::collections::BTreeMap;
use tests::limits::SOON;
use tests::stage::Artifact;
use tests::{Cluster, Plugin, wait_for};

pub(crate) const CASES: &[Case] = &[
    Case { name: "plugin_metrics::jobs_are_counted", body: Body::On(PAIRS, counted) },
    Case { name: "plugin_metrics::a_folder_on_a_disk_is_refused_once", body: Body::On(PAIRS, refused) },
    Case { name: "plugin_metrics::a_plugin_that_failed_says_so", body: Body::Own(PAIRS, failed) },
];

const FOLDER: &str = "/run/nvlink-metrics";
const PLANTED: &str = "/run/slurm-nvlink/planted-faults";

/// The samples in the file, once there is one.
fn samples(cluster: &Cluster) -> anyhow::Result<BTreeMap<String, u64>> {
    let file = format!("{FOLDER}/slurm_nvlink_plugin.prom");
    // There may be none yet.
    let text = cluster.ctl(&["sh", "-c", &format!("[ ! -e {file} ] || cat {file}")])?;
    let sample = |line: &str| -> anyhow::Result<(String, u64)> {
        let (name, value) = line.rsplit_once(' ').context("no value")?;
        let name = name.strip_prefix("slurm_nvlink_plugin_").context("another name")?;
        Ok((name.to_owned(), value.parse()?))
    };
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| sample(line).context(line.to_owned()))
        .collect()
}

/// Waits until these samples have these values.
fn wait_for_samples(cluster: &Cluster, wanted: &[(&str, u64)]) -> anyhow::Result<BTreeMap<String, u64>> {
    wait_for(&format!("the metrics say {wanted:?}"), SOON, || {
        let all = samples(cluster)?;
        let is_so = wanted.iter().all(|(name, value)| all.get(*name) == Some(value));
        Ok(if is_so { Ok(all) } else { Err(format!("{all:?}")) })
    })
}

/// Submits a job that runs.
fn runs(cluster: &Cluster, options: &[&str]) -> anyhow::Result<JobId> {
    let job = submit(cluster, options)?;
    cluster.wait_running(job, SOON)?;
    Ok(job)
}

/// Four racks of two trays.
fn counted(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.ctl(&["mkdir", "--parents", FOLDER])?;
    with_param(cluster, &format!("nvlink_metrics={FOLDER}"), || {
        runs(cluster, &["-N2"])?;
        runs(cluster, &["-N3"])?;
        runs(cluster, &["-N1", "-wr04n01"])?;
        // Two trays of eight are free, each in another rack. That the second one waits too is in the metrics; Slurm shows of it
        // only that it stands behind the first.
        ensure!(outcome(cluster, submit(cluster, &["-N2"])?)?.is_none());
        submit(cluster, &["-N2"])?;
        let all = wait_for_samples(
            cluster,
            &[
                ("steering{topology=\"nvlink\"}", 1),
                ("jobs_placed_total{partitions=\"one\"}", 2),
                ("jobs_placed_total{partitions=\"several\"}", 1),
                ("jobs_refused_total{reason=\"no-partition-free\"}", 2),
                ("evaluations_total{outcome=\"delegated\"}", 0),
            ],
        )?;
        let at_least = |name: &str, least: u64| all.get(name).is_some_and(|&value| value >= least);
        ensure!(at_least("evaluations_total{outcome=\"placed\"}", 3), "{all:?}");
        ensure!(at_least("evaluations_total{outcome=\"refused\"}", 2), "{all:?}");
        let build =
            |name: &&String| name.starts_with("build_info{version=") && name.contains("layout=\"known\"");
        ensure!(all.keys().filter(build).count() == 1, "{all:?}");
        let mode = cluster.ctl(&["sh", "-c", &format!("stat -c '%a %n' {FOLDER}/* {FOLDER}/.s* || true")])?;
        ensure!(mode == format!("644 {FOLDER}/slurm_nvlink_plugin.prom\n"), "{mode}");
        Ok(())
    })?;
    cluster.ctl(&["rm", "--recursive", FOLDER]).map(drop)
}

/// How often slurmctld's log has these words from a place on.
fn said(cluster: &Cluster, from: usize, words: &str) -> anyhow::Result<usize> {
    Ok(controller_log(cluster)?.get(from..).context("the log has become shorter")?.matches(words).count())
}

fn refused(cluster: &Cluster) -> anyhow::Result<()> {
    let from = controller_log(cluster)?.len();
    with_param(cluster, "nvlink_metrics=/etc/slurm", || {
        ensure!(outcome(cluster, submit(cluster, &["-N3"])?)?.is_some());
        let words = "TopologyParam=nvlink_metrics=/etc/slurm: the folder is not below /run or /dev/shm";
        ensure!(said(cluster, from, words)? == 1, "{words:?} is not said once");
        ensure!(said(cluster, from, "no such setting")? == 0, "it is called unknown");
        ensure!(said(cluster, from, "spans 2 NVLink partitions")? == 1, "jobs are not steered");
        cluster.ctl(&["sh", "-c", "! ls -a /etc/slurm | grep nvlink_plugin"]).map(drop)
    })
}

/// The plugin with a fault in the choice of nodes, and a folder that is not there at first.
fn failed(setup: &crate::harness::Setup) -> anyhow::Result<()> {
    let builder = setup.builder("metrics").plugin(Plugin::File(Artifact::Planted.need()?));
    let cluster = builder.set("TopologyParam", &format!("nvlink_metrics={FOLDER}")).start()?;
    ensure!(said(&cluster, 0, "the folder cannot be opened: No such file")? == 1);
    runs(&cluster, &["-N3"])?;
    clear(&cluster, "")?;
    cluster.ctl(&["mkdir", "--parents", FOLDER])?;
    let plant = format!("mkdir --parents /run/slurm-nvlink && echo topology_p_eval_nodes >{PLANTED}");
    cluster.ctl(&["sh", "-c", &plant])?;
    cluster.ctl(&["scontrol", "reconfigure"])?;
    wait_for("the metrics say that jobs are left to Slurm", SOON, || {
        cluster.cancel(runs(&cluster, &["-N2"])?)?;
        let all = samples(&cluster)?;
        let left = all.get("evaluations_total{outcome=\"delegated\"}").is_some_and(|&count| count > 0);
        let is_so = left && all.get("steering{topology=\"nvlink\"}") == Some(&0);
        Ok(if is_so { Ok(()) } else { Err(format!("{all:?}")) })
    })?;
    // Without its folder the file is old, which is said once, and jobs run on.
    cluster.ctl(&["rm", "--recursive", FOLDER])?;
    let words = "slurm_nvlink_plugin.prom cannot be written: No such file or directory";
    wait_for("the log says that the folder is gone", SOON, || {
        cluster.cancel(runs(&cluster, &["-N2"])?)?;
        Ok(if said(&cluster, 0, words)? > 0 { Ok(()) } else { Err("nothing yet".to_owned()) })
    })?;
    ensure!(said(&cluster, 0, words)? == 1);
    Ok(())
}
