use super::*;
use crate::hostlist::HostList;
use crate::names::{BlockName, NodeName};
use crate::sizes::BlockSizes;
use crate::topology::{Block, BlockTopology, Body, OtherTopology, TopologyKind};
use proptest::prelude::*;
use std::error::Error;

fn block(name: &str, nodes: &str) -> Block {
    Block { name: BlockName::new(name).unwrap(), nodes: HostList::parse(nodes).unwrap() }
}

fn racks() -> Topology {
    Topology {
        name: "nvlink".into(),
        cluster_default: true,
        kind: TopologyKind::Block(BlockTopology {
            sizes: Some(BlockSizes::new(vec![18, 36]).unwrap()),
            blocks: vec![block("nvl-7e1c0f5a-32766", "n[01-18]"), block("gone", ""), block("007", "yes,n19")],
        }),
    }
}

fn flat() -> Topology {
    Topology { name: "flat".into(), cluster_default: false, kind: TopologyKind::Flat }
}

fn chain(error: &YamlError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn fault(text: &str) -> String {
    chain(&parse(text).expect_err(text))
}

#[test]
fn the_file_as_it_is_written() {
    assert_eq!(
        emit(&[racks(), flat()]),
        "\
# topology.yaml for Slurm, written by slurm-nvlink's topology-gen
---
- topology: nvlink
  cluster_default: true
  block:
    block_sizes: [18, 36]
    blocks:
      - block: nvl-7e1c0f5a-32766
        nodes: \"n[01-18]\"
      - block: gone
      - block: \"007\"
        nodes: \"yes,n19\"
- topology: flat
  cluster_default: false
  flat: true
"
    );
}

#[test]
fn what_is_written_is_read_back() {
    let all = [racks(), flat()];
    let (found, notes) = parse_with_notes(&emit(&all)).unwrap();
    assert_eq!((found.as_slice(), notes), (all.as_slice(), vec![]));
    assert_eq!(
        parse(&emit(&[])).unwrap(),
        [Topology { name: "default".into(), cluster_default: true, ..flat() }]
    );
}

#[test]
fn other_kinds_are_carried_along() {
    let text = "\
- topology: fat
  cluster_default: false
  tree:
    switches:
      - switch: s1
        nodes: \"n[1-4]\"
      - switch: s0
        children: s1
- topology: opts
  cluster_default: true
  flat:
    alpha_step_rank: true
";
    let found = parse(text).unwrap();
    assert!(matches!(&found[0].kind, TopologyKind::Other(OtherTopology { kind, .. }) if kind == "tree"));
    assert_eq!(emit(&found).split_once("---\n").unwrap().1, text);
}

#[test]
fn nested_bodies_survive() {
    let body = Body::Map(vec![
        (
            "a b".into(),
            Body::List(vec![
                Body::List(vec![Body::Text("1".into()), Body::Text("x: y".into())]),
                Body::Map(vec![]),
            ]),
        ),
        ("e".into(), Body::List(vec![])),
        ("t".into(), Body::Text("two\nlines \u{1f600}\u{7}".into())),
    ]);
    let kind = TopologyKind::Other(OtherTopology { kind: "torus3d".into(), body });
    let topology = Topology { name: "t".into(), cluster_default: true, kind };
    assert_eq!(parse(&emit(std::slice::from_ref(&topology))).unwrap(), [topology]);
}

#[test]
fn a_bare_mapping_scalars_as_text_and_short_forms_are_read_as_by_slurm() {
    let found = parse(
        "block:\r\n  block_sizes: 4\r\n  blocks:\r\n    block: 007\r\n    nodes: n1\r\ntopology: 1e3\r\n",
    )
    .unwrap();
    let wanted =
        BlockTopology { sizes: Some(BlockSizes::new(vec![4]).unwrap()), blocks: vec![block("007", "n1")] };
    assert_eq!(
        found,
        [Topology { name: "1e3".into(), cluster_default: false, kind: TopologyKind::Block(wanted) }]
    );
    for text in ["flat: true", "- flat: {}", "- {flat: true, tree: {}, block: {}}"] {
        assert!(matches!(parse(text).unwrap()[0].kind, TopologyKind::Flat), "{text}");
    }
    let empty =
        parse("block: {block_sizes: [], blocks: [{block: a, nodes: ''}, {block: b, nodes: n1}]}").unwrap();
    assert_eq!(empty[0].block().unwrap().base_size(), Some(1));
}

#[test]
fn what_ends_slurmctld_is_refused_with_its_line() {
    let of = |rest: &str| format!("- topology: t\n  block:\n    {rest}");
    for (text, error) in [
        (String::new(), "no topology in it"),
        ("# nothing\n".into(), "no topology in it"),
        ("{}".into(), "no topology in it"),
        ("[]".into(), "no topology in it"),
        ("- x\n".into(), "line 1: a topology must be a mapping, found \"x\""),
        ("- topology: t\n".into(), "line 1: topology \"t\" has no kind (block, flat, tree, ring or torus3d)"),
        (
            "- topology: t\n  flat: false".into(),
            "line 1: topology \"t\" has no kind (block, flat, tree, ring or torus3d)",
        ),
        ("flat: true\ntree: {switches: []}".into(), "line 1: topology \"\" has more than one kind"),
        (of("blocks: []"), "line 3: no blocks; Slurm needs at least one"),
        (of("blocks: [{block: a}]"), "line 3: no block has nodes; then Slurm needs block_sizes"),
        (of("blocks: [{block: a, nodes: [n1]}]"), "line 3: nodes must be text, found a list"),
        (
            of("blocks:\n    - block: a\n      nodes: n1\n    - nodes: n2"),
            "line 6: bad block name: name is empty",
        ),
        (of("blocks:\n    - {block: a, nodes: n1}\n    - {block: a}"), "line 5: block a comes twice"),
        (
            of("blocks: [{block: a, nodes: 'n[01-04'}]"),
            "line 3: bad nodes of block \"a\": brackets do not match in host list item \"n[01-04\"",
        ),
        (
            of("block_sizes: [4, 12]\n    blocks: [{block: a, nodes: n1}]"),
            "line 3: bad block_sizes: block size 12 is not the base size 4 times a power of two up to 2^15",
        ),
        (of("block_sizes: '4,8'"), "line 3: block_sizes must be a list of numbers, found \"4,8\""),
        ("- flat: true\n- &a {flat: true}\n- *a".into(), "line 3: aliases are not supported"),
        ("flat: true\n---\nflat: true".into(), "line 2: more than one document"),
        ("flat: true\nflat: false".into(), "line 2: key \"flat\" comes twice"),
    ] {
        assert_eq!(fault(&text), error, "{text}");
    }
    assert!(fault("- topology: [\n").starts_with("line 1: not valid YAML: "), "{}", fault("- topology: [\n"));
}

#[test]
fn what_slurm_takes_in_another_sense_is_noted() {
    let text = "\
- topology: a
  block:
    blocksizes: [4]
    blocks:
      - {block: x, nodes: 'n[1-2]'}
      - {block: y, nodes: 'n2'}
      - {block: z, nodes: ALL}
- topology: b
  flat: true
";
    let notes: Vec<String> = parse_with_notes(text).unwrap().1.iter().map(Note::to_string).collect();
    assert_eq!(
        notes,
        [
            "line 3: Slurm ignores the key \"blocksizes\"; it knows block_sizes and blocks",
            "line 6: node n2 is in x and in y",
            "line 7: Slurm reads nodes: ALL as one node called ALL",
            "line 1: 0 topologies are marked cluster_default; Slurm takes the first one",
        ]
    );
}

#[test]
fn hostile_texts_end_in_an_error() {
    for text in [
        "[".repeat(100_000),
        "- ".repeat(100_000),
        format!("a: {}", "x".repeat(TEXT_LEN_MAX)),
        "\0".into(),
        "%".into(),
    ] {
        assert!(parse(&text).is_err());
    }
}

#[test]
fn no_size_is_a_multiple_of_4096() {
    for extra in 0..200 {
        let comment = vec!["x".repeat(3900 + extra)];
        let text = emit_with_comments(&[flat()], &comment);
        assert_ne!(text.len() % 4096, 0);
        assert_eq!(parse(&text).unwrap(), [flat()]);
    }
}

fn any_block(at: usize) -> impl Strategy<Value = Block> {
    let nodes = prop::collection::vec("[a-zA-Z0-9._:+@%~-]{1,12}", 0..4).prop_map(|names| {
        names.into_iter().filter_map(|name| NodeName::new(name).ok()).collect::<HostList>()
    });
    (r#"[^\s,\[\]{}"'\\\x00-\x1f\x7f]{1,12}"#, nodes)
        .prop_filter_map("not a block name", move |(name, nodes)| {
            Some(Block { name: BlockName::new(format!("{name}-{at}")).ok()?, nodes })
        })
}

proptest! {
    #[test]
    fn any_blocks_survive_text(blocks in (any_block(0), any_block(1), any_block(2)), base in 1u32..100, mark: bool, name in ".{0,20}") {
        let kind = TopologyKind::Block(BlockTopology {
            sizes: Some(BlockSizes::new(vec![base, base * 4]).unwrap()),
            blocks: vec![blocks.0, blocks.1, blocks.2],
        });
        let topology = Topology { name, cluster_default: mark, kind };
        let text = emit(std::slice::from_ref(&topology));
        prop_assert_eq!(parse(&text).unwrap(), [topology]);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in r"[-a-c:\[\]{}, \n&*'#]{0,60}") {
        let _ = parse(&text);
    }
}
