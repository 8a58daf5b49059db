//! Colours and fonts, light and dark.

#![forbid(unsafe_code)]

use std::fmt::Write as _;

/// Colours of lines, in the order of a panel's series; they differ in lightness, too.
pub(super) const LINES: [&str; 10] = [
    "#1f6fb2", "#e08a1e", "#2f9e6e", "#c83e4d", "#8465c4", "#8a8f94", "#12a3b4", "#b5179e", "#b39b00",
    "#5d7f2e",
];

/// The style sheet.
pub(super) const SHEET: &str = "text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#1b2733}\
.t{font-size:24px;font-weight:650}.p{font-size:13.5px;font-weight:600}.s{fill:#5b6b78}.a{font-size:11px;fill:#5b6b78}.n{font-size:34px;font-weight:650}\
.k{font-size:10px;font-weight:600;fill:#ffffff}.green{fill:#24855a}.red{fill:#c83e4d}.plain{fill:#1f6fb2}\
.page{fill:#ffffff}.card{fill:#f6f8fa;stroke:#d4dce3}.g{stroke:#dde3e8}.m{stroke:#a9b5bf;stroke-dasharray:2 4}.d{fill:#66747f}\
@media (prefers-color-scheme:dark){text{fill:#e4ebf1}.s,.a{fill:#93a4b3}.green{fill:#4cc38a}.red{fill:#ef6b79}.plain{fill:#6cb2ec}\
.page{fill:#0f161d}.card{fill:#18222c;stroke:#2c3946}.g{stroke:#2c3946}.m{stroke:#4f606e}.k{fill:#ffffff}}";

/// The class of a threshold's colour; that of no threshold for one that the sheet has not.
pub(super) fn class(colour: Option<&str>) -> &'static str {
    match colour {
        Some("green") => "green",
        Some("red") => "red",
        _ => "plain",
    }
}

/// A number in a circle.
pub(super) fn number(x: f64, y: f64, number: usize, svg: &mut String) {
    let _infallible = writeln!(
        svg,
        "<circle class=\"d\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"7.5\"/>\
         <text class=\"k\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{number}</text>",
        y + 3.6
    );
}
