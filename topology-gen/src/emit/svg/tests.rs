use super::*;
use crate::emit::tests::racks;
use fabric::topology::BlockTopology;
use fabric::{Block, BlockName, HostList};

#[test]
fn the_picture_of_two_racks() {
    insta::assert_snapshot!(text(&racks(), "Racks (simulated)"), @r##"
    <svg xmlns="http://www.w3.org/2000/svg" width="768" height="302" viewBox="0 0 768 302">
    <style>text{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:11px;fill:#1d2b36}.t{font-family:system-ui,sans-serif;font-size:18px;font-weight:600}.s{font-family:system-ui,sans-serif;font-size:12px;fill:#52616b}.h{font-weight:600}.k{font-family:system-ui,sans-serif;font-size:12px}</style>
    <rect width="768" height="302" fill="#ffffff"/>
    <text class="t" x="24" y="38">Racks (simulated)</text>
    <text class="s" x="24" y="58">base size 3: jobs and segments up to 3 trays stay in one NVLink partition</text>
    <g transform="translate(24,76)">
    <rect width="168" height="130" rx="6" fill="#f2f5f7" stroke="#c3ccd3"/>
    <text class="h" x="8" y="18">nvl-aaaaaaaa-1<title>nvl-aaaaaaaa-1</title></text>
    <text class="s" x="8" y="34">3 trays, 1 free</text>
    <g><title>n1: job 7</title><rect x="8" y="44" width="152" height="22" fill="#8ecae6"/><rect x="8" y="44" width="152" height="22" rx="3" fill="none" stroke="#8c9aa5"/><text x="14" y="59">n1</text><text text-anchor="end" x="154" y="59">7</text></g>
    <g><title>n2: job 7, 8_1</title><rect x="8" y="70" width="76" height="22" fill="#8ecae6"/><rect x="84" y="70" width="76" height="22" fill="#ffb703"/><rect x="8" y="70" width="152" height="22" rx="3" fill="none" stroke="#8c9aa5"/><text x="14" y="85">n2</text><text text-anchor="end" x="154" y="85">7 +1</text></g>
    <g><title>n3: free</title><rect x="8" y="96" width="152" height="22" rx="3" fill="#ffffff" stroke="#8c9aa5"/><text x="14" y="111">n3</text><text text-anchor="end" x="154" y="111"></text></g>
    </g>
    <g transform="translate(208,76)">
    <rect width="168" height="130" rx="6" fill="#fafbfc" stroke="#c3ccd3"/>
    <text class="h" x="8" y="18">gone<title>gone</title></text>
    <text class="s" x="8" y="34">empty placeholder</text>
    </g>
    <g transform="translate(392,76)">
    <rect width="168" height="130" rx="6" fill="#f2f5f7" stroke="#c3ccd3"/>
    <text class="h" x="8" y="18">nvl-bbbbbbbb-1<title>nvl-bbbbbbbb-1</title></text>
    <text class="s" x="8" y="34">3 trays, 0 free</text>
    <g><title>n4: job 8_1</title><rect x="8" y="44" width="152" height="22" fill="#ffb703"/><rect x="8" y="44" width="152" height="22" rx="3" fill="none" stroke="#8c9aa5"/><text x="14" y="59">n4</text><text text-anchor="end" x="154" y="59">8_1</text></g>
    <g><title>n5: job 8_1</title><rect x="8" y="70" width="152" height="22" fill="#ffb703"/><rect x="8" y="70" width="152" height="22" rx="3" fill="none" stroke="#8c9aa5"/><text x="14" y="85">n5</text><text text-anchor="end" x="154" y="85">8_1</text></g>
    <g><title>n6: stale</title><rect x="8" y="96" width="152" height="22" rx="3" fill="#ffffff" stroke="#8c9aa5" stroke-dasharray="4 3"/><text x="14" y="111">n6</text><text text-anchor="end" x="154" y="111">stale</text></g>
    </g>
    <g transform="translate(576,76)">
    <rect width="168" height="130" rx="6" fill="#f2f5f7" stroke="#c3ccd3"/>
    <text class="h" x="8" y="18">in no block<title>in no block</title></text>
    <text class="s" x="8" y="34">1 tray, 0 free</text>
    <g><title>x1: job 8_1</title><rect x="8" y="44" width="152" height="22" fill="#ffb703"/><rect x="8" y="44" width="152" height="22" rx="3" fill="none" stroke="#8c9aa5"/><text x="14" y="59">x1</text><text text-anchor="end" x="154" y="59">8_1</text></g>
    </g>
    <rect x="24" y="230" width="16" height="16" rx="3" fill="#8ecae6" stroke="#8c9aa5"/><text class="k" x="48" y="242">job 7 train &lt;a&amp;b&gt;: 2 trays in 1 NVLink partition</text>
    <rect x="24" y="254" width="16" height="16" rx="3" fill="#ffb703" stroke="#8c9aa5"/><text class="k" x="48" y="266">job 8_1: 4 trays in 2 NVLink partitions, 1 in no block</text>
    </svg>
    "##);
}

#[test]
fn every_tray_is_drawn_once_and_every_job_explained() {
    let text = text(&racks(), "t");
    for node in ["n1", "n2", "n3", "n4", "n5", "n6", "x1"] {
        assert_eq!(text.matches(&format!("<title>{node}: ")).count(), 1, "{node}");
    }
    assert!(text.contains("job 7 train &lt;a&amp;b&gt;: 2 trays in 1 NVLink partition"));
    assert_eq!(text.matches('<').count(), text.matches('>').count());
}

#[test]
fn many_blocks_wrap_and_long_names_are_shortened() {
    let blocks = (0..20).map(|n| Block {
        name: BlockName::new(format!("{}-{n}", "x".repeat(60))).unwrap(),
        nodes: HostList::parse(&format!("{}[1-2]", "node".repeat(10))).unwrap(),
    });
    let topology = BlockTopology { sizes: None, blocks: blocks.collect() };
    let text = text(&Racks::new(&topology, vec![], &[].into()), "t");
    assert!(text.contains("translate(24,") && !text.contains("translate(1496,"));
    assert!(text.contains("xxxxxxxxxxxxxxxxxxxxx…"));
}

#[test]
fn no_blocks_and_hostile_titles_still_make_a_picture() {
    let racks = Racks { base: None, columns: vec![], outside: vec![], jobs: vec![] };
    assert!(text(&racks, "</svg>\u{1}\"").contains("&lt;/svg&gt;?&quot;"));
}
