//! What the cells mean, and the jobs.
#![forbid(unsafe_code)]

use super::style::class;
use super::{GAP, MARGIN, Racks};
use crate::emit::{State, count, escaped, shortened};

/// Jobs that are listed.
const JOBS_MAX: usize = 36;
/// Width of a job's line, and its height.
const COLUMN: usize = 400;
const LINE: usize = 23;

/// Draws one sample for each state that occurs and gives the height reached.
pub(super) fn states(racks: &Racks, y: usize, width: usize, body: &mut String) -> usize {
    let mut samples: Vec<(String, String)> = Vec::new();
    for state in racks.tally().keys() {
        let fill = match state {
            State::Drained => "fill=\"url(#drained)\"",
            State::Reserved => "fill=\"url(#reserved)\"",
            State::Down => "class=\"down\"",
            State::PoweredDown => "class=\"off\"",
            // A job's colour says it; what is not known needs no sample.
            State::Allocated | State::Unknown => continue,
            _ => "fill=\"none\"",
        };
        let dash = if matches!(state, State::PoweredDown | State::Stale) { " dash" } else { "" };
        let half = if matches!(state, State::Mixed | State::Completing) {
            "<rect class=\"j0\" width=\"10\" height=\"14\" rx=\"3\"/>"
        } else {
            ""
        };
        let sample = format!(
            "<rect class=\"cell{dash}\" width=\"20\" height=\"14\" rx=\"3\"/><rect {fill} width=\"20\" height=\"14\" rx=\"3\"/>{half}"
        );
        samples.push((sample, state.word().to_owned()));
    }
    if (0..racks.jobs.len()).any(|job| racks.is_spread(job)) {
        let sample = "<rect class=\"j0\" width=\"20\" height=\"14\" rx=\"3\"/><rect class=\"span\" width=\"4\" height=\"14\" rx=\"3\"/>";
        samples.push((sample.to_owned(), "job in several NVLink partitions".to_owned()));
    }
    let (mut x, mut line) = (MARGIN, y);
    for (sample, word) in &samples {
        let wide = 34 + word.len() * 7 + GAP;
        if x + wide > width {
            (x, line) = (MARGIN, line + LINE);
        }
        body.push_str(&format!(
            "<g transform=\"translate({x},{line})\">{sample}<text class=\"s\" x=\"27\" y=\"11\">{word}</text></g>\n"
        ));
        x += wide;
    }
    if samples.is_empty() { y } else { line + LINE + 8 }
}

/// Draws one line for each job and gives the height reached.
pub(super) fn jobs(racks: &Racks, y: usize, width: usize, body: &mut String) -> usize {
    let columns = ((width - 2 * MARGIN) / COLUMN).max(1);
    let listed = racks.jobs.len().min(JOBS_MAX);
    let rows = listed.div_ceil(columns).max(1);
    for (at, job) in racks.jobs.iter().enumerate().take(listed) {
        let (x, y) = (MARGIN + at / rows * COLUMN, y + at % rows * LINE);
        let bar = if racks.is_spread(at) {
            "<rect class=\"span\" width=\"4\" height=\"14\" rx=\"3\"/>"
        } else {
            ""
        };
        let mut name = [&job.name, &job.user].map(|text| shortened(text, 16)).join(" ");
        name.truncate(name.trim_end().len());
        let sentence = racks.sentence(at);
        let strong = if racks.is_spread(at) { " font-weight=\"600\"" } else { "" };
        body.push_str(&format!(
            "<g transform=\"translate({x},{y})\"><rect class=\"{}\" width=\"20\" height=\"14\" rx=\"3\"/>{bar}\
             <text class=\"l\" x=\"27\" y=\"11\"{strong}>{}</text></g>\n",
            class(at),
            escaped(format!("job {} {}", job.id, name.trim_start()).trim_end()) + ": " + &sentence,
        ));
    }
    let mut y = if listed == 0 { y } else { y + rows * LINE };
    let more = racks.jobs.len() - listed;
    let notes = [(more, "more job", "on these trays"), (racks.elsewhere, "job", "outside of these blocks")];
    for (jobs, noun, what) in notes.into_iter().filter(|(jobs, ..)| *jobs > 0) {
        body.push_str(&format!(
            "<text class=\"s\" x=\"{MARGIN}\" y=\"{}\">and {} {what}</text>\n",
            y + 11,
            count(jobs, noun)
        ));
        y += LINE;
    }
    y
}
