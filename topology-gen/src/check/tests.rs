use super::*;
use crate::conf;
use crate::fixture::{RACK_A, node_list, rack, silent};
use crate::site;

fn version(text: &str) -> Option<SlurmVersion> {
    (!text.is_empty()).then(|| text.parse().unwrap())
}

fn told(findings: &Findings) -> Vec<String> {
    let line = |f: &Finding| format!("{} {}: {}", f.line, f.severity, f.what);
    findings.list.iter().map(line).collect()
}

fn found(text: &str, slurm: &str) -> Vec<String> {
    told(&check(&Input { text, version: version(slurm), ..Input::default() }))
}

/// A block topology of two blocks with these sizes.
fn sized(sizes: &str) -> String {
    format!(
        "- topology: t\n  block:\n    block_sizes: {sizes}\n    blocks:\n      - {{block: a, nodes: 'n[1-4]'}}\n      - {{block: b, nodes: 'n[5-8]'}}\n"
    )
}

fn with_blocks(blocks: &str) -> String {
    format!("- topology: t\n  block:\n    block_sizes: [2]\n    blocks:\n{blocks}\n")
}

#[test]
fn a_good_file_gives_nothing() {
    for text in [sized("[4]"), sized("4"), sized("[4, 8, 16]"), "topology: t\nflat: true\n".into()] {
        assert_eq!(found(&text, ""), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn what_is_fatal_is_told_with_its_line() {
    for (text, expected) in [
        (String::new(), "0 fatal: there is no topology in the file, which Slurm refuses"),
        ("# x\n".into(), "0 fatal: there is no topology in the file, which Slurm refuses"),
        ("{}".into(), "1 fatal: there is no topology in the file, which Slurm refuses"),
        ("[]".into(), "1 fatal: an empty list crashes slurmctld, at each start again"),
        ("- topology: t\n".into(), "1 fatal: topology \"t\" has no kind"),
        (
            "- topology: t\n  flat: true\n  tree: {switches: []}\n".into(),
            "1 fatal: topology \"t\" has several kinds: flat, tree",
        ),
        ("- flat\n".into(), "1 fatal: a topology must be a mapping, found \"flat\""),
        ("- topology: t\n  flat: perhaps\n".into(), "2 fatal: flat must be true or false, found \"perhaps\""),
        ("- topology: t\n  block: 4\n".into(), "2 fatal: block must be a mapping, found \"4\""),
        ("- topology: t\n  block:\n    blocks: []\n".into(), "3 fatal: no blocks; Slurm needs at least one"),
        (
            "- topology: t\n  block:\n    blocks: [{block: a}]\n".into(),
            "3 fatal: no block has nodes, and there are no block_sizes",
        ),
        (sized("'4,8'"), "3 fatal: block_sizes must be numbers, found \"4,8\""),
        (sized("[0]"), "3 fatal: block size 0 is not from 1 to 65535"),
        (sized("[-1]"), "3 fatal: block size -1 is not from 1 to 65535"),
        (sized("[4, 12]"), "3 fatal: block size 12 is not the base size 4 times a power of two up to 2^15"),
        (sized("[4, 10]"), "3 fatal: block size 10 is not the base size 4 times a power of two up to 2^15"),
        (sized("[4, 2]"), "3 fatal: block size 2 comes after the larger 4; the first one is the base size"),
        (sized("[4, 70000]"), "3 fatal: block size 70000 is not from 1 to 65535"),
        (sized("[4, [8]]"), "3 fatal: a block size must be a number, found a list"),
        (
            with_blocks("    - {block: a, nodes: 'n[1-2]'}\n    - {block: a, nodes: n3}"),
            "6 fatal: block a comes twice, first in line 5",
        ),
        (with_blocks("    - {nodes: 'n[1-2]'}"), "5 fatal: a block without a name"),
        (
            with_blocks("    - {block: a, nodes: 'n[01-04'}"),
            "5 fatal: brackets do not match in host list item \"n[01-04\"",
        ),
        (with_blocks("    - {block: a, nodes: [n1, n2]}"), "5 fatal: nodes must be text, found a list"),
        (
            with_blocks("    - {block: 'rack[1', nodes: 'n[1-2]'}\n    - {block: b, nodes: n3}"),
            "5 fatal: block name \"rack[1\" holds a bracket",
        ),
    ] {
        let found = found(&text, "26.05.5");
        assert!(found.iter().any(|line| line == expected), "{text}\n{found:#?}\n{expected}");
    }
    let broken = found("- topology: [\n", "");
    assert!(broken[0].contains("fatal: not valid YAML"), "{broken:?}");
}

#[test]
fn what_is_accepted_though_wrong_is_told() {
    for (text, expected) in [
        (
            "- topology: t\n  block:\n    blocksizes: [4]\n    blocks: [{block: a, nodes: 'n[1-4]'}]\n"
                .to_owned(),
            "3 wrong: Slurm ignores the key \"blocksizes\" without a word",
        ),
        (
            with_blocks("    - {block: a, nodes: 'n[1-2]'}\n    - {block: b, nodes: 'n[2-3]'}"),
            "6 wrong: n2 is in block a and in block b; Slurm counts it in both",
        ),
        (with_blocks("    - {block: a, nodes: 'n[1-2],n1'}"), "5 wrong: n1 is listed twice in block a"),
        (with_blocks("    - {block: a, nodes: ALL}"), "5 wrong: nodes: ALL means one node called ALL here"),
        (
            with_blocks("    - {block: 'a b', nodes: 'n[1-2]'}"),
            "5 wrong: block name \"a b\" holds a comma or blank, which makes wrong aggregated blocks",
        ),
        (
            with_blocks("    - {block: r1234567890123456789, nodes: 'n[1-2]'}"),
            "5 wrong: block name \"r1234567890123456789\" ends in 19 digits; Slurm counts with 18 and names another block",
        ),
        (
            sized("[8]"),
            "3 wrong: base size 8 is larger than the largest block, which has 4 nodes; jobs and segments of 5-8 nodes can never run",
        ),
        (
            sized("[2]"),
            "3 wrong: jobs and segments of 3-4 nodes fit a block, but with base size 2 Slurm's own topology/block may split them over several",
        ),
        (
            sized("[3]"),
            "3 note: jobs and segments of 4 nodes fit a block, but with base size 3 Slurm's own topology/block may split them over several",
        ),
        (
            "- topology: a\n  flat: true\n- topology: b\n  flat: true\n".into(),
            "1 wrong: 0 topologies are marked cluster_default; Slurm takes \"a\"",
        ),
        (
            "- topology: a\n  flat: true\n  cluster_default: true\n- topology: a\n  flat: true\n".into(),
            "4 wrong: topology \"a\" comes twice; partitions only ever get the first",
        ),
    ] {
        let found = found(&text, "26.05.5");
        assert!(found.iter().any(|line| line == expected), "{text}\n{found:#?}\n{expected}");
        assert!(!found.iter().any(|line| line.contains("fatal")), "{text}\n{found:#?}");
    }
}

#[test]
fn rules_follow_the_version() {
    let later = sized("[4, 12]");
    assert!(found(&later, "26.05.2")[0].contains("wrong: block size 12"), "{:?}", found(&later, "26.05.2"));
    assert!(found(&later, "26.05.3")[0].contains("fatal: block size 12"));
    let ring = "- topology: r\n  ring: {rings: []}\n";
    assert!(found(ring, "25.11.7")[0].contains("fatal: topology kind ring"));
    assert_eq!(found(ring, "26.05.0"), Vec::<String>::new());
    let mut page = sized("[4]");
    page.push_str(&format!("#{}\n", "x".repeat(4096 - page.len() - 2)));
    assert_eq!(page.len(), 4096);
    assert!(found(&page, "25.11.5")[0].contains("fatal: the file has 4096 bytes"));
    assert_eq!(found(&page, "25.11.6"), Vec::<String>::new());
    assert!(found(&page, "")[0].contains("wrong: the file has 4096 bytes"));
    assert!(found(&sized("[4]"), "24.11.0")[0].contains("does not read topology.yaml"));
}

#[test]
fn all_faults_are_found_in_one_run() {
    let text = "\
- topology: t
  block:
    blocksizes: [4]
    block_sizes: [4, 12]
    blocks:
      - {block: a, nodes: 'n[1-4]'}
      - {block: a, nodes: 'n[01-04'}
      - {nodes: n9}
      - {block: ok, nodes: [n5]}
- topology: u
";
    let lines: Vec<usize> = check(&Input { text, ..Input::default() }).list.iter().map(|f| f.line).collect();
    assert_eq!(lines, [1, 3, 4, 7, 7, 8, 9, 10]);
}

#[test]
fn blocks_are_checked_against_slurms_nodes_and_configuration() {
    let site = site::parse(&node_list(&[rack("n[1-7]", RACK_A), silent("n8"), rack("n9", RACK_A)])).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("slurm.conf");
    std::fs::write(
        &path,
        "NodeName=n[1-4] Topology=t:gone\nNodeName=n5 Topology=t:a\nNodeName=n6 Topology=u:x\nPartitionName=all Nodes=ALL\n\
         PartitionName=ib Nodes=n1 Topology=ib\nTopologyParam=nvlink_span=always\n",
    )
    .unwrap();
    let conf = conf::read(&path).unwrap();
    let text = sized("[4]") + "      - {block: c, nodes: 'zz[1-2]'}\n";
    let findings = check(&Input { text: &text, site: Some(&site), conf: Some(&conf), ..Input::default() });
    let told: Vec<String> =
        told(&findings).iter().map(|line| line.replace(path.to_str().unwrap(), "CONF")).collect();
    assert_eq!(
        told,
        [
            "0 fatal: partition ib (CONF:5) has Topology=ib, which is not in the file",
            "0 fatal: n6 (CONF:3) has Topology=u:x, and topology u is not in the file",
            "0 note: TopologyParam=nvlink_span=always (CONF:6): no such setting of slurm-nvlink; it is ignored",
            "3 fatal: n[1-4] (CONF:1) has Topology=t:gone, and there is no block gone",
            "3 wrong: n9 is in no block of topology \"t\", but in partition all (CONF:4) with nodes that are; while one of those is free, jobs cannot use it",
            "6 wrong: n5 (CONF:2) has Topology=t:a, which overrides its place in block b",
            "7 wrong: Slurm has no node zz[1-2]; block c counts it though it can run nothing",
        ]
    );
}

#[test]
fn dynamic_nodes_that_stand_elsewhere_are_told_with_the_way_out() {
    let mut nodes = rack("n[1-6]", RACK_A);
    for (node, states, topology) in [
        (0, ["IDLE", "DYNAMIC_NORM"], "ib:s1,t:b"),
        (1, ["IDLE", "DYNAMIC_NORM"], "ib:s1,t:b"),
        (2, ["IDLE", "CLOUD"], "t:gone"),
        (3, ["IDLE", "DYNAMIC_NORM"], "t:a"),
        // Moved by an update, which the next reload forgets.
        (4, ["IDLE", "DRAIN"], "t:a"),
    ] {
        nodes[node]["state"] = serde_json::json!(states);
        nodes[node]["topology"] = topology.into();
    }
    let site = site::parse(&node_list(&[nodes])).unwrap();
    let text = sized("[4]") + "- topology: ib\n  flat: true\n";
    let findings = check(&Input { text: &text, site: Some(&site), ..Input::default() });
    let told: Vec<String> = findings
        .list
        .iter()
        .filter(|finding| finding.what.contains("Topology="))
        .map(|finding| format!("{}: {} -> {}", finding.severity, finding.what, finding.hint))
        .collect();
    assert_eq!(
        told,
        [
            "fatal: n3 (in the controller) has Topology=t:gone, and there is no block gone -> keep the block, without nodes if need be, while a node names it",
            "wrong: n[1-2] (in the controller) has Topology=t:b, which overrides its place in block a -> first tell Slurm where it is now: scontrol update nodename=n[1-2] topology=ib:s1,t:a",
        ]
    );
}

#[test]
fn sizes_that_wait_for_drained_trays_are_told() {
    let nodes = [rack("n[1-3]", RACK_A), silent("n4"), rack("n[5-7]", RACK_A), silent("n8")];
    let site = site::parse(&node_list(&nodes)).unwrap();
    let findings = check(&Input { text: &sized("[4]"), site: Some(&site), ..Input::default() });
    assert_eq!(
        told(&findings),
        ["3 note: with today's 2 drained or missing nodes, jobs of 4 nodes wait for ever"]
    );
}

#[test]
fn every_finding_says_what_to_do() {
    for text in [String::new(), "[]".into(), sized("[4, 12]"), sized("[9]"), "- x: 1\n".into()] {
        for finding in check(&Input { text: &text, ..Input::default() }).list {
            assert!(!finding.hint.is_empty(), "{finding:?}");
        }
    }
}
