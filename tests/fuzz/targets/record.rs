//! The record of a job's IMEX domain, as a crash or a hand may have left it.
#![no_main]

use imex_prolog::record::Record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Record::decode(bytes);
});
