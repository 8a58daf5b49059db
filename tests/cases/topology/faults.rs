//! What can go wrong on the way to a new topology, and which test shows that the file in use stays whole and the
//! controller alive.
//!
//! | fault | shown by (`topology::` here; else in `topology-gen`) |
//! |---|---|
//! | unreachable tray | `every_bad_reading_is_told`, `a_rack_goes_silent_and_comes_back`, `a_tray_is_replaced` |
//! | N/A, no NVML, nonsense | `every_bad_reading_is_told`; `cli::tests::faults::each_bad_reading_in_words` |
//! | zero UUID | `every_bad_reading_is_told`, `any_fabric_is_loaded_as_planned` |
//! | disagreeing GPUs | `every_bad_reading_is_told`; `one_refused_tray_holds_the_file_back_and_is_listed` |
//! | fabric in progress | `every_bad_reading_is_told`, `a_tray_is_replaced` |
//! | unhealthy | `every_bad_reading_is_told`: told, and it stays in its block |
//! | same clique number on two domains | every case: both racks have clique 32766; `any_fabric_is_loaded_as_planned` |
//! | cliques above 2^31 | `any_fabric_is_loaded_as_planned`; `cli::tests::faults::each_bad_reading_in_words` |
//! | duplicate names | `every_bad_reading_is_told`; of blocks `what_check_calls_fatal_slurm_refuses` |
//! | unknown node | `every_bad_reading_is_told` |
//! | disk full | `a_full_disk_changes_nothing`; at each step `on_a_full_disk_the_file_is_the_old_one_or_the_new_one` |
//! | SIGKILL | `a_killed_apply_leaves_a_whole_file`; at each step `after_a_kill_at_any_step_the_next_run_ends_the_work` |
//! | a controller that refuses the file | `a_refused_file_is_rolled_back`, `what_check_calls_fatal_slurm_refuses` |
//! | a controller in the foreground, which dies of it | `a_controller_in_the_foreground_is_spared` |
//! | two applies at once | `of_two_applies_one_waits_for_nobody`; `of_two_runs_at_once_one_waits_for_nobody` |
#![forbid(unsafe_code)]

use super::steps::{
    FILE, NVML, RACK_1, RACK_2, READINGS, blocks, hold, still_runs, topology_gen, with_return,
};
use anyhow::{Context as _, ensure};
use tests::Cluster;
use tests::cluster::{Captured, Target};
use tests::fault::{Fault, FaultKind};

/// The file in use, a sound other one, and both texts.
struct Files {
    old: String,
    new: String,
}

const OTHER: &str = "/run/other.yaml";

impl Files {
    /// Puts a file with other aggregated blocks at [`OTHER`].
    fn write(cluster: &Cluster) -> anyhow::Result<Self> {
        let old = cluster.ctl(&["cat", FILE])?;
        let new = old.replace("block_sizes: [4]", "block_sizes: [4, 8]");
        ensure!(old != new, "no block sizes in\n{old}");
        cluster.write_file(&Target::controller(), OTHER, &new)?;
        Ok(Self { old, new })
    }

    /// The file in use is one of the two as a whole, and the controller answers.
    fn is_sound(&self, cluster: &Cluster, what: &str) -> anyhow::Result<()> {
        let now = cluster.ctl(&["cat", FILE])?;
        ensure!(now == self.old || now == self.new, "{what}: the file is\n{now}");
        let ping = cluster.ctl(&["scontrol", "ping"])?;
        ensure!(ping.contains("is UP"), "{what}: {ping}");
        ensure!(blocks(cluster)? == [RACK_1, RACK_2], "{what}: {:?}", blocks(cluster)?);
        Ok(())
    }

    fn is_old(&self, cluster: &Cluster, what: &str) -> anyhow::Result<()> {
        self.is_sound(cluster, what)?;
        ensure!(cluster.ctl(&["cat", FILE])? == self.old, "{what}: the file is not the old one");
        Ok(())
    }
}

