//! Plain tables for a terminal.
#![forbid(unsafe_code)]

use super::{Racks, State, Tray};
use fabric::HostList;

/// The blocks with their trays.
pub fn text(racks: &Racks) -> String {
    let trays = || racks.partitions.iter().flat_map(|partition| &partition.trays);
    let any_stale = trays().any(|tray| tray.state == State::Stale);
    let mut head = vec!["BLOCK".to_owned(), "TRAYS".into(), "NODES".into()];
    if any_stale {
        head.push("STALE".into());
    }
    let mut rows = vec![head];
    for partition in &racks.partitions {
        let trays = partition.trays.as_slice();
        let mut row = vec![partition.name.clone(), trays.len().to_string(), folded(trays, |_| true)];
        if any_stale {
            row.push(folded(trays, |tray| tray.state == State::Stale));
        }
        rows.push(row);
    }
    aligned(&rows, &[1])
}

fn folded(trays: &[Tray], wanted: impl Fn(&Tray) -> bool) -> String {
    let list: HostList = trays.iter().filter(|tray| wanted(tray)).map(|tray| tray.node.clone()).collect();
    if list.is_empty() { "-".into() } else { list.to_string() }
}

/// Columns two blanks apart, numbers to the right, nothing behind the last one.
pub(super) fn aligned(rows: &[Vec<String>], numbers: &[usize]) -> String {
    let width = |at: usize| {
        rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let width = width(at);
            if numbers.contains(&at) {
                line.push_str(&format!("{cell:>width$}  "));
            } else {
                line.push_str(&format!("{cell:<width$}  "));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn blocks_with_what_is_stale() {
        insta::assert_snapshot!(super::text(&crate::emit::tests::racks()), @r#"
        BLOCK           TRAYS  NODES   STALE
        nvl-aaaaaaaa-1      3  n[1-3]  -
        gone                0  -       -
        nvl-bbbbbbbb-1      3  n[4-6]  n6
        "#);
    }
}
