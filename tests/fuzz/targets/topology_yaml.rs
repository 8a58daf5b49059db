//! A topology file that is accepted is written to one that means the same, and that Slurm's page bug does not hit.
#![no_main]

use fabric::slurm_yaml::{emit, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(topologies) = parse(text) {
        let written = emit(&topologies);
        assert_ne!(written.len() % 4096, 0);
        let again = parse(&written).expect("a written file is read");
        assert_eq!(topologies, again, "{text:?} became {written:?}");
    }
});
