//! What one node sees of its domain: answers put together, and the domain's state. Pure.
#![forbid(unsafe_code)]

use crate::state::{Connection, DaemonState, DomainState};
use crate::wire::NodeReport;

/// One node of the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its line of the node list.
    pub host: String,
    /// Its state; UNAVAILABLE when it did not answer.
    pub status: DaemonState,
    /// Its version; empty when it did not answer.
    pub version: String,
    /// Its host name; empty when it did not answer.
    pub host_name: String,
    /// Its connections, as many as the view has nodes; all INVALID when it did not answer.
    pub connections: Vec<Connection>,
}

/// The view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// In node-list order.
    pub nodes: Vec<NodeView>,
    /// Which of them was asked first; its entry is first-hand.
    pub local: Option<usize>,
    /// The domain's state.
    pub status: DomainState,
}

/// Puts the answers of the nodes together. Without an answer of the local node no other counts.
pub fn assemble(hosts: &[String], local: Option<usize>, reports: Vec<Option<NodeReport>>) -> View {
    let alive = local.is_some_and(|id| reports.get(id).is_some_and(Option::is_some));
    let mut reports = reports.into_iter();
    let nodes: Vec<NodeView> = hosts
        .iter()
        .map(|host| entry(host, hosts.len(), reports.next().flatten().filter(|_| alive)))
        .collect();
    let status = if !alive {
        DomainState::Down
    } else if nodes.iter().all(is_up) {
        DomainState::Up
    } else {
        DomainState::Degraded
    };
    View { nodes, local, status }
}

fn is_up(node: &NodeView) -> bool {
    node.status == DaemonState::Ready && node.connections.iter().all(|cell| *cell == Connection::Connected)
}

fn entry(host: &str, count: usize, report: Option<NodeReport>) -> NodeView {
    let host = host.to_owned();
    match report {
        Some(report) => {
            // A peer with another list has another number of connections.
            let mut connections = report.connections;
            connections.resize(count, Connection::Invalid);
            let (version, host_name) = (report.version, report.host_name);
            NodeView { host, status: report.state, version, host_name, connections }
        }
        None => NodeView {
            host,
            status: DaemonState::Unavailable,
            version: String::new(),
            host_name: String::new(),
            connections: vec![Connection::Invalid; count],
        },
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A READY node with this row.
    pub(crate) fn report(node: usize, connections: Vec<Connection>) -> NodeReport {
        NodeReport {
            node,
            state: DaemonState::Ready,
            version: "580.95.05".to_owned(),
            host_name: format!("tray{node}"),
            hosts: Vec::new(),
            connections,
            cmd_port: Some(50_005),
        }
    }

    fn hosts(count: usize) -> Vec<String> {
        (0..count).map(|id| format!("10.20.0.{}", 11 + id)).collect()
    }

    #[test]
    fn all_ready_and_connected_is_up() {
        let full = |id, count| Some(report(id, vec![Connection::Connected; count]));
        assert_eq!(assemble(&hosts(1), Some(0), vec![full(0, 1)]).status, DomainState::Up);
        assert_eq!(
            assemble(&hosts(3), Some(1), (0..3).map(|id| full(id, 3)).collect()).status,
            DomainState::Up
        );
    }

    #[test]
    fn one_silent_peer_is_degraded_and_a_silent_local_node_is_down() {
        let full = Some(report(0, vec![Connection::Connected; 2]));
        let view = assemble(&hosts(2), Some(0), vec![full.clone(), None]);
        assert_eq!(view.status, DomainState::Degraded);
        assert_eq!(view.nodes[1].connections, vec![Connection::Invalid; 2]);
        let view = assemble(&hosts(2), Some(1), vec![full, None]);
        assert_eq!(view.status, DomainState::Down);
        assert!(view.nodes.iter().all(|node| node.status == DaemonState::Unavailable));
    }

    #[test]
    fn a_node_that_is_not_ready_or_has_one_bad_connection_is_not_up() {
        let good = report(0, vec![Connection::Connected; 2]);
        for bad in [
            NodeReport { state: DaemonState::InitGpu, node: 1, ..good.clone() },
            report(1, vec![Connection::Connected, Connection::Recovering]),
            report(1, vec![Connection::Connected]),
        ] {
            let view = assemble(&hosts(2), Some(0), vec![Some(good.clone()), Some(bad)]);
            assert_eq!(view.status, DomainState::Degraded);
        }
    }
}
