//! Plain tables for a terminal.
#![forbid(unsafe_code)]

use super::{Racks, Tray};
use fabric::HostList;

/// Blocks with their trays; jobs below when there are any.
pub fn text(racks: &Racks) -> String {
    let mut text = blocks(racks);
    if !racks.jobs.is_empty() {
        text.push('\n');
        text.push_str(&jobs(racks));
    }
    text
}

fn blocks(racks: &Racks) -> String {
    let any_stale = racks.columns.iter().flat_map(|c| &c.trays).any(|tray| tray.stale);
    let mut head = vec!["BLOCK".to_owned(), "TRAYS".into(), "FREE".into(), "NODES".into()];
    if any_stale {
        head.push("STALE".into());
    }
    let mut rows = vec![head];
    for column in &racks.columns {
        let free = column.trays.iter().filter(|tray| tray.jobs.is_empty()).count();
        let mut row = vec![
            column.name.clone(),
            column.trays.len().to_string(),
            if racks.jobs.is_empty() { "-".into() } else { free.to_string() },
            folded(&column.trays, |_| true),
        ];
        if any_stale {
            row.push(folded(&column.trays, |tray| tray.stale));
        }
        rows.push(row);
    }
    aligned(&rows, &[1, 2])
}

fn jobs(racks: &Racks) -> String {
    let mut rows = vec![vec!["JOB".to_owned(), "NAME".into(), "PLACE".into(), "BLOCKS".into()]];
    for (at, job) in racks.jobs.iter().enumerate() {
        let blocks: Vec<String> =
            racks.blocks_of(at).iter().map(|(name, trays)| format!("{name} ({trays})")).collect();
        rows.push(vec![printable(&job.id), printable(&job.name), racks.sentence(at), blocks.join(", ")]);
    }
    aligned(&rows, &[])
}

fn folded(trays: &[Tray], wanted: impl Fn(&Tray) -> bool) -> String {
    let list: HostList = trays.iter().filter(|tray| wanted(tray)).map(|tray| tray.node.clone()).collect();
    if list.is_empty() { "-".into() } else { list.to_string() }
}

/// Job names are anybody's text: no control character of theirs reaches the terminal.
fn printable(text: &str) -> String {
    if text.is_empty() {
        "-".into()
    } else {
        text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
    }
}

/// Columns two blanks apart, numbers to the right, nothing behind the last one.
fn aligned(rows: &[Vec<String>], numbers: &[usize]) -> String {
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
    fn blocks_and_jobs() {
        insta::assert_snapshot!(super::text(&crate::emit::tests::racks()), @r#"
        BLOCK           TRAYS  FREE  NODES   STALE
        nvl-aaaaaaaa-1      3     1  n[1-3]  -
        gone                0     0  -       -
        nvl-bbbbbbbb-1      3     1  n[4-6]  n6

        JOB  NAME         PLACE                                          BLOCKS
        7    train <a&b>  2 trays in 1 NVLink partition                  nvl-aaaaaaaa-1 (2)
        8_1  -            4 trays in 2 NVLink partitions, 1 in no block  nvl-aaaaaaaa-1 (1), nvl-bbbbbbbb-1 (2)
        "#);
    }
}
