//! `/proc/devices`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = imex_prolog::channel::parse_major(text);
});
