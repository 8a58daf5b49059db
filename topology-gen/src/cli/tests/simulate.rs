//! `simulate` on small workloads.

use super::*;

#[test]
fn a_small_site_is_replayed_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(
        file("jobs.csv"),
        "submit,trays,run,limit\n0,3,600,600\n10,4,600,600\n20,1,300,300\n30,2,60,60\n",
    )
    .unwrap();
    let Run { code, data, words } = topology_gen(&[
        "simulate",
        "--workload",
        &file("jobs.csv"),
        "--racks",
        "2",
        "--trays",
        "4",
        "--unavailable",
        "0",
        "--warm-up-hours",
        "0",
        "--json",
        &file("out.json"),
    ]);
    assert_eq!(code, 0, "{words}");
    assert!(data.contains("2 racks of 4 trays; jobs of"), "{data}");
    assert!(words.contains("seed 1: 4 jobs placed by ours") && words.contains("placed by naive"), "{words}");
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(file("out.json")).unwrap()).unwrap();
    assert_eq!((&json["runs"][0]["placer"], &json["runs"][0]["broken"]), (&"ours".into(), &0.into()));
    // At 0 and 60 ours gives the jobs of 3 and 4 a rack each; naive puts 4 over both.
    assert_eq!(json["runs"][1]["broken"], 1);
}

#[test]
fn what_cannot_be_replayed_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.csv").display().to_string();
    std::fs::write(&path, "submit,trays,run\n0,0,600\n").unwrap();
    let Run { code, words, .. } = topology_gen(&["simulate", "--workload", &path]);
    assert_eq!(code, 2);
    assert!(words.contains("jobs.csv: line 2: a job of 0 trays; 1 to 1000000 can be replayed"), "{words}");
    let Run { code, words, .. } = topology_gen(&["simulate", "--split-racks", "4", "--jobs", "1"]);
    assert_eq!(code, 2);
    assert!(words.contains("a rack of 18 trays cannot be split into 4 NVLink partitions"), "{words}");
    let Run { code, words, .. } = topology_gen(&["simulate", "--segments", "x"]);
    assert_eq!(code, 2);
    assert!(words.contains("\"x\" is no rule such as 17-:16"), "{words}");
}
