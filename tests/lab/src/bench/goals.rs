//! What the measurements are held against.

use std::fmt::Write as _;

use super::Row;

/// The most that a placement may take, in floors.
const MOST_FLOORS: f64 = 2.0;
/// The most that a refusal may take at [`REFUSAL_NODES`] nodes, in nanoseconds.
const MOST_REFUSAL: u64 = 500_000;
const REFUSAL_NODES: u32 = 10_008;

/// A job, and how many times faster than stock it is to be placed from so many nodes on.
const GAINS: [(&str, [(u32, f64); 3]); 2] = [
    ("16", [(1_152, 3.0), (10_008, 9.0), (50_004, 35.0)]),
    ("72 --segment=18", [(1_152, 5.0), (10_008, 20.0), (50_004, 80.0)]),
];

/// One line for each goal: what was asked, what was seen, met or missed.
pub(super) fn text(rows: &[Row]) -> String {
    let mut text = String::new();
    let placed = |row: &&Row| row.ours_rc == 0 && row.stock_rc == 0 && row.fill == "half";
    for (job, gains) in GAINS {
        for (nodes, gain) in gains {
            let Some(row) = rows.iter().filter(placed).find(|row| row.job == job && row.nodes == nodes)
            else {
                continue;
            };
            let floors = row.over_floor().unwrap_or(f64::MAX);
            let met = row.gain() >= gain && floors <= MOST_FLOORS;
            let _ = writeln!(
                text,
                "{}: {job} trays of {nodes}: {:.1} times faster than stock (goal {gain}), {floors:.2} floors (goal {MOST_FLOORS})",
                word(met),
                row.gain()
            );
        }
    }
    if let Some(slowest) = rows.iter().min_by(|a, b| a.gain().total_cmp(&b.gain())) {
        let _ = writeln!(
            text,
            "{}: everywhere faster than stock; least {:.1} times ({} of {} nodes, {} busy)",
            word(slowest.gain() > 1.0),
            slowest.gain(),
            slowest.job,
            slowest.nodes,
            slowest.fill
        );
    }
    let refusals = rows.iter().filter(|row| row.ours_rc != 0 && row.nodes == REFUSAL_NODES);
    if let Some(worst) = refusals.max_by_key(|row| row.ours.median) {
        let _ = writeln!(
            text,
            "{}: refusals at {REFUSAL_NODES} nodes: the worst takes {:.1} us, stock's answer {:.1} us ({}, {} busy)",
            word(worst.ours.median <= MOST_REFUSAL),
            worst.ours.median as f64 / 1e3,
            worst.stock.median as f64 / 1e3,
            worst.job,
            worst.fill
        );
    }
    text
}

fn word(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Times;

    #[test]
    fn goals_are_met_or_missed_by_their_figures() {
        let times = |median| Times { median, p99: median };
        let row = |job: &str, stock, ours, floor: Option<u64>, rc| Row {
            nodes: 10_008,
            fill: "half".into(),
            job: job.into(),
            stock_rc: rc,
            ours_rc: rc,
            stock: times(stock),
            ours: times(ours),
            floor: floor.map(times),
        };
        let rows = [
            row("16", 900_000, 100_000, Some(50_000), 0),
            row("72 --segment=18", 1_900_000, 100_000, Some(50_000), 0),
            row("1", 900_000, 600_000, None, 7203),
        ];
        let lines: Vec<String> = text(&rows).lines().map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "met: 16 trays of 10008: 9.0 times faster than stock (goal 9), 2.00 floors (goal 2)",
                "missed: 72 --segment=18 trays of 10008: 19.0 times faster than stock (goal 20), 2.00 floors (goal 2)",
                "met: everywhere faster than stock; least 1.5 times (1 of 10008 nodes, half busy)",
                "missed: refusals at 10008 nodes: the worst takes 600.0 us, stock's answer 900.0 us (1, half busy)",
            ]
        );
    }
}
