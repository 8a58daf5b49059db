//! Simulated readings and node lists for the tests, in the form of Slurm 26.05's `scontrol show nodes --json`.
#![forbid(unsafe_code)]

use fabric::{FabricHealth, FabricId, GpuFabric, GpuReading, HostList, TrayReading};
use serde_json::{Value, json};

use crate::source::extra;

/// Two racks with the default partition number, as in real life.
pub(crate) const RACK_A: &str = "aaaaaaaa-1111-4222-8333-444444444444.32766";
pub(crate) const RACK_B: &str = "bbbbbbbb-1111-4222-8333-444444444444.32766";
pub(crate) const RACK_C: &str = "cccccccc-1111-4222-8333-444444444444.32766";
/// What HGX systems report.
pub(crate) const ZERO: &str = "00000000-0000-0000-0000-000000000000.0";

/// A reading of GPUs with these identities, all completed and healthy.
pub(crate) fn reading(ids: &[&str]) -> TrayReading {
    let gpus = ids.iter().zip(0u32..).map(|(id, index)| {
        let id: FabricId = id.parse().unwrap();
        let health = FabricHealth { mask: 0x1aa, summary: 1 };
        let fabric =
            GpuFabric { domain: id.domain, partition: id.partition, state: 3.into(), status: 0, health };
        GpuReading { index, uuid: String::new(), name: String::new(), fabric: Some(fabric) }
    });
    TrayReading { driver_version: "580.95.05".into(), gpus: gpus.collect() }
}

/// One node of Slurm's list.
pub(crate) fn node(name: &str, extra: &str, gres: &str, state: &[&str]) -> Value {
    json!({
        "architecture": "aarch64", "name": name, "hostname": name, "address": name, "extra": extra, "gres": gres,
        "state": state, "partitions": ["all"], "cpus": 144, "boot_time": {"set": true, "infinite": false, "number": 1_790_000_000},
        "reason": "", "version": "26.05.5",
    })
}

/// Nodes with four GPUs of one identity each.
pub(crate) fn rack(nodes: &str, id: &str) -> Vec<Value> {
    let extra = extra::write(&reading(&[id; 4]));
    HostList::parse(nodes)
        .unwrap()
        .iter()
        .map(|name| node(name.as_str(), &extra, "gpu:gb200:4(S:0-1)", &["IDLE"]))
        .collect()
}

/// Nodes that say nothing.
pub(crate) fn silent(nodes: &str) -> Vec<Value> {
    let list = HostList::parse(nodes).unwrap();
    list.iter().map(|name| node(name.as_str(), "", "gpu:gb200:4", &["DOWN", "NOT_RESPONDING"])).collect()
}

/// What scontrol prints for these nodes.
pub(crate) fn node_list(nodes: &[Vec<Value>]) -> String {
    let nodes: Vec<&Value> = nodes.iter().flatten().collect();
    json!({
        "nodes": nodes, "last_update": {"set": true, "infinite": false, "number": 1_790_000_000},
        "meta": {"slurm": {"version": {"major": "26", "micro": "5", "minor": "05"}}}, "errors": [], "warnings": [],
    })
    .to_string()
}
