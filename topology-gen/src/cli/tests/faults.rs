//! What the user sees of each fault of a reading, one fault at a time, beside a sound rack.

use super::*;
use crate::fixture::RACK_C;
use serde_json::{Value, json};

/// The sound rack is planned with each bad tray; gives exit code and words.
fn with(bad: &[(&str, Value)]) -> String {
    let site = Site::new(&[]);
    let tray = serde_json::to_value(reading(&[RACK_A; 4])).unwrap();
    let mut readings: Vec<String> = ["n1", "n2"].iter().map(|node| format!("\"{node}\":{tray}")).collect();
    readings.extend(bad.iter().map(|(node, value)| format!("\"{node}\":{value}")));
    site.put("readings.json", &format!("{{{}}}", readings.join(",")));
    site.put("topology.yaml", "# old\n- topology: nvlink\n  flat: true\n");
    let out = site.path("topology.yaml");
    let run = topology_gen(&["generate", "--readings", &site.path("readings.json"), "--out", &out]);
    let kept = site.get("topology.yaml").starts_with("# old");
    assert_eq!(kept, run.code != 0, "{}", run.words);
    let words = run.words.replace(site.dir.path().to_str().unwrap(), "DIR");
    let told: Vec<&str> = words.lines().map(|line| line.trim_start_matches("topology-gen: ")).collect();
    format!("{} {}\n", run.code, told.join("\n  "))
}

/// A tray whose GPUs all say this.
fn tray(change: impl Fn(&mut Value)) -> Value {
    let mut tray = serde_json::to_value(reading(&[RACK_A; 4])).unwrap();
    for gpu in tray["gpus"].as_array_mut().unwrap() {
        change(gpu);
    }
    tray
}

