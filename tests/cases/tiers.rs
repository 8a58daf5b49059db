//! What topology-gen makes beyond one topology, on real Slurm: `watch`, service tiers, moves without a reload, Features.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case};
use crate::plugin_file::controller_log;
use crate::topology::SMALL;
use crate::topology::steps::{
    FILE, NVML, R01, R02, RACK_1, RACK_2, READINGS, SOON, blocks, collect, hold, nodes_of, register, start,
    still_runs, topology_gen, waits, with_return,
};
use anyhow::{Context as _, ensure};
use tests::cluster::Target;
use tests::{Cluster, wait_for};

pub(crate) const CASES: &[Case] = &[
    Case { name: "tiers::watch_follows_a_tray_and_waits_for_a_lost_half", body: Body::On(SMALL, watch) },
    Case { name: "tiers::tiers_over_the_same_blocks", body: Body::OnBoth(SMALL, tiers) },
    Case { name: "tiers::trays_move_without_a_reload", body: Body::OnBoth(SMALL, without_reload) },
    Case { name: "tiers::features_and_a_site_map", body: Body::On(SMALL, features_and_map) },
];

const WORDS: &str = "/run/watch.out";
const METRICS: &str = "/run/watch/slurm_nvlink_topology.prom";

/// Waits until the service has said this.
fn said(cluster: &Cluster, words: &str) -> anyhow::Result<()> {
    wait_for(&format!("watch says {words:?}"), SOON, || {
        let all = cluster.ctl(&["cat", WORDS])?;
        Ok(if all.contains(words) { Ok(()) } else { Err(all) })
    })
}

fn wait_for_blocks(cluster: &Cluster, wanted: &[String]) -> anyhow::Result<()> {
    wait_for(&format!("the blocks are {wanted:?}"), SOON, || {
        let found = blocks(cluster)?;
        Ok(if found == wanted { Ok(()) } else { Err(format!("{found:?}")) })
    })
}

/// A number of the metrics.
fn metric(cluster: &Cluster, name: &str) -> anyhow::Result<u64> {
    let text = cluster.ctl(&["cat", METRICS])?;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("slurm_nvlink_topology_{name} ")));
    Ok(line.ok_or_else(|| anyhow::anyhow!("no {name} in\n{text}"))?.parse()?)
}

/// Waits for so many more looks.
fn looks(cluster: &Cluster, more: u64) -> anyhow::Result<()> {
    let seen = || metric(cluster, "looks_total{outcome=\"seen\"}");
    let wanted = seen()? + more;
    wait_for("watch looks on", SOON, || {
        let now = seen()?;
        Ok(if now >= wanted { Ok(()) } else { Err(format!("{now} of {wanted}")) })
    })
}

fn watch(cluster: &Cluster) -> anyhow::Result<()> {
    with_return(cluster, || {
        let beside = hold(cluster, &["-N1", "-wr01n01"])?;
        collect(cluster, &[])?;
        let command = format!(
            "mkdir -p /run/watch; setsid topology-gen watch --readings {READINGS} --interval 1 --stable 2 --settle 0 --lost 2 --metrics /run/watch \
             >{WORDS} 2>&1 </dev/null & echo $!"
        );
        let pid = cluster.ctl(&["sh", "-c", &command])?;
        let ended = (|| {
            said(cluster, "the topology in force is what the trays say")?;
            // A tray hangs on the other rack's switches.
            let settings = cluster.tray("r02n01", &["cat", NVML])?;
            let own = cluster.tray("r01n04", &["cat", NVML])?;
            cluster.write_file(&Target::node("r01n04"), NVML, &settings)?;
            collect(cluster, &[])?;
            let moved = [format!("{R01}=01n01,01n02,01n03"), format!("{R02}=01n04,02n01,02n02,02n03,02n04")];
            wait_for_blocks(cluster, &moved)?;
            said(cluster, "done: the new topology is in force")?;
            // Half of a rack is gone, and the tray goes back meanwhile.
            cluster.write_file(&Target::node("r01n04"), NVML, &own)?;
            collect(cluster, &["r02n03", "r02n04"])?;
            said(cluster, "2 trays lost at once: r02n[03-04]")?;
            looks(cluster, 4)?;
            ensure!(blocks(cluster)? == moved, "watch acted on a great loss: {:?}", blocks(cluster)?);
            ensure!(metric(cluster, "needs_human")? == 1 && metric(cluster, "change_pending")? == 1);
            collect(cluster, &[])?;
            wait_for_blocks(cluster, &[RACK_1.to_owned(), RACK_2.to_owned()])?;
            ensure!(metric(cluster, "changes_total{outcome=\"applied\"}")? >= 1);
            still_runs(cluster, beside)
        })();
        cluster.ctl(&["kill", "-TERM", pid.trim()])?;
        let gone = said(cluster, "told to end");
        let words = cluster.ctl(&["cat", WORDS])?;
        ended.and(gone).with_context(|| format!("watch said:\n{words}"))
    })
}

