//! The settings of the IMEX manager.
#![no_main]

use imex_prolog::config::Settings;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(faults) = Settings::parse(text) {
        assert!(!faults.is_empty(), "refused without a reason");
    }
});
