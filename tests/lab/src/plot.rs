//! The measurements as a picture: one line a situation, time to the right on a logarithmic scale.

use std::fmt::Write as _;

use crate::bench::{Row, Times};

const LEFT: f64 = 330.0;
const WIDTH: f64 = 620.0;
const LINE: f64 = 20.0;
const TOP: f64 = 70.0;

/// Draws the rows.
pub fn svg(rows: &[Row]) -> String {
    let all = rows.iter().flat_map(|row| [Some(row.stock), Some(row.ours), row.floor]).flatten();
    let (low, high) = all.fold((f64::MAX, 1.0f64), |(low, high), times| {
        let median = (times.median as f64).max(1.0);
        (low.min(median), high.max(median))
    });
    let (first, last) = (low.min(high).log10().floor(), high.log10().ceil());
    let x =
        |nanoseconds: f64| LEFT + (nanoseconds.max(1.0).log10() - first) / (last - first).max(1.0) * WIDTH;
    let height = TOP + LINE * (rows.len() as f64 + 1.0);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0}\" height=\"{height:.0}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"15\">Median time of a placement call (Slurm is real, the cluster \
         synthetic)</text>\n",
        LEFT + WIDTH + 60.0
    );
    for (place, (name, colour)) in
        [("Slurm's own", "#c0392b"), ("slurm-nvlink", "#1f6fb2"), ("floor", "#888888")].iter().enumerate()
    {
        let at = LEFT + 150.0 * place as f64;
        let _ = writeln!(
            svg,
            "<circle cx=\"{at}\" cy=\"36\" r=\"5\" fill=\"{colour}\"/><text x=\"{}\" y=\"40\">{name}</text>",
            at + 10.0
        );
    }
    for decade in first as i32..=last as i32 {
        let nanoseconds = 10f64.powi(decade);
        let at = x(nanoseconds);
        let _ = writeln!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{height:.0}\" stroke=\"#dddddd\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            TOP - 8.0,
            unit(decade)
        );
    }
    for (number, row) in rows.iter().enumerate() {
        let y = TOP + LINE * (number as f64 + 0.8);
        let name = format!("{} nodes, {} busy: {}", row.nodes, row.fill, row.job);
        let _ = writeln!(svg, "<text x=\"10\" y=\"{:.1}\">{name}</text>", y + 4.0);
        let mut dot = |times: Option<Times>, colour: &str| {
            if let Some(times) = times {
                let at = x(times.median as f64);
                let _ = writeln!(svg, "<circle cx=\"{at:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>");
            }
        };
        dot(Some(row.stock), "#c0392b");
        dot(row.floor, "#888888");
        dot(Some(row.ours), "#1f6fb2");
    }
    svg.push_str("</svg>\n");
    svg
}

fn unit(decade: i32) -> String {
    match decade {
        ..=2 => format!("{} ns", 10i64.pow(decade.max(0).unsigned_abs())),
        3..=5 => format!("{} us", 10i64.pow((decade - 3).unsigned_abs())),
        6..=8 => format!("{} ms", 10i64.pow((decade - 6).unsigned_abs())),
        _ => format!("{} s", 10i64.pow((decade - 9).unsigned_abs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_measurement_is_a_dot_under_its_unit() {
        let times = |median| Times { median, p99: median };
        let row = Row {
            nodes: 1152,
            fill: "half".into(),
            job: "16".into(),
            stock_rc: 0,
            ours_rc: 0,
            stock: times(54_000),
            ours: times(15_000),
            floor: Some(times(10_000)),
        };
        let picture = svg(&[row]);
        assert_eq!(picture.matches("<circle").count(), 3 + 3);
        assert!(picture.contains(">1152 nodes, half busy: 16<") && picture.contains(">10 us<"), "{picture}");
    }
}
