//! Commands that ask the controller, one made of shell scripts (simulated).

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod stand_in;

use std::process::{Command, Output};

use stand_in::{NEW, Site};

fn topology_gen(site: &Site, args: &[&str]) -> Output {
    let scontrol = site.dir.join("scontrol");
    let mut command = Command::new(env!("CARGO_BIN_EXE_topology-gen"));
    command.args(args).arg("--scontrol").arg(scontrol).current_dir(&site.dir).output().unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn check_lists_the_running_jobs_whose_trays_would_change_their_block() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path());
    site.put("jobs", "7|alice|n[1-2]\n8|bob|n[7-8]\n");
    site.put("new.yaml", NEW);
    let done = topology_gen(&site, &["check", "new.yaml", "--live"]);
    assert_eq!(done.status.code(), Some(0), "{}", words(&done));
    assert!(words(&done).contains("job 8 of bob runs on n8, which changes its block\n"), "{}", words(&done));
    assert!(!words(&done).contains("job 7"), "{}", words(&done));
    site.put("gone", "");
    assert_eq!(topology_gen(&site, &["check", "new.yaml", "--live"]).status.code(), Some(2));
}

#[test]
fn check_notes_settings_in_force_that_have_no_effect() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path());
    site.put("new.yaml", NEW);
    site.put(
        "settings",
        "SchedulerType = sched/builtin\nTopologyParam = nvlink_room=16,nvlink_patience=180\n",
    );
    let noted = "SchedulerType=sched/builtin (in force)";
    let done = topology_gen(&site, &["check", "new.yaml", "--live"]);
    assert_eq!(done.status.code(), Some(0), "{}", words(&done));
    let found = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(found.contains(noted), "{found}");
    // What is to come counts, not what is.
    site.put("slurm.conf", "TopologyParam=nvlink_room=16,nvlink_patience=180\n");
    let done = topology_gen(&site, &["check", "new.yaml", "--live", "--slurm-conf", "slurm.conf"]);
    assert_eq!(done.status.code(), Some(0), "{}", words(&done));
    let found = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(!found.contains("SchedulerType"), "{found}");
}

#[test]
fn each_node_of_the_controller_is_asked_by_a_command() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path());
    let row = |clique: u32| {
        format!("fabric.clusterUuid, fabric.cliqueId\n7e1c0f5a-9d3b-4e52-8f01-2a6b5c4d3e2f, {clique}\n")
    };
    site.put("ask", "#!/bin/sh\ncase $1 in n8) exit 1;; n[1-3]) cat a;; *) cat b;; esac\n");
    site.put("a", &row(1));
    site.put("b", &row(2));
    let args = ["generate", "--ask", "sh ask {}", "--expect-gpus", "1", "--format", "table"];
    let done = topology_gen(&site, &args);
    assert_eq!(done.status.code(), Some(0), "{}", words(&done));
    let table = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(table.contains("n[1-3]") && table.contains("n[4-7]"), "{table}");
    assert!(words(&done).contains("no reading: n8: exit status: 1"), "{}", words(&done));
}
