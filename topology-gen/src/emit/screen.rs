//! The racks in a terminal: one line for each NVLink partition, one cell for each tray, one letter for each job.
//!
//! Up to [`FULL_MAX`] partitions a tray has two characters: the letter of its job, or the sign of its state, and the sign of its
//! state again beside a letter. Above it has one, and the partitions stand in columns.
#![forbid(unsafe_code)]

mod paint;

use std::collections::BTreeSet;

use super::table::aligned;
use super::{Partition, Racks, State, Tray, count, printable, shortened};
pub use paint::Paint;

/// Most partitions that have a line of their own with all that is known of them.
const FULL_MAX: usize = 40;
/// Letters for jobs; after the last the first comes again.
const LETTERS: &[u8; 52] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Jobs that are listed: those with a letter of their own.
const JOBS_MAX: usize = LETTERS.len();
/// Narrowest line that is drawn.
const WIDTH_MIN: usize = 40;
/// Longest block name that is shown whole.
const NAME_MAX: usize = 24;

/// How the terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// Its columns.
    pub width: usize,
    /// Whether it shows colours.
    pub paint: Paint,
}

impl Default for Screen {
    fn default() -> Self {
        Self { width: 100, paint: Paint::Plain }
    }
}

/// Draws the racks under a title.
pub fn text(racks: &Racks, title: &str, screen: Screen) -> String {
    let width = screen.width.max(WIDTH_MIN);
    let paint = screen.paint;
    let mut text = format!("{}\n{}\n", paint.strong(&printable(title)), racks.summary());
    for line in [racks.promise()].into_iter().filter(|line| !line.is_empty()) {
        text.push_str(&paint.faint(&line));
        text.push('\n');
    }
    text.push('\n');
    if racks.partitions.len() > FULL_MAX {
        text.push_str(&compact(racks, width, paint));
    } else {
        text.push_str(&full(racks, width, paint));
    }
    if !racks.outside.is_empty() {
        let cells: String = racks.outside.iter().map(|tray| cell(tray, 1, paint)).collect();
        text.push_str(&format!("  in no block: {cells}\n"));
    }
    text.push_str(&legend(racks, paint));
    if racks.has_states() {
        text.push_str(&segments(racks, paint));
    }
    if !racks.jobs.is_empty() {
        text.push_str(&jobs(racks, width, paint));
    }
    text
}

/// Where the parts of a line stand.
struct Columns {
    names: usize,
    /// Trays beside each other.
    across: usize,
    /// Longest note.
    notes: usize,
    width: usize,
}

/// One line for each partition: where it belongs, its name, its trays, and what is worth knowing.
fn full(racks: &Racks, width: usize, paint: Paint) -> String {
    let names = name_width(racks);
    let notes = racks.partitions.iter().map(|partition| note(partition).chars().count()).max().unwrap_or(0);
    let across = (width.saturating_sub(names + 4) / 2).clamp(1, racks.largest().max(1));
    let columns = Columns { names, across, notes, width };
    let mut text = String::new();
    for rack in &racks.racks {
        for (at, block) in rack.iter().enumerate() {
            let Some(partition) = racks.partitions.get(*block) else { continue };
            let edge = match (rack.len(), at) {
                (1, _) => ' ',
                (_, 0) => '┌',
                (len, at) if at + 1 == len => '└',
                _ => '│',
            };
            text.push_str(&line(partition, edge, &columns, paint));
        }
    }
    text
}

