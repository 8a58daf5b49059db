use proptest::prelude::*;

use super::*;
use crate::abi::layout::{LONGEST_RECORD, known_layout_for_tests};

const RELEASE: u32 = 0x1a_05_05;
const BUILD: [u8; 20] = [0xa5; 20];

fn sample() -> Confirmation {
    Confirmation { slurm: RELEASE, build_id: BUILD.to_vec(), layout: known_layout_for_tests() }
}

fn parse(text: &[u8]) -> Result<Confirmation, Void> {
    Confirmation::parse(text, RELEASE, &BUILD)
}

/// The text with another body and the checksum that fits it.
fn resealed(change: impl Fn(&str) -> String) -> Vec<u8> {
    let text = sample().render();
    let (body, _) = text.split_once("checksum ").unwrap();
    let body = change(body);
    format!("{body}checksum {:016x}\n", checksum(body.as_bytes())).into_bytes()
}

#[test]
fn the_file_reads_well() {
    let text = sample().render();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "slurm-nvlink layout 1");
    assert_eq!(
        lines[3..7],
        ["slurm 26.05.5", &format!("build-id {}", "a5".repeat(20)), "job.magic 24", "job.bit_flags 144"]
    );
    assert_eq!(lines[lines.len() - 2], "conf.topology_param 1568");
    assert!(lines[lines.len() - 1].starts_with("checksum "));
    assert_eq!(parse(text.as_bytes()), Ok(sample()));
}

#[test]
fn a_file_for_anything_else_is_void() {
    let text = sample().render();
    let other = Confirmation::parse(text.as_bytes(), RELEASE, &[0xa4; 20]).unwrap_err();
    assert_eq!(other.to_string(), format!("it is for build {}", "a5".repeat(20)));
    let other = Confirmation::parse(text.as_bytes(), RELEASE + 1, &BUILD).unwrap_err();
    assert_eq!(other.to_string(), "it is for Slurm 26.05.5");
    assert_eq!(parse(b""), Err(Void::Title));
    assert_eq!(parse(&resealed(|body| body.replace("layout 1", "layout 2"))), Err(Void::Title));
    assert_eq!(parse(&vec![b'#'; LONGEST_FILE + 1]), Err(Void::NotText));
    let says = |change: &dyn Fn(&str) -> String| parse(&resealed(change)).unwrap_err().to_string();
    assert_eq!(
        says(&|body| body.replace("job.magic 24", "job.magic 024")),
        "line 6 is not \"job.magic NUMBER\""
    );
    assert_eq!(says(&|body| body.replace("job.magic 24\n", "")), "line 6 is not \"job.magic NUMBER\"");
    assert_eq!(says(&|body| format!("{body}more 1\n")), "line 23 is not \"checksum DIGITS\"");
    assert_eq!(
        says(&|body| body.replace("job.details 264", "job.details 263")),
        "no build has such a layout: job.details cannot lie at 263"
    );
}

#[test]
fn releases_are_written_as_slurm_writes_them() {
    assert_eq!(release(0x1a_05_05), "26.05.5");
    assert_eq!(release(0x19_0b_07), "25.11.7");
}

#[test]
fn each_cut_is_seen() {
    let text = sample().render();
    for end in 0..text.len() {
        assert!(parse(&text.as_bytes()[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn each_flipped_bit_is_seen() {
    let text = sample().render().into_bytes();
    for position in 0..text.len() {
        for bit in 0..8 {
            let mut changed = text.clone();
            changed[position] ^= 1 << bit;
            assert!(parse(&changed).is_err(), "bit {bit} of byte {position}");
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(offsets in prop::collection::vec(0..LONGEST_RECORD / 8, MEMBERS.len())) {
        let mut layout = Layout::UNKNOWN;
        for (member, offset) in MEMBERS.iter().zip(offsets) {
            *(member.of_mut)(&mut layout) = offset * 8;
        }
        let written = Confirmation { layout, ..sample() };
        match parse(written.render().as_bytes()) {
            Ok(read) => prop_assert_eq!(read, written),
            Err(why) => prop_assert!(matches!(why, Void::Implausible(_)), "{why}"),
        }
    }

    #[test]
    fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(parse(&bytes).is_err());
    }
}
