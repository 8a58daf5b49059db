//! The racks as a picture: one card for each NVLink domain, one cell for each tray, one colour for each job.
//!
//! It needs nothing beside itself: fonts of the reader's system, colours for light and for dark surroundings, and a text for each
//! cell that screen readers and pointers find. Up to [`FULL_MAX`] partitions each cell carries its tray and job in words.
#![forbid(unsafe_code)]

mod card;
mod legend;
mod style;

use super::{Racks, State, Tray, escaped};
use card::{Card, Shape};

const MARGIN: usize = 28;
const GAP: usize = 16;
/// Most partitions whose cells carry words.
const FULL_MAX: usize = 24;
/// Narrowest picture, for its headlines.
const WIDTH_MIN: usize = 860;

/// Draws the racks under a title.
pub fn text(racks: &Racks, title: &str) -> String {
    let shape = if racks.partitions.len() <= FULL_MAX { Shape::FULL } else { Shape::COMPACT };
    let cards = cards(racks, shape);
    let across = across(cards.len(), &cards, shape);
    let width = (2 * MARGIN + across * (shape.width + GAP) - GAP).max(WIDTH_MIN);
    let mut body = String::new();
    let mut y = heading(racks, title, width, &mut body);
    for row in cards.chunks(across) {
        let height = row.iter().map(|card| card.height(shape)).max().unwrap_or(0);
        for (at, card) in row.iter().enumerate() {
            let x = MARGIN + at * (shape.width + GAP);
            card.draw(racks, shape, (x, y), height, &mut body);
        }
        y += height + GAP;
    }
    y = legend::states(racks, y + 12, width, &mut body);
    y = legend::jobs(racks, y, width, &mut body);
    let height = y + MARGIN / 2;
    let style = style::SHEET;
    let (title, told) = (escaped(title), escaped(&told(racks)));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">\n\
         <title>{title}</title>\n<desc>{told}</desc>\n<style>{style}</style>\n{}\
         <rect class=\"page\" width=\"{width}\" height=\"{height}\"/>\n{body}</svg>\n",
        style::PATTERNS,
    )
}

/// The picture in words.
fn told(racks: &Racks) -> String {
    let mut words = racks.summary();
    for part in [racks.promise()].into_iter().filter(|part| !part.is_empty()) {
        words.push_str(&format!("; {part}"));
    }
    if racks.has_states() {
        let segments: Vec<String> =
            racks.segments().iter().map(|(size, fit)| format!("{fit} of {size} trays")).collect();
        words.push_str(&format!("; segments that fit now: {}", segments.join(", ")));
    }
    words
}

/// One card for each domain, and one for trays in no block.
fn cards(racks: &Racks, shape: Shape) -> Vec<Card<'_>> {
    let part =
        |block: &usize| racks.partitions.get(*block).map(|part| (part.name.as_str(), part.trays.as_slice()));
    let mut cards: Vec<Card<'_>> =
        racks.racks.iter().map(|rack| Card::new(rack.iter().filter_map(part).collect(), shape)).collect();
    if !racks.outside.is_empty() {
        cards.push(Card::new(vec![("in no block", racks.outside.as_slice())], shape));
    }
    cards
}

/// Cards beside each other, so that the picture is about as wide as a screen.
fn across(cards: usize, all: &[Card<'_>], shape: Shape) -> usize {
    let tallest = all.iter().map(|card| card.height(shape)).max().unwrap_or(1).max(1);
    (1..=cards.max(1))
        .find(|across| across * (shape.width + GAP) * 5 >= cards.div_ceil(*across) * (tallest + GAP) * 8)
        .unwrap_or(cards.max(1))
}

/// Draws the headlines and what fits now; gives the height reached.
fn heading(racks: &Racks, title: &str, width: usize, body: &mut String) -> usize {
    let x = MARGIN;
    body.push_str(&format!(
        "<text class=\"t\" x=\"{x}\" y=\"46\">{}</text>\n<text x=\"{x}\" y=\"70\">{}</text>\n\
         <text class=\"s\" x=\"{x}\" y=\"90\">{}</text>\n",
        escaped(title),
        escaped(&racks.summary()),
        escaped(&racks.promise()),
    ));
    if !racks.has_states() {
        return 112;
    }
    body.push_str(&format!(
        "<text class=\"s\" x=\"{x}\" y=\"124\">segments that fit now, each in one NVLink partition</text>\n"
    ));
    let segments = racks.segments();
    let step = ((width - 2 * MARGIN + 8) / segments.len().max(1)).min(120);
    for (at, (size, fit)) in segments.iter().enumerate() {
        let none = if *fit == 0 { " none" } else { "" };
        body.push_str(&format!(
            "<g transform=\"translate({},134)\"><rect class=\"tile\" width=\"{}\" height=\"42\" rx=\"6\"/>\
             <text class=\"n{none}\" x=\"10\" y=\"28\">{fit}</text><text class=\"s\" text-anchor=\"end\" x=\"{}\" y=\"27\">of {size}</text></g>\n",
            x + at * step,
            step - 8,
            step - 18,
        ));
    }
    196
}

/// The words of a tray for pointers and screen readers.
fn spoken(tray: &Tray, racks: &Racks) -> String {
    let jobs: Vec<String> = tray
        .jobs
        .iter()
        .filter_map(|job| racks.jobs.get(*job))
        .map(|job| if job.name.is_empty() { job.id.clone() } else { format!("{} {}", job.id, job.name) })
        .collect();
    match (tray.state, jobs.as_slice()) {
        (State::Allocated, [_, ..]) => format!("{}: job {}", tray.node, jobs.join(", ")),
        (State::Unknown, []) => tray.node.to_string(),
        (state, []) => format!("{}: {}", tray.node, state.word()),
        (state, _) => format!("{}: {}, job {}", tray.node, state.word(), jobs.join(", ")),
    }
}

#[cfg(test)]
mod tests;
