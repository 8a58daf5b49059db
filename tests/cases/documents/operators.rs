//! What the documents tell people to type on the controller: looking at racks, a rack that changes, tiers and names.
#![forbid(unsafe_code)]

use super::step::{FILE, FOLDER, SOON, STEP, Step, file, finds, has, prints, put, succeeds};
use anyhow::ensure;
use tests::Cluster;
use tests::cluster::Target;

/// The blocks of the two racks.
pub(super) const BLOCKS: [&str; 2] = ["nvl-3c9b1e52-32766", "nvl-a45f0d97-32766"];
/// What a simulated tray shows of its hardware.
const NVML: &str = "/run/nvlink-sim/nvml.json";
/// The tray that goes to the other rack, and one that is there.
const MOVES: (&str, &str) = ("r01n18", "r02n18");
/// The topology in force.
const SLURM_YAML: &str = "/etc/slurm/topology.yaml";

pub(super) const LOOKING: &[Step] = &[
    Step {
        typed: "topology-gen show",
        then: |_, said| prints(said, &["36 trays in 2 NVLink partitions: 36 idle", BLOCKS[0], BLOCKS[1]]),
        ..STEP
    },
    Step {
        typed: "--svg FILE",
        of: "topology-gen show",
        with: &[FILE],
        then: |cluster, _| is_picture(cluster, "<svg"),
        ..STEP
    },
    Step {
        typed: "--html FILE",
        of: "topology-gen show",
        with: &[FILE],
        then: |cluster, _| is_picture(cluster, "<!DOCTYPE html>"),
        ..STEP
    },
    Step {
        typed: "topology-gen show topology.yaml --nodes-json FILE",
        with: &[FILE],
        before: |cluster| {
            let script = format!("cp {SLURM_YAML} {FOLDER}; scontrol show nodes --json >{FOLDER}/file");
            cluster.ctl(&["sh", "-c", &script]).map(drop)
        },
        then: |_, said| prints(said, &["36 trays in 2 NVLink partitions: 36 idle", BLOCKS[0], BLOCKS[1]]),
        ..STEP
    },
    Step {
        typed: "topology-gen why -N 16",
        then: |_, said| prints(said, &["fits now", "16 of 18 free"]),
        ..STEP
    },
    Step {
        typed: "topology-gen why -N 16",
        before: |cluster| {
            for tray in ["r01n[01-03]", "r02n[01-03]"] {
                let job = cluster
                    .submit(&["-N3", "--exclusive", "--output=/dev/null", "-w", tray], "sleep 1000")?;
                cluster.wait_running(job, SOON)?;
            }
            Ok(())
        },
        then: |cluster, said| {
            cluster.ctl(&["scancel", "--user=alice"])?;
            finds(said, &["waits for running jobs: needs 16 trays in one NVLink partition", "15 free"])
        },
        ..STEP
    },
    Step {
        typed: "topology-gen why -N NODES",
        with: &[("NODES", "40")],
        then: |_, said| finds(said, &["can never run: needs 40 trays"]),
        ..STEP
    },
    Step {
        typed: "topology-gen check --slurm-conf /etc/slurm/slurm.conf",
        with: &[("/etc/slurm/slurm.conf", "/run/documents/file")],
        before: |cluster| {
            let conf = cluster.ctl(&["cat", "/etc/slurm/slurm.conf"])?;
            put(cluster, "file", &format!("{conf}\nTopologyParam=nvlink_patience=180\n"))
        },
        then: |_, said| {
            prints(said, &["nvlink_patience=180 (/run/documents/file:", "has no effect without nvlink_room"])
        },
        ..STEP
    },
    Step {
        typed: "topology-gen check --live",
        // The cluster sets none.
        then: |_, said| {
            ensure!(!said.stdout.contains("TopologyParam"), "{}", said.stdout);
            succeeds(said)
        },
        ..STEP
    },
    Step {
        typed: "scontrol show topology",
        then: |_, said| prints(said, &["BlockName=nvl-3c9b1e52-32766"]),
        ..STEP
    },
];

/// The file that was written is what it should be, and shows both racks.
fn is_picture(cluster: &Cluster, begins: &str) -> anyhow::Result<()> {
    let text = file(cluster, "file")?;
    ensure!(text.trim_start().starts_with(begins), "{}", text.chars().take(80).collect::<String>());
    ensure!(BLOCKS.iter().all(|block| text.contains(block)), "the racks are not in it");
    Ok(())
}

