//! Policies of the plan: base sizes, service tiers, a site map, and what is printed for others.

use super::*;
use crate::fixture::RACK_C;

const UUID_A: &str = "aaaaaaaa-1111-4222-8333-444444444444";

fn racks() -> Site {
    Site::new(&[rack("n[1-4]", RACK_A), rack("n[5-8]", RACK_B)])
}

#[test]
fn tiers_lie_over_the_same_blocks_and_follow_them() {
    let site = racks();
    let out = site.path("topology.yaml");
    let run = site.generate(&["--out", &out, "--tier", "spare=-1", "--tier", "small=2"]);
    assert_eq!(run.code, 0, "{}", run.words);
    insta::assert_snapshot!(site.get("topology.yaml"), @r#"
    # topology.yaml for Slurm, written by slurm-nvlink's topology-gen
    # jobs and segments up to 4 trays stay in one NVLink partition
    # topology spare: up to 3 trays
    # topology small: up to 2 trays
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
    - topology: spare
      cluster_default: false
      block:
        block_sizes: [3]
        blocks:
          - block: nvl-aaaaaaaa-32766
            nodes: "n[1-4]"
          - block: nvl-bbbbbbbb-32766
            nodes: "n[5-8]"
    - topology: small
      cluster_default: false
      block:
        block_sizes: [2]
        blocks:
          - block: nvl-aaaaaaaa-32766
            nodes: "n[1-4]"
          - block: nvl-bbbbbbbb-32766
            nodes: "n[5-8]"
    "#);
    // A tray moves and another is drained: all tiers follow without being named.
    let mut moved = node("n4", &extra::write(&reading(&[RACK_B; 4])), "gpu:4", &["IDLE", "DRAIN"]);
    moved["name"] = "n4".into();
    site.put("nodes.json", &node_list(&[rack("n[1-3]", RACK_A), vec![moved], rack("n[5-8]", RACK_B)]));
    let run = site.generate(&["--out", &out, "--tier", "small=none"]);
    assert_eq!(run.code, 0, "{}", run.words);
    insta::assert_snapshot!(run.words, @r#"
    topology-gen: 2 NVLink partitions, 8 trays in blocks, 0 nodes outside NVLink
    topology-gen: change: node n4 moves from nvl-aaaaaaaa-32766 to nvl-bbbbbbbb-32766
    topology-gen: change: base size was 4, now 5
    topology-gen: jobs and segments up to 5 trays stay in one NVLink partition
    topology-gen: topology spare: up to 4 trays
    topology-gen: today 1 tray can run no job: n4
    topology-gen: in topology nvlink (base size 5) Slurm's own topology/block lets jobs of these sizes wait for them: 5,8
    topology-gen: in topology spare (base size 4) Slurm's own topology/block lets jobs of these sizes wait for them: 8
    topology-gen: wrote DIR/topology.yaml
    topology-gen: hint: load it with scontrol reconfigure
    "#);
    insta::assert_snapshot!(site.get("topology.yaml"), @r#"
    # topology.yaml for Slurm, written by slurm-nvlink's topology-gen
    # jobs and segments up to 5 trays stay in one NVLink partition
    # topology spare: up to 4 trays
    ---
    - topology: nvlink
      cluster_default: true
      block:
        block_sizes: [5]
        blocks:
          - block: nvl-aaaaaaaa-32766
            nodes: "n[1-3]"
          - block: nvl-bbbbbbbb-32766
            nodes: "n[4-8]"
    - topology: spare
      cluster_default: false
      block:
        block_sizes: [4]
        blocks:
          - block: nvl-aaaaaaaa-32766
            nodes: "n[1-3]"
          - block: nvl-bbbbbbbb-32766
            nodes: "n[4-8]"
    "#);
    let tiers = topology_gen(&["tiers", &out, "--blocks", "--qos"]);
    assert_eq!(tiers.code, 0, "{}", tiers.words);
    insta::assert_snapshot!(tiers.data, @r#"
    # Slurm partitions for topology.yaml, written by slurm-nvlink's topology-gen
    # nvlink: jobs and segments up to 5 nodes stay in one NVLink partition
    PartitionName=nvlink Topology=nvlink Nodes=n[1-8] QOS=nvlink
    # spare: jobs and segments up to 4 nodes stay in one NVLink partition
    PartitionName=spare Topology=spare Nodes=n[1-8] QOS=spare
    # one Slurm partition for each NVLink partition
    PartitionName=nvl-aaaaaaaa-32766 Topology=nvlink Nodes=n[1-3] QOS=nvl-aaaaaaaa-32766
    PartitionName=nvl-bbbbbbbb-32766 Topology=nvlink Nodes=n[4-8] QOS=nvl-bbbbbbbb-32766
    "#);
    insta::assert_snapshot!(topology_gen(&["tiers", &out, "--blocks", "--format", "sacctmgr"]).data, @r#"
    # QOS for the tiers of topology.yaml, written by slurm-nvlink's topology-gen
    sacctmgr -i add qos nvlink || true
    sacctmgr -i modify qos nvlink set MaxTRESPerJob=node=5 Flags=DenyOnLimit
    sacctmgr -i add qos spare || true
    sacctmgr -i modify qos spare set MaxTRESPerJob=node=4 Flags=DenyOnLimit
    sacctmgr -i add qos nvl-aaaaaaaa-32766 || true
    sacctmgr -i modify qos nvl-aaaaaaaa-32766 set GrpTRES=node=3 Flags=DenyOnLimit
    sacctmgr -i add qos nvl-bbbbbbbb-32766 || true
    sacctmgr -i modify qos nvl-bbbbbbbb-32766 set GrpTRES=node=5 Flags=DenyOnLimit
    "#);
}

#[test]
fn what_waits_for_missing_trays_is_told_for_each_tier() {
    let drained = |name: &str, id: &str| {
        vec![node(name, &extra::write(&reading(&[id; 4])), "gpu:4", &["IDLE", "DRAIN"])]
    };
    let site = Site::new(&[
        rack("n[1-3]", RACK_A),
        drained("n4", RACK_A),
        rack("n[5-7]", RACK_B),
        drained("n8", RACK_B),
    ]);
    let run = site.generate(&["--tier", "spare=-1"]);
    insta::assert_snapshot!(run.words, @r#"
    topology-gen: 2 NVLink partitions, 8 trays in blocks, 0 nodes outside NVLink
    topology-gen: jobs and segments up to 4 trays stay in one NVLink partition
    topology-gen: topology spare: up to 3 trays
    topology-gen: today 2 trays can run no job: n[4,8]
    topology-gen: in topology nvlink (base size 4) Slurm's own topology/block lets jobs of these sizes wait for them: 4,7-8
    topology-gen: in topology spare (base size 3) Slurm's own topology/block lets jobs of these sizes wait for them: 7-8
    "#);
}

#[test]
fn programs_get_tiers_and_missing_trays_too() {
    let away = vec![node("n4", &extra::write(&reading(&[RACK_A; 4])), "gpu:4", &["DOWN"])];
    let site = Site::new(&[rack("n[1-3]", RACK_A), away]);
    let run = site.generate(&["--tier", "spare=-1", "--format", "json"]);
    let value: serde_json::Value = serde_json::from_str(&run.data).unwrap();
    insta::assert_snapshot!(format!("{}\n{}", value["tiers"], value["today"]), @r#"
    [{"block_sizes":[3],"name":"spare"}]
    {"away":"n4","waiting":[{"base_size":4,"job_sizes":"4","topology":"nvlink"},{"base_size":3,"job_sizes":"4","topology":"spare"}]}
    "#);
}

#[test]
fn a_tier_never_takes_the_place_of_something_else() {
    let site = racks();
    site.put("topology.yaml", "- topology: ib\n  tree: {switches: [{switch: s1, nodes: 'n[1-8]'}]}\n");
    let mut words = String::new();
    for tier in ["ib=3", "nvlink=3", "flat=3", "x=-4", "x=5", "x", "x=0"] {
        let run = site.generate(&["--out", &site.path("topology.yaml"), "--tier", tier]);
        assert_eq!(run.code, 2);
        words.push_str(&run.words);
    }
    insta::assert_snapshot!(words, @r#"
    topology-gen: error: there is another topology called "ib"
    hint: give the tier another name
    topology-gen: error: there is another topology called "nvlink"
    hint: give the tier another name
    topology-gen: error: there is another topology called "flat"
    hint: give the tier another name
    topology-gen: error: with 4 trays to spare nothing is left of the largest NVLink partition, which has 4
    hint: spare fewer trays
    topology-gen: error: base size 5 is larger than the largest NVLink partition, which has 4 trays
    hint: give a base size up to the trays of the largest NVLink partition
    error: invalid value 'x' for '--tier <NAME=SIZE>': "x" is not of the form NAME=SIZE
    
    For more information, try '--help'.
    error: invalid value 'x=0' for '--tier <NAME=SIZE>': the size of tier x is wrong
    
    For more information, try '--help'.
    "#);
    insta::assert_snapshot!(topology_gen(&["tiers", &site.path("topology.yaml")]).words, @r#"
    topology-gen: error: there is no block topology with a name in this file
    hint: topology-gen generate --tier NAME=-1 makes one with a tray to spare
    "#);
}

#[test]
fn a_site_map_names_and_places_the_racks() {
    let site = racks();
    let out = site.path("topology.yaml");
    assert_eq!(site.generate(&["--out", &out]).code, 0);
    let map = format!(
        "block,domain,clique,nodes,row\nrack2,,,n[5-8],row1\nrack1,{UUID_A},,,row1\nrack3,,,,row2\nrack4,,,,row2\n"
    );
    site.put("map.csv", &map);
    let with_map = ["--out", &out, "--site-map", &site.path("map.csv")];
    let run = site.generate(&with_map);
    assert_eq!(run.code, 0, "{}", run.words);
    insta::assert_snapshot!(run.words, @r#"
    topology-gen: 2 NVLink partitions, 8 trays in blocks, 0 nodes outside NVLink
    topology-gen: change: block nvl-aaaaaaaa-32766 is now called rack1
    topology-gen: change: block rack1 moves from position 0 to 1
    topology-gen: change: block nvl-bbbbbbbb-32766 is now called rack2
    topology-gen: change: block rack2 moves from position 1 to 0
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
        block_sizes: [4, 8]
        blocks:
          - block: rack2
            nodes: "n[5-8]"
          - block: rack1
            nodes: "n[1-4]"
          - block: rack3
          - block: rack4
    "#);
    let before = site.get("topology.yaml");
    // A rack falls silent, and half of the other one is cut off: names and places stay.
    let half = format!("{UUID_A}.7");
    site.put("nodes.json", &node_list(&[rack("n[1-2]", RACK_A), rack("n[3-4]", &half), silent("n[5-8]")]));
    let run = site.generate(&with_map);
    assert_eq!(run.code, 0, "{}", run.words);
    let blocks: Vec<String> = site
        .get("topology.yaml")
        .lines()
        .filter_map(|line| Some(line.trim().split_once(": ")?.1.trim_matches('"').to_owned()))
        .skip(2)
        .collect();
    assert_eq!(
        blocks,
        ["[4, 8]", "rack2", "n[5-8]", "rack1", "n[3-4]", "rack3", "rack4", "rack1-32766", "n[1-2]"]
    );
    // And back: the same bytes as before.
    site.put("nodes.json", &node_list(&[rack("n[1-4]", RACK_A), rack("n[5-8]", RACK_B)]));
    assert_eq!(site.generate(&with_map).code, 0);
    assert_eq!(site.get("topology.yaml"), before);
    site.put("map.csv", "rack,uuid\n");
    let run = site.generate(&with_map);
    assert_eq!(run.code, 2);
    insta::assert_snapshot!(run.words, @r#"
    topology-gen: error: DIR/map.csv: line 1: column "rack" is unknown or comes twice; known are ["block", "domain", "clique", "nodes", "row", "hall"]
    "#);
}

#[test]
fn the_same_truth_for_slurm_and_kubernetes() {
    let with = |name: &str, features: &[&str]| {
        let mut value = node(name, &extra::write(&reading(&[RACK_C; 4])), "gpu:4", &["IDLE"]);
        value["features"] = features.into();
        value
    };
    let own = vec![
        with("n9", &["gb200", "nvlink/nvl-aaaaaaaa-32766"]),
        with("n10", &["nvlink/nvl-cccccccc-32766"]),
        with("n11", &[]),
    ];
    let site = Site::new(&[rack("n[1-4]", RACK_A), own, vec![node("cpu1", "", "", &["IDLE"])]]);
    let mut all = String::new();
    for format in ["conf", "nodesets", "features", "extra", "labels", "slinky"] {
        let run = site.generate(&["--format", format]);
        assert_eq!(run.code, 0, "{}", run.words);
        all.push_str(&format!("--- {format}\n{}", run.data));
    }
    insta::assert_snapshot!(all, @r#"
    --- conf
    # topology.conf for Slurm, written by slurm-nvlink's topology-gen
    BlockName=nvl-aaaaaaaa-32766 Nodes=n[1-4]
    BlockName=nvl-cccccccc-32766 Nodes=n[9-11]
    BlockSizes=4
    --- nodesets
    # NodeSets for slurm.conf, written by slurm-nvlink's topology-gen
    NodeSet=nvl-aaaaaaaa-32766 Nodes=n[1-4]
    NodeSet=nvl-cccccccc-32766 Nodes=n[9-11]
    --- features
    scontrol update nodename=n9 availablefeatures=gb200,nvlink/nvl-cccccccc-32766
    scontrol update nodename='n[1-4]' availablefeatures=nvlink/nvl-aaaaaaaa-32766
    scontrol update nodename=n11 availablefeatures=nvlink/nvl-cccccccc-32766
    --- extra
    scontrol update nodename='n[1-4]' extra='{"nvlink":{"v":1,"driver":"580.95.05","gpus":[{"i":[0,1,2,3],"id":"aaaaaaaa-1111-4222-8333-444444444444.32766","state":3,"status":0,"mask":426,"health":1}]}}'
    scontrol update nodename='n[9-11]' extra='{"nvlink":{"v":1,"driver":"580.95.05","gpus":[{"i":[0,1,2,3],"id":"cccccccc-1111-4222-8333-444444444444.32766","state":3,"status":0,"mask":426,"health":1}]}}'
    --- labels
    kubectl label --overwrite node n1 n2 n3 n4 nvidia.com/gpu.clique=aaaaaaaa-1111-4222-8333-444444444444.32766
    kubectl label --overwrite node n9 n10 n11 nvidia.com/gpu.clique=cccccccc-1111-4222-8333-444444444444.32766
    --- slinky
    kubectl annotate --overwrite node n1 n2 n3 n4 topology.slinky.slurm.net/spec=nvlink:nvl-aaaaaaaa-32766
    kubectl annotate --overwrite node n9 n10 n11 topology.slinky.slurm.net/spec=nvlink:nvl-cccccccc-32766
    "#);
    let readings = site.path("readings.json");
    let tray = serde_json::to_value(reading(&[RACK_A; 4])).unwrap();
    site.put("readings.json", &serde_json::json!({"n1": tray}).to_string());
    let run = topology_gen(&["generate", "--readings", &readings, "--format", "features"]);
    assert_eq!((run.code, run.data.as_str()), (2, ""));
    assert!(run.words.contains("which Features the nodes have is known to Slurm only"), "{}", run.words);
    // Nothing for others while a tray is refused.
    let held = mixed_site().generate(&["--format", "labels"]);
    assert_eq!((held.code, held.data.as_str()), (1, ""));
}
