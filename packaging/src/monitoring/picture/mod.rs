//! The dashboard as one picture: its panels at their places, with what Prometheus answered.
//!
//! It needs nothing beside itself: fonts of the reader's system, colours for light and for dark surroundings.

#![forbid(unsafe_code)]

mod frame;
mod lines;
mod scale;
mod stat;
mod style;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use super::dashboard::{Dashboard, Kind, Panel};
use frame::Frame;

const WIDTH: f64 = 1240.0;
const MARGIN: f64 = 26.0;
const GAP: f64 = 12.0;
/// Height of the headlines.
const HEAD: f64 = 92.0;
/// Height of a row of the grid.
const ROW: f64 = 30.0;
/// Columns of the grid.
const COLUMNS: f64 = 24.0;
/// Height of a line of the list of what happened.
const LISTED: f64 = 21.0;

/// A series with its name in the legend.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) name: String,
    /// Seconds since 1970, and a value that may be no number.
    pub(super) points: Vec<(f64, f64)>,
}

impl Line {
    /// The last value that is a number.
    fn last(&self) -> Option<f64> {
        self.points.iter().rev().map(|(_, value)| *value).find(|value| value.is_finite())
    }
}

/// What was going on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scene {
    pub(super) begin: f64,
    pub(super) end: f64,
    /// When, and what.
    pub(super) marks: Vec<(f64, String)>,
}

impl Scene {
    /// A time as a share of the whole.
    fn share(&self, at: f64) -> f64 {
        (at - self.begin) / (self.end - self.begin).max(1.0)
    }
}

/// Draws the panels, each with its lines.
pub(super) fn draw(dashboard: &Dashboard, panels: &[Vec<Line>], scene: &Scene) -> String {
    let rows = dashboard.panels.iter().map(|panel| panel.grid_pos.y + panel.grid_pos.h).max().unwrap_or(0);
    let list = HEAD + f64::from(rows) * ROW + 14.0;
    let height = list + LISTED * (scene.marks.len().div_ceil(2) as f64 + 1.0) + MARGIN;
    let title = escaped(&dashboard.title);
    let style = style::SHEET;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\" aria-label=\"{title}\">\n<title>{title}</title>\n<style>{style}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"t\" x=\"{MARGIN}\" y=\"44\">{title}</text>\n\
         <text class=\"s\" x=\"{MARGIN}\" y=\"68\">{} of a simulated cluster, as a Prometheus saw them through node exporters; faults are \
         planted, and numbered below</text>\n",
        scale::minutes(scene.end - scene.begin),
    );
    for (panel, lines) in dashboard.panels.iter().zip(panels) {
        let frame = place(panel);
        frame.open(&panel.title, &mut svg);
        match panel.kind {
            _ if lines.iter().all(|line| line.last().is_none()) => frame.empty(&mut svg),
            Kind::Stat => stat::draw(frame, &panel.field_config.defaults, lines, scene, &mut svg),
            Kind::Timeseries => lines::draw(frame, &panel.field_config.defaults, lines, scene, &mut svg),
        }
        svg.push_str("</g>\n");
    }
    told(scene, list, &mut svg);
    svg + "</svg>\n"
}

/// Where a panel lies.
fn place(panel: &Panel) -> Frame {
    let column = (WIDTH - 2.0 * MARGIN + GAP) / COLUMNS;
    let [x, y, w, h] = {
        let place = panel.grid_pos;
        [place.x, place.y, place.w, place.h].map(f64::from)
    };
    Frame { x: MARGIN + x * column, y: HEAD + y * ROW, width: w * column - GAP, height: h * ROW - GAP }
}

/// What the numbers in the panels mean, in two columns.
fn told(scene: &Scene, top: f64, svg: &mut String) {
    let half = scene.marks.len().div_ceil(2);
    for (number, (at, what)) in scene.marks.iter().enumerate() {
        let (column, row) = if number < half { (0.0, number) } else { (1.0, number - half) };
        let (x, y) = (MARGIN + column * (WIDTH - 2.0 * MARGIN) / 2.0, top + LISTED * (row as f64 + 1.0));
        style::number(x + 9.0, y - 4.0, number + 1, svg);
        let _infallible = writeln!(
            svg,
            "<text class=\"s\" x=\"{:.1}\" y=\"{y:.1}\">{}</text><text x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
            x + 26.0,
            scale::clock(at - scene.begin),
            x + 62.0,
            escaped(what)
        );
    }
}

/// Text for XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
