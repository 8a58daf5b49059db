//! GPU hours as a table, as CSV and as JSON.
#![forbid(unsafe_code)]

use serde_json::{Map, Value, json};

use super::table::aligned;
use super::{count, printable};
use crate::apply::backup;
use crate::gpu_hours::{GpuHours, Row, Sums, Window};

/// Version of the JSON form.
const VERSION: u32 = 1;

/// The names of a row in their order, as far as the report is divided by them; None for nodes in no block.
fn names(row: &Row) -> Vec<(&'static str, Option<&str>)> {
    let block = row.block.as_ref().map(|block| ("block", block.as_ref().map(|name| name.as_str())));
    let name = |title, name: &'_ Option<String>| name.as_ref().map(|_| title);
    let [partition, account, qos] = [
        name("partition", &row.partition).zip(Some(row.partition.as_deref())),
        name("account", &row.account).zip(Some(row.account.as_deref())),
        name("qos", &row.qos).zip(Some(row.qos.as_deref())),
    ];
    [block, partition, account, qos].into_iter().flatten().collect()
}

const SUMS: [&str; 3] = ["gpu_hours", "jobs", "spanning_jobs"];

fn sums(sums: &Sums, digits: usize) -> [String; 3] {
    let Sums { gpu_hours, jobs, spanning_jobs } = sums;
    [format!("{gpu_hours:.digits$}"), jobs.to_string(), spanning_jobs.to_string()]
}

/// A table with a line for all together.
pub fn table(report: &GpuHours) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for row in &report.rows {
        let names = names(row);
        if rows.is_empty() {
            let titles = names.iter().map(|(title, _)| *title).chain(SUMS);
            rows.push(titles.map(|title| title.to_uppercase().replace('_', " ")).collect());
        }
        let cells = names.into_iter().map(|(_, name)| printable(name.unwrap_or_default()));
        rows.push(cells.chain(sums(&row.sums, 1)).collect());
    }
    let Some(columns) = rows.first().map(Vec::len) else { return String::new() };
    let mut total = vec![String::new(); columns - SUMS.len()];
    if let Some(first) = total.first_mut() {
        *first = "total".to_owned();
        rows.push(total.into_iter().chain(sums(&report.total, 1)).collect());
    }
    aligned(&rows, &[columns - 3, columns - 2, columns - 1])
}

/// CSV with a header, without the line for all together. Nodes in no block have an empty block.
pub fn csv(report: &GpuHours) -> String {
    let mut text = String::new();
    for row in &report.rows {
        let names = names(row);
        if text.is_empty() {
            let titles: Vec<&str> = names.iter().map(|(title, _)| *title).chain(SUMS).collect();
            text.push_str(&format!("{}\n", titles.join(",")));
        }
        let cells = names.into_iter().map(|(_, name)| field(name.unwrap_or_default()));
        let cells: Vec<String> = cells.chain(sums(&row.sums, 3)).collect();
        text.push_str(&format!("{}\n", cells.join(",")));
    }
    text
}

/// A field of CSV, in quotes where it needs them.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// JSON with everything. A bound that was not given is null; so is the block of nodes in no block.
pub fn json(report: &GpuHours, window: Window) -> String {
    let bound = |at: u64, none: u64| (at != none).then_some(at);
    let sums = |sums: &Sums| {
        let hours = (sums.gpu_hours * 1000.0).round() / 1000.0;
        [json!(hours), json!(sums.jobs), json!(sums.spanning_jobs)]
    };
    let object = |row: &Row| {
        let names = names(row).into_iter().map(|(title, name)| (title.to_owned(), json!(name)));
        let sums = SUMS.map(str::to_owned).into_iter().zip(sums(&row.sums));
        Value::Object(names.chain(sums).collect::<Map<_, _>>())
    };
    let left_out = report.left_out;
    let value = json!({
        "version": VERSION,
        "since": bound(window.since, Window::default().since),
        "until": bound(window.until, Window::default().until),
        "rows": report.rows.iter().map(object).collect::<Value>(),
        "total": SUMS.map(str::to_owned).into_iter().zip(sums(&report.total)).collect::<Map<_, _>>(),
        "left_out": {
            "never_ran": left_out.never_ran,
            "outside_window": left_out.outside_window,
            "without_gpus": left_out.without_gpus,
        },
    });
    format!("{value:#}\n")
}

/// In words what was counted and what was not.
pub fn words(report: &GpuHours, window: Window) -> Vec<String> {
    let mut lines = Vec::new();
    let time = |at: u64| backup::utc(at);
    let bounds = [
        (window.since > 0).then(|| format!("from {}", time(window.since))),
        (window.until < u64::MAX).then(|| format!("to {}", time(window.until))),
    ];
    let bounds: Vec<String> = bounds.into_iter().flatten().collect();
    if !bounds.is_empty() {
        lines.push(format!("counted {}", bounds.join(" ")));
    }
    let left_out = report.left_out;
    for (number, why) in [
        (left_out.never_ran, "never ran"),
        (left_out.outside_window, "ran at other times"),
        (left_out.without_gpus, "had no GPUs"),
    ] {
        if number > 0 {
            lines.push(format!("left out: {}, which {why}", count(number, "record")));
        }
    }
    lines
}