/// Each fault on a tray of its own, all at once: each is told with its tray, and nothing is touched.
pub(super) fn bad_readings(cluster: &Cluster) -> anyhow::Result<()> {
    with_return(cluster, || {
        let files = Files::write(cluster)?;
        let beside = hold(cluster, &["-N1", "-wr01n04"])?;
        for (node, kind) in [
            ("r01n01", FaultKind::FabricInProgress),
            ("r01n02", FaultKind::GpuDisagrees),
            ("r01n03", FaultKind::NvmlMissing),
            ("r01n04", FaultKind::Degraded),
            ("r02n01", FaultKind::FabricNotStarted),
        ] {
            cluster.fault(node, Fault::new(kind), None)?;
        }
        let zero = cluster
            .tray("r02n02", &["cat", NVML])?
            .replace("a45f0d97-61c8-4b3a-8e15-0c7e94d3b602", "00000000-0000-0000-0000-000000000000");
        cluster.write_file(&Target::node("r02n02"), NVML, &zero)?;
        let mut entries = Vec::new();
        for node in cluster.nodes() {
            let text = match node.as_str() {
                "r02n03" => "null".to_owned(),
                "r01n03" => serde_json::to_string("NVML: library not found")?,
                node => cluster.reading(node)?.to_string(),
            };
            entries.push(format!("{}:{text}", serde_json::to_string(&node)?));
        }
        // Somebody joined two files of readings; one of the trays is none of Slurm's.
        let sound = cluster.reading("r02n04")?.to_string();
        let other = sound.replace("32766", "1");
        entries.push(format!("\"r02n04\":{other},\"ghost\":{sound}"));
        cluster.write_file(&Target::controller(), READINGS, &format!("{{{}}}", entries.join(",")))?;
        let done = topology_gen(cluster, &["apply", "--readings", READINGS])?;
        ensure!(done.status.code() == Some(1), "{done:?}");
        for line in [
            "refused, not ready: r01n01: ",
            "refused, not ready: r02n01: ",
            "refused: r01n02: GPUs do not agree on one NVLink partition",
            "no reading: r01n03: not a reading: ",
            "warning: r01n04: ",
            "outside NVLink: r02n02: no multi-node NVLink: the cluster UUID is zero",
            "no reading: r02n03: no reading",
            "refused: r02n04: listed more than once with different readings",
            "is not touched",
        ] {
            ensure!(done.stderr.contains(line), "not told: {line}\n{}", done.stderr);
        }
        files.is_old(cluster, "bad readings")?;
        // Also to those who want the rest no node is sold that Slurm does not know.
        let done = topology_gen(cluster, &["apply", "--readings", READINGS, "--accept-partial"])?;
        ensure!(done.status.code() == Some(1) && done.stdout.contains("ghost"), "{done:?}");
        ensure!(done.stderr.contains("nothing was changed"), "{done:?}");
        files.is_old(cluster, "an unknown node")?;
        still_runs(cluster, beside)
    })
}

/// A scontrol that stops, or lets stop, the run that called it: `words`, shell text, is run before the real one.
fn interfering(cluster: &Cluster, words: &str) -> anyhow::Result<String> {
    let folder = "/run/interfering";
    let script = format!("#!/bin/sh\n{words}\n");
    cluster.ctl(&["mkdir", "-p", folder])?;
    cluster.ctl(&[
        "sh",
        "-c",
        &format!("rm -f {folder}/*; ln -s \"$(command -v squeue)\" {folder}/squeue"),
    ])?;
    let scontrol = format!("{folder}/scontrol");
    cluster.write_file(&Target::controller(), &scontrol, &script)?;
    cluster.ctl(&["chmod", "755", &scontrol])?;
    Ok(scontrol)
}

fn apply_other(cluster: &Cluster, more: &[&str]) -> anyhow::Result<Captured> {
    topology_gen(cluster, &[&["apply", "--file", OTHER], more].concat())
}