pub(super) const CHANGING: &[Step] = &[
    Step {
        typed: "topology-gen apply --dry-run",
        before: |cluster| {
            moves(cluster, true)?;
            register(cluster)
        },
        then: |cluster, said| {
            finds(said, &[MOVES.0])?;
            racks_have(cluster, [18, 18])
        },
        ..STEP
    },
    Step {
        typed: "topology-gen apply",
        then: |cluster, said| {
            prints(said, &["done: the new topology is in force"])?;
            racks_have(cluster, [17, 19])
        },
        ..STEP
    },
    Step {
        typed: "topology-gen rollback",
        then: |cluster, said| {
            prints(said, &["done: the new topology is in force"])?;
            racks_have(cluster, [18, 18])
        },
        ..STEP
    },
    // The tray was not rebooted: Slurm knows only what it said before.
    Step {
        typed: "topology-gen apply",
        before: |cluster| {
            moves(cluster, false)?;
            register(cluster)?;
            moves(cluster, true)
        },
        then: |_, said| prints(said, &["are up to date; nothing was reloaded"]),
        ..STEP
    },
    Step {
        typed: "topology-gen collect --out FILE",
        with: &[FILE],
        before: |cluster| {
            // The trays have no sshd: srun stands in for ssh, with the same words behind the options.
            let ssh = "#!/bin/sh\n[ \"$1 $2 $3 $4\" = '-o BatchMode=yes -o ConnectTimeout=10' ] || exit 9\n\
                       node=$5; shift 5\nexec srun --quiet --nodes=1 --ntasks=1 --nodelist=$node --time=1 \"$@\"\n";
            put(cluster, "ssh", ssh)?;
            cluster.ctl(&["install", "-m", "755", &format!("{FOLDER}/ssh"), "/usr/local/bin/ssh"]).map(drop)
        },
        then: |cluster, said| {
            succeeds(said)?;
            let readings: serde_json::Value = serde_json::from_str(&file(cluster, "file")?)?;
            let whole = cluster.nodes().iter().all(|node| readings[node]["gpus"].as_array().is_some());
            ensure!(whole, "not all trays are in it: {readings}");
            cluster.ctl(&["rm", "/usr/local/bin/ssh"]).map(drop)
        },
        ..STEP
    },
    Step {
        typed: "topology-gen generate --readings FILE",
        with: &[FILE],
        then: |_, said| prints(said, &["block_sizes:", BLOCKS[0], BLOCKS[1]]),
        ..STEP
    },
    Step {
        typed: "topology-gen apply --readings FILE",
        with: &[FILE],
        then: |cluster, said| {
            prints(said, &["done: the new topology is in force"])?;
            racks_have(cluster, [17, 19])
        },
        ..STEP
    },
    // GPUs of a tray that do not agree: nothing is written before somebody has decided.
    Step {
        typed: "topology-gen apply --readings FILE",
        with: &[FILE],
        before: |cluster| {
            moves(cluster, false)?;
            let mut readings: serde_json::Value = serde_json::from_str(&file(cluster, "file")?)?;
            readings["r01n07"]["gpus"][3]["fabric"]["partition"] = 7.into();
            put(cluster, "file", &readings.to_string())
        },
        then: |cluster, said| {
            finds(said, &["r01n07"])?;
            racks_have(cluster, [17, 19])
        },
        ..STEP
    },
    Step {
        typed: "--ignore",
        of: "topology-gen apply --dry-run --readings /run/documents/file",
        with: &[("--ignore", "--ignore r01n07")],
        then: |_, said| {
            let all = format!("{}{}", said.stdout, said.stderr);
            ensure!(!all.contains("refused"), "it is refused still");
            has(said, &["35 trays in blocks"])
        },
        ..STEP
    },
    Step {
        typed: "--accept-partial",
        of: "topology-gen apply --dry-run --readings /run/documents/file",
        then: |_, said| has(said, &["35 trays in blocks"]),
        ..STEP
    },
    Step {
        typed: "topology-gen apply",
        then: |cluster, said| {
            succeeds(said)?;
            racks_have(cluster, [18, 18])
        },
        ..STEP
    },
];

