//! What a tray wrote into its node record; a reading that is accepted is written to one that means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use topology_gen::source::extra::{read, write};

fuzz_target!(|text: &str| {
    if let Ok(Some(reading)) = read(text) {
        let again = read(&write(&reading)).expect("a written reading is read");
        assert!(again.is_some(), "{text:?}");
    }
});
