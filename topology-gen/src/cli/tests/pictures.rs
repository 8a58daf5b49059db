//! What `show` draws, and the examples of it in the documentation.

use super::*;
use fabric::HostList;
use std::path::Path;

/// Set to write the examples anew.
const WRITE: &str = "TOPOLOGY_GEN_WRITE_DOC";

const FIRST: &str = "3c9b1e52-7a41-4d0e-9f63-5b1d8ae20c01";
const SECOND: &str = "a45f0d97-61c8-4b3a-8e15-0c7e94d3b602";
const THIRD: &str = "5d20c7b8-1f94-4a6e-b3d7-92c41e08fa03";
const FOURTH: &str = "e81f3a6c-0b52-4c97-a1d4-6f7e2b93dc04";

/// Four racks at work (simulated), the third cut into two NVLink partitions.
fn four_racks() -> Site {
    let racks = [
        ("r01n[01-18]", format!("{FIRST}.32766")),
        ("r02n[01-18]", format!("{SECOND}.32766")),
        ("r03n[01-09]", format!("{THIRD}.1")),
        ("r03n[10-18]", format!("{THIRD}.2")),
        ("r04n[01-18]", format!("{FOURTH}.32766")),
    ];
    let mut nodes: Vec<serde_json::Value> =
        racks.iter().flat_map(|(nodes, id)| crate::fixture::rack(nodes, id)).collect();
    let jobs = [
        (4311, "pretrain", "ada", "r01n[01-16]"),
        (4327, "finetune", "grace", "r02n[01-12]"),
        (4330, "eval", "alan", "r02n[13-14]"),
        (4332, "sweep", "alan", "r03n[01-08]"),
        (4335, "wide", "ada", "r03n[10-17],r04n[01-08]"),
        (4340, "notebook", "edsger", "r04n09"),
        (4341, "notebook", "barbara", "r04n09"),
        (4342, "debug", "grace", "r04n11"),
    ];
    let busy = |node: &str| {
        jobs.iter().any(|(.., nodes)| HostList::parse(nodes).unwrap().iter().any(|n| n.as_str() == node))
    };
    for node in &mut nodes {
        let name = node["name"].as_str().unwrap().to_owned();
        node["state"] = match name.as_str() {
            "r04n09" => serde_json::json!(["MIXED"]),
            "r04n11" => serde_json::json!(["ALLOCATED", "DRAIN"]),
            "r02n17" => serde_json::json!(["IDLE", "DRAIN"]),
            "r04n14" => serde_json::json!(["DOWN", "NOT_RESPONDING"]),
            "r04n17" | "r04n18" => serde_json::json!(["IDLE", "RESERVED"]),
            "r03n09" => serde_json::json!(["IDLE", "CLOUD", "POWERED_DOWN"]),
            name if busy(name) => serde_json::json!(["ALLOCATED"]),
            _ => serde_json::json!(["IDLE"]),
        };
    }
    let site = Site::new(&[nodes]);
    let jobs: Vec<serde_json::Value> = jobs
        .iter()
        .map(|(id, name, user, nodes)| serde_json::json!({"id": id, "name": name, "user": user, "nodes": nodes}))
        .collect();
    site.put("jobs.json", &serde_json::json!({ "jobs": jobs }).to_string());
    assert_eq!(site.generate(&["--base-size", "18", "--out", &site.path("topology.yaml")]).code, 0);
    site
}

fn show(site: &Site, more: &[&str]) -> Run {
    let (file, nodes, jobs) = (site.path("topology.yaml"), site.path("nodes.json"), site.path("jobs.json"));
    let run = topology_gen(&[&["show", &file, "--nodes-json", &nodes, "--jobs", &jobs], more].concat());
    assert_eq!(run.code, 0, "{}", run.words);
    run
}

/// The example in the documentation is what the program draws today.
fn is_current(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("doc").join(name);
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "{} is not what the program draws; {WRITE}=1 cargo test -p topology-gen writes it",
        path.display()
    );
}

#[test]
fn the_examples_in_the_documentation_are_current() {
    let site = four_racks();
    let title = "NVLink partitions of four racks (simulated)";
    let (svg, html) = (site.path("racks.svg"), site.path("racks.html"));
    let run = show(&site, &["--title", title, "--svg", &svg, "--html", &html, "--width", "100"]);
    is_current("racks.txt", &run.data);
    is_current("racks.svg", &site.get("racks.svg"));
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = fs::read_to_string(&readme).unwrap();
    if std::env::var_os(WRITE).is_some() {
        let (before, rest) = text.split_once(title).unwrap();
        let (_, after) = rest.split_once("```").unwrap();
        fs::write(&readme, format!("{before}{}```{after}", run.data)).unwrap();
    }
    let text = fs::read_to_string(&readme).unwrap();
    assert!(text.contains(&run.data), "README.md does not show doc/racks.txt as it is; see {WRITE}");
    assert!(site.get("racks.html").contains(&site.get("racks.svg")));
}

