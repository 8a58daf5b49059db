//! The outcome as a page: tables and charts. One file, no script, nothing loaded.

use std::fmt::Write as _;

use super::table::time;
use super::{Report, Run};
use crate::Seconds;

const SHEET: &str = ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;margin:0 auto;\
max-width:900px;padding:16px;background:#fff;color:#1b2733}svg{max-width:100%;height:auto;display:block;margin:16px 0}\
h1{font-size:21px}h2{font-size:17px;margin:26px 0 8px}.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:14px}\
th,td{text-align:right;padding:3px 12px 3px 0;border-bottom:1px solid #d4dce3}.w{text-align:left}caption{text-align:left;color:#5b6b78;padding-bottom:6px}\
@media (prefers-color-scheme:dark){body{background:#0f161d;color:#e4ebf1}th,td{border-color:#2c3946}caption{color:#93a4b3}}";

/// Writes the page. The charts show the replays of the first seed, the tables all.
pub fn text(report: &Report) -> String {
    let mut body = format!("<h1>{}</h1>\n", escaped(&report.title));
    overview(&report.runs, &mut body);
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
        let _ = write!(body, "<th scope=\"col\"{}>{name}</th>", class(column));
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

fn overview(runs: &[Run], body: &mut String) {
    let rows = runs.iter().map(|Run { placer, summary }| {
        vec![
            placer.clone(),
            summary.seed.to_string(),
            format!("{:.2} %", summary.occupancy * 100.0),
            format!("{:.3}", summary.partitions_used),
            format!("{:.3}", summary.partitions_fewest),
            format!("{:.1} %", summary.at_fewest * 100.0),
            summary.broken.to_string(),
            format!("{:.1}", summary.free_partitions),
            format!("{:.1} %", summary.fragmentation * 100.0),
            summary.requeues.to_string(),
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

fn waits(runs: &[Run], body: &mut String) {
    let rows = runs.iter().flat_map(|Run { placer, summary }| {
        summary.classes.iter().map(move |class| {
            vec![
                placer.clone(),
                summary.seed.to_string(),
                class.name(),
                class.wait.count.to_string(),
                time(class.wait.mean as Seconds),
                time(class.wait.p50 as Seconds),
                time(class.wait.p95 as Seconds),
                format!("{:.2}", class.partitions_used),
                format!("{:.2}", class.partitions_fewest),
                class.never.to_string(),
            ]
        })
    });
    let head =
        ["placer", "seed", "trays", "jobs", "mean", "median", "95 %", "partitions", "fewest", "never ran"];
    table("Waits by size", "From the submission to the first start.", 1, &head, rows, body);
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
