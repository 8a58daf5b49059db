use super::*;
use crate::fixture::{RACK_A, RACK_B, RACK_C, node_list, rack, silent};
use crate::reconcile::reconcile;
use crate::source::slurm;
use fabric::topology::Block;
use fabric::{HostList, Topology, TopologyKind};

fn trays(nodes: &[Vec<serde_json::Value>]) -> Trays {
    reconcile(&slurm::parse(&node_list(nodes)).unwrap(), None, &BTreeSet::new())
}

fn file(blocks: &[(&str, &str)]) -> BlockTopology {
    let block = |(name, nodes): &(&str, &str)| Block {
        name: BlockName::new(*name).unwrap(),
        nodes: HostList::parse(nodes).unwrap(),
    };
    BlockTopology { sizes: None, blocks: blocks.iter().map(block).collect() }
}

fn of(base: u32) -> Wishes<'static> {
    Wishes { base: Some(BaseSize::Trays(base)), map: None }
}

/// Blocks as `name=nodes`, stale nodes behind a bar.
fn words(plan: &Plan) -> Vec<String> {
    let fold = |nodes: &mut dyn Iterator<Item = &NodeName>| nodes.cloned().collect::<HostList>().to_string();
    plan.blocks
        .iter()
        .map(|block| {
            let stale = fold(&mut block.stale.iter());
            let nodes = fold(&mut block.nodes.iter());
            if stale.is_empty() {
                format!("{}={nodes}", block.name)
            } else {
                format!("{}={nodes}|{stale}", block.name)
            }
        })
        .collect()
}

#[test]
fn a_first_plan_orders_blocks_by_their_nodes_and_takes_the_largest_partition_as_base() {
    let trays = trays(&[rack("n[10-11]", RACK_A), rack("n[1-3]", RACK_C), rack("n4", RACK_B)]);
    let plan = plan(&trays, None, Wishes::default()).unwrap();
    assert_eq!(
        words(&plan),
        ["nvl-cccccccc-32766=n[1-3]", "nvl-bbbbbbbb-32766=n4", "nvl-aaaaaaaa-32766=n[10-11]"]
    );
    assert_eq!(plan.sizes.as_slice(), [3]);
    assert_eq!(plan.guarantee(), "jobs and segments up to 3 trays stay in one NVLink partition");
}

#[test]
fn the_base_size_can_be_set_below_the_largest_partition_and_not_above() {
    let trays = trays(&[rack("n[1-3]", RACK_A)]);
    assert_eq!(plan(&trays, None, of(2)).unwrap().sizes.as_slice(), [2]);
    assert_eq!(plan(&trays, None, of(4)), Err(PlanError::BaseTooLarge { base: 4, largest: 3 }));
}

#[test]
fn the_base_size_follows_the_largest_partition_and_keeps_its_spares() {
    let sizes = |sizes: &[u32]| Some(BlockSizes::new(sizes.to_vec()).unwrap());
    let name = "nvl-aaaaaaaa-32766";
    let before = |list: &[u32]| BlockTopology { sizes: sizes(list), ..file(&[(name, "n[1-4]")]) };
    let now = |before: &BlockTopology, nodes: &str, base: Option<u32>| {
        let trays = trays(&[rack(nodes, RACK_A)]);
        let sizes = plan(&trays, Some(before), base.map_or(Wishes::default(), of)).map(|plan| plan.sizes);
        sizes.map(|sizes| sizes.as_slice().to_vec())
    };
    // All of its trays, and the multiples with them.
    assert_eq!(now(&before(&[4, 8]), "n[1-4]", None), Ok(vec![4, 8]));
    assert_eq!(now(&before(&[4, 8]), "n[1-5]", None), Ok(vec![5, 10]));
    assert_eq!(now(&before(&[4, 8]), "n[1-3]", None), Ok(vec![3, 6]), "no partition could hold a job of 4");
    // One to spare stays one to spare.
    assert_eq!(now(&before(&[3]), "n[1-4]", None), Ok(vec![3]));
    assert_eq!(now(&before(&[3]), "n[1-5]", None), Ok(vec![4]));
    // Half of them is no policy.
    assert_eq!(now(&before(&[2, 4]), "n[1-4]", None), Ok(vec![4, 8]));
    // What is asked for counts, as far as it can be.
    assert_eq!(now(&before(&[4, 8]), "n[1-3]", Some(4)), Ok(vec![4, 8]));
    assert_eq!(now(&before(&[4, 8]), "n[1-3]", Some(2)), Ok(vec![2, 4]));
    assert_eq!(
        now(&before(&[4, 8]), "n[1-3]", Some(5)),
        Err(PlanError::BaseTooLarge { base: 5, largest: 3 })
    );
    // A tray that is only silent is still there.
    let quiet = plan(&trays(&[rack("n[1-3]", RACK_A), silent("n4")]), Some(&before(&[4])), Wishes::default());
    assert_eq!(quiet.unwrap().sizes.as_slice(), [4]);
}

