//! The frame of a panel.

#![forbid(unsafe_code)]

use std::fmt::Write as _;

use super::escaped;

/// About the width of a title's character.
const CHARACTER: f64 = 7.8;

/// Place and size of a panel in the picture. What is drawn in it is measured from its corner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Frame {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Frame {
    /// Begins a panel, with its card and as much of its title as there is room for.
    pub(super) fn open(self, title: &str, svg: &mut String) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a panel is not that wide"
        )]
        let room = ((self.width - 24.0) / CHARACTER).max(1.0) as usize;
        let title = if title.chars().count() > room {
            title.chars().take(room - 1).chain(['\u{2026}']).collect()
        } else {
            title.to_owned()
        };
        let Self { x, y, width, height } = self;
        let _infallible = writeln!(
            svg,
            "<g transform=\"translate({x:.1},{y:.1})\"><rect class=\"card\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"6\"/>\
             <text class=\"p\" x=\"12\" y=\"22\">{}</text>",
            escaped(&title)
        );
    }

    /// Says that there is nothing.
    pub(super) fn empty(self, svg: &mut String) {
        let (x, y) = (self.width / 2.0, self.height / 2.0 + 8.0);
        let _infallible = writeln!(
            svg,
            "<text class=\"s\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">No data</text>"
        );
    }
}
