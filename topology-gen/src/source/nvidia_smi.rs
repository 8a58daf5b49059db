//! Readings from what `nvidia-smi` prints: `-q`, or CSV of one or of many nodes.
//!
//! A missing line counts as `N/A`; words that are not known stay unknown and are judged as such. Many nodes come as pdsh,
//! clush or a loop over ssh print them: `node: line`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use fabric::{
    DomainId, FabricHealth, FabricState, GpuFabric, GpuReading, NodeName, PartitionId, TrayReading,
};

use super::{Inventory, Observation, Seen};

/// NVML's code for an error of which nothing else is known; stands in for a status in words.
const STATUS_UNKNOWN: u32 = 999;
/// A state that is not known.
const STATE_UNKNOWN: u8 = 255;
/// Fields that are asked for when the output has no header.
pub const FIELDS: &str =
    "index,uuid,name,driver_version,fabric.state,fabric.status,fabric.cliqueId,fabric.clusterUuid";

/// What one GPU says, as words by key.
type Words<'a> = BTreeMap<&'static str, &'a str>;

/// Reads the output for one tray: `topology-gen probe`, `nvidia-smi -q`, or CSV with a header.
///
/// # Errors
/// In words, with the first line of something else.
pub fn tray(text: &str) -> Result<TrayReading, String> {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty());
    let Some(first) = first else { return Err("no answer".to_owned()) };
    if first.starts_with('{') {
        return serde_json::from_str(text).map_err(|error| format!("not a reading: {error}"));
    }
    if text.contains("NVSMI LOG") {
        return full(text);
    }
    let lines: Vec<&str> = text.lines().collect();
    csv(&lines, None)
}

fn shortened(line: &str) -> String {
    line.trim().chars().take(120).collect()
}

/// `nvidia-smi -q`.
fn full(text: &str) -> Result<TrayReading, String> {
    let mut driver = "";
    let mut gpus: Vec<Words<'_>> = Vec::new();
    let mut section = "";
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let (key, value) = line.split_once(" : ").map_or((line.trim(), ""), |(k, v)| (k.trim(), v.trim()));
        if indent == 0 && line.starts_with("GPU ") {
            gpus.push(Words::new());
        }
        if indent == 0 && key == "Driver Version" {
            driver = value;
        }
        if indent <= 4 {
            section = key;
        }
        let Some(gpu) = gpus.last_mut() else { continue };
        let known = match (section, key) {
            ("Product Name", _) => "name",
            ("GPU UUID", _) => "uuid",
            ("Fabric", "State") => "state",
            ("Fabric", "Status") => "status",
            ("Fabric", "CliqueId") => "clique",
            ("Fabric", "ClusterUUID") => "cluster",
            ("Fabric", "Summary") => "summary",
            ("Fabric", "Bandwidth") => "bandwidth",
            ("Fabric", "Route Recovery in progress") => "recovery",
            ("Fabric", "Route Unhealthy") => "unhealthy",
            ("Fabric", "Access Timeout Recovery") => "timeout",
            ("Fabric", "Incorrect Configuration") => "configuration",
            _ => continue,
        };
        gpu.insert(known, value);
    }
    reading(driver, &gpus)
}

/// The column of a CSV field, as the option or as the header calls it.
fn column(field: &str) -> Option<&'static str> {
    let plain: String = field
        .trim()
        .to_ascii_lowercase()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '.')
        .collect();
    Some(match plain.as_str() {
        "index" => "index",
        "uuid" | "gpuuuid" => "uuid",
        "name" | "gpuname" => "name",
        "driverversion" => "driver",
        "fabric.state" => "state",
        "fabric.status" => "status",
        "fabric.cliqueid" => "clique",
        "fabric.clusteruuid" => "cluster",
        _ => return None,
    })
}

fn columns(line: &str) -> Vec<Option<&'static str>> {
    line.split(',').map(column).collect()
}

