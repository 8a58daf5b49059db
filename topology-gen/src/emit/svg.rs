//! The racks as a picture: one column per NVLink partition, one cell per tray, one colour per job.
#![forbid(unsafe_code)]

use super::{Column, Racks, Tray, count};

const MARGIN: usize = 24;
const TITLE_HEIGHT: usize = 52;
const COLUMN_WIDTH: usize = 168;
const COLUMN_GAP: usize = 16;
const HEAD_HEIGHT: usize = 44;
const CELL_HEIGHT: usize = 22;
const CELL_STEP: usize = 26;
const PADDING: usize = 8;
const LEGEND_STEP: usize = 24;
/// Columns beside each other before a new row begins.
const COLUMNS_MAX: usize = 8;
/// Characters of 11 px monospace that fit a column.
const HEAD_CHARS: usize = 22;
const NODE_CHARS: usize = 12;
const JOB_CHARS: usize = 9;

/// Fills that differ in hue and lightness and carry dark text; jobs beyond them start again.
const COLOURS: [&str; 12] = [
    "#8ecae6", "#ffb703", "#95d5b2", "#f4978e", "#cdb4db", "#e9c46a", "#a3b18a", "#ffc8dd", "#90a8ed",
    "#d4a373", "#7fd1c7", "#c9cba3",
];

