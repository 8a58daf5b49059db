//! A panel with the last value, large, and how it came about.

#![forbid(unsafe_code)]

use std::fmt::Write as _;

use super::super::dashboard::Defaults;
use super::frame::Frame;
use super::scale::{axis, value};
use super::{Line, Scene, escaped, style};

/// Share of the frame that the course takes, at its foot.
const FOOT: f64 = 0.3;

/// Draws it.
pub(super) fn draw(frame: Frame, defaults: &Defaults, lines: &[Line], scene: &Scene, svg: &mut String) {
    let head = 30.0;
    let each = (frame.height - head) / lines.len().max(1) as f64;
    for (number, line) in lines.iter().enumerate() {
        let Some(last) = line.last() else { continue };
        let class = style::class(defaults.colour(last));
        let (top, bottom) = (head + each * number as f64, head + each * (number as f64 + 1.0));
        course(frame, class, line, scene, (bottom - each * FOOT, bottom - 1.0), svg);
        let middle = top + each * (1.0 - FOOT) / 2.0;
        let mut text = |class: &str, y: f64, text: &str| {
            let _infallible = writeln!(
                svg,
                "<text class=\"{class}\" x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>",
                frame.width / 2.0,
                escaped(text)
            );
        };
        text(&format!("n {class}"), middle + 12.0, &value(last, defaults.unit));
        if !line.name.is_empty() {
            text("s", middle + 32.0, &line.name);
        }
    }
}

/// The course of the value between two heights.
fn course(
    frame: Frame,
    class: &str,
    line: &Line,
    scene: &Scene,
    (top, bottom): (f64, f64),
    svg: &mut String,
) {
    let finite: Vec<(f64, f64)> =
        line.points.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let highest = finite.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let (highest, _) = axis(highest);
    let x = |at: f64| 1.0 + scene.share(at) * (frame.width - 2.0);
    let y = |value: f64| bottom - (value / highest).clamp(0.0, 1.0) * (bottom - top);
    let (Some(first), Some(last)) = (finite.first(), finite.last()) else { return };
    let mut path = format!("M{:.1},{bottom:.1}", x(first.0));
    for (at, value) in &finite {
        let _infallible = write!(path, " L{:.1},{:.1}", x(*at), y(*value));
    }
    let _infallible = writeln!(
        svg,
        "<path class=\"{class}\" fill-opacity=\"0.22\" d=\"{path} L{:.1},{bottom:.1} Z\"/>",
        x(last.0)
    );
}