/// CSV lines of one tray; without a header the columns are those of `fields`.
fn csv(lines: &[&str], fields: Option<&str>) -> Result<TrayReading, String> {
    let mut columns_now = fields.map(columns);
    let mut gpus: Vec<Words<'_>> = Vec::new();
    for line in lines.iter().filter(|line| !line.trim().is_empty()) {
        let header = columns(line);
        if header.contains(&Some("cluster")) && header.contains(&Some("clique")) {
            columns_now = Some(header);
            continue;
        }
        let Some(columns) = &columns_now else { return Err(format!("not understood: {}", shortened(line))) };
        let values: Vec<&str> = line.split(',').map(str::trim).collect();
        if values.len() != columns.len() {
            let (has, wanted) = (values.len(), columns.len());
            return Err(format!("{has} columns instead of {wanted}: {}", shortened(line)));
        }
        gpus.push(
            columns.iter().zip(values).filter_map(|(column, value)| Some(((*column)?, value))).collect(),
        );
    }
    if !columns_now.is_some_and(|c| c.contains(&Some("cluster")) && c.contains(&Some("clique"))) {
        return Err("fabric.clusterUuid and fabric.cliqueId are not among the fields".to_owned());
    }
    let driver = gpus.first().and_then(|gpu| gpu.get("driver")).copied().unwrap_or_default();
    reading(driver, &gpus)
}

fn reading(driver: &str, gpus: &[Words<'_>]) -> Result<TrayReading, String> {
    let gpu = |(at, words): (u32, &Words<'_>)| {
        let text = |key| words.get(key).copied().unwrap_or_default().to_owned();
        let index = words.get("index").map_or(Some(at), |text| text.parse().ok());
        let index = index.ok_or_else(|| format!("the index of GPU {at} is no number"))?;
        let fabric = fabric(words).map_err(|error| format!("GPU {index}: {error}"))?;
        Ok(GpuReading { index, uuid: text("uuid"), name: text("name"), fabric })
    };
    let gpus: Vec<GpuReading> = (0..).zip(gpus).map(gpu).collect::<Result<_, String>>()?;
    if gpus.is_empty() {
        return Err("no GPU in the output of nvidia-smi".to_owned());
    }
    Ok(TrayReading { driver_version: driver.to_owned(), gpus })
}

fn fabric(words: &Words<'_>) -> Result<Option<GpuFabric>, String> {
    let of = |key| words.get(key).copied().filter(|text| !is_absent(text));
    let (cluster, clique) = (of("cluster"), of("clique"));
    let state = match of("state").map(str::to_ascii_lowercase).as_deref() {
        // Not asked for: whoever shows ids has them.
        None if !words.contains_key("state") && cluster.is_some() => FabricState::Completed,
        None => return Ok(None),
        Some("completed") => FabricState::Completed,
        Some("in progress") => FabricState::InProgress,
        Some("not started") => FabricState::NotStarted,
        Some("not supported") => FabricState::NotSupported,
        Some(_) => FabricState::from(STATE_UNKNOWN),
    };
    let status = match of("status").map(str::to_ascii_lowercase).as_deref() {
        None | Some("success") => 0,
        Some(_) => STATUS_UNKNOWN,
    };
    let needed = state == FabricState::Completed && status == 0;
    let domain = match cluster {
        Some(text) => text.parse().map_err(|error: fabric::IdentityError| error.to_string())?,
        None if needed => return Err("completed without a cluster UUID".to_owned()),
        None => DomainId([0; 16]),
    };
    let partition = match clique {
        Some(text) => PartitionId(text.parse().map_err(|_| format!("clique {text:?} is no number"))?),
        None if needed => return Err("completed without a clique".to_owned()),
        None => PartitionId(0),
    };
    Ok(Some(GpuFabric { domain, partition, state, status, health: health(words) }))
}

fn is_absent(text: &str) -> bool {
    let text = text.trim().trim_matches(['[', ']']);
    text.is_empty() || text.eq_ignore_ascii_case("n/a") || text.eq_ignore_ascii_case("not supported field")
}

/// The health words as NVML's mask and summary (NVML 13: fields of the health mask).
fn health(words: &Words<'_>) -> FabricHealth {
    let flag = |key: &str, yes: &str, no: &str| -> u32 {
        match words.get(key).copied().filter(|text| !is_absent(text)) {
            None => 0,
            Some(text) if text.eq_ignore_ascii_case(yes) => 1,
            Some(text) if text.eq_ignore_ascii_case(no) => 2,
            Some(_) => 3,
        }
    };
    let configuration = match words.get("configuration").copied().filter(|text| !is_absent(text)) {
        None => 0,
        Some(text) if text.eq_ignore_ascii_case("none") => 1,
        Some(_) => 15,
    };
    let mask = flag("bandwidth", "degraded", "full")
        | flag("recovery", "true", "false") << 2
        | flag("unhealthy", "true", "false") << 4
        | flag("timeout", "true", "false") << 6
        | configuration << 8;
    let summary = match words.get("summary").map(|text| text.to_ascii_lowercase()).as_deref() {
        Some("healthy") => 1,
        Some("unhealthy") => 2,
        Some("limited capacity") => 3,
        _ => 0,
    };
    FabricHealth { mask, summary }
}

/// Reads the CSV lines of many nodes, each with `node: ` in front. A node whose lines make no reading is silent; others go on.
pub fn nodes(text: &str, fields: &str) -> Inventory {
    let mut inventory = Inventory::default();
    let mut by_node: BTreeMap<NodeName, Vec<&str>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let split = line.split_once(": ").or_else(|| Some((line.strip_suffix(':')?, "")));
        match split.map(|(node, rest)| (NodeName::new(node.trim()), rest)) {
            Some((Ok(node), rest)) => by_node.entry(node).or_default().push(rest),
            _ => inventory.notes.push(format!("no node in front of {:?}", shortened(line))),
        }
    }
    for (node, lines) in by_node {
        let seen = csv(&lines, Some(fields)).map_or_else(Seen::Silent, Seen::Reading);
        inventory.observations.push(Observation::now(node, seen));
    }
    inventory
}

