//! `gpu-hours` on what sacct of Slurm 26.05.5 wrote: jobs of a test cluster of two racks of four trays with 4 GPUs each, some
//! of which still ran, one requeued, one suspended for a while, one without GPUs, and two that never ran.

use super::*;

const BLOCKS: &str = "- topology: nvlink\n  cluster_default: true\n  block:\n    block_sizes: [4]\n    blocks:\n      \
                      - {block: rack1, nodes: \"r01n[01-04]\"}\n      - {block: rack2, nodes: \"r02n[01-03]\"}\n";

/// Runs `gpu-hours` on that, with tray r02n04 in no block; paths in the words lose the folder.
fn gpu_hours(records: &str, more: &[&str]) -> Run {
    let site = Site::new(&[]);
    site.put("topology.yaml", BLOCKS);
    site.put("jobs.json", records);
    let (jobs, file) = (site.path("jobs.json"), site.path("topology.yaml"));
    let mut run = topology_gen(&[&["gpu-hours", &jobs, "--file", &file], more].concat());
    run.words = run.words.replace(site.dir.path().to_str().unwrap(), "DIR");
    run
}

fn recorded() -> &'static str {
    include_str!("../../../replay/tests/sacct/slurm-26.05.5.json")
}

#[test]
fn what_slurm_recorded_is_added_up() {
    let run = gpu_hours(recorded(), &[]);
    assert_eq!(run.code, 0, "{}", run.words);
    insta::assert_snapshot!(run.data, @r#"
    BLOCK  PARTITION  ACCOUNT  QOS     GPU HOURS  JOBS  SPANNING JOBS
    rack1  trays      chem     normal        0.3     1              1
    rack1  trays      chem     spare         0.0     1              1
    rack1  trays      physics  normal        0.0     2              0
    rack2  trays      chem     normal        0.2     1              1
    rack2  trays      chem     spare         0.0     1              1
    rack2  trays      physics  normal        0.0     3              0
    -      trays      chem     normal        0.2     1              1
    -      trays      chem     spare         0.0     1              1
    total                                    0.7     6              2
    "#);
    insta::assert_snapshot!(run.words, @r#"
    topology-gen: left out: 2 records, which never ran
    topology-gen: left out: 1 record, which had no GPUs
    "#);
}

#[test]
fn a_window_and_other_columns() {
    let run = gpu_hours(recorded(), &["--by", "account", "--since", "@1795361930", "--until", "@1795361940"]);
    assert_eq!(run.code, 0, "{}", run.words);
    insta::assert_snapshot!(run.data, @r#"
    ACCOUNT  GPU HOURS  JOBS  SPANNING JOBS
    chem           0.1     2              2
    physics        0.0     4              0
    total          0.1     6              2
    "#);
    insta::assert_snapshot!(run.words, @r#"
    topology-gen: counted from 20261122T153850Z to 20261122T153900Z
    topology-gen: left out: 2 records, which never ran
    topology-gen: left out: 1 record, which ran at other times
    topology-gen: left out: 1 record, which had no GPUs
    "#);
}

#[test]
fn the_same_as_csv_and_json() {
    insta::assert_snapshot!(gpu_hours(recorded(), &["--csv", "--by", "block,qos"]).data, @r#"
    block,qos,gpu_hours,jobs,spanning_jobs
    rack1,normal,0.327,3,1
    rack1,spare,0.027,1,1
    rack2,normal,0.174,4,1
    rack2,spare,0.007,1,1
    ,normal,0.160,1,1
    ,spare,0.007,1,1
    "#);
    let run = gpu_hours(recorded(), &["--json", "--by", "block", "--since", "2026-11-22"]);
    insta::assert_snapshot!(run.data, @r#"
    {
      "left_out": {
        "never_ran": 2,
        "outside_window": 0,
        "without_gpus": 1
      },
      "rows": [
        {
          "block": "rack1",
          "gpu_hours": 0.353,
          "jobs": 4,
          "spanning_jobs": 2
        },
        {
          "block": "rack2",
          "gpu_hours": 0.181,
          "jobs": 5,
          "spanning_jobs": 2
        },
        {
          "block": null,
          "gpu_hours": 0.167,
          "jobs": 2,
          "spanning_jobs": 2
        }
      ],
      "since": 1795305600,
      "total": {
        "gpu_hours": 0.701,
        "jobs": 6,
        "spanning_jobs": 2
      },
      "until": null,
      "version": 1
    }
    "#);
}

#[test]
fn what_cannot_be_added_up_is_named() {
    let mut words = gpu_hours("Slurm accounting storage is disabled", &[]).words;
    words.push_str(&gpu_hours(&recorded().replacen("\"dbd\"", "\"abc\"", 2), &[]).words);
    words.push_str(&gpu_hours(&recorded().replacen("r02n[01-02]", "r02n[02-01]", 1), &[]).words);
    words.push_str(&gpu_hours(recorded(), &["--since", "2026-11-23", "--until", "2026-11-22"]).words);
    words.push_str(&gpu_hours(recorded(), &["--since", "yesterday"]).words);
    words.push_str(&gpu_hours(recorded(), &["--topology", "none"]).words);
    let without = gpu_hours(&recorded().replace("\"gpu\"", "\"fpga\""), &[]);
    assert_eq!((without.code, without.data.as_str()), (0, ""));
    words.push_str(&without.words);
    insta::assert_snapshot!(words, @r#"
    topology-gen: error: DIR/jobs.json: line 1: not what sacct --json writes
      because: expected value at line 1 column 1
    hint: give it what `sacct --json` of Slurm 23.11 or later prints
    topology-gen: error: DIR/jobs.json: jobs of two clusters, "abc" and "dbd"; the blocks are those of one
    topology-gen: error: DIR/jobs.json: job 1: its nodes cannot be read
      because: range "02-01" runs backwards in host list item "r02n[02-01]"
    topology-gen: error: --since is not before --until
    error: invalid value 'yesterday' for '--since <TIME>': a time is YYYY-MM-DD or YYYY-MM-DDThh:mm[:ss] in UTC, from 1970 on, or @ with seconds since 1970

    For more information, try '--help'.
    topology-gen: error: no block topology called "none"
      topologies in the file: "nvlink"
    topology-gen: left out: 2 records, which never ran
    topology-gen: left out: 8 records, which had no GPUs
    topology-gen: hint: Slurm keeps GPUs only with AccountingStorageTRES=gres/gpu in slurm.conf
    "#);
}