#[test]
fn help_of_show() {
    insta::assert_snapshot!(topology_gen(&["show", "--help"]).data, @r#"
    Draw racks, trays, jobs and what still fits: in the terminal, as SVG, as a page

    Usage: topology-gen show [OPTIONS] [FILE]

    Arguments:
      [FILE]
              Show the blocks of this topology.yaml instead of asking the controller for everything
              
              - for standard input.

    Options:
          --nodes-json <FILE>
              Take the trays from the output of `scontrol show nodes --json` in a file

          --readings <FILE>
              Take the NVLink partitions from a file of readings, as `collect` writes it

          --jobs <FILE>
              Take the jobs from a JSON file
              
              - for standard input: {"jobs":[{"id":1,"name":"a","nodes":"n[1-4]"}]}

          --topology <NAME>
              Which block topology; without it the default one, else the first

          --svg <FILE>
              Write the picture to this file

          --html <FILE>
              Write a page with the picture and the same in tables to this file

          --title <TEXT>
              Title; without it the cluster and the time

          --color <WHEN>
              Colours in the terminal

              Possible values:
              - auto:   In a terminal, unless NO_COLOR is set
              - always: Also into a file
              - never:  Characters only
              
              [default: auto]

          --width <N>
              Columns of the terminal; without it as many as it has

          --scontrol <PATH>
              The scontrol to run
              
              [default: scontrol]

          --timeout <SECONDS>
              Longest time to wait for one answer of the controller, in seconds
              
              [default: 60]

      -h, --help
              Print help (see a summary with '-h')
    "#);
}

#[test]
fn a_file_alone_is_drawn_without_states() {
    let site = four_racks();
    let run = topology_gen(&["show", &site.path("topology.yaml"), "--title", "t"]);
    assert!(
        run.data.contains("72 trays in 5 NVLink partitions\n") && !run.data.contains("fit now"),
        "{}",
        run.data
    );
    let missing = topology_gen(&["show", &site.path("topology.yaml"), "--topology", "ib"]);
    assert_eq!(missing.code, 2);
    insta::assert_snapshot!(missing.words, @r#"
    topology-gen: error: no block topology called "ib"
      topologies in the file: "nvlink"
    "#);
}

#[test]
fn a_saved_inventory_is_drawn_by_its_partitions() {
    let site = four_racks();
    let nodes = topology_gen(&["show", "--nodes-json", &site.path("nodes.json"), "--title", "t"]);
    assert!(
        nodes.data.contains("54 allocated, 1 mixed") && nodes.data.contains("┌ nvl-5d20c7b8-1 "),
        "{}",
        nodes.data
    );
    let tray = serde_json::to_value(reading(&[RACK_A; 4])).unwrap();
    site.put("readings.json", &serde_json::json!({"n1": tray, "n2": tray, "n3": null}).to_string());
    let run = topology_gen(&["show", "--readings", &site.path("readings.json"), "--title", "t"]);
    assert!(run.data.contains("2 trays in 1 NVLink partition\n"), "{}{}", run.data, run.words);
}

#[test]
fn a_tray_in_no_block_is_not_lost() {
    let site = Site::new(&[rack("n[1-4]", RACK_A), rack("n[5-7]", RACK_B)]);
    site.put("t.yaml", "topology: t\nblock: {block_sizes: [4], blocks: [{block: a, nodes: 'n[1-4]'}]}\n");
    let run = topology_gen(&[
        "show",
        &site.path("t.yaml"),
        "--nodes-json",
        &site.path("nodes.json"),
        "--title",
        "t",
    ]);
    assert!(run.data.contains("  in no block: ···\n"), "{}", run.data);
}

#[test]
fn colours_come_when_asked_for() {
    let site = four_racks();
    assert!(show(&site, &["--color", "always"]).data.contains('\u{1b}'));
    assert!(!show(&site, &[]).data.contains('\u{1b}'));
}

/// The controller and squeue are shell scripts (simulated).
#[test]
fn the_live_picture_takes_three_questions() {
    let site = Site::new(&[rack("n[1-2]", RACK_A)]);
    let script = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        site.put(name, &format!("#!/bin/sh\nhere=$(dirname \"$0\"); echo \"$(basename \"$0\") $*\" >>\"$here/calls\"\n{text}\n"));
        fs::set_permissions(site.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    site.put("topoconf", "topology: t\nblock: {block_sizes: [2], blocks: [{block: a, nodes: 'n[1-2]'}]}\n");
    script("scontrol", "[ \"$2\" = topoconf ] && exec cat \"$here/topoconf\"; exec cat \"$here/nodes.json\"");
    script(
        "squeue",
        "for word; do case $word in --format=*) mark=${word#--format=}; mark=${mark%%|*};; esac; done; echo \"$mark|7|ada|n2|a job\"",
    );
    let run = topology_gen(&["show", "--scontrol", &site.path("scontrol"), "--title", "t"]);
    assert_eq!(run.code, 0, "{}", run.words);
    assert!(
        run.data.contains("  a  · A   1 idle") && run.data.contains("A  7    a job  ada       1  a\n"),
        "{}",
        run.data
    );
    let calls = site.get("calls");
    let calls: Vec<&str> =
        calls.lines().map(|line| line.split(" --format").next().unwrap_or_default()).collect();
    assert_eq!(
        calls,
        [
            "scontrol show topoconf",
            "scontrol show nodes --json",
            "squeue --all --noheader --states=R,S,CG,CF,SO"
        ]
    );
    let title = topology_gen(&["show", "--scontrol", &site.path("scontrol")]).data;
    let first = title.lines().next().unwrap_or_default();
    assert!(first.starts_with("NVLink partitions, 20") && first.ends_with(" UTC"), "{first}");
    let gone = topology_gen(&["show", "--scontrol", "/bin/false"]);
    assert!(gone.code == 2 && gone.words.contains("hint: check that slurmctld answers"), "{}", gone.words);
}