#[cfg(test)]
mod tests {
    use super::*;
    use fabric::Verdict;

    const ID: &str = "7e1c0f5a-9d3b-4e52-8f01-2a6b5c4d3e2f";

    fn q(state: &str, status: &str, clique: &str, cluster: &str, health: &str) -> String {
        let gpu = |at: u32| {
            format!(
                "GPU 0000000{at}:01:00.0\n    Product Name                          : NVIDIA GB200 (simulated)\n    GPU UUID                              : GPU-{at}\n    ECC Mode\n        State                             : Enabled\n    Fabric\n        State                             : {state}\n        Status                            : {status}\n        CliqueId                          : {clique}\n        ClusterUUID                       : {cluster}\n{health}    Processes                             : None\n"
            )
        };
        format!(
            "\n==============NVSMI LOG==============\n\nDriver Version                            : 580.95.05\nAttached GPUs                             : 2\n{}{}",
            gpu(0),
            gpu(1)
        )
    }

    #[test]
    fn the_full_output_is_read_like_nvml() {
        let health = "        Health\n            Summary                       : Unhealthy\n            Bandwidth                     : Degraded\n            Route Recovery in progress    : False\n";
        let tray = tray(&q("Completed", "Success", "32766", ID, health)).unwrap();
        assert_eq!((tray.driver_version.as_str(), tray.gpus.len()), ("580.95.05", 2));
        let Verdict::Member { id, gpus, warnings } = tray.judge(Some(2)) else { panic!("{tray:?}") };
        assert_eq!((id.to_string(), gpus), (format!("{ID}.32766"), 2));
        assert_eq!(warnings[0], "GPU 0 (GPU-0): unhealthy, bandwidth degraded");
        assert_eq!(tray.gpus[0].fabric.unwrap().health.mask, 0b1001);
    }

