//! A file of readings.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = topology_gen::source::file::parse(text);
});