const CONF: &str = "/etc/slurm/slurm.conf";

fn tiers(cluster: &Cluster) -> anyhow::Result<()> {
    let conf = cluster.ctl(&["cat", CONF])?;
    let put = |text: &str| {
        cluster.write_file(&Target::controller(), CONF, text)?;
        cluster.reload_topology(&cluster.nodes())
    };
    with_return(cluster, || {
        let done = topology_gen(cluster, &["apply", "--tier", "spare=-1"])?;
        ensure!(done.status.success(), "{done:?}");
        let lines = topology_gen(cluster, &["tiers", "--blocks"])?;
        // The cluster's own Slurm partition has the name of its topology.
        let lines = lines.stdout.replace("PartitionName=nvlink ", "PartitionName=strict ");
        let ran = put(&format!("{conf}\n{lines}")).and_then(|()| {
            if cluster.about().plugin == "ours" {
                let log = controller_log(cluster)?;
                ensure!(log.contains("above the base size of 3 they span"), "slurmctld's log does not say so");
            }
            let whole = nodes_of(cluster, &["-N4", "-pspare"])?;
            ensure!(whole[0][..3] == whole[3][..3], "over both while one is whole: {whole:?}");
            cluster.ctl(&["scontrol", "update", "nodename=r01n01,r02n01", "state=drain", "reason=service"])?;
            waits(cluster, &["-N4", "-pstrict"])?;
            // Over the same blocks a job of one more than the base size may use both.
            ensure!(nodes_of(cluster, &["-N4", "-pspare"])?.len() == 4);
            ensure!(nodes_of(cluster, &["-N3", "-pspare"])?.len() == 3);
            let rack = format!("-p{R02}");
            ensure!(nodes_of(cluster, &["-N3", &rack])? == ["r02n02", "r02n03", "r02n04"]);
            let why = topology_gen(cluster, &["apply", "--dry-run"])?;
            let told = "in topology nvlink (base size 4) Slurm's own topology/block lets jobs of these sizes wait for them: 4";
            ensure!(why.stderr.contains(told) && why.stderr.contains("r01n01,r02n01"), "{why:?}");
            Ok(())
        });
        cluster.ctl(&["scontrol", "update", "nodename=r01n01,r02n01", "state=resume"])?;
        let back = put(&conf);
        ran.and(back)
    })
}

