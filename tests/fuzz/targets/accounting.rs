//! What `sacct --json` prints, as records and as a workload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use replay::accounting;
use replay::workload::sacct;

fuzz_target!(|text: &str| {
    if let Ok(records) = accounting::records(text) {
        for record in &records {
            let _ = record.tres.gpus();
        }
    }
    let _ = sacct::parse(text);
});