    #[test]
    fn each_row_of_the_table_of_readings_is_judged() {
        let judged = |state, status, clique, cluster| {
            tray(&q(state, status, clique, cluster, "")).map(|tray| match tray.judge(None) {
                Verdict::Member { .. } => "member".to_owned(),
                Verdict::NoFabric { why } | Verdict::Rejected { why } => why,
            })
        };
        let zero = "00000000-0000-0000-0000-000000000000";
        assert_eq!(
            judged("Completed", "Success", "0", zero).unwrap(),
            "no multi-node NVLink: the cluster UUID is zero"
        );
        assert!(judged("In Progress", "N/A", "N/A", "N/A").unwrap().contains("fabric not ready"));
        assert!(judged("Completed", "Timeout", "1", ID).unwrap().contains("NVML error 999"));
        assert!(judged("N/A", "N/A", "N/A", "N/A").unwrap().contains("no fabric query"));
        assert!(judged("Confused", "Success", "1", ID).unwrap().contains("unknown state"));
        assert_eq!(
            judged("Completed", "Success", "N/A", ID).unwrap_err(),
            "GPU 0: completed without a clique"
        );
        assert!(
            tray("NVIDIA-SMI has failed because it couldn't communicate")
                .unwrap_err()
                .starts_with("not understood: NVIDIA-SMI")
        );
        assert_eq!(tray("  \n").unwrap_err(), "no answer");
    }

    #[test]
    fn many_nodes_as_pdsh_prints_them() {
        let row = |node: &str, at: u32, clique: &str| {
            format!("{node}: {at}, GPU-{at}, NVIDIA GB200, 580.95.05, Completed, Success, {clique}, {ID}\n")
        };
        let header = "n1: index, uuid, name, driver_version, fabric.state, fabric.status, fabric.clique_id, fabric.cluster_uuid\n";
        let text = [
            header.to_owned(),
            row("n1", 0, "7"),
            // The nodes answer in any order.
            row("n2", 0, "7"),
            row("n1", 1, "7"),
            row("n2", 1, "8"),
            "n3: NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n".to_owned(),
            "pdsh@admin timed out\n".to_owned(),
            "n4: \n".to_owned(),
        ]
        .concat();
        let inventory = nodes(&text, FIELDS);
        assert_eq!(inventory.notes, ["no node in front of \"pdsh@admin timed out\""]);
        let told: Vec<String> = inventory
            .observations
            .iter()
            .map(|o| match &o.seen {
                Seen::Reading(tray) => match tray.judge(None) {
                    Verdict::Member { id, .. } => format!("{} {}", o.node, id.partition),
                    Verdict::NoFabric { why } | Verdict::Rejected { why } => {
                        format!("{} {}", o.node, shortened(&why))
                    }
                },
                Seen::Silent(why) | Seen::NoGpus(why) => format!("{} silent: {why}", o.node),
            })
            .collect();
        assert_eq!(told[0], "n1 7");
        assert!(told[1].starts_with("n2 GPUs do not agree"), "{}", told[1]);
        assert!(told[2].starts_with("n3 silent: 1 columns instead of 8"), "{}", told[2]);
        assert_eq!(told[3], "n4 silent: no GPU in the output of nvidia-smi");
        let short = nodes(&format!("n1: {ID}, 3\nn2: N/A, N/A\n"), "fabric.clusterUuid,fabric.cliqueId");
        assert!(
            matches!(&short.observations[0].seen, Seen::Reading(tray) if tray.gpus[0].fabric.unwrap().partition == PartitionId(3))
        );
        assert!(matches!(&short.observations[1].seen, Seen::Reading(tray) if tray.gpus[0].fabric.is_none()));
    }
}