/// Slurm's update moves trays at once; a job that stood there goes on, and the next start takes the file.
fn without_reload(cluster: &Cluster) -> anyhow::Result<()> {
    // The trays of the test cluster get their files at a reload (configless), for which such moves are refused. Here that is
    // hidden, so that what Slurm makes of the updates can be seen.
    let hidden = "#!/bin/sh\ncase \"$*\" in 'show config') scontrol show config | sed s/enable_configless//;; *) exec scontrol \"$@\";; esac\n";
    with_return(cluster, || {
        let beside = hold(cluster, &["-N1", "-wr01n01"])?;
        let own = cluster.tray("r01n04", &["cat", NVML])?;
        let settings = cluster.tray("r02n01", &["cat", NVML])?;
        cluster.write_file(&Target::node("r01n04"), NVML, &settings)?;
        register(cluster, "r01n04")?;
        let refused = topology_gen(cluster, &["apply", "--without-reload"])?;
        ensure!(refused.status.code() == Some(1) && refused.stderr.contains("(configless)"), "{refused:?}");
        cluster.write_file(&Target::controller(), "/run/scontrol", hidden)?;
        cluster.ctl(&["chmod", "755", "/run/scontrol"])?;
        cluster.ctl(&["sh", "-c", "ln -sf $(command -v squeue) /run/squeue"])?;
        let args = ["apply", "--without-reload", "--base-size", "4", "--scontrol", "/run/scontrol"];
        let apply = || topology_gen(cluster, &args);
        let done = apply()?;
        ensure!(done.status.code() == Some(0), "{done:?}");
        let wanted = [format!("{R01}=01n01,01n02,01n03"), format!("{R02}=01n04,02n01,02n02,02n03,02n04")];
        ensure!(blocks(cluster)? == wanted, "{:?}", blocks(cluster)?);
        still_runs(cluster, beside)?;
        let nodes = nodes_of(cluster, &["-N4", "-wr01n04"])?;
        ensure!(
            !nodes.iter().any(|node| ["r01n01", "r01n02", "r01n03"].contains(&node.as_str())),
            "{nodes:?}"
        );
        ensure!(nodes_of(cluster, &["-N2", "-wr01n02"])? == ["r01n02", "r01n03"]);
        ensure!(apply()?.stderr.contains("nothing was reloaded"));
        // And a reload changes nothing more.
        cluster.reload_topology(&cluster.nodes())?;
        ensure!(blocks(cluster)? == wanted, "{:?}", blocks(cluster)?);
        cluster.write_file(&Target::node("r01n04"), NVML, &own)?;
        register(cluster, "r01n04")?;
        let back = apply()?;
        ensure!(back.status.code() == Some(0), "{back:?}");
        ensure!(blocks(cluster)? == [RACK_1, RACK_2], "{:?}", blocks(cluster)?);
        still_runs(cluster, beside)
    })
}

fn features_and_map(cluster: &Cluster) -> anyhow::Result<()> {
    with_return(cluster, || {
        let map = "block,nodes,row\nrack2,r02n[01-04],b\nrack1,r01n[01-04],a\nrack3,,a\n";
        cluster.write_file(&Target::controller(), "/run/map.csv", map)?;
        let beside = hold(cluster, &["-N1", "-wr01n01"])?;
        let done = topology_gen(cluster, &["apply", "--site-map", "/run/map.csv"])?;
        ensure!(done.status.success(), "{done:?}");
        let wanted =
            ["rack2=02n01,02n02,02n03,02n04", "b-free-1=", "rack1=01n01,01n02,01n03,01n04", "rack3="];
        ensure!(blocks(cluster)? == wanted, "{:?}", blocks(cluster)?);
        ensure!(cluster.ctl(&["cat", FILE])?.contains("block_sizes: [4, 8]"));
        still_runs(cluster, beside)?;
        let commands =
            topology_gen(cluster, &["generate", "--site-map", "/run/map.csv", "--format", "features"])?;
        ensure!(commands.status.success(), "{commands:?}");
        cluster.feed(&Target::controller(), &["sh", "-e"], &commands.stdout)?;
        let again =
            topology_gen(cluster, &["generate", "--site-map", "/run/map.csv", "--format", "features"])?;
        ensure!(again.stdout.is_empty(), "{again:?}");
        let nodes = nodes_of(cluster, &["-N4", "-Cnvlink/rack2"])?;
        ensure!(nodes == ["r02n01", "r02n02", "r02n03", "r02n04"], "{nodes:?}");
        let id = start(cluster, &["-N1", "-Cnvlink/rack1", "-wr01n02"])?;
        cluster.wait_running(id, SOON)?;
        Ok(())
    })
}
