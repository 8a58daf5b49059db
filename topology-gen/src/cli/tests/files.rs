//! The commands that look at a file, compare it, collect readings for it, or explain it.

use super::*;

#[test]
fn check_tells_all_faults_with_place_and_hint() {
    let site = Site::new(&[rack("n[1-4]", RACK_A)]);
    site.put(
        "topology.yaml",
        "- topology: nvlink\n  block:\n    blocksizes: [4]\n    block_sizes: [4, 12]\n    blocks:\n      - {block: a, nodes: 'n[1-3]'}\n      - {block: a, nodes: n4}\n",
    );
    let file = site.path("topology.yaml");
    let run = topology_gen(&["check", &file, "--nodes-json", &site.path("nodes.json")]);
    assert_eq!(run.code, 1);
    insta::assert_snapshot!(run.data.replace(site.dir.path().to_str().unwrap(), "DIR"), @r#"
    DIR/topology.yaml:3: wrong: Slurm ignores the key "blocksizes" without a word
      hint: did you mean block_sizes?
    DIR/topology.yaml:3: note: n4 is in no block of topology "nvlink"
      hint: fine for nodes whose partitions use another topology; check with --slurm-conf
    DIR/topology.yaml:4: fatal: block size 12 is not the base size 4 times a power of two up to 2^15
      hint: each size after the first must be the first one times 2, 4, 8, ...
    DIR/topology.yaml:4: wrong: base size 4 is larger than the largest block, which has 3 nodes; jobs and segments of 4 nodes can never run
      hint: use base size 3
    DIR/topology.yaml:7: fatal: block a comes twice, first in line 6
      hint: join the two, or rename one
    "#);
    assert_eq!(run.words, "topology-gen: 2 fatal, 2 wrong, 1 note: Slurm refuses the file or dies of it\n");
    site.put("good.yaml", "topology: t\nblock: {block_sizes: [4], blocks: [{block: a, nodes: 'n[1-4]'}]}\n");
    let run = topology_gen(&["check", &site.path("good.yaml"), "--nodes-json", &site.path("nodes.json")]);
    assert_eq!((run.code, run.data.as_str(), run.words.as_str()), (0, "", "topology-gen: no findings\n"));
    assert_eq!(topology_gen(&["check", "/no/such/file"]).code, 2);
}

#[test]
fn diff_tells_what_changes_for_slurm() {
    let site = Site::new(&[]);
    site.put("old.yaml", "topology: t\nblock: {block_sizes: [4], blocks: [{block: a, nodes: 'n[1-4]'}]}\n");
    site.put(
        "same.yaml",
        "# x\n- block: {block_sizes: 4, blocks: [{block: a, nodes: 'n[3-4],n[1-2]'}]}\n  topology: t\n",
    );
    site.put("new.yaml", "topology: t\nblock: {block_sizes: [4], blocks: [{block: b, nodes: 'n[1-3]'}]}\n");
    let (old, same, new) = (site.path("old.yaml"), site.path("same.yaml"), site.path("new.yaml"));
    assert_eq!(topology_gen(&["diff", &same, "--against", &old]).code, 0);
    let run = topology_gen(&["diff", &new, "--against", &old]);
    assert_eq!(run.code, 1);
    insta::assert_snapshot!(run.data, @r#"
    topology "t": block a is gone (n[1-4])
    topology "t": block b is new (n[1-3])
    topology "t": n4 leaves a
    topology "t": n[1-3] moves from a to b
    "#);
    insta::assert_snapshot!(topology_gen(&["diff", &new, "--against", &old, "--json"]).data, @r#"
    {
      "changes": [
        {
          "block": "a",
          "change": "block-removed",
          "nodes": "n[1-4]",
          "topology": "t"
        },
        {
          "block": "b",
          "change": "block-added",
          "nodes": "n[1-3]",
          "topology": "t"
        },
        {
          "change": "nodes-left",
          "from": "a",
          "nodes": "n4",
          "topology": "t"
        },
        {
          "change": "nodes-moved",
          "from": "a",
          "nodes": "n[1-3]",
          "to": "b",
          "topology": "t"
        }
      ],
      "version": 1
    }
    "#);
    assert_eq!(topology_gen(&["diff", &new, "--against", "/no/such/file"]).code, 2);
    assert_eq!(topology_gen(&["diff", &new, "--live", "--scontrol", "/bin/false"]).code, 2);
}

#[test]
fn a_site_without_our_program_on_its_trays_uses_nvidia_smi() {
    let site = Site::new(&[]);
    let row = |node: &str, id: &str| {
        let (uuid, clique) = id.split_once('.').unwrap();
        format!("{node}: Completed, Success, {clique}, {uuid}\n").repeat(4)
    };
    let rows =
        [row("n1", RACK_A), row("n2", RACK_A), row("n3", RACK_B), "n4: No devices were found\n".to_owned()];
    site.put("rows.csv", &rows.concat());
    let fields = "fabric.state,fabric.status,fabric.cliqueId,fabric.clusterUuid";
    let run = topology_gen(&[
        "generate",
        "--nvidia-smi-csv",
        &site.path("rows.csv"),
        "--csv-fields",
        fields,
        "--format",
        "table",
    ]);
    assert_eq!(run.code, 0, "{}", run.words);
    insta::assert_snapshot!(run.data, @r#"
    BLOCK               TRAYS  NODES
    nvl-aaaaaaaa-32766      2  n[1-2]
    nvl-bbbbbbbb-32766      1  n3
    "#);
    assert!(run.words.contains("no reading: n4: 1 columns instead of 4"), "{}", run.words);
}

#[test]
fn collected_readings_are_what_generate_reads() {
    let site = Site::new(&[]);
    let tray = serde_json::to_string(&reading(&[RACK_A; 4])).unwrap();
    site.put("n1", &tray);
    site.put("n2", &tray);
    let command = format!("cat {}/{{}}", site.dir.path().display());
    let out = site.path("readings.json");
    let run = topology_gen(&[
        "collect",
        "--nodes",
        "n[1-3]",
        "--retries",
        "0",
        "--command",
        &command,
        "--out",
        &out,
    ]);
    assert_eq!(run.code, 1);
    assert!(
        run.words.contains("no reading: n3: exit status: 1: cat: ")
            && run.words.ends_with("2 readings of 3 nodes\n"),
        "{}",
        run.words
    );
    let run = topology_gen(&["generate", "--readings", &out, "--format", "table"]);
    assert!(run.data.contains("n[1-2]"), "{}{}", run.data, run.words);
}

#[test]
fn why_answers_in_a_sentence() {
    let site = Site::new(&[rack("n[1-4]", RACK_A), rack("n[5-7]", RACK_B), silent("n8")]);
    site.put(
        "topology.yaml",
        "topology: t\nblock: {block_sizes: [4], blocks: [{block: a, nodes: 'n[1-4]'}, {block: b, nodes: 'n[5-8]'}]}\n",
    );
    let (file, nodes) = (site.path("topology.yaml"), site.path("nodes.json"));
    const PATIENT: &str = "nvlink_room=4,nvlink_patience=180";
    let why = |args: &[&str]| {
        let run = topology_gen(&[&["why", "--file", &file, "--nodes-json", &nodes], args].concat());
        format!("{} {}{}", run.code, run.data, run.words)
    };
    let answers = [
        why(&["-N3"]),
        why(&["-N4", "-x", "n1"]),
        why(&["-N8"]),
        why(&["-N6", "--segment", "3"]),
        why(&["-N9"]),
        why(&["-N3", "--topology-param", PATIENT]),
        why(&["-N3", "-w", "n5", "--topology-param", PATIENT]),
        why(&["-N4", "--topology-param", PATIENT]),
    ];
    insta::assert_snapshot!(answers.concat(), @r#"
    0 fits now
      b: 3 of 3 free: n[5-7]
    1 waits for drained or missing nodes: needs 4 trays in one NVLink partition; the best partition has 3 free and 1 drained or down
    1 waits for drained or missing nodes: needs 8 trays in 2 NVLink partitions, the fewest that can hold it; the best 2 have 7 free
    0 fits now
      a: 3 of 4 free: n[1-4]
      b: 3 of 3 free: n[5-7]
    1 can never run: needs 9 trays in 2 NVLink partitions, the fewest that can hold it; the best 2 have 8 free
    0 fits now
      b: 3 of 3 free: n[5-7]
    topology-gen: note: nvlink_patience=180: behind a larger job it may wait all the same, up to 180 minutes; slurmctld's log says so
    0 fits now
      b: 3 of 3 free: n[5-7]
    0 fits now
      a: 4 of 4 free: n[1-4]
    "#);
}

#[test]
fn convert_there_and_back() {
    let site = Site::new(&[]);
    site.put("topology.conf", "BlockName=a Nodes=n[1-4]\nBlockSizes=4\n");
    let run = topology_gen(&["convert", &site.path("topology.conf"), "--to", "yaml", "--topology", "nvlink"]);
    assert_eq!(run.code, 0, "{}", run.words);
    site.put("topology.yaml", &run.data);
    let run = topology_gen(&["convert", &site.path("topology.yaml"), "--to", "conf"]);
    assert!(run.data.ends_with("BlockName=a Nodes=n[1-4]\nBlockSizes=4\n"), "{}", run.data);
    assert_eq!(topology_gen(&["convert", &site.path("topology.conf"), "--to", "conf"]).code, 2);
}

/// A site with the controller that is made of shell scripts (simulated).
pub(super) fn site_with_controller() -> Site {
    let site = Site::new(&[]);
    for program in ["scontrol", "squeue"] {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stand_in/");
        // They find their folder by the name they are called by.
        std::os::unix::fs::symlink(format!("{source}{program}"), site.path(program)).unwrap();
    }
    let old = "topology: t\nblock:\n  block_sizes: [4]\n  blocks:\n    - block: a\n      nodes: \"n[1-4]\"\n    - block: b\n      nodes: \"n[5-8]\"\n";
    for (name, text) in [
        ("topology.yaml", old),
        ("loaded", old),
        ("starts", "1\n"),
        ("log", ""),
        ("calls", ""),
        ("jobs", "9|alice|n8\n"),
    ] {
        site.put(name, text);
    }
    site.put(
        "new.yaml",
        &old.replace("[5-8]", "[5-7]").replace("n[5-7]\"\n", "n[5-7]\"\n    - block: c\n      nodes: n8\n"),
    );
    site
}

#[test]
fn a_change_and_the_way_back_in_words() {
    let site = site_with_controller();
    let (target, scontrol) = (site.path("topology.yaml"), site.path("scontrol"));
    let run = |args: &[&str]| {
        let fixed = ["--target", &target, "--scontrol", &scontrol, "--allow-foreground", "--deadline", "20"];
        let run = topology_gen(&[&args[..1], &fixed, &args[1..]].concat());
        let words = run.words.replace(site.dir.path().to_str().unwrap(), "DIR");
        // The time in the name of a backup.
        let words: Vec<&str> =
            words.lines().map(|line| line.split("yaml.2").next().unwrap_or_default()).collect();
        format!("{} {}{}\n", run.code, run.data, words.join("\n"))
    };
    let new = site.path("new.yaml");
    let refused = site.path("refused.yaml");
    site.put("refused.yaml", &format!("# REFUSE\n{}", site.get("new.yaml")));
    let told = [
        run(&["apply", "--file", &new, "--dry-run", "--move-running-jobs"]),
        run(&["apply", "--file", &new]),
        run(&["apply", "--file", &refused, "--move-running-jobs"]),
        run(&["apply", "--file", &new, "--move-running-jobs"]),
        run(&["apply", "--file", &new]),
        run(&["rollback", "--move-running-jobs"]),
    ];
    insta::assert_snapshot!(told.concat(), @r#"
    1 topology "t": block c is new (n8)
    topology "t": n8 moves from b to c
    topology-gen: job 9 of alice runs on n8, which changes its block
    topology-gen: dry run: nothing was changed
    1 job 9 of alice runs on n8, which changes its block
    topology-gen: running jobs stand on trays that change their block
    topology-gen: hint: if these trays really moved, the jobs have lost their NVLink already: give --move-running-jobs
    topology-gen: nothing was changed
    1 topology-gen: job 9 of alice runs on n8, which changes its block
    topology-gen: the present file is kept as DIR/topology-backups/topology.
    topology-gen: wrote DIR/topology.yaml
    topology-gen: error: the controller refuses: DIR/scontrol reconfigure fails (exit status: 1): slurm_reconfigure error:Unspecified error; going back
    topology-gen: DIR/topology.yaml is as before
    topology-gen: error: the controller refuses: DIR/scontrol reconfigure fails (exit status: 1): slurm_reconfigure error:Unspecified error
    topology-gen: slurmctld: [now] fatal: this file is refused (simulated)
    topology-gen: rolled back: file and controller are as before
    0 topology "t": block c is new (n8)
    topology "t": n8 moves from b to c
    topology-gen: job 9 of alice runs on n8, which changes its block
    topology-gen: the present file is kept as DIR/topology-backups/topology.
    topology-gen: wrote DIR/topology.yaml
    topology-gen: the controller reports the new topology
    topology-gen: done: the new topology is in force
    0 topology-gen: DIR/topology.yaml and the controller are up to date; nothing was reloaded
    0 topology "t": block c is gone (n8)
    topology "t": n8 moves from c to b
    topology-gen: going back to DIR/topology-backups/topology.
    topology-gen: job 9 of alice runs on n8, which changes its block
    topology-gen: the present file is kept as DIR/topology-backups/topology.
    topology-gen: wrote DIR/topology.yaml
    topology-gen: the controller reports the new topology
    topology-gen: done: the new topology is in force
    "#);
    assert_eq!(topology_gen(&["rollback", "--list", "--target", &target]).data.lines().count(), 2);
    let none = run(&["rollback", "--to", "nothing"]);
    assert!(none.starts_with("2 ") && none.contains("hint: topology-gen rollback --list"), "{none}");
}