#[test]
fn each_bad_reading_in_words() {
    let told = [
        with(&[]),
        with(&[("n3", Value::Null)]),
        with(&[("n3", json!("N/A"))]),
        with(&[("n3", tray(|gpu| gpu["fabric"] = Value::Null))]),
        with(&[("n3", tray(|gpu| gpu["fabric"]["state"] = json!(2)))]),
        with(&[("n3", tray(|gpu| gpu["fabric"]["status"] = json!(5)))]),
        with(&[("n3", serde_json::to_value(reading(&[ZERO; 4])).unwrap())]),
        with(&[("n3", serde_json::to_value(reading(&[RACK_A, RACK_A, RACK_A, RACK_B])).unwrap())]),
        with(&[("n3", tray(|gpu| gpu["fabric"]["health"] = json!({"mask": 0x1a9, "summary": 2})))]),
        with(&[("n3", tray(|gpu| gpu["fabric"]["partition"] = json!(4_294_967_295u32)))]),
        with(&[("n1", serde_json::to_value(reading(&[RACK_C; 4])).unwrap())]),
    ];
    insta::assert_snapshot!(told.concat(), @r#"
    0 1 NVLink partition, 2 trays in blocks, 0 nodes outside NVLink
      jobs and segments up to 2 trays stay in one NVLink partition
      wrote DIR/topology.yaml
      hint: load it with scontrol reconfigure
    0 no reading: n3: no reading
      1 NVLink partition, 2 trays in blocks, 0 nodes outside NVLink
      warning: n3: in no block, nothing is known of it
      jobs and segments up to 2 trays stay in one NVLink partition
      wrote DIR/topology.yaml
      hint: load it with scontrol reconfigure
    0 no reading: n3: not a reading: invalid type: string "N/A", expected struct TrayReading
      1 NVLink partition, 2 trays in blocks, 0 nodes outside NVLink
      warning: n3: in no block, nothing is known of it
      jobs and segments up to 2 trays stay in one NVLink partition
      wrote DIR/topology.yaml
      hint: load it with scontrol reconfigure
    0 outside NVLink: n3: no multi-node NVLink: the driver answers no fabric query
      1 NVLink partition, 2 trays in blocks, 1 node outside NVLink
      hint: give partitions of nodes outside NVLink Topology=flat in slurm.conf
      jobs and segments up to 2 trays stay in one NVLink partition
      wrote DIR/topology.yaml
      hint: load it with scontrol reconfigure
    1 refused, not ready: n3: fabric not ready, the fabric manager or a switch has not assigned a partition: GPU 0: fabric state in progress; GPU 1: fabric state in progress; GPU 2: fabric state in progress; GPU 3: fabric state in progress
      1 NVLink partition, 2 trays in blocks, 0 nodes outside NVLink
      warning: n3: in no block, nothing is known of it
      jobs and segments up to 2 trays stay in one NVLink partition
      DIR/topology.yaml is not touched
      hint: mend the refused trays, drop them with --ignore, or leave them out with --accept-partial
    1 refused: n3: GPU 0: fabric registration ended with NVML error 5; GPU 1: fabric registration ended with NVML error 5; GPU 2: fabric registration ended with NVML error 5; GPU 3: fabric registration ended with NVML error 5
      1 NVLink partition, 2 trays in blocks, 0 nodes outside NVLink
      jobs and segments up to 2 trays stay in one NVLink partition
      DIR/topology.yaml is not touched
      hint: mend the refused trays, drop them with --ignore, or leave them out with --accept-partial
    0 outside NVLink: n3: no multi-node NVLink: the cluster UUID is zero
      1 NVLink partition, 2 trays in blocks, 1 node outside NVLink
      hint: give partitions of nodes outside NVLink Topology=flat in slurm.conf
      jobs and segments up to 2 trays stay in one NVLink partition
      wrote DIR/topology.yaml
      hint: load it with scontrol reconfigure
    1 refused: n3: GPUs do not agree on one NVLink partition: GPU 0 -> aaaaaaaa-1111-4222-8333-444444444444.32766, GPU 1 -> aaaaaaaa-1111-4222-8333-444444444444.32766, GPU 2 -> aaaaaaaa-1111-4222-8333-444444444444.32766, GPU 3 -> bbbbbbbb-1111-4222-8333-444444444444.32766
      1 NVLink partition, 2 trays in blocks, 0 nodes outside NVLink
      jobs and segments up to 2 trays stay in one NVLink partition
      DIR/topology.yaml is not touched
      hint: mend the refused trays, drop them with --ignore, or leave them out with --accept-partial
    0 warning: n3: GPU 0: unhealthy, bandwidth degraded
      warning: n3: GPU 1: unhealthy, bandwidth degraded
      warning: n3: GPU 2: unhealthy, bandwidth degraded
      warning: n3: GPU 3: unhealthy, bandwidth degraded
      1 NVLink partition, 3 trays in blocks, 0 nodes outside NVLink
      jobs and segments up to 3 trays stay in one NVLink partition
      wrote DIR/topology.yaml
      hint: load it with scontrol reconfigure
    0 warning: n3: the only tray of NVLink partition aaaaaaaa-1111-4222-8333-444444444444.4294967295; leave it out with --ignore if it has no multi-node NVLink
      2 NVLink partitions, 3 trays in blocks, 0 nodes outside NVLink
      jobs and segments up to 2 trays stay in one NVLink partition
      wrote DIR/topology.yaml
      hint: load it with scontrol reconfigure
    1 refused: n1: listed more than once with different readings
      warning: n2: the only tray of NVLink partition aaaaaaaa-1111-4222-8333-444444444444.32766; leave it out with --ignore if it has no multi-node NVLink
      1 NVLink partition, 1 tray in blocks, 0 nodes outside NVLink
      jobs and segments up to 1 trays stay in one NVLink partition
      DIR/topology.yaml is not touched
      hint: mend the refused trays, drop them with --ignore, or leave them out with --accept-partial
    "#);
}

#[test]
fn the_same_clique_of_two_domains_and_cliques_above_2_31_are_partitions_of_their_own() {
    let high = "aaaaaaaa-1111-4222-8333-444444444444.4294967295";
    let site = Site::new(&[rack("n[1-2]", RACK_A), rack("n[3-4]", RACK_B), rack("n[5-6]", high)]);
    let run = site.generate(&["--format", "table"]);
    assert_eq!(run.code, 0, "{}", run.words);
    insta::assert_snapshot!(run.data, @r#"
    BLOCK                    TRAYS  NODES
    nvl-aaaaaaaa-32766           2  n[1-2]
    nvl-bbbbbbbb-32766           2  n[3-4]
    nvl-aaaaaaaa-4294967295      2  n[5-6]
    "#);
}

/// A name that the readings have and Slurm has not is found before anything is written.
#[test]
fn a_node_that_slurm_does_not_know_is_refused() {
    let site = Site::new(&[rack("n[1-2]", RACK_A)]);
    let tray = serde_json::to_value(reading(&[RACK_A; 4])).unwrap();
    site.put("readings.json", &json!({"n1": tray, "n2": tray, "ghost": tray}).to_string());
    let out = site.path("new.yaml");
    assert_eq!(topology_gen(&["generate", "--readings", &site.path("readings.json"), "--out", &out]).code, 0);
    let run = topology_gen(&["check", &out, "--nodes-json", &site.path("nodes.json")]);
    assert_eq!(run.code, 1);
    insta::assert_snapshot!(run.data.replace(site.dir.path().to_str().unwrap(), "DIR"), @r#"
    DIR/new.yaml:9: wrong: Slurm has no node ghost; block nvl-aaaaaaaa-32766 counts it though it can run nothing
      hint: correct the name, or add the node to slurm.conf
    "#);
}

/// What an operator reads when a change meets another run, what a killed run left, or a controller that is gone. The controller
/// is made of shell scripts (simulated).
#[test]
fn what_stands_in_the_way_of_a_change_in_words() {
    use crate::apply::backup::Backups;
    let site = files::site_with_controller();
    let (target, scontrol, new) = (site.path("topology.yaml"), site.path("scontrol"), site.path("new.yaml"));
    let apply = |more: &[&str]| {
        let fixed =
            ["apply", "--file", &new, "--target", &target, "--scontrol", &scontrol, "--move-running-jobs"];
        let run = topology_gen(&[&fixed, more].concat());
        let words = run.words.replace(site.dir.path().to_str().unwrap(), "DIR");
        // The time in the name of a backup.
        let words: Vec<&str> =
            words.lines().map(|line| line.split("yaml.2").next().unwrap_or_default()).collect();
        format!("{} {}{}\n", run.code, run.data, words.join("\n"))
    };
    let old = site.get("topology.yaml");
    let backups = Backups::at(&site.dir.path().join("topology-backups"), std::path::Path::new(&target));
    let lock = backups.lock().unwrap();
    let busy = apply(&["--allow-foreground"]);
    drop(lock);
    assert_eq!(site.get("topology.yaml"), old);
    // A run that was killed after it had marked what was in force.
    let saved = backups.save(std::path::Path::new(&target), Some(&old)).unwrap();
    backups.begin(&saved).unwrap();
    let interrupted = apply(&["--allow-foreground"]);
    site.put("gone", "");
    let gone = apply(&["--allow-foreground"]);
    insta::assert_snapshot!([busy, interrupted, gone].concat(), @r#"
    2 topology-gen: error: no change was made
      because: another run of topology-gen is changing this file; it holds DIR/topology-backups/lock
    hint: wait for it; when none runs, the lock is free by itself
    0 topology "t": block c is new (n8)
    topology "t": n8 moves from b to c
    topology-gen: an earlier run was interrupted; in force before it was DIR/topology-backups/topology.
    topology-gen: job 9 of alice runs on n8, which changes its block
    topology-gen: wrote DIR/topology.yaml
    topology-gen: the controller reports the new topology
    topology-gen: done: the new topology is in force
    2 topology-gen: error: the controller gives no answer
      because: DIR/scontrol show topoconf fails (exit status: 1): slurm_load error: Unable to contact slurm controller
    hint: check that slurmctld answers: scontrol ping
    "#);
}