/// The run is killed around its calls of the controller; between them it only works on files, which other tests stop at
/// each step.
pub(super) fn killed(cluster: &Cluster) -> anyhow::Result<()> {
    let real = "/usr/bin/scontrol \"$@\"";
    let moments = [
        ("before the check", format!("[ \"$2\" = nodes ] && kill -9 $PPID; exec {real}")),
        ("before the reload", format!("[ \"$1\" = reconfigure ] && kill -9 $PPID && exit; exec {real}")),
        (
            "after the reload",
            format!("[ \"$1\" = reconfigure ] && {{ {real}; kill -9 $PPID; exit; }}; exec {real}"),
        ),
    ];
    with_return(cluster, || {
        let files = Files::write(cluster)?;
        let beside = hold(cluster, &["-N1", "-wr01n01"])?;
        for (at, (when, words)) in moments.iter().enumerate() {
            let scontrol = interfering(cluster, words)?;
            let done = apply_other(cluster, &["--scontrol", &scontrol])?;
            ensure!(
                done.status.code().is_none_or(|code| code > 128),
                "{when}: the run was not killed: {done:?}"
            );
            files.is_sound(cluster, when)?;
            // The next run ends the work, and the way back is there.
            let done = apply_other(cluster, &[])?;
            ensure!(done.status.success(), "{when}: {done:?}");
            if at > 0 {
                ensure!(done.stderr.contains("an earlier run was interrupted"), "{when}: {done:?}");
            }
            ensure!(cluster.ctl(&["cat", FILE])? == files.new, "{when}: the new file is not in place");
            let done = topology_gen(cluster, &["rollback"])?;
            ensure!(done.status.success(), "{when}: {done:?}");
            files.is_old(cluster, when)?;
        }
        still_runs(cluster, beside)
    })
}

pub(super) fn two_at_once(cluster: &Cluster) -> anyhow::Result<()> {
    with_return(cluster, || {
        let files = Files::write(cluster)?;
        // The first one is held at its first question until the second has ended.
        let wait = "[ \"$2\" = topoconf ] && { touch /run/interfering/held; until [ -e /run/interfering/go ]; do sleep 0.02; done; }";
        let scontrol = interfering(cluster, &format!("{wait}\nexec /usr/bin/scontrol \"$@\""))?;
        let script = "topology-gen apply --file \"$1\" --scontrol \"$2\" >/run/first.out 2>&1 & first=$!\n\
                      until [ -e /run/interfering/held ]; do sleep 0.02; done\n\
                      topology-gen apply --file \"$1\"; second=$?\n\
                      touch /run/interfering/go; wait $first; echo first=$? second=$second";
        let done = cluster.capture(&Target::controller(), &["sh", "-c", script, "two", OTHER, &scontrol])?;
        ensure!(done.stdout.trim() == "first=0 second=2", "{done:?}");
        ensure!(done.stderr.contains("hint: wait for it"), "{}", done.stderr);
        files.is_sound(cluster, "two at once")?;
        ensure!(cluster.ctl(&["cat", FILE])? == files.new, "the first one has not ended its work");
        Ok(())
    })
}

/// Slurm's folder on a disk with so little room: whatever does not fit, the file in use is whole.
pub(super) fn full_disk(cluster: &Cluster) -> anyhow::Result<()> {
    with_return(cluster, || {
        let files = Files::write(cluster)?;
        let small = "set -e; cp -a /etc/slurm /run/slurm.kept; mount -t tmpfs -o size=256k,mode=755 tmpfs /etc/slurm; \
                     cp -a /run/slurm.kept/. /etc/slurm; rm -rf /etc/slurm/topology-backups";
        cluster.ctl(&["sh", "-c", small])?;
        let done = on_small_disk(cluster, &files);
        let back = cluster.ctl(&["sh", "-c", "umount /etc/slurm && rm -rf /run/slurm.kept"]);
        done.and(back.context("the disk stays").map(drop))
    })
}

fn on_small_disk(cluster: &Cluster, files: &Files) -> anyhow::Result<()> {
    let mut failed = 0;
    // With no page free not even the lock can be made; then the backup, the mark and the file find none.
    for pages in 0..6 {
        let fill = "rm -f /etc/slurm/filler; cat /dev/zero >/etc/slurm/filler 2>/dev/null; \
                    size=$(stat -c %s /etc/slurm/filler); truncate -s $((size - $1 * 4096)) /etc/slurm/filler";
        cluster.capture(&Target::controller(), &["sh", "-c", fill, "fill", &pages.to_string()])?;
        let done = apply_other(cluster, &[])?;
        let what = format!("{pages} pages free");
        if done.status.success() {
            break;
        }
        ensure!(
            done.status.code() == Some(2) && done.stderr.contains("No space left on device"),
            "{what}: {done:?}"
        );
        files.is_old(cluster, &what)?;
        failed += 1;
    }
    ensure!(failed > 0, "the disk was never full");
    cluster.ctl(&["rm", "-f", "/etc/slurm/filler"])?;
    let done = apply_other(cluster, &[])?;
    ensure!(done.status.success() && cluster.ctl(&["cat", FILE])? == files.new, "{done:?}");
    Ok(())
}