#[test]
fn names_and_positions_outlive_silence_and_growth() {
    let before = file(&[("nvl-bbbbbbbb-32766", "n[4-6]"), ("nvl-aaaaaaaa-32766", "n[1-3]")]);
    let trays = trays(&[rack("n[1-2]", RACK_A), silent("n[3-6]"), rack("n[0,7]", RACK_C), silent("n9")]);
    let plan = plan(&trays, Some(&before), Wishes::default()).unwrap();
    assert_eq!(
        words(&plan),
        ["nvl-bbbbbbbb-32766=n[4-6]|n[4-6]", "nvl-aaaaaaaa-32766=n[1-3]|n3", "nvl-cccccccc-32766=n[0,7]"]
    );
    assert_eq!(plan.unplaced.iter().map(NodeName::as_str).collect::<Vec<_>>(), ["n9"]);
    assert_eq!(
        plan.changes,
        [
            "block nvl-cccccccc-32766 is new",
            "node n0 joins nvl-cccccccc-32766",
            "node n7 joins nvl-cccccccc-32766"
        ]
    );
}

#[test]
fn a_block_that_lost_its_trays_stays_as_a_placeholder() {
    let before = file(&[("nvl-bbbbbbbb-32766", "n[4-5]"), ("nvl-aaaaaaaa-32766", "n[1-3]")]);
    let trays = trays(&[rack("n[1-5]", RACK_A)]);
    let plan = plan(&trays, Some(&before), Wishes::default()).unwrap();
    assert_eq!(words(&plan), ["nvl-bbbbbbbb-32766=", "nvl-aaaaaaaa-32766=n[1-5]"]);
    assert_eq!(
        plan.changes,
        [
            "node n4 moves from nvl-bbbbbbbb-32766 to nvl-aaaaaaaa-32766",
            "node n5 moves from nvl-bbbbbbbb-32766 to nvl-aaaaaaaa-32766",
            "block nvl-bbbbbbbb-32766 has no trays left and stays as an empty placeholder",
            "base size was 2, now 5",
        ]
    );
}

#[test]
fn a_name_that_somebody_chose_follows_the_majority_of_its_nodes() {
    let before = file(&[("rack1", "n[1-3]"), ("rack2", "n[4-6]")]);
    let moved = trays(&[rack("n[4-6]", RACK_A), rack("n[1-2]", RACK_B), rack("n3", RACK_A)]);
    assert_eq!(
        words(&plan(&moved, Some(&before), Wishes::default()).unwrap()),
        ["rack1=n[1-2]", "rack2=n[3-6]"]
    );
    let gone = trays(&[rack("n[7-9]", RACK_A)]);
    assert_eq!(
        words(&plan(&gone, Some(&before), Wishes::default()).unwrap()),
        ["rack1=", "rack2=", "nvl-aaaaaaaa-32766=n[7-9]"]
    );
}

#[test]
fn a_chosen_name_stays_while_most_of_its_trays_are_silent() {
    let before = file(&[("rack1", "n[1-6]"), ("rack2", "n[7-9]")]);
    let quiet = trays(&[rack("n[1-2]", RACK_A), silent("n[3-6]"), rack("n[7-9]", RACK_B)]);
    assert_eq!(
        words(&plan(&quiet, Some(&before), Wishes::default()).unwrap()),
        ["rack1=n[1-6]|n[3-6]", "rack2=n[7-9]"]
    );
    // One tray of it in a new rack does not make that rack this one.
    let moved = trays(&[rack("n[1,10-12]", RACK_C), silent("n[2-6]"), rack("n[7-9]", RACK_B)]);
    assert_eq!(
        words(&plan(&moved, Some(&before), Wishes::default()).unwrap()),
        ["rack1=n[2-6]|n[2-6]", "rack2=n[7-9]", "nvl-cccccccc-32766=n[1,10-12]"]
    );
}

