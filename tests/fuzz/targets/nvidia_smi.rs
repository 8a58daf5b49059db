//! What nvidia-smi prints, of one tray and of many.
#![no_main]

use libfuzzer_sys::fuzz_target;
use topology_gen::source::nvidia_smi;

fuzz_target!(|text: &str| {
    let _ = nvidia_smi::tray(text);
    let _ = nvidia_smi::nodes(text, nvidia_smi::FIELDS);
    let _ = nvidia_smi::nodes(text, "fabric.clusterUuid,fabric.cliqueId");
});
