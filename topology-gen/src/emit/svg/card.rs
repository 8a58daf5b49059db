//! One NVLink domain as a card, its partitions below each other, each with its trays.
#![forbid(unsafe_code)]

use fabric::HostList;

use super::style::class;
use super::{Racks, spoken};
use crate::emit::{State, Tray, escaped, shortened};

/// Measures of cards and cells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) width: usize,
    padding: usize,
    head: usize,
    /// Space for the name of a partition.
    caption: usize,
    cell: usize,
    step: usize,
    /// Characters of a rack's nodes.
    head_chars: usize,
    /// Whether cells carry words.
    words: bool,
}

impl Shape {
    pub(super) const FULL: Self = Self {
        width: 216,
        padding: 10,
        head: 30,
        caption: 18,
        cell: 21,
        step: 24,
        head_chars: 19,
        words: true,
    };
    pub(super) const COMPACT: Self =
        Self { width: 84, padding: 6, head: 20, caption: 0, cell: 7, step: 8, head_chars: 13, words: false };
}

/// Characters of a block's name, a node's name and a cell's words.
const CAPTION_CHARS: usize = 34;
const NODE_CHARS: usize = 12;
const WORD_CHARS: usize = 17;

/// A card.
pub(super) struct Card<'a> {
    head: String,
    parts: Vec<(&'a str, &'a [Tray])>,
}

impl<'a> Card<'a> {
    pub(super) fn new(parts: Vec<(&'a str, &'a [Tray])>, shape: Shape) -> Self {
        let nodes: HostList =
            parts.iter().flat_map(|(_, trays)| *trays).map(|tray| tray.node.clone()).collect();
        let head = if nodes.is_empty() { "empty place".to_owned() } else { nodes.to_string() };
        Self { head: shortened(&head, shape.head_chars), parts }
    }

    pub(super) fn height(&self, shape: Shape) -> usize {
        let trays = |trays: &[Tray]| shape.caption + trays.len() * shape.step + shape.padding;
        shape.head + self.parts.iter().map(|(_, part)| trays(part)).sum::<usize>()
    }

    /// Draws it with its upper left corner there.
    pub(super) fn draw(
        &self,
        racks: &Racks,
        shape: Shape,
        (x, y): (usize, usize),
        height: usize,
        body: &mut String,
    ) {
        let Shape { width, padding, head, .. } = shape;
        let trays = || self.parts.iter().flat_map(|(_, trays)| *trays);
        let idle = trays().filter(|tray| tray.state == State::Idle).count();
        let free = if shape.words && racks.has_states() && trays().next().is_some() {
            format!(
                "<text class=\"s\" text-anchor=\"end\" x=\"{}\" y=\"{}\">{idle} idle</text>",
                width - padding,
                head - 9
            )
        } else {
            String::new()
        };
        let (style, base) = if shape.words { ("h", head - 9) } else { ("b", head - 6) };
        body.push_str(&format!(
            "<g transform=\"translate({x},{y})\"><rect class=\"card\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>\
             <text class=\"{style}\" x=\"{padding}\" y=\"{base}\">{}</text>{free}\n",
            escaped(&self.head)
        ));
        let mut at = head;
        for (name, trays) in &self.parts {
            if shape.words {
                body.push_str(&format!(
                    "<text class=\"b\" x=\"{padding}\" y=\"{}\">{}</text>\n",
                    at + 9,
                    escaped(&shortened(name, CAPTION_CHARS))
                ));
            } else {
                body.push_str(&format!("<g><title>{}</title></g>\n", escaped(name)));
            }
            at += shape.caption;
            for tray in *trays {
                draw_tray(tray, racks, shape, at, body);
                at += shape.step;
            }
            at += padding;
        }
        body.push_str("</g>\n");
    }
}

