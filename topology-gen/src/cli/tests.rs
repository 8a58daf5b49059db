//! Whole runs of the program on simulated node lists: exit code, data, words and files.

use super::*;
use crate::fixture::{RACK_A, RACK_B, ZERO, node, node_list, rack, reading, silent};
use crate::source::extra;
use std::fs;

mod faults;
mod files;
mod gpu_hours;
mod help;
mod pictures;
mod plans;
mod simulate;

struct Run {
    code: u8,
    data: String,
    words: String,
}

fn topology_gen(args: &[&str]) -> Run {
    let (mut data, mut words) = (Vec::new(), Vec::new());
    let all = std::iter::once("topology-gen").chain(args.iter().copied());
    let code = run_to_code(all, &mut data, &mut words, Screen::default());
    Run { code, data: String::from_utf8(data).unwrap(), words: String::from_utf8(words).unwrap() }
}

/// A folder with a node list in it.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new(nodes: &[Vec<serde_json::Value>]) -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        site.put("nodes.json", &node_list(nodes));
        site
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn get(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs `generate` on the node list; paths in the words lose the folder.
    fn generate(&self, more: &[&str]) -> Run {
        let nodes = self.path("nodes.json");
        let mut run = topology_gen(&[&["generate", "--nodes-json", &nodes], more].concat());
        run.words = run.words.replace(self.dir.path().to_str().unwrap(), "DIR");
        run
    }
}

fn mixed_site() -> Site {
    let disagree = extra::write(&reading(&[RACK_A, RACK_A, RACK_B, RACK_B]));
    Site::new(&[
        rack("n[1-4]", RACK_A),
        rack("n[5-7]", RACK_B),
        vec![node("n8", &disagree, "gpu:gb200:4", &["IDLE"])],
        rack("h[1-2]", ZERO),
        vec![node("cpu1", "", "", &["IDLE"])],
        silent("n9"),
    ])
}

