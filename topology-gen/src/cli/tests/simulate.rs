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

#[test]
fn traces_of_other_sites_are_read_by_their_endings() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let swf = put("a.swf", "; made up\n1 0 0 600 8 -1 -1 8 900 -1 1\n2 5 0 -1 8 -1 -1 8 900 -1 5\n");
    let small = ["--racks", "1", "--trays", "4", "--warm-up-hours", "0", "--processors-per-tray", "4"];
    let run = topology_gen(&[&["simulate", "--workload", &swf], &small[..]].concat());
    assert_eq!(run.code, 0, "{}", run.words);
    assert!(run.words.contains("a.swf: 1 jobs never ran there and are left out"), "{}", run.words);
    let html = folder.path().join("out.html").display().to_string();
    let charts = folder.path().join("new/charts").display().to_string();
    let json = put(
        "b.json",
        "{\"jobs\":[{\"job_id\":7,\"allocation_nodes\":2,\"time\":{\"elapsed\":60,\"submission\":5}}]}",
    );
    let out = ["--html", &html, "--svg", &charts];
    let run = topology_gen(&[&["simulate", "--workload", &json], &small[..], &out[..]].concat());
    assert_eq!(run.code, 0, "{}", run.words);
    assert!(std::fs::read_to_string(&html).unwrap().ends_with("</html>\n"));
    assert!(
        std::fs::read_to_string(folder.path().join("new/charts/waits.svg")).unwrap().ends_with("</svg>\n")
    );
    let run = topology_gen(&["simulate", "--workload", &json, "--format", "swf"]);
    assert_eq!(run.code, 2);
    assert!(
        run.words.contains("b.json: line 1: 1 fields; the Standard Workload Format has 18"),
        "{}",
        run.words
    );
}
