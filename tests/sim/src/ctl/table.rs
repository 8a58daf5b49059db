//! The domain view as text.
#![forbid(unsafe_code)]

use super::view::View;
use std::fmt::Write;

const LEGEND: [(&str, &str); 8] = [
    ("I", "Invalid: not reachable, no status"),
    ("N", "Never connected"),
    ("R", "Recovering: lost, cleanup not yet triggered"),
    ("D", "Disconnected: lost, cleanup triggered"),
    ("A", "Authenticating"),
    ("!V!", "Version mismatch: traffic disabled"),
    ("!M!", "Node map mismatch: traffic disabled"),
    ("C", "Connected"),
];

/// Renders the view; `timestamp` as in [`crate::clock::Stamp::slashed`].
pub fn render(view: &View, timestamp: &str, host_names: bool) -> String {
    let mut text = String::from("Connectivity Table Legend:\n");
    for (cell, meaning) in LEGEND {
        line(&mut text, format_args!("{cell} - {meaning}"));
    }
    line(&mut text, format_args!("\n{timestamp}\nNodes:"));
    for (id, node) in view.nodes.iter().enumerate() {
        let mark = if view.local == Some(id) { '*' } else { '-' };
        let status = node.status.word();
        let mut entry =
            format!("Node #{id:<3} {mark} {:<15} {mark} {status:<20} - Version: {}", node.host, node.version);
        if host_names {
            let name = if node.host_name.is_empty() { "N/A" } else { &node.host_name };
            entry.push_str(&format!(" - Hostname: {name}"));
        }
        line(&mut text, format_args!("{}", entry.trim_end()));
    }
    text.push('\n');
    let header: String = (0..view.nodes.len()).map(|id| format!("{id:<4}")).collect();
    line(&mut text, format_args!(" Nodes From\\To  {}", header.trim_end()));
    for (id, node) in view.nodes.iter().enumerate() {
        let cells: String = node.connections.iter().map(|cell| format!("{:<4}", cell.cell())).collect();
        line(&mut text, format_args!("{id:>8}        {}", cells.trim_end()));
    }
    line(&mut text, format_args!("Domain State: {}", view.status));
    text
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::view::assemble;
    use crate::ctl::view::tests::report;
    use crate::state::Connection::{Connected, MapMismatch, NeverConnected};

    #[test]
    fn the_table_has_the_vendor_form() {
        let hosts: Vec<String> =
            ["10.20.0.11", "10.20.0.12", "tray-with-a-long-name"].map(str::to_owned).to_vec();
        let reports = vec![
            Some(report(0, vec![Connected, MapMismatch, NeverConnected])),
            Some(report(1, vec![Connected, Connected, NeverConnected])),
            None,
        ];
        let text = render(&assemble(&hosts, Some(1), reports), "10/3/2026 09:15:02.117", true);
        let expected = "\
Connectivity Table Legend:
I - Invalid: not reachable, no status
N - Never connected
R - Recovering: lost, cleanup not yet triggered
D - Disconnected: lost, cleanup triggered
A - Authenticating
!V! - Version mismatch: traffic disabled
!M! - Node map mismatch: traffic disabled
C - Connected

10/3/2026 09:15:02.117
Nodes:
Node #0   - 10.20.0.11      - READY                - Version: 580.95.05 - Hostname: tray0
Node #1   * 10.20.0.12      * READY                - Version: 580.95.05 - Hostname: tray1
Node #2   - tray-with-a-long-name - UNAVAILABLE          - Version:  - Hostname: N/A

 Nodes From\\To  0   1   2
       0        C   !M! N
       1        C   C   N
       2        I   I   I
Domain State: DEGRADED
";
        assert_eq!(text, expected);
    }
}
