//! The outcome as text for a terminal.

use std::fmt::Write as _;

use super::{Report, Run, overview};
use crate::Seconds;

/// The tables: one line a replay, then waits by size, what never ran, and the cost of refusals.
pub fn text(report: &Report) -> String {
    let mut text = format!("{}\n\n", report.title);
    replays(&report.runs, &mut text);
    waits(&report.runs, &mut text);
    never(&report.runs, &mut text);
    costs(&report.runs, &mut text);
    text.push_str("\nAssumptions\n");
    for sentence in &report.assumptions {
        let _ = writeln!(text, "- {sentence}");
    }
    text
}

fn replays(runs: &[Run], text: &mut String) {
    let _ = writeln!(
        text,
        "{:<10}{:>5}{:>11}{:>12}{:>10}{:>9}{:>9}{:>11}{:>10}{:>10}",
        "placer",
        "seed",
        "occupancy",
        "partitions",
        "fewest",
        "at it",
        "split",
        "free part.",
        "fragment.",
        "requeues"
    );
    for line in overview::lines(runs) {
        let _ = writeln!(
            text,
            "{:<10}{:>5}{:>10.2}%{:>12.3}{:>10.3}{:>8.1}%{:>9.0}{:>11.1}{:>9.1}%{:>10.0}",
            line.placer,
            line.seed,
            line.occupancy,
            line.used,
            line.fewest,
            line.at_fewest,
            line.broken,
            line.free_partitions,
            line.fragmentation,
            line.requeues
        );
    }
    text.push_str(
        "\npartitions: NVLink partitions of a job, mean; fewest: that its size needs; split: jobs with trays or segments\n\
         apart that should share a partition; free part.: partitions without jobs, mean over time\n",
    );
}

fn waits(runs: &[Run], text: &mut String) {
    let _ = writeln!(text, "\nWaits by trays of the job: mean / p50 / p95");
    for Run { placer, summary } in runs {
        let _ = writeln!(text, "{placer}, seed {}", summary.seed);
        for class in &summary.classes {
            let never = if class.never > 0 { format!("  {} never ran", class.never) } else { String::new() };
            let _ = writeln!(
                text,
                "{:>12}{:>8} jobs {:>10}{:>10}{:>10}   {:.2} partitions of {:.2}{never}",
                class.name(),
                class.wait.count,
                time(class.wait.mean as Seconds),
                time(class.wait.p50 as Seconds),
                time(class.wait.p95 as Seconds),
                class.partitions_used,
                class.partitions_fewest
            );
        }
    }
}

fn never(runs: &[Run], text: &mut String) {
    if runs.iter().all(|run| run.summary.never.is_empty()) {
        return;
    }
    let _ = writeln!(text, "\nJobs that never ran");
    for Run { placer, summary } in runs {
        for never in &summary.never {
            let segment =
                if never.segment > 0 { format!(" in segments of {}", never.segment) } else { String::new() };
            let _ = writeln!(
                text,
                "{placer}, seed {}: {} jobs of {} trays{segment}: {}",
                summary.seed, never.jobs, never.trays, never.why
            );
        }
    }
}

fn costs(runs: &[Run], text: &mut String) {
    let _ = writeln!(
        text,
        "\nWhat it cost that the first job in line could not start: jobs, time, idle tray hours"
    );
    for Run { placer, summary } in runs {
        for cost in &summary.costs {
            let _ = writeln!(
                text,
                "{placer}, seed {}: {:>6}{:>10}{:>11.0}  {} (such as: {})",
                summary.seed,
                cost.jobs,
                time(cost.seconds),
                cost.idle_tray_hours,
                cost.reason,
                cost.example
            );
        }
    }
}

/// A time as days, hours, minutes.
pub fn time(seconds: Seconds) -> String {
    let (minutes, hours, days) = (seconds / 60 % 60, seconds / 3600 % 24, seconds / 86_400);
    match (days, hours) {
        (0, 0) if seconds < 60 => format!("{seconds}s"),
        (0, 0) => format!("{minutes}m"),
        (0, _) => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_are_short() {
        let times = [0, 59, 60, 3600, 5 * 3600 + 60, 3 * 86_400 + 7200].map(time);
        assert_eq!(times, ["0s", "59s", "1m", "1h00m", "5h01m", "3d02h"]);
    }
}