#[test]
fn a_name_made_for_a_partition_never_stands_for_another() {
    let before = file(&[("nvl-aaaaaaaa-32766", "n[1-3]")]);
    let plan = plan(&trays(&[rack("n[1-3]", RACK_B)]), Some(&before), Wishes::default()).unwrap();
    assert_eq!(words(&plan), ["nvl-aaaaaaaa-32766=", "nvl-bbbbbbbb-32766=n[1-3]"]);
}

#[test]
fn domains_that_agree_in_eight_digits_get_longer_names() {
    let twin = "aaaaaaaa-1111-9999-8333-444444444444.32766";
    let trays = trays(&[rack("n[1-2]", RACK_A), rack("n[3-4]", twin)]);
    let first = plan(&trays, None, Wishes::default()).unwrap();
    assert_eq!(words(&first), ["nvl-aaaaaaaa11114222-32766=n[1-2]", "nvl-aaaaaaaa11119999-32766=n[3-4]"]);
    let topologies = compose(&first, &[], &[], Names { block: "b", flat: "f" }, false);
    let again = plan(&trays, topologies[0].block(), Wishes::default()).unwrap();
    assert_eq!((words(&again), again.changes), (words(&first), vec![]));
}

#[test]
fn a_plan_of_its_own_file_changes_nothing() {
    let trays = trays(&[rack("n[1-3]", RACK_A), rack("n[4-6]", RACK_B), silent("n7")]);
    let first = plan(&trays, None, Wishes::default()).unwrap();
    let file = compose(&first, &[], &[], Names { block: "nvlink", flat: "flat" }, true);
    let second = plan(&trays, file[0].block(), Wishes::default()).unwrap();
    assert!(second.changes.is_empty(), "{:?}", second.changes);
    assert_eq!(compose(&second, &[], &file, Names { block: "nvlink", flat: "flat" }, true), file);
}

#[test]
fn nodes_that_slurm_no_longer_knows_leave_and_nodes_a_file_leaves_out_stay() {
    let before = file(&[("nvl-aaaaaaaa-32766", "n[1-3]")]);
    let mut trays = trays(&[rack("n[1-2]", RACK_A)]);
    let gone = plan(&trays, Some(&before), Wishes::default()).unwrap();
    assert_eq!(gone.changes[0], "node n3 leaves nvl-aaaaaaaa-32766: Slurm no longer knows it");
    trays.complete = false;
    assert_eq!(
        words(&plan(&trays, Some(&before), Wishes::default()).unwrap()),
        ["nvl-aaaaaaaa-32766=n[1-3]|n3"]
    );
}

#[test]
fn without_a_valid_tray_there_is_no_plan() {
    let before = file(&[("nvl-aaaaaaaa-32766", "n[1-3]")]);
    assert_eq!(
        plan(&trays(&[silent("n[1-3]")]), Some(&before), Wishes::default()),
        Err(PlanError::NothingValid)
    );
    assert_eq!(plan(&trays(&[]), None, Wishes::default()), Err(PlanError::NothingValid));
}

#[test]
fn other_topologies_of_the_file_stay_and_keep_their_default() {
    let tree =
        Topology { name: "ib".into(), cluster_default: true, kind: TopologyKind::Other("tree".into()) };
    let plan = plan(&trays(&[rack("n[1-3]", RACK_A)]), None, Wishes::default()).unwrap();
    let names = Names { block: "nvlink", flat: "flat" };
    let file = compose(&plan, &[], std::slice::from_ref(&tree), names, true);
    let shown: Vec<(&str, bool)> = file.iter().map(|t| (t.name.as_str(), t.cluster_default)).collect();
    assert_eq!(shown, [("ib", true), ("nvlink", false), ("flat", false)]);
    assert_eq!(file[0], tree);
    let alone = compose(&plan, &[], &[], names, false);
    assert_eq!((alone.len(), alone[0].cluster_default), (1, true));
}