/// A tray hangs on the other rack's switches, or on its own again.
fn moves(cluster: &Cluster, away: bool) -> anyhow::Result<()> {
    let (tray, there) = MOVES;
    let own = format!("{NVML}.own");
    if away {
        cluster.tray(tray, &["cp", NVML, &own])?;
        let settings = cluster.tray(there, &["cat", NVML])?;
        cluster.write_file(&Target::node(tray), NVML, &settings)
    } else {
        cluster.tray(tray, &["mv", &own, NVML]).map(drop)
    }
}

/// slurmctld hears what the tray says.
fn register(cluster: &Cluster) -> anyhow::Result<()> {
    let extra = cluster.tray(MOVES.0, &["topology-gen", "probe", "--extra"])?;
    let words = [format!("nodename={}", MOVES.0), format!("extra={}", extra.trim())];
    cluster.ctl(&["scontrol", "update", &words[0], &words[1]]).map(drop)
}

/// The blocks that Slurm has now are these racks, with so many trays each.
fn racks_have(cluster: &Cluster, trays: [usize; 2]) -> anyhow::Result<()> {
    let blocks = cluster.blocks()?;
    let sizes: Vec<(&str, usize)> =
        blocks.iter().map(|block| (block.name.as_str(), block.nodes.len())).collect();
    ensure!(sizes == [(BLOCKS[0], trays[0]), (BLOCKS[1], trays[1])], "{sizes:?}");
    Ok(())
}

pub(super) const TIERS: &[Step] = &[
    Step {
        typed: "topology-gen generate --format table",
        then: |_, said| {
            prints(
                said,
                &["nvl-3c9b1e52-32766     18  r01n[01-18]\n", "nvl-a45f0d97-32766     18  r02n[01-18]\n"],
            )
        },
        ..STEP
    },
    Step {
        typed: "--base-size -1",
        of: "topology-gen generate",
        then: |_, said| prints(said, &["segments up to 17 trays stay in one", "block_sizes:"]),
        ..STEP
    },
    Step {
        typed: "--base-size 16",
        of: "topology-gen generate",
        then: |_, said| prints(said, &["segments up to 16 trays stay in one", "block_sizes:"]),
        ..STEP
    },
    Step {
        typed: "topology-gen apply --tier spare=-1",
        then: |_, said| {
            prints(said, &["topology spare: up to 17 trays", "done: the new topology is in force"])
        },
        ..STEP
    },
    Step {
        typed: "topology-gen tiers",
        then: |_, said| {
            prints(
                said,
                &[
                    "\nPartitionName=nvlink Topology=nvlink Nodes=",
                    "\nPartitionName=spare Topology=spare Nodes=",
                ],
            )
        },
        ..STEP
    },
    Step {
        typed: "topology-gen tiers --qos",
        then: |_, said| prints(said, &[" QOS=nvlink\n", " QOS=spare\n"]),
        ..STEP
    },
    Step {
        typed: "topology-gen tiers --format sacctmgr",
        then: |_, said| {
            prints(said, &["qos nvlink set MaxTRESPerJob=node=18", "qos spare set MaxTRESPerJob=node=17"])
        },
        ..STEP
    },
    Step {
        typed: "--blocks",
        of: "topology-gen tiers",
        then: |_, said| {
            prints(said, &["\nPartitionName=nvl-3c9b1e52-32766 Topology=nvlink Nodes=r01n[01-18]\n"])
        },
        ..STEP
    },
    Step {
        typed: "topology-gen apply --site-map FILE",
        with: &[FILE],
        before: |cluster| {
            let map = "block,domain,clique,nodes,row,hall\n\
                       rack01,3c9b1e52-7a41-4d0e-9f63-5b1d8ae20c01,32766,,row1,hall1\n\
                       rack02,a45f0d97-61c8-4b3a-8e15-0c7e94d3b602,32766,,row1,hall1\n";
            put(cluster, "file", map)
        },
        then: |cluster, said| {
            succeeds(said)?;
            let names: Vec<String> = cluster.blocks()?.into_iter().map(|block| block.name).collect();
            ensure!(names == ["rack01", "rack02"], "{names:?}");
            Ok(())
        },
        ..STEP
    },
];
