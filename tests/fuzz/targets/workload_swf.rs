//! A trace in the Standard Workload Format: each job in it can be replayed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use replay::workload::swf;

fuzz_target!(|input: (u8, &str)| {
    let (processors, text) = input;
    if let Ok(trace) = swf::parse(text, u32::from(processors)) {
        for job in trace.jobs {
            assert!(job.trays > 0 && job.run > 0 && job.limit >= job.run, "{job:?}");
        }
    }
});
