//! Whole runs of the program on simulated node lists: exit code, data, words and files.

use super::*;
use crate::fixture::{RACK_A, RACK_B, ZERO, node, node_list, rack, reading, silent};
use crate::source::extra;
use std::fs;

mod files;

struct Run {
    code: u8,
    data: String,
    words: String,
}

fn topology_gen(args: &[&str]) -> Run {
    let (mut data, mut words) = (Vec::new(), Vec::new());
    let all = std::iter::once("topology-gen").chain(args.iter().copied());
    let code = run_to_code(all, &mut data, &mut words);
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
fn help_lists_the_commands_and_exit_codes() {
    let run = topology_gen(&["--help"]);
    assert_eq!((run.code, run.words.as_str()), (0, ""));
    insta::assert_snapshot!(run.data, @r#"
    Reads which compute trays share an NVLink partition and writes Slurm's topology.yaml

    Usage: topology-gen <COMMAND>

    Commands:
      probe     Read this tray's GPUs through NVML and judge them
      collect   Ask all trays by a command, in parallel, and keep their readings in a file
      generate  Group all trays by NVLink partition and write topology.yaml
      check     Find everything in a topology.yaml that Slurm refuses, dies of, or takes in another sense
      diff      Tell what a topology.yaml changes for Slurm: exit code 0 nothing, 1 something
      apply     Bring a topology into force: check, back up, write, reload, verify; go back if Slurm refuses
      rollback  Bring a backup into force, in the same way
      why       Tell whether a job fits now, where, and if not, why
      convert   Turn a topology.conf into a topology.yaml, or back
      show      Show the blocks of a topology.yaml, and jobs on them, as a table and as SVG
      help      Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Exit codes: 0 done, 1 checked and found problems, 2 could not run.
    "#);
}

#[test]
fn help_of_generate() {
    insta::assert_snapshot!(topology_gen(&["generate", "--help"]).data, @r#"
    Group all trays by NVLink partition and write topology.yaml

    Usage: topology-gen generate [OPTIONS]

    Options:
          --nodes-json <FILE>
              Read the output of `scontrol show nodes --json` from a file, - for standard input, instead of asking Slurm

          --readings <FILE>
              Read a JSON object of node names and what `topology-gen probe` printed there, as `collect` writes it

          --nvidia-smi-csv <FILE>
              Read the CSV of nvidia-smi from many nodes, each line with `node: ` in front, - for standard input

          --csv-fields <FIELDS>
              The fields that were asked of nvidia-smi, when its CSV has no header
              
              [default: index,uuid,name,driver_version,fabric.state,fabric.status,fabric.cliqueId,fabric.clusterUuid]

          --nvidia-smi-folder <FOLDER>
              Read a folder with the output of `nvidia-smi -q` in one file for each node: NODE or NODE.txt

          --scontrol <PATH>
              The scontrol to run
              
              [default: scontrol]

          --timeout <SECONDS>
              Longest time to wait for one answer of the controller, in seconds
              
              [default: 60]

          --base-size <N>
              Base block size; without it the tray count of the largest NVLink partition, or a larger one of the previous file

          --expect-gpus <N>
              GPUs each tray should have; without it what Slurm's Gres says

          --ignore <HOSTLIST>
              Nodes to leave out of all blocks

          --topology <NAME>
              Name of the block topology
              
              [default: nvlink]

          --fresh
              Forget block names and positions of the present file

          --accept-partial
              Write the file though some trays are refused; these trays are left out

          --out <FILE>
              Write topology.yaml here; without it print to standard output

          --previous <FILE>
              Keep block names and positions of this file; without it of the output file

          --format <FORMAT>
              What to print when there is no output file

              Possible values:
              - yaml:  topology.yaml
              - table: A table of blocks
              - json:  Blocks and the reason of every node that is in none
              - svg:   A picture of the blocks
              
              [default: yaml]

      -h, --help
              Print help (see a summary with '-h')
    "#);
}

#[test]
fn help_of_probe_and_show() {
    insta::assert_snapshot!(topology_gen(&["probe", "--help"]).data, @r#"
    Read this tray's GPUs through NVML and judge them

    Usage: topology-gen probe [OPTIONS]

    Options:
          --extra              Print one line for `slurmd --extra` instead of the full reading
          --expect-gpus <N>    GPUs this tray should have; fewer are a fault
          --timeout <SECONDS>  Longest time to wait for the driver, in seconds [default: 60]
      -h, --help               Print help
    "#);
    insta::assert_snapshot!(topology_gen(&["show", "--help"]).data, @r#"
    Show the blocks of a topology.yaml, and jobs on them, as a table and as SVG

    Usage: topology-gen show [OPTIONS] [FILE]

    Arguments:
      [FILE]  The topology.yaml to show [default: /etc/slurm/topology.yaml]

    Options:
          --topology <NAME>  Which block topology of the file; without it the default one, else the first
          --jobs <FILE>      Job placement as JSON, - for standard input: {"jobs":[{"id":1,"name":"a","nodes":"n[1-4]"}]}
          --svg <FILE>       Write the picture to this file
          --title <TEXT>     Title of the picture [default: "NVLink partitions"]
      -h, --help             Print help
    "#);
}

#[test]
fn a_wrong_option_could_not_run() {
    let run = topology_gen(&["generate", "--base-size", "0"]);
    assert_eq!((run.code, run.data.as_str()), (2, ""));
    insta::assert_snapshot!(run.words, @r#"
    error: invalid value '0' for '--base-size <N>': 0 is not in 1..=65535

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
    BLOCK               TRAYS  FREE  NODES
    nvl-aaaaaaaa-32766      4     -  n[1-4]
    nvl-bbbbbbbb-32766      3     -  n[5-7]
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

#[test]
fn show_prints_the_table_and_draws_the_picture() {
    let site = Site::new(&[rack("n[1-4]", RACK_A), rack("n[5-8]", RACK_B)]);
    let out = site.path("topology.yaml");
    assert_eq!(site.generate(&["--out", &out]).code, 0);
    site.put(
        "jobs.json",
        r#"{"jobs":[{"id":12,"name":"train","nodes":"n[5-7]"},{"id":13,"name":"","nodes":"n[1,8]"}]}"#,
    );
    let run =
        topology_gen(&["show", &out, "--jobs", &site.path("jobs.json"), "--svg", &site.path("racks.svg")]);
    assert_eq!(run.code, 0, "{}", run.words);
    insta::assert_snapshot!(run.data, @r#"
    BLOCK               TRAYS  FREE  NODES
    nvl-aaaaaaaa-32766      4     3  n[1-4]
    nvl-bbbbbbbb-32766      4     0  n[5-8]

    JOB  NAME   PLACE                           BLOCKS
    12   train  3 trays in 1 NVLink partition   nvl-bbbbbbbb-32766 (3)
    13   -      2 trays in 2 NVLink partitions  nvl-aaaaaaaa-32766 (1), nvl-bbbbbbbb-32766 (1)
    "#);
    let svg = site.get("racks.svg");
    assert!(svg.starts_with("<svg ") && svg.contains("job 12 train: 3 trays in 1 NVLink partition"));
    let missing = topology_gen(&["show", &out, "--topology", "ib"]);
    assert_eq!(missing.code, 2);
    insta::assert_snapshot!(missing.words, @r#"
    topology-gen: error: no block topology called "ib"
      topologies in the file: "nvlink"
    "#);
}