/// Draws the racks under a title.
pub fn text(racks: &Racks, title: &str) -> String {
    let mut columns: Vec<Column> = racks.columns.clone();
    if !racks.outside.is_empty() {
        columns.push(Column { name: "in no block".into(), trays: racks.outside.clone() });
    }
    let across = columns.len().clamp(1, COLUMNS_MAX);
    let width = (2 * MARGIN + across * (COLUMN_WIDTH + COLUMN_GAP) - COLUMN_GAP).max(560);
    let mut body = String::new();
    let mut y = MARGIN + TITLE_HEIGHT;
    for row in columns.chunks(COLUMNS_MAX) {
        let tallest = row.iter().map(|column| column.trays.len()).max().unwrap_or(0).max(1);
        let height = HEAD_HEIGHT + tallest * CELL_STEP + PADDING;
        for (at, column) in row.iter().enumerate() {
            draw_column(column, racks, MARGIN + at * (COLUMN_WIDTH + COLUMN_GAP), y, height, &mut body);
        }
        y += height + COLUMN_GAP;
    }
    y = draw_legend(racks, y + PADDING, &mut body);
    let height = y + MARGIN;
    let promise = match racks.base {
        Some(base) => {
            format!("base size {base}: jobs and segments up to {base} trays stay in one NVLink partition")
        }
        None => String::new(),
    };
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <style>text{{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:11px;fill:#1d2b36}}\
         .t{{font-family:system-ui,sans-serif;font-size:18px;font-weight:600}}\
         .s{{font-family:system-ui,sans-serif;font-size:12px;fill:#52616b}}.h{{font-weight:600}}\
         .k{{font-family:system-ui,sans-serif;font-size:12px}}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text class=\"t\" x=\"{MARGIN}\" y=\"{}\">{}</text>\n\
         <text class=\"s\" x=\"{MARGIN}\" y=\"{}\">{}</text>\n{body}</svg>\n",
        MARGIN + 14,
        escaped(title),
        MARGIN + 34,
        escaped(&promise),
    )
}

fn draw_column(column: &Column, racks: &Racks, x: usize, y: usize, height: usize, body: &mut String) {
    let free = column.trays.iter().filter(|tray| tray.jobs.is_empty() && !tray.stale).count();
    let state = if column.trays.is_empty() {
        "empty placeholder".to_owned()
    } else if racks.jobs.is_empty() {
        count(column.trays.len(), "tray")
    } else {
        format!("{}, {free} free", count(column.trays.len(), "tray"))
    };
    let fill = if column.trays.is_empty() { "#fafbfc" } else { "#f2f5f7" };
    body.push_str(&format!(
        "<g transform=\"translate({x},{y})\">\n\
         <rect width=\"{COLUMN_WIDTH}\" height=\"{height}\" rx=\"6\" fill=\"{fill}\" stroke=\"#c3ccd3\"/>\n\
         <text class=\"h\" x=\"{PADDING}\" y=\"18\">{}<title>{}</title></text>\n\
         <text class=\"s\" x=\"{PADDING}\" y=\"34\">{state}</text>\n",
        escaped(&shortened(&column.name, HEAD_CHARS)),
        escaped(&column.name),
    ));
    for (at, tray) in column.trays.iter().enumerate() {
        draw_tray(tray, racks, HEAD_HEIGHT + at * CELL_STEP, body);
    }
    body.push_str("</g>\n");
}

fn draw_tray(tray: &Tray, racks: &Racks, y: usize, body: &mut String) {
    let width = COLUMN_WIDTH - 2 * PADDING;
    let ids: Vec<&str> =
        tray.jobs.iter().filter_map(|job| racks.jobs.get(*job)).map(|job| job.id.as_str()).collect();
    let state = match (tray.stale, ids.is_empty()) {
        (true, _) => "stale".to_owned(),
        (false, true) => "free".to_owned(),
        (false, false) => format!("job {}", ids.join(", ")),
    };
    body.push_str(&format!("<g><title>{}: {}</title>", escaped(tray.node.as_str()), escaped(&state)));
    for (at, job) in tray.jobs.iter().enumerate() {
        let (from, to) = (width * at / tray.jobs.len(), width * (at + 1) / tray.jobs.len());
        body.push_str(&format!(
            "<rect x=\"{}\" y=\"{y}\" width=\"{}\" height=\"{CELL_HEIGHT}\" fill=\"{}\"/>",
            PADDING + from,
            to - from,
            colour(*job)
        ));
    }
    let dash = if tray.stale { " stroke-dasharray=\"4 3\"" } else { "" };
    let fill = if tray.jobs.is_empty() { "#ffffff" } else { "none" };
    let label = match ids.as_slice() {
        [] if tray.stale => "stale".to_owned(),
        [] => String::new(),
        [one] => shortened(one, JOB_CHARS),
        [first, rest @ ..] => format!("{} +{}", shortened(first, JOB_CHARS - 3), rest.len()),
    };
    body.push_str(&format!(
        "<rect x=\"{PADDING}\" y=\"{y}\" width=\"{width}\" height=\"{CELL_HEIGHT}\" rx=\"3\" fill=\"{fill}\" stroke=\"#8c9aa5\"{dash}/>\
         <text x=\"{}\" y=\"{}\">{}</text><text text-anchor=\"end\" x=\"{}\" y=\"{}\">{}</text></g>\n",
        PADDING + 6,
        y + 15,
        escaped(&shortened(tray.node.as_str(), NODE_CHARS)),
        PADDING + width - 6,
        y + 15,
        escaped(&label),
    ));
}

/// Draws one line a job and gives the height reached.
fn draw_legend(racks: &Racks, mut y: usize, body: &mut String) -> usize {
    for (at, job) in racks.jobs.iter().enumerate() {
        let name = if job.name.is_empty() { String::new() } else { format!(" {}", shortened(&job.name, 40)) };
        body.push_str(&format!(
            "<rect x=\"{MARGIN}\" y=\"{y}\" width=\"16\" height=\"16\" rx=\"3\" fill=\"{}\" stroke=\"#8c9aa5\"/>\
             <text class=\"k\" x=\"{}\" y=\"{}\">job {}{}: {}</text>\n",
            colour(at),
            MARGIN + 24,
            y + 12,
            escaped(&job.id),
            escaped(&name),
            racks.sentence(at),
        ));
        y += LEGEND_STEP;
    }
    y
}

fn colour(job: usize) -> &'static str {
    COLOURS.get(job % COLOURS.len()).copied().unwrap_or("#8ecae6")
}

/// At most so many characters, the last one an ellipsis when some are left out.
fn shortened(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    text.chars().take(chars.saturating_sub(1)).chain(['…']).collect()
}

/// Text for XML; characters that XML does not allow become question marks.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push('?'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests;
