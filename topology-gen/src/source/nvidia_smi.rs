//! Readings from what `nvidia-smi` prints: `-q`, or CSV of one or of many nodes.
//!
//! A missing line counts as `N/A`; words that are not known stay unknown and are judged as such. Many nodes come as pdsh,
//! clush or a loop over ssh print them: `node: line`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use fabric::{
    DomainId, FabricHealth, FabricState, GpuFabric, GpuReading, HostList, NodeName, PartitionId, TrayReading,
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

/// The columns of a line that holds the two ids and nothing else, which other tools ask for; by their form, since nobody has
/// said what was asked. Two words that are no ids are taken in the usual order.
fn ids_alone(values: &[&str]) -> Option<Vec<Option<&'static str>>> {
    let [first, second] = values else { return None };
    let is_domain = |text: &str| text.parse::<DomainId>().is_ok();
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    if is_number(first) && is_domain(second) {
        return Some(vec![Some("clique"), Some("cluster")]);
    }
    let suits = (is_domain(first) || is_absent(first)) && (is_number(second) || is_absent(second));
    suits.then(|| vec![Some("cluster"), Some("clique")])
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
        let values: Vec<&str> = line.split(',').map(str::trim).collect();
        if fields == Some(FIELDS)
            && let Some(pair) = ids_alone(&values)
        {
            columns_now = Some(pair);
        }
        let Some(columns) = &columns_now else { return Err(format!("not understood: {}", shortened(line))) };
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

/// Reads the CSV lines of many nodes: each with `node: ` in front, or gathered below a host list between dashes, as dshbak and
/// clush -b print what several nodes have said alike. A node whose lines make no reading is silent; others go on.
pub fn nodes(text: &str, fields: &str) -> Inventory {
    let mut inventory = Inventory::default();
    let mut by_node: BTreeMap<NodeName, Vec<&str>> = BTreeMap::new();
    let mut gathered: Vec<NodeName> = Vec::new();
    let mut lines = text.lines().filter(|line| !line.trim().is_empty()).peekable();
    while let Some(line) = lines.next() {
        if is_rule(line) {
            let head = lines.next_if(|line| !is_rule(line)).unwrap_or_default();
            // clush adds how many there are: `n[1-4] (4)`.
            let list = head.split_once(" (").map_or(head, |(list, _)| list).trim();
            match HostList::parse(list) {
                Ok(list) if !list.is_empty() => gathered = list.into_iter().collect(),
                _ => {
                    gathered.clear();
                    inventory.notes.push(format!("no host list between dashes: {:?}", shortened(head)));
                }
            }
            lines.next_if(|line| is_rule(line));
            continue;
        }
        if !gathered.is_empty() {
            for node in &gathered {
                by_node.entry(node.clone()).or_default().push(line);
            }
            continue;
        }
        let split = line.split_once(": ").or_else(|| Some((line.trim_end().strip_suffix(':')?, "")));
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

/// Whether a line is a rule of dashes.
fn is_rule(line: &str) -> bool {
    let line = line.trim();
    line.len() >= 8 && line.bytes().all(|byte| byte == b'-')
}

#[cfg(test)]
mod tests;
