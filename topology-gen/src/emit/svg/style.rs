//! Colours and fonts of the pictures, light and dark.
#![forbid(unsafe_code)]

/// Fills for jobs: they differ in hue and lightness and carry dark text. Jobs beyond them begin again.
pub(crate) const JOBS: [&str; 12] = [
    "#8ecae6", "#ffb95e", "#95d5b2", "#f4a39a", "#c9b8ea", "#e6cf6c", "#a9bf8f", "#f7bfd8", "#9db4f0",
    "#d8b08a", "#7fd1c7", "#cfd3a6",
];

/// The class of a job's cells.
pub(super) fn class(job: usize) -> String {
    format!("j{}", job % JOBS.len())
}

/// The style sheet of a picture. A cell with a job keeps its colour and dark text in the dark.
pub(super) const SHEET: &str = "text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#1b2733}\
.t{font-size:24px;font-weight:650}.s{font-size:12px;fill:#5b6b78}.h{font-size:13px;font-weight:600}\
.b{font-size:10.5px;fill:#5b6b78}.n{font-size:20px;font-weight:650}.none{fill:#a3afb9}\
.m{font:11px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace}.q{fill:#6b7b88}.k{fill:#14202b}.w{fill:#ffffff}\
.page{fill:#ffffff}.card{fill:#f3f6f8;stroke:#d4dce3}.tile{fill:#f3f6f8;stroke:#d4dce3}.cell{fill:#ffffff;stroke:#b7c3cd}\
.down{fill:#c83e4d}.hd{fill:#f3cf7e}.bd{fill:#fdf2d6}.hr{fill:#d3c5f2}.br{fill:#f1ecfb}.dash{stroke-dasharray:3 3}.off{fill:#dde3e8}.span{fill:#b5179e}\
.j0{fill:#8ecae6}.j1{fill:#ffb95e}.j2{fill:#95d5b2}.j3{fill:#f4a39a}.j4{fill:#c9b8ea}.j5{fill:#e6cf6c}.j6{fill:#a9bf8f}\
.j7{fill:#f7bfd8}.j8{fill:#9db4f0}.j9{fill:#d8b08a}.j10{fill:#7fd1c7}.j11{fill:#cfd3a6}\
@media (prefers-color-scheme:dark){text{fill:#e4ebf1}.s,.b,.q{fill:#93a4b3}.none{fill:#5f7080}.k{fill:#14202b}.w{fill:#ffffff}\
.page{fill:#0f161d}.card,.tile{fill:#18222c;stroke:#2c3946}.cell{fill:#0f161d;stroke:#42525f}.off{fill:#26323d}\
.hd{fill:#6b5316}.bd{fill:#3a2e10}.hr{fill:#4a3d78}.br{fill:#2a2342}}";

/// What is not a plain colour: stripes for trays that are kept from work.
pub(super) const PATTERNS: &str = "<defs>\
<pattern id=\"drained\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect class=\"bd\" width=\"8\" height=\"8\"/><rect class=\"hd\" width=\"3\" height=\"8\"/></pattern>\
<pattern id=\"reserved\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(-45)\"><rect class=\"br\" width=\"8\" height=\"8\"/><rect class=\"hr\" width=\"3\" height=\"8\"/></pattern>\
</defs>\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sheet_has_all_fills() {
        for (at, fill) in JOBS.iter().enumerate() {
            assert!(SHEET.contains(&format!(".{}{{fill:{fill}}}", class(at))), "{at}");
        }
    }
}