fn line(partition: &Partition, edge: char, columns: &Columns, paint: Paint) -> String {
    let Columns { names, across, notes, width } = *columns;
    let name = shortened(&partition.name, names);
    let rows: Vec<&[Tray]> = partition.trays.chunks(across).collect();
    if rows.is_empty() {
        return format!("{edge} {name:<names$}  {}\n", paint.faint("empty place"));
    }
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        let cells: String = row.iter().map(|tray| cell(tray, 2, paint)).collect();
        let (edge, name) = if at == 0 { (edge, name.as_str()) } else { (' ', "") };
        let mut line = format!("{edge} {name:<names$}  {cells}");
        let left = width.saturating_sub(names + 6 + 2 * across);
        if at + 1 == rows.len() {
            let blank = 2 * (across - row.len());
            let note = Some(note(partition))
                .filter(|note| note.chars().count() <= left)
                .unwrap_or_else(|| short_note(partition));
            let nodes = partition.nodes();
            let mut rest = if note.chars().count() <= left {
                format!("{}  {note}", " ".repeat(blank))
            } else {
                String::new()
            };
            if notes + 2 + nodes.chars().count() <= left {
                rest.push_str(&format!(
                    "{}  {}",
                    " ".repeat(notes - note.chars().count()),
                    paint.faint(&nodes)
                ));
            }
            line.push_str(&rest);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What an operator looks for: how much is idle, and what is not as it should be.
fn note(partition: &Partition) -> String {
    let words = noted(partition).map(|(state, trays)| format!("{trays} {}", state.word()));
    words.collect::<Vec<_>>().join(", ")
}

/// The same in signs.
fn short_note(partition: &Partition) -> String {
    let words = noted(partition).map(|(state, trays)| match state {
        State::Idle => format!("{trays} idle"),
        _ => format!("{trays}{}", state.sign()),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn noted(partition: &Partition) -> impl Iterator<Item = (State, usize)> {
    let told = [State::Idle, State::Reserved, State::Drained, State::Down, State::PoweredDown, State::Stale];
    told.into_iter().map(|state| (state, partition.count(state))).filter(|(_, trays)| *trays > 0)
}

/// Partitions in columns, one character a tray.
fn compact(racks: &Racks, width: usize, paint: Paint) -> String {
    let names = name_width(racks);
    let entry = names + 2 + racks.largest() + 4;
    let columns = (width / (entry + 1)).max(1);
    let order: Vec<usize> = racks.racks.iter().flatten().copied().collect();
    let rows = order.len().div_ceil(columns);
    let mut text = String::new();
    for row in 0..rows {
        let mut line = String::new();
        for at in (row..order.len()).step_by(rows.max(1)) {
            let Some(partition) = order.get(at).and_then(|block| racks.partitions.get(*block)) else {
                continue;
            };
            let cells: String = partition.trays.iter().map(|tray| cell(tray, 1, paint)).collect();
            let blank = " ".repeat(racks.largest() - partition.trays.len());
            let idle = match partition.count(State::Idle) {
                0 => "   ".to_owned(),
                idle => format!("{idle:>3}"),
            };
            line.push_str(&format!(
                "{:<names$} {cells}{blank} {}  ",
                shortened(&partition.name, names),
                paint.faint(&idle)
            ));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn name_width(racks: &Racks) -> usize {
    let longest = racks.partitions.iter().map(|partition| partition.name.chars().count()).max();
    longest.unwrap_or(0).min(NAME_MAX)
}

/// The letter of a job.
fn letter(job: usize) -> char {
    LETTERS.get(job % LETTERS.len()).map_or('*', |letter| char::from(*letter))
}

/// One tray in so many characters.
fn cell(tray: &Tray, chars: usize, paint: Paint) -> String {
    let sign = tray.state.sign();
    let text = match (tray.jobs.first(), chars) {
        // A fault is never hidden behind a letter.
        (Some(_), 1) if matches!(tray.state, State::Drained | State::Down) => sign.to_string(),
        (Some(job), 1) => letter(*job).to_string(),
        (Some(job), _) => format!("{}{sign}", letter(*job)),
        (None, 1) if tray.state == State::Allocated => "*".to_owned(),
        (None, _) if tray.state == State::Allocated => "* ".to_owned(),
        (None, 1) => sign.to_string(),
        (None, _) => format!("{sign} "),
    };
    paint.tray(&text, tray.state, tray.jobs.first().copied())
}

/// The signs that occur, explained.
fn legend(racks: &Racks, paint: Paint) -> String {
    let trays = || racks.partitions.iter().flat_map(|partition| &partition.trays).chain(&racks.outside);
    let states: BTreeSet<State> = trays().map(|tray| tray.state).collect();
    let mut words = Vec::new();
    if trays().any(|tray| !tray.jobs.is_empty()) {
        let again = if racks.jobs.len() > LETTERS.len() { ", from A again after z" } else { "" };
        words.push(format!("letter: job{again}"));
    }
    if trays().any(|tray| tray.state == State::Allocated && tray.jobs.is_empty()) {
        words.push("* allocated".to_owned());
    }
    let signed = states.iter().filter(|state| **state != State::Allocated);
    words.extend(signed.map(|state| format!("{} {}", state.sign(), state.word())));
    if racks.racks.iter().any(|rack| rack.len() > 1) && racks.partitions.len() <= FULL_MAX {
        words.push("┌└ one NVLink domain".to_owned());
    }
    if words.is_empty() { String::new() } else { format!("\n  {}\n", paint.faint(&words.join("   "))) }
}

/// How many segments of each size could start now.
fn segments(racks: &Racks, paint: Paint) -> String {
    let segments = racks.segments();
    let head = "segments of".to_owned();
    let sizes = std::iter::once(head).chain(segments.iter().map(|(size, _)| size.to_string()));
    let fits = std::iter::once("fit now".to_owned()).chain(segments.iter().map(|(_, fit)| fit.to_string()));
    let numbers: Vec<usize> = (1..=segments.len()).collect();
    let table = aligned(&[sizes.chain(["trays".to_owned()]).collect(), fits.collect()], &numbers);
    let Some((head, rest)) = table.split_once('\n') else { return table };
    format!("\n{}\n{rest}", paint.strong(head))
}

fn jobs(racks: &Racks, width: usize, paint: Paint) -> String {
    let head = ["", "JOB", "NAME", "USER", "TRAYS", "WHERE"].map(str::to_owned).to_vec();
    let mut rows = vec![head];
    for (at, job) in racks.jobs.iter().enumerate().take(JOBS_MAX) {
        let blocks = racks.blocks_of(at);
        let places: Vec<String> = blocks.iter().map(|(name, trays)| format!("{name} ({trays})")).collect();
        let place = match places.as_slice() {
            [_] if !racks.is_spread(at) => blocks.iter().map(|(name, _)| (*name).to_owned()).collect(),
            _ => format!(
                "{}: {}",
                racks.sentence(at).split_once(" in ").map_or("", |(_, rest)| rest),
                places.join(", ")
            ),
        };
        let trays = job.nodes.iter().collect::<BTreeSet<_>>().len().to_string();
        let name = shortened(&printable(&job.name), NAME_MAX);
        rows.push(vec![letter(at).to_string(), printable(&job.id), name, printable(&job.user), trays, place]);
    }
    let table = aligned(&rows, &[4]);
    let mut text = String::from("\n");
    for (at, line) in table.lines().enumerate() {
        let line = shortened(line, width);
        text.push_str(&match at.checked_sub(1) {
            None => paint.strong(&line),
            Some(job) if racks.is_spread(job) => paint.job_line(&line, job, true),
            Some(job) => paint.job_line(&line, job, false),
        });
        text.push('\n');
    }
    if let Some(more) = racks.jobs.len().checked_sub(JOBS_MAX).filter(|more| *more > 0) {
        text.push_str(&format!("and {} on these trays\n", count(more, "more job")));
    }
    if racks.elsewhere > 0 {
        text.push_str(&format!("and {} outside of these blocks\n", count(racks.elsewhere, "job")));
    }
    text
}

#[cfg(test)]
mod tests;
