//! The answer of `nvidia-imex-ctl -N -j -H`: one IMEX domain as the daemons in it see it.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;

/// An IMEX domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Domain {
    /// `UP` when all are connected.
    pub(super) status: String,
    /// Host names of the members.
    pub(super) members: BTreeSet<String>,
    /// Members that are not READY or miss a connection.
    pub(super) unready: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    nodes: BTreeMap<String, Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    status: String,
    host: String,
    #[serde(default)]
    host_name: String,
    connections: BTreeMap<String, Connection>,
}

#[derive(Deserialize)]
struct Connection {
    status: String,
}

/// Reads the answer. A daemon that tells no host name is called by its address.
///
/// # Errors
/// When it is not the JSON of the control tool.
pub(super) fn parse(text: &str) -> Result<Domain> {
    let answer: Answer =
        serde_json::from_str(text).context("nvidia-imex-ctl -N -j answered something else")?;
    let name =
        |node: &Node| if node.host_name.is_empty() { node.host.clone() } else { node.host_name.clone() };
    let whole = |node: &Node| {
        node.status == "READY" && node.connections.values().all(|connection| connection.status == "CONNECTED")
    };
    Ok(Domain {
        members: answer.nodes.values().map(name).collect(),
        unready: answer.nodes.values().filter(|node| !whole(node)).map(name).collect(),
        status: answer.status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_missing_connections_are_read() {
        let node = |name: &str, to_b: &str| {
            format!(
                r#"{{"status":"READY","host":"10.0.0.1","changed":true,"version":"580.95.05","hostName":"{name}",
                "connections":{{"0":{{"host":"10.0.0.1","status":"CONNECTED","changed":true}},
                "1":{{"host":"10.0.0.2","status":"{to_b}","changed":true}}}}}}"#
            )
        };
        let text = format!(
            r#"{{"nodes":{{"0":{},"1":{}}},"timestamp":"t","status":"DEGRADED"}}"#,
            node("a", "RECOVERING"),
            node("b", "CONNECTED")
        );
        let domain = parse(&text).unwrap();
        assert_eq!(domain.status, "DEGRADED");
        assert_eq!(domain.members, ["a", "b"].map(str::to_owned).into());
        assert_eq!(domain.unready, ["a"].map(str::to_owned).into());
        assert!(parse("READY").is_err());
    }
}
