//! The service `topology-gen-watch` as it is shipped, under a real systemd, against a controller made of shell scripts
//! (simulated).
#![forbid(unsafe_code)]

use crate::harness::{Body, Case, Setup};
use crate::imex::SMALL;
use crate::imex_systemd;
use anyhow::{Context as _, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use tests::machine::{BOOT, Machine};
use tests::stage::Artifact;
use tests::wait_for;

pub(crate) const CASES: &[Case] =
    &[Case { name: "watch_systemd::the_service_as_it_is_shipped", body: Body::Own(SMALL, service) }];

const UNIT: &str = "topology-gen-watch";
const FOLDER: &str = "/etc/slurm/stand-in";
const RACKS: &str = "topology: t\nblock:\n  block_sizes: [4]\n  blocks:\n    - block: a\n      nodes: \"n[1-4]\"\n    - block: b\n      nodes: \"n[5-8]\"\n";

/// Puts the service, its settings and the simulated controller into the tray.
fn put_files(tray: &Machine) -> anyhow::Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let program = tray.file("/usr/bin/topology-gen");
    fs::copy(Artifact::TopologyGen.find().context("topology-gen is not staged")?, &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let unit = format!("{UNIT}.service");
    fs::copy(
        source.join("packaging/systemd").join(&unit),
        tray.file(&format!("/etc/systemd/system/{unit}")),
    )?;
    // A machine in a namespace is no place for systemd to make another /dev in.
    let drop_in = tray.file(&format!("/etc/systemd/system/{unit}.d"));
    fs::create_dir_all(&drop_in)?;
    fs::write(drop_in.join("devices.conf"), "[Service]\nPrivateDevices=no\n")?;
    let folder = tray.file(FOLDER);
    fs::create_dir_all(&folder)?;
    for name in ["scontrol", "squeue"] {
        fs::copy(source.join("topology-gen/tests/stand_in").join(name), folder.join(name))?;
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755))?;
    }
    for (name, text) in [
        ("topology.yaml", RACKS),
        ("loaded", RACKS),
        ("starts", "1\n"),
        ("log", ""),
        ("calls", ""),
        ("jobs", ""),
    ] {
        fs::write(folder.join(name), text)?;
    }
    let options = format!(
        "TOPOLOGY_GEN_WATCH=\"--interval 1 --stable 1 --settle 0 --lost 2 --topology t --readings {FOLDER}/readings \
         --scontrol {FOLDER}/scontrol --target {FOLDER}/topology.yaml --metrics {FOLDER} --allow-foreground --accept-wrong\"\n"
    );
    fs::create_dir_all(tray.file("/etc/default"))?;
    Ok(fs::write(tray.file(&format!("/etc/default/{UNIT}")), options)?)
}

/// A reading as `topology-gen probe` prints it.
fn reading(partition: u64) -> serde_json::Value {
    let domain = "11111111-0000-4000-8000-00000000000a";
    let fabric = serde_json::json!({"domain": domain, "partition": partition, "state": 3, "status": 0});
    let gpu = serde_json::json!({"index": 0, "uuid": "", "name": "simulated", "fabric": fabric});
    serde_json::json!({"driver_version": "1", "gpus": [gpu]})
}

/// What the trays say from now on: numbers of nodes and their NVLink partition.
fn say(tray: &Machine, trays: &[(std::ops::RangeInclusive<u64>, u64)]) -> anyhow::Result<()> {
    let mut all = serde_json::Map::new();
    for (nodes, partition) in trays {
        for node in nodes.clone() {
            all.insert(format!("n{node}"), reading(*partition));
        }
    }
    let new = tray.file(&format!("{FOLDER}/readings.new"));
    fs::write(&new, serde_json::Value::Object(all).to_string())?;
    Ok(fs::rename(new, tray.file(&format!("{FOLDER}/readings")))?)
}

/// Waits until `systemctl status` would show this.
fn status(tray: &Machine, words: &str) -> anyhow::Result<()> {
    wait_for(&format!("the status is {words:?}"), BOOT, || {
        let now = tray.text(&["systemctl", "show", "--property=StatusText", "--value", UNIT])?;
        Ok(if now.contains(words) { Ok(()) } else { Err(now) })
    })
}

fn service(_: &Setup) -> anyhow::Result<()> {
    let tray = imex_systemd::boot()?;
    put_files(&tray)?;
    say(&tray, &[(1..=4, 1), (5..=8, 2)])?;
    tray.text(&["systemctl", "daemon-reload"])?;
    let ran = (|| {
        tray.text(&["systemctl", "start", UNIT])?;
        status(&tray, "the topology in force is what the trays say")?;
        say(&tray, &[(1..=5, 1), (6..=8, 2)])?;
        wait_for("the change is in force", BOOT, || {
            let loaded = fs::read_to_string(tray.file(&format!("{FOLDER}/loaded")))?;
            Ok(if loaded.contains("n[1-5]") { Ok(()) } else { Err(loaded) })
        })?;
        say(&tray, &[(1..=3, 1), (6..=8, 2)])?;
        status(&tray, "2 trays lost at once: n[4-5]")?;
        tray.text(&["systemctl", "reload", UNIT])?;
        status(&tray, "the topology in force is what the trays say")?;
        let metrics = fs::read_to_string(tray.file(&format!("{FOLDER}/slurm_nvlink_topology.prom")))?;
        ensure!(metrics.contains("slurm_nvlink_topology_lost_trays 2\n"), "{metrics}");
        tray.text(&["systemctl", "stop", UNIT])?;
        let how = tray.text(&["systemctl", "show", "--property=Result,ExecMainStatus,NRestarts", UNIT])?;
        ensure!(how == "Result=success\nNRestarts=0\nExecMainStatus=0\n", "{how}");
        Ok(())
    })();
    let journal = tray.text(&["journalctl", "--quiet", "--output=cat", "-u", UNIT])?;
    ran.with_context(|| format!("the journal of the service:\n{journal}"))?;
    ensure!(journal.contains("told to go on") && journal.contains("told to end"), "{journal}");
    Ok(())
}
