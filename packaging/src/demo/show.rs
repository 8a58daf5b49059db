//! The demonstration's words.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::check::{Part, Seen};
use crate::console::seconds;

/// A numbered heading.
pub(super) fn heading(number: usize, text: &str) -> String {
    format!("\n{number}. {text}")
}

/// Text of others, set off from ours.
pub(super) fn quote(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("   | {line}\n")).collect()
}

/// Trays as Slurm writes them.
pub(super) fn fold(trays: &BTreeSet<String>) -> String {
    let text = trays.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    fabric::HostList::parse(&text).map_or(text, |list| list.to_string())
}

/// What a job asked for, and for each NVLink partition its trays and the IMEX domain found there.
pub(super) fn job(seen: &Seen) -> String {
    let segment = seen.wish.segment.map_or(String::new(), |segment| format!(" --segment={segment}"));
    let mut text = format!(
        "   job {}: --nodes={}{segment}, all trays ready after {}\n",
        seen.id,
        seen.wish.trays,
        seconds(seen.ready)
    );
    for part in &seen.parts {
        text.push_str(&format!(
            "      {:<18} {:>9} {}\n{:>29}{}\n",
            part.partition,
            count(part.trays.len(), "tray"),
            fold(&part.trays),
            "",
            domain(part)
        ));
    }
    text
}

/// `1 tray`, `2 trays`.
fn count(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

fn domain(part: &Part) -> String {
    match &part.domain {
        (asked, Ok(domain)) => {
            let same = if domain.members == part.trays { "the same trays" } else { "OTHER TRAYS" };
            let members = fold(&domain.members);
            let size = count(domain.members.len(), "member");
            format!("IMEX domain of {asked}: {}, {size}, {same}: {members}", domain.status)
        }
        (asked, Err(why)) => format!("IMEX domain of {asked}: NONE ({why})"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{imex::Domain, plan::Wish};
    use super::*;

    #[test]
    fn one_tray_is_no_trays() {
        assert_eq!([count(1, "tray"), count(2, "member")], ["1 tray", "2 members"]);
    }

    #[test]
    fn a_job_is_shown_with_its_partitions_and_domains() {
        let trays: BTreeSet<String> = (1..=12).map(|number| format!("r01n{number:02}")).collect();
        let domain = Domain { status: "UP".to_owned(), members: trays.clone(), unready: BTreeSet::new() };
        let part =
            Part { partition: "nvl-3c9b1e52-1".to_owned(), trays, domain: ("r01n01".to_owned(), Ok(domain)) };
        let seen = Seen {
            wish: Wish { trays: 12, segment: Some(12) },
            id: "3".to_owned(),
            ready: std::time::Duration::from_millis(1234),
            parts: vec![part],
        };
        assert_eq!(
            job(&seen),
            "   job 3: --nodes=12 --segment=12, all trays ready after 1.2 s\n      nvl-3c9b1e52-1      12 trays r01n[01-12]\n                             \
             IMEX domain of r01n01: UP, 12 members, the same trays: r01n[01-12]\n"
        );
    }
}
