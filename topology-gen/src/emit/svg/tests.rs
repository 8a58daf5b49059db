use super::*;
use crate::emit::Facts;
use crate::emit::tests::{racks, topology};

#[test]
fn every_tray_is_drawn_once_and_every_job_explained() {
    let text = text(&racks(), "Racks (simulated)");
    for node in ["n1: job", "n2: job", "n3: idle", "n4: job", "n5: job", "n6: stale", "x1: job"] {
        assert_eq!(text.matches(&format!("<title>{node}")).count(), 1, "{node}");
    }
    assert!(text.contains("job 7 train &lt;a&amp;b&gt; alice: 2 trays in 1 NVLink partition"));
    assert!(text.contains("job 8_1: 4 trays in 2 NVLink partitions, 1 in no block"));
    assert!(text.contains("and 1 job outside of these blocks"));
    assert_eq!(text.matches('<').count(), text.matches('>').count());
}

#[test]
fn the_picture_in_words() {
    assert_eq!(
        told(&racks()),
        "6 trays in 2 NVLink partitions and 1 empty place: 4 allocated, 1 idle, 1 stale; base size 3: jobs and segments up to \
         3 trays stay in one NVLink partition; segments that fit now: 1 of 1 trays, 0 of 2 trays, 0 of 3 trays"
    );
}

#[test]
fn ten_thousand_trays_are_drawn_without_words() {
    let blocks: Vec<(String, String)> =
        (0..556).map(|rack| (format!("b{rack}"), format!("r{rack:03}n[01-18]"))).collect();
    let blocks: Vec<(&str, &str)> =
        blocks.iter().map(|(name, nodes)| (name.as_str(), nodes.as_str())).collect();
    let racks = Racks::new(&topology(18, &blocks), vec![], &Facts::default());
    let text = text(&racks, "t");
    assert_eq!(text.matches("<title>r").count(), 10_008);
    assert!(text.len() < 4_000_000, "{}", text.len());
}

#[test]
fn no_blocks_and_hostile_titles_still_make_a_picture() {
    let racks = Racks::new(&topology(1, &[]), vec![], &Facts::default());
    assert!(text(&racks, "</svg>\u{1}\"").contains("&lt;/svg&gt;?&quot;"));
}
