//! A panel with lines over time.

#![forbid(unsafe_code)]

use std::fmt::Write as _;

use super::super::dashboard::Defaults;
use super::frame::Frame;
use super::scale::{axis, clock, time_step, value};
use super::{Line, Scene, escaped, style};

const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 50.0;
/// Height of the axis of time, and of a row of the legend.
const AXIS: f64 = 20.0;
const LEGEND: f64 = 17.0;
/// About the width of a character, and of what stands around a name.
const CHARACTER: f64 = 6.9;
const AROUND: f64 = 36.0;
/// The distance of two numbers of what was planted, at least.
const APART: f64 = 16.0;

/// Draws it.
pub(super) fn draw(frame: Frame, defaults: &Defaults, lines: &[Line], scene: &Scene, svg: &mut String) {
    let names: Vec<(String, String)> = lines
        .iter()
        .map(|line| {
            (line.name.clone(), line.last().map_or_else(String::new, |last| value(last, defaults.unit)))
        })
        .collect();
    let rows = rows(&names, frame.width - LEFT - RIGHT);
    let bottom = frame.height - AXIS - LEGEND * rows.len() as f64 - 6.0;
    let highest = lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value);
    let (top, step) = axis(highest.filter(|value| value.is_finite()).fold(0.0, f64::max));
    let x = |at: f64| LEFT + scene.share(at) * (frame.width - LEFT - RIGHT);
    let y = |value: f64| bottom - value / top * (bottom - TOP);

    let mut level = 0.0;
    while level <= top + step / 2.0 {
        let _infallible = writeln!(
            svg,
            "<line class=\"g\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{1:.1}\"/>\
             <text class=\"a\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            frame.width - RIGHT,
            y(level),
            LEFT - 7.0,
            y(level) + 4.0,
            value(level, defaults.unit)
        );
        level += step;
    }
    times(frame, scene, bottom, &x, svg);
    for (number, line) in lines.iter().enumerate() {
        let colour = style::LINES[number % style::LINES.len()];
        for part in parts(&line.points) {
            let points: Vec<String> =
                part.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
            let _infallible = match (part, points.as_slice()) {
                ([(at, value)], _) => {
                    writeln!(
                        svg,
                        "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2\" fill=\"{colour}\"/>",
                        x(*at),
                        y(*value)
                    )
                }
                _ => writeln!(
                    svg,
                    "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.7\" stroke-linejoin=\"round\" points=\"{}\"/>",
                    points.join(" ")
                ),
            };
        }
    }
    legend(&names, &rows, bottom + AXIS + LEGEND, svg);
}

/// The axis of time, and what was planted when.
fn times(frame: Frame, scene: &Scene, bottom: f64, x: &dyn Fn(f64) -> f64, svg: &mut String) {
    let length = scene.end - scene.begin;
    let step = time_step(length, (frame.width / 70.0).floor());
    let mut at = 0.0;
    while at <= length {
        let _infallible = writeln!(
            svg,
            "<text class=\"a\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(scene.begin + at),
            bottom + 16.0,
            clock(at)
        );
        at += step;
    }
    let mut free = 0.0;
    for (number, (at, what)) in scene.marks.iter().enumerate() {
        let _infallible = writeln!(
            svg,
            "<line class=\"m\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{TOP}\" y2=\"{bottom:.1}\"><title>{1}</title></line>",
            x(*at),
            escaped(what)
        );
        let place = x(*at).max(free);
        style::number(place, TOP - 9.0, number + 1, svg);
        free = place + APART;
    }
}

/// The stretches of a line between values that are no numbers.
fn parts(points: &[(f64, f64)]) -> impl Iterator<Item = &[(f64, f64)]> {
    points.split(|(_, value)| !value.is_finite()).filter(|part| !part.is_empty())
}

/// The width of an entry of the legend.
fn width((name, last): &(String, String)) -> f64 {
    AROUND + CHARACTER * (name.chars().count() + last.chars().count()) as f64
}

/// Which entries of the legend stand in which row: the numbers of the first, and of the one behind the last.
fn rows(names: &[(String, String)], room: f64) -> Vec<(usize, usize)> {
    let mut rows = Vec::new();
    let (mut first, mut used) = (0, 0.0);
    for (number, name) in names.iter().enumerate() {
        if number > first && used + width(name) > room {
            rows.push((first, number));
            (first, used) = (number, 0.0);
        }
        used += width(name);
    }
    rows.push((first, names.len()));
    rows
}

fn legend(names: &[(String, String)], rows: &[(usize, usize)], top: f64, svg: &mut String) {
    for (row, (first, end)) in rows.iter().enumerate() {
        let (mut x, y) = (LEFT, top + LEGEND * row as f64);
        for (number, entry) in names.iter().enumerate().take(*end).skip(*first) {
            let _infallible = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"3\" rx=\"1.5\" fill=\"{}\"/>\
                 <text x=\"{:.1}\" y=\"{y:.1}\">{} <tspan class=\"s\">{}</tspan></text>",
                y - 5.5,
                style::LINES[number % style::LINES.len()],
                x + 17.0,
                escaped(&entry.0),
                escaped(&entry.1)
            );
            x += width(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_gaps_where_there_is_no_number() {
        let nan = f64::NAN;
        let points = [(0.0, nan), (1.0, 1.0), (2.0, 2.0), (3.0, nan), (4.0, 4.0)];
        let parts: Vec<Vec<f64>> =
            parts(&points).map(|part| part.iter().map(|(_, value)| *value).collect()).collect();
        assert_eq!(parts, [vec![1.0, 2.0], vec![4.0]]);
    }

    #[test]
    fn a_legend_that_is_too_wide_goes_on_in_the_next_row() {
        let names = vec![("abcdefgh".to_owned(), "1".to_owned()); 5];
        let one = width(&names[0]);
        assert_eq!(rows(&names, one * 2.5), [(0, 2), (2, 4), (4, 5)]);
        assert_eq!(rows(&names, 1.0).len(), 5);
        assert_eq!(rows(&[], 100.0), [(0, 0)]);
    }
}