#[test]
fn a_wrong_option_could_not_run() {
    let run = topology_gen(&["generate", "--base-size", "0"]);
    assert_eq!((run.code, run.data.as_str()), (2, ""));
    insta::assert_snapshot!(run.words, @r#"
    error: invalid value '0' for '--base-size <N>': "0" is neither a number from 1 to 65535 nor one with a minus sign in front

    For more information, try '--help'.
    "#);
}

#[test]
fn a_clean_site_gives_a_file() {
    let site = Site::new(&[rack("n[1-4]", RACK_A), rack("n[5-8]", RACK_B)]);
    let run = site.generate(&["--out", &site.path("topology.yaml")]);
    assert_eq!((run.code, run.data.as_str()), (0, ""));
    insta::assert_snapshot!(run.words, @r#"
    topology-gen: 2 NVLink partitions, 8 trays in blocks, 0 nodes outside NVLink
    topology-gen: jobs and segments up to 4 trays stay in one NVLink partition
    topology-gen: wrote DIR/topology.yaml
    topology-gen: hint: load it with scontrol reconfigure
    "#);
    insta::assert_snapshot!(site.get("topology.yaml"), @r#"
    # topology.yaml for Slurm, written by slurm-nvlink's topology-gen
    # jobs and segments up to 4 trays stay in one NVLink partition
    ---
    - topology: nvlink
      cluster_default: true
      block:
        block_sizes: [4]
        blocks:
          - block: nvl-aaaaaaaa-32766
            nodes: "n[1-4]"
          - block: nvl-bbbbbbbb-32766
            nodes: "n[5-8]"
    "#);
    let again = site.generate(&["--out", &site.path("topology.yaml")]);
    assert_eq!(again.code, 0);
    assert!(again.words.ends_with("topology-gen: DIR/topology.yaml is up to date\n"), "{}", again.words);
}

#[test]
fn one_refused_tray_holds_the_file_back_and_is_listed() {
    let site = mixed_site();
    site.put("topology.yaml", "- topology: old\n  flat: true\n");
    let run = site.generate(&["--out", &site.path("topology.yaml")]);
    assert_eq!(run.code, 1);
    insta::assert_snapshot!(run.words, @r#"
    topology-gen: refused: n8: GPUs do not agree on one NVLink partition: GPU 0 -> aaaaaaaa-1111-4222-8333-444444444444.32766, GPU 1 -> aaaaaaaa-1111-4222-8333-444444444444.32766, GPU 2 -> bbbbbbbb-1111-4222-8333-444444444444.32766, GPU 3 -> bbbbbbbb-1111-4222-8333-444444444444.32766
    topology-gen: no reading: n9: no NVLink reading in its Extra field (the node is DOWN)
    topology-gen: outside NVLink: cpu1: no GPUs in its Gres
    topology-gen: outside NVLink: h[1-2]: no multi-node NVLink: the cluster UUID is zero
    topology-gen: 2 NVLink partitions, 7 trays in blocks, 3 nodes outside NVLink
    topology-gen: warning: n9: in no block, nothing is known of it
    topology-gen: hint: give partitions of nodes outside NVLink Topology=flat in slurm.conf
    topology-gen: jobs and segments up to 4 trays stay in one NVLink partition
    topology-gen: note: the cluster default stays topology "old" of the previous file
    topology-gen: DIR/topology.yaml is not touched
    topology-gen: hint: mend the refused trays, drop them with --ignore, or leave them out with --accept-partial
    "#);
    assert_eq!(site.get("topology.yaml"), "- topology: old\n  flat: true\n");
    let printed = site.generate(&[]);
    assert_eq!((printed.code, printed.data.as_str()), (1, ""));
}

#[test]
fn the_rest_is_written_when_partial_results_are_accepted() {
    let site = mixed_site();
    let run = site.generate(&["--accept-partial"]);
    assert_eq!(run.code, 1);
    insta::assert_snapshot!(run.data, @r#"
    # topology.yaml for Slurm, written by slurm-nvlink's topology-gen
    # jobs and segments up to 4 trays stay in one NVLink partition
    ---
    - topology: nvlink
      cluster_default: true
      block:
        block_sizes: [4]
        blocks:
          - block: nvl-aaaaaaaa-32766
            nodes: "n[1-4]"
          - block: nvl-bbbbbbbb-32766
            nodes: "n[5-7]"
    - topology: flat
      cluster_default: false
      flat: true
    "#);
}

#[test]
fn a_refused_tray_can_be_ignored() {
    let site = mixed_site();
    let run = site.generate(&["--ignore", "n8", "--format", "table"]);
    assert_eq!(run.code, 0);
    insta::assert_snapshot!(run.data, @r#"
    BLOCK               TRAYS  NODES
    nvl-aaaaaaaa-32766      4  n[1-4]
    nvl-bbbbbbbb-32766      3  n[5-7]
    "#);
}

#[test]
fn a_tray_that_falls_silent_keeps_its_place() {
    let site = Site::new(&[rack("n[1-4]", RACK_A), rack("n[5-8]", RACK_B)]);
    let out = site.path("topology.yaml");
    assert_eq!(site.generate(&["--out", &out]).code, 0);
    let before = site.get("topology.yaml");
    site.put("nodes.json", &node_list(&[silent("n[1-4]"), rack("n[5-7]", RACK_B), silent("n8")]));
    let run = site.generate(&["--out", &out]);
    assert_eq!((run.code, site.get("topology.yaml")), (0, before));
    insta::assert_snapshot!(run.words, @r#"
    topology-gen: no reading: n[1-4,8]: no NVLink reading in its Extra field (the node is DOWN)
    topology-gen: 1 NVLink partition, 8 trays in blocks, 0 nodes outside NVLink
    topology-gen: stale: n[1-4]: kept in nvl-aaaaaaaa-32766 where it was last
    topology-gen: stale: n8: kept in nvl-bbbbbbbb-32766 where it was last
    topology-gen: jobs and segments up to 4 trays stay in one NVLink partition
    topology-gen: today 5 trays can run no job: n[1-4,8]
    topology-gen: in topology nvlink (base size 4) Slurm's own topology/block lets jobs of these sizes wait for them: 4-8
    topology-gen: DIR/topology.yaml is up to date
    "#);
}

#[test]
fn nothing_valid_could_not_run_and_touches_nothing() {
    let site = Site::new(&[silent("n[1-4]"), rack("h1", ZERO)]);
    site.put("topology.yaml", "old text\n");
    let run = site.generate(&["--fresh", "--out", &site.path("topology.yaml")]);
    assert_eq!((run.code, site.get("topology.yaml").as_str()), (2, "old text\n"));
    insta::assert_snapshot!(run.words, @r#"
    topology-gen: no reading: n[1-4]: no NVLink reading in its Extra field (the node is DOWN)
    topology-gen: outside NVLink: h1: no multi-node NVLink: the cluster UUID is zero
    topology-gen: error: no tray with a usable NVLink partition was found
    hint: start slurmd on the trays with --extra "$(topology-gen probe --extra)", or collect topology-gen probe into --readings FILE
    "#);
    let flat = Site::new(&[rack("h[1-2]", ZERO)]).generate(&[]);
    assert_eq!(flat.code, 2);
    insta::assert_snapshot!(flat.words, @r#"
    topology-gen: outside NVLink: h[1-2]: no multi-node NVLink: the cluster UUID is zero
    topology-gen: error: no tray with a usable NVLink partition was found
    hint: without multi-node NVLink Slurm needs no topology.yaml; else see the reasons above
    "#);
}

#[test]
fn a_previous_file_that_cannot_be_read_is_never_overwritten() {
    let site = Site::new(&[rack("n[1-4]", RACK_A)]);
    site.put(
        "topology.yaml",
        "- topology: nvlink\n  block:\n    block_sizes: [4, 12]\n    blocks: [{block: a, nodes: n1}]\n",
    );
    let run = site.generate(&["--out", &site.path("topology.yaml")]);
    assert_eq!(run.code, 2);
    insta::assert_snapshot!(run.words, @r#"
    topology-gen: error: DIR/topology.yaml: line 3: bad block_sizes
      because: block size 12 is not the base size 4 times a power of two up to 2^15
    hint: mend the file, or give --fresh to plan without it: block names and positions then change
    "#);
    assert!(site.get("topology.yaml").contains("[4, 12]"));
    assert_eq!(site.generate(&["--fresh", "--out", &site.path("topology.yaml")]).code, 0);
}

#[test]
fn each_error_says_what_where_and_what_to_do() {
    let site = Site::new(&[rack("n[1-4]", RACK_A)]);
    let mut words = site.generate(&["--base-size", "5"]).words;
    words.push_str(&site.generate(&["--out", "/proc/none/topology.yaml"]).words);
    site.put("nodes.json", "slurm_load_node error: Unable to contact slurm controller");
    words.push_str(&site.generate(&[]).words);
    site.put("readings.json", "[]");
    words.push_str(&topology_gen(&["generate", "--readings", &site.path("readings.json")]).words);
    words.push_str(&topology_gen(&["generate", "--nodes-json", "/no/file"]).words);
    words.push_str(&topology_gen(&["generate", "--scontrol", "/no/scontrol"]).words);
    words.push_str(&topology_gen(&["show", "/no/topology.yaml"]).words);
    let own_id = format!(".{}.", std::process::id());
    let words = words.replace(site.dir.path().to_str().unwrap(), "DIR").replace(&own_id, ".ID.");
    insta::assert_snapshot!(words, @r#"
    topology-gen: error: base size 5 is larger than the largest NVLink partition, which has 4 trays
    hint: give a base size up to the trays of the largest NVLink partition
    topology-gen: 1 NVLink partition, 4 trays in blocks, 0 nodes outside NVLink
    topology-gen: jobs and segments up to 4 trays stay in one NVLink partition
    topology-gen: error: cannot write a temporary file /proc/none/.topology.yaml.ID.tmp
      because: No such file or directory (os error 2)
    topology-gen: error: Slurm's node list is not JSON of the expected form
      because: expected value at line 1 column 1
    hint: compare with `scontrol show nodes --json`; it needs Slurm's JSON support (serializer/json)
    topology-gen: error: DIR/readings.json: readings are not a JSON object of node names
      because: invalid type: sequence, expected a map at line 1 column 0
    topology-gen: error: cannot read /no/file
      because: No such file or directory (os error 2)
    topology-gen: error: cannot run /no/scontrol
      because: No such file or directory (os error 2)
    hint: run this where Slurm's commands are installed, or give --scontrol PATH or --nodes-json FILE
    topology-gen: error: cannot read /no/topology.yaml
      because: No such file or directory (os error 2)
    "#);
}

#[test]
fn readings_collected_by_hand_work_too() {
    let site = Site::new(&[]);
    let tray = serde_json::to_value(reading(&[RACK_A; 4])).unwrap();
    let readings = serde_json::json!({"n1": tray, "n2": tray, "n3": null, "n4": "NVIDIA-SMI has failed"});
    site.put("readings.json", &readings.to_string());
    let run = topology_gen(&["generate", "--readings", &site.path("readings.json"), "--format", "json"]);
    assert_eq!(run.code, 0, "{}", run.words);
    insta::assert_snapshot!(run.data, @r#"
    {
      "block_sizes": [
        2
      ],
      "blocks": [
        {
          "name": "nvl-aaaaaaaa-32766",
          "nodes": "n[1-2]",
          "nvlink_partition": "aaaaaaaa-1111-4222-8333-444444444444.32766",
          "stale": "",
          "trays": 2
        }
      ],
      "changes": [
        "block nvl-aaaaaaaa-32766 is new"
      ],
      "guarantee": "jobs and segments up to 2 trays stay in one NVLink partition",
      "outside": [],
      "pending": [],
      "rejected": [],
      "silent": [
        {
          "node": "n3",
          "why": "no reading"
        },
        {
          "node": "n4",
          "why": "not a reading: invalid type: string \"NVIDIA-SMI has failed\", expected struct TrayReading"
        }
      ],
      "tiers": [],
      "today": null,
      "topologies": [
        {
          "cluster_default": true,
          "name": "nvlink"
        }
      ],
      "unplaced": "n[3-4]",
      "version": 1,
      "warnings": []
    }
    "#);
}
