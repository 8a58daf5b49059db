//! The outcome as a page: tables and charts. One file, no script, nothing loaded.

use std::fmt::Write as _;

use super::table::time;
use super::{Report, Run, overview};
use crate::Seconds;

const SHEET: &str = ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;margin:0 auto;\
max-width:900px;padding:16px;background:#fff;color:#1b2733}svg{max-width:100%;height:auto;display:block;margin:16px 0}\
h1{font-size:21px}h2{font-size:17px;margin:26px 0 8px}.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:14px}\
th,td{text-align:right;padding:3px 12px 3px 0;border-bottom:1px solid #d4dce3}.w{text-align:left}caption{text-align:left;color:#5b6b78;padding-bottom:6px}\
@media (prefers-color-scheme:dark){body{background:#0f161d;color:#e4ebf1}th,td{border-color:#2c3946}caption{color:#93a4b3}}";

/// Writes the page. The charts show the replays of the first seed, the tables all.
pub fn text(report: &Report) -> String {
    let mut body = format!("<h1>{}</h1>\n", escaped(&report.title));
    replays(&report.runs, &mut body);
    if let Some(first) = report.runs.first() {
        let _ = writeln!(body, "<h2>Charts of seed {}</h2>", first.summary.seed);
    }
    for (_, chart) in report.charts() {
        body.push_str(&chart);
    }
    waits(&report.runs, &mut body);
    never(&report.runs, &mut body);
    costs(&report.runs, &mut body);
    body.push_str("<h2>Assumptions</h2>\n<ul>\n");
    for sentence in &report.assumptions {
        let _ = writeln!(body, "<li>{}</li>", escaped(sentence));
    }
    body.push_str("</ul>\n");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n\
         <style>{SHEET}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        escaped(&report.title)
    )
}

/// A table; the first `words` columns are words, the others numbers.
fn table(
    heading: &str,
    caption: &str,
    words: usize,
    head: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
    body: &mut String,
) {
    let class = |column: usize| if column < words { " class=\"w\"" } else { "" };
    let _ = writeln!(
        body,
        "<h2>{heading}</h2>\n<div class=\"wide\"><table>\n<caption>{caption}</caption>\n<thead><tr>"
    );
    for (column, name) in head.iter().enumerate() {
        let _ = write!(body, "<th scope=\"col\"{}>{}</th>", class(column), escaped(name));
    }
    body.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        body.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(body, "<td{}>{}</td>", class(column), escaped(cell));
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</tbody>\n</table></div>\n");
}

fn replays(runs: &[Run], body: &mut String) {
    let rows = overview::lines(runs).into_iter().map(|line| {
        vec![
            line.placer,
            line.seed,
            format!("{:.2} %", line.occupancy),
            format!("{:.3}", line.used),
            format!("{:.3}", line.fewest),
            format!("{:.1} %", line.at_fewest),
            format!("{:.0}", line.broken),
            format!("{:.1}", line.free_partitions),
            format!("{:.1} %", line.fragmentation),
            format!("{:.0}", line.requeues),
        ]
    });
    let head = [
        "placer",
        "seed",
        "occupancy",
        "partitions",
        "fewest",
        "at fewest",
        "split jobs",
        "free partitions",
        "fragmentation",
        "requeues",
    ];
    let caption = "Partitions: NVLink partitions of a job, mean, against the fewest that its size needs. Split jobs: trays or \
                   segments apart that should share a partition.";
    table("Outcome", caption, 1, &head, rows, body);
}

/// The waits of each seed, all placers beside each other.
fn waits(runs: &[Run], body: &mut String) {
    for same_seed in runs.chunk_by(|one, next| one.summary.seed == next.summary.seed) {
        let Some(first) = same_seed.first() else { continue };
        let mut head = vec!["trays".to_owned(), "jobs".to_owned(), "fewest".to_owned()];
        for Run { placer, .. } in same_seed {
            head.extend(["mean", "median", "95 %", "partitions"].map(|what| format!("{placer} {what}")));
        }
        let rows = first.summary.classes.iter().enumerate().map(|(number, class)| {
            let jobs = class.ran + class.never;
            let mut row = vec![class.name(), jobs.to_string(), format!("{:.2}", class.partitions_fewest)];
            for class in same_seed.iter().filter_map(|run| run.summary.classes.get(number)) {
                let waits = [class.wait.mean, class.wait.p50, class.wait.p95];
                row.extend(match class.wait.count {
                    0 => waits.map(|_| "-".to_owned()),
                    _ => waits.map(|wait| time(wait as Seconds)),
                });
                row.push(format!("{:.2}", class.partitions_used));
            }
            row
        });
        let heading = format!("Waits by trays of the job, seed {}", first.summary.seed);
        let caption = "From the submission to the first start, and the NVLink partitions of a job. Fewest: that its size needs.";
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        table(&heading, caption, 0, &head, rows, body);
    }
}

fn never(runs: &[Run], body: &mut String) {
    if runs.iter().all(|run| run.summary.never.is_empty()) {
        return;
    }
    let rows = runs.iter().flat_map(|Run { placer, summary }| {
        summary.never.iter().map(move |never| {
            vec![
                placer.clone(),
                never.why.to_owned(),
                summary.seed.to_string(),
                never.jobs.to_string(),
                never.trays.to_string(),
                never.segment.to_string(),
            ]
        })
    });
    table("Jobs that never ran", "", 2, &["placer", "why", "seed", "jobs", "trays", "segment"], rows, body);
}

fn costs(runs: &[Run], body: &mut String) {
    let rows = runs.iter().flat_map(|Run { placer, summary }| {
        summary.costs.iter().map(move |cost| {
            vec![
                placer.clone(),
                cost.reason.clone(),
                summary.seed.to_string(),
                cost.jobs.to_string(),
                time(cost.seconds),
                format!("{:.0}", cost.idle_tray_hours),
            ]
        })
    });
    let caption =
        "While a job was first in line and refused: how long, and how many tray hours were idle meanwhile.";
    let head = ["placer", "reason", "seed", "jobs", "time", "idle tray hours"];
    table("Cost of refusals", caption, 2, &head, rows, body);
}

/// Text as it stands between tags.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placer::{Naive, Ours};
    use crate::scenario::{Reference, Settings};

    #[test]
    fn a_page_stands_alone_and_has_the_numbers_of_the_replays() {
        let reference = Reference { racks: 4, jobs: 120, days: 1, ..Reference::default() };
        let scenario = reference.scenario(Settings { warm_up: 3600, ..Settings::default() }).unwrap();
        let run = |placer: &str, summary| Run { placer: placer.to_owned(), summary };
        let runs = vec![
            run("ours", crate::run(&scenario, &mut Ours::default()).unwrap()),
            run("naive <x>", crate::run(&scenario, &mut Naive).unwrap()),
        ];
        let report = Report { title: "a & b".into(), assumptions: scenario.assumptions(), runs };
        let page = text(&report);
        for never in ["<script", "src=", "href=", "<x>", "a & b", "NaN", "inf"] {
            assert!(!page.replace("http://www.w3.org/2000/svg", "").contains(never), "{never}");
        }
        for tag in ["table", "tr", "td", "th", "g", "svg", "main", "caption", "text", "ul", "li"] {
            let open = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(open, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        assert_eq!(page.matches("<svg").count(), 5);
        for run in &report.runs {
            assert!(page.contains(&format!("<td>{:.2} %</td>", run.summary.occupancy * 100.0)));
        }
        assert_eq!(page, text(&report));
    }
}
