//! The whole outcome for other programs.
#![forbid(unsafe_code)]

use fabric::{HostList, Topology};
use serde_json::{Value, json};

use crate::plan::{Plan, Tier, Today};
use crate::reconcile::{Reason, Trays};

/// Version of the form below.
const VERSION: u32 = 1;

/// Blocks, every node that is not a plain member with its reason, what waits for missing trays today, and the topologies as they
/// would be written.
pub fn text(
    plan: &Plan,
    tiers: &[Tier],
    trays: &Trays,
    today: Option<&Today>,
    topologies: &[Topology],
) -> String {
    let blocks: Vec<Value> = plan
        .blocks
        .iter()
        .map(|block| {
            let nodes: HostList = block.nodes.iter().cloned().collect();
            let stale: HostList = block.nodes.iter().filter(|node| block.stale.contains(*node)).cloned().collect();
            json!({
                "name": block.name, "nvlink_partition": block.id, "trays": nodes.len(), "nodes": nodes, "stale": stale,
            })
        })
        .collect();
    let reasons = |reasons: &[Reason]| -> Value {
        reasons.iter().map(|r| json!({ "node": r.node, "why": r.why })).collect()
    };
    let today = today.map(|today| {
        let waiting = |(topology, base, sizes): &(String, u32, String)| {
            json!({ "topology": topology, "base_size": base, "job_sizes": sizes })
        };
        json!({ "away": today.away, "waiting": today.waiting.iter().map(waiting).collect::<Value>() })
    });
    let value = json!({
        "version": VERSION,
        "block_sizes": plan.sizes,
        "guarantee": plan.guarantee(),
        "tiers": tiers.iter().map(|t| json!({ "name": t.name, "block_sizes": t.sizes })).collect::<Value>(),
        "today": today,
        "blocks": blocks,
        "outside": reasons(&trays.outside),
        "rejected": reasons(&trays.rejected),
        "pending": reasons(&trays.pending),
        "silent": reasons(&trays.silent),
        "warnings": reasons(&trays.warnings),
        "unplaced": plan.unplaced.iter().cloned().collect::<HostList>(),
        "changes": plan.changes,
        "topologies": topologies.iter().map(|t| json!({ "name": t.name, "cluster_default": t.cluster_default })).collect::<Value>(),
    });
    format!("{value:#}\n")
}