fn draw_tray(tray: &Tray, racks: &Racks, shape: Shape, y: usize, body: &mut String) {
    let (x, width, height) = (shape.padding, shape.width - 2 * shape.padding, shape.cell);
    let round = if shape.words { 4 } else { 2 };
    let dash = if matches!(tray.state, State::PoweredDown | State::Stale) { " dash" } else { "" };
    body.push_str(&format!(
        "<g><title>{}</title><rect class=\"cell{dash}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{round}\"/>",
        escaped(&spoken(tray, racks))
    ));
    let mut fill = |fill: &str, from: usize, to: usize| {
        let to = to.max(from + 1);
        let (x, width) = (x + from, to - from);
        body.push_str(&format!(
            "<rect {fill} x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{round}\"/>"
        ));
    };
    // Jobs take all of a tray, or the left of one of which something is to be told on the right.
    let whole = matches!(tray.state, State::Allocated | State::Unknown);
    let taken = if whole { width } else { width * 11 / 20 };
    for (at, job) in tray.jobs.iter().enumerate() {
        let (from, to) = (taken * at / tray.jobs.len(), taken * (at + 1) / tray.jobs.len());
        fill(&format!("class=\"{}\"", class(*job)), from, to);
        if racks.is_spread(*job) {
            fill("class=\"span\"", from, from + if shape.words { 4 } else { 3 });
        }
    }
    let rest = if tray.jobs.is_empty() { 0 } else { taken };
    match tray.state {
        State::Drained => fill("fill=\"url(#drained)\"", rest, width),
        State::Reserved => fill("fill=\"url(#reserved)\"", rest, width),
        State::Down => fill("class=\"down\"", rest, width),
        State::PoweredDown => fill("class=\"off\"", rest, width),
        State::Allocated | State::Mixed | State::Completing if tray.jobs.is_empty() => {
            fill("class=\"off\"", 0, taken)
        }
        _ => {}
    }
    if shape.words {
        words(tray, racks, shape, y, body);
    }
    body.push_str("</g>\n");
}

/// The node on the left, its jobs or its state on the right.
fn words(tray: &Tray, racks: &Racks, shape: Shape, y: usize, body: &mut String) {
    let base = y + 15;
    let on_job = !tray.jobs.is_empty();
    let on_red = tray.state == State::Down;
    let left = if on_job {
        "m k"
    } else if on_red {
        "m w"
    } else {
        "m"
    };
    let right = match (on_job, tray.state) {
        (_, State::Down) => "m w",
        (true, State::Allocated | State::Unknown) => "m k",
        (_, State::Drained | State::Reserved) => "m",
        _ => "m q",
    };
    let indent = if tray.jobs.iter().any(|job| racks.is_spread(*job)) { 10 } else { 7 };
    body.push_str(&format!(
        "<text class=\"{left}\" x=\"{}\" y=\"{base}\">{}</text><text class=\"{right}\" text-anchor=\"end\" x=\"{}\" y=\"{base}\">{}</text>",
        shape.padding + indent,
        escaped(&shortened(tray.node.as_str(), NODE_CHARS)),
        shape.width - shape.padding - 7,
        escaped(&label(tray, racks)),
    ));
}

/// What stands on the right of a cell.
fn label(tray: &Tray, racks: &Racks) -> String {
    let jobs: Vec<_> = tray.jobs.iter().filter_map(|job| racks.jobs.get(*job)).collect();
    match (tray.state, jobs.as_slice()) {
        (State::Unknown, []) => String::new(),
        (state, []) => state.word().to_owned(),
        (State::Allocated | State::Unknown, [job]) => {
            shortened(format!("{} {}", job.id, job.name).trim_end(), WORD_CHARS)
        }
        (State::Allocated | State::Unknown | State::Mixed, jobs) => {
            let ids: Vec<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
            let ids = ids.join(" ");
            if ids.chars().count() <= 10 { ids } else { format!("{} jobs", jobs.len()) }
        }
        (state, _) => state.word().to_owned(),
    }
}
