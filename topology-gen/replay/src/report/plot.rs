//! Charts as SVG: lines over time, and waits by size. Each stands alone and has colours for light and for dark surroundings.

use std::fmt::Write as _;

use super::page::escaped;
use super::table::time;
use crate::summary::{SiteSample, Summary};
use crate::{DAY, HOUR, Seconds};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 58.0;
const BOTTOM: f64 = 36.0;
/// Most points of a line: more than the picture has columns say nothing.
const POINTS: usize = 430;

/// Colours of the placers, in the order of the replays; they differ in lightness, too.
const COLOURS: [&str; 4] = ["#1f6fb2", "#c0392b", "#8a8f94", "#c98a00"];

const STYLE: &str = "text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#1b2733}\
.t{font-size:15px;font-weight:600}.q{fill:#5b6b78}.g{stroke:#dde3e8}.page{fill:#ffffff}\
@media (prefers-color-scheme:dark){text{fill:#e4ebf1}.q{fill:#93a4b3}.g{stroke:#2c3946}.page{fill:#0f161d}}";

/// What a line shows of a sample; None where there is nothing to show.
pub type Value = fn(&SiteSample) -> Option<f64>;

/// A line of a replay: its name and its numbers.
pub type Line<'l> = (&'l str, &'l Summary);

/// What there is to show over time: name, title, unit, value.
pub const OVER_TIME: [(&str, &str, &str, Value); 4] = [
    ("occupancy", "Occupancy: trays with jobs, of those in service", "%", |sample| {
        (sample.up > 0).then(|| 100.0 * f64::from(sample.busy) / f64::from(sample.up))
    }),
    ("free-partitions", "NVLink partitions without jobs", "", |sample| {
        Some(f64::from(sample.free_partitions))
    }),
    (
        "fragmentation",
        "Fragmentation: idle trays in partitions with jobs, of all idle trays",
        "%",
        |sample| {
            let idle = sample.up.saturating_sub(sample.busy);
            (idle > 0).then(|| 100.0 * f64::from(sample.scattered) / f64::from(idle))
        },
    ),
    ("waiting", "Jobs that wait", "", |sample| Some(f64::from(sample.waiting))),
];

/// Draws lines over time, up to the end of the window that is counted; its begin is marked.
pub fn over_time(lines: &[Line<'_>], title: &str, unit: &str, value: Value) -> String {
    let window = lines.first().map_or((0, 1), |(_, summary)| summary.window);
    let points: Vec<Vec<(Seconds, f64)>> =
        lines.iter().map(|(_, summary)| thinned(&summary.samples, window.1, value)).collect();
    let highest = points.iter().flatten().map(|&(_, value)| value).fold(0.0, f64::max);
    let counted = points.iter().flatten().filter(|&&(at, _)| at >= window.0).map(|&(_, value)| value);
    let (bottom, top) = if unit == "%" { (foot(counted), 100.0) } else { (0.0, round_up(highest)) };
    let x = |at: Seconds| LEFT + at as f64 / window.1.max(1) as f64 * (WIDTH - LEFT - RIGHT);
    // What happens before the window may be below the axis.
    let y =
        |value: f64| TOP + (1.0 - (value.max(bottom) - bottom) / (top - bottom)) * (HEIGHT - TOP - BOTTOM);
    let mut svg = begin(title, HEIGHT, lines);
    for step in 0..=4 {
        let value = bottom + (top - bottom) * f64::from(step) / 4.0;
        let _ = writeln!(
            svg,
            "<line class=\"g\" x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{:.1}\" y2=\"{1:.1}\"/>\
             <text class=\"q\" x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{value}{unit}</text>",
            WIDTH - RIGHT,
            y(value),
            LEFT - 8.0,
            y(value) + 4.0
        );
    }
    let days = window.1.div_ceil(DAY).max(1);
    for day in (0..=days).step_by(usize::try_from(days.div_ceil(10)).unwrap_or(1)) {
        if day * DAY <= window.1 {
            let _ = writeln!(
                svg,
                "<text class=\"q\" x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">day {day}</text>",
                x(day * DAY).clamp(LEFT, WIDTH - RIGHT - 14.0),
                HEIGHT - 12.0
            );
        }
    }
    if window.0 > 0 {
        let _ = writeln!(
            svg,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{TOP}\" y2=\"{1:.0}\" stroke=\"#8a8f94\" stroke-dasharray=\"4 4\"/>\
             <text class=\"q\" x=\"{0:.1}\" y=\"{2:.0}\" text-anchor=\"middle\">counted from here</text>",
            x(window.0),
            HEIGHT - BOTTOM,
            TOP - 6.0
        );
    }
    for (place, points) in points.iter().enumerate().rev() {
        let path: Vec<String> =
            points.iter().map(|&(at, value)| format!("{:.1},{:.1}", x(at), y(value))).collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\" points=\"{}\"/>",
            COLOURS[place % COLOURS.len()],
            path.join(" ")
        );
    }
    svg + "</svg>\n"
}

/// Draws the waits by size of the jobs: from the median (a ring) to the 95th percentile (a dot), on a logarithmic scale.
pub fn waits(lines: &[Line<'_>]) -> String {
    const ROW: f64 = 15.0;
    const TICKS: [Seconds; 7] = [60, 600, HOUR, 6 * HOUR, DAY, 4 * DAY, 30 * DAY];
    let classes = lines.first().map_or(&[][..], |(_, summary)| &summary.classes[..]);
    let band = ROW * lines.len() as f64 + 10.0;
    let height = TOP + 18.0 + band * classes.len() as f64;
    let all = || lines.iter().flat_map(|(_, summary)| &summary.classes).map(|class| class.wait.p95);
    let last = all().fold(3600.0, f64::max).log10();
    let first = 30f64.log10();
    let x = |seconds: f64| {
        LEFT + 36.0 + (seconds.max(30.0).log10() - first) / (last - first) * (WIDTH - LEFT - RIGHT - 56.0)
    };
    let mut svg = begin("Waits by trays of the job: median (ring) and 95th percentile (dot)", height, lines);
    let _ = writeln!(
        svg,
        "<text class=\"q\" x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">trays</text>",
        LEFT + 16.0,
        TOP + 10.0
    );
    for tick in TICKS.into_iter().filter(|&tick| (tick as f64).log10() <= last) {
        let _ = writeln!(
            svg,
            "<line class=\"g\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1}\" y2=\"{height:.0}\"/>\
             <text class=\"q\" x=\"{0:.1}\" y=\"{2}\" text-anchor=\"middle\">{3}</text>",
            x(tick as f64),
            TOP + 14.0,
            TOP + 10.0,
            time(tick)
        );
    }
    for (number, class) in classes.iter().enumerate() {
        let y = TOP + 26.0 + band * number as f64;
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT + 16.0,
            y + ROW * (lines.len() as f64 - 1.0) / 2.0 + 4.0,
            class.name()
        );
        for (place, (name, summary)) in lines.iter().enumerate() {
            let Some(wait) = summary.classes.get(number).map(|class| class.wait).filter(|w| w.count > 0)
            else {
                continue;
            };
            let (y, colour) = (y + ROW * place as f64, COLOURS[place % COLOURS.len()]);
            let (median, most) = (x(wait.p50), x(wait.p95));
            let _ = writeln!(
                svg,
                "<g stroke=\"{colour}\"><title>{}: {} trays, median {}, 95th percentile {}</title>\
                 <line x1=\"{median:.1}\" x2=\"{most:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke-width=\"2\"/>\
                 <circle class=\"page\" cx=\"{median:.1}\" cy=\"{y:.1}\" r=\"3.5\" stroke-width=\"1.5\"/>\
                 <circle cx=\"{most:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/></g>",
                escaped(name),
                class.name(),
                time(wait.p50 as Seconds),
                time(wait.p95 as Seconds),
            );
        }
    }
    svg + "</svg>\n"
}

/// Head of a chart, with its title and the names of its lines.
fn begin(title: &str, height: f64, lines: &[Line<'_>]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {WIDTH:.0} {height:.0}\" role=\"img\" aria-label=\"{title}\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n<rect class=\"page\" width=\"{WIDTH:.0}\" height=\"{height:.0}\"/>\n\
         <text class=\"t\" x=\"10\" y=\"20\">{title}</text>\n"
    );
    for (place, (name, _)) in lines.iter().enumerate() {
        let x = LEFT + 110.0 * place as f64;
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.0}\" y=\"32\" width=\"14\" height=\"4\" fill=\"{}\"/><text x=\"{:.0}\" y=\"38\">{}</text>",
            COLOURS[place % COLOURS.len()],
            x + 20.0,
            escaped(name)
        );
    }
    svg
}

/// The samples up to a moment, the mean of several where there are too many.
fn thinned(samples: &[SiteSample], until: Seconds, value: Value) -> Vec<(Seconds, f64)> {
    let points: Vec<(Seconds, f64)> = samples
        .iter()
        .filter(|sample| sample.at <= until)
        .filter_map(|sample| Some((sample.at, value(sample)?)))
        .collect();
    let several = points.len().div_ceil(POINTS).max(1);
    points
        .chunks(several)
        .map(|chunk| (chunk[0].0, chunk.iter().map(|&(_, value)| value).sum::<f64>() / chunk.len() as f64))
        .collect()
}

/// Where an axis of per cents begins: near the lowest value, so that lines which lie close together can be told apart.
fn foot(values: impl Iterator<Item = f64>) -> f64 {
    let lowest = values.fold(100.0, f64::min);
    [90.0, 80.0, 60.0, 40.0].into_iter().find(|&foot| foot <= lowest).unwrap_or(0.0)
}

/// The next number that reads well.
fn round_up(value: f64) -> f64 {
    let value = value.max(4.0);
    let decade = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 8.0, 10.0].map(|step| step * decade);
    steps.into_iter().find(|&step| step >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placer::Ours;
    use crate::scenario::{Reference, Settings};

    #[test]
    fn each_wait_is_a_ring_and_a_dot_on_its_line() {
        let reference = Reference { racks: 4, jobs: 120, days: 1, ..Reference::default() };
        let scenario = reference.scenario(Settings { warm_up: 3600, ..Settings::default() }).unwrap();
        let summary = crate::run(&scenario, &mut Ours::default()).unwrap();
        let chart = waits(&[("ours", &summary)]);
        let numbers = |name: &str| -> Vec<f64> {
            let key = format!(" {name}=\"");
            let parts = chart.split(&key).skip(1);
            parts.filter_map(|part| part.split('"').next()?.parse().ok()).collect()
        };
        let waited = summary.classes.iter().filter(|class| class.wait.count > 0).count();
        let places = numbers("cx");
        assert_eq!(places.len(), 2 * waited);
        assert!(
            places.chunks(2).all(|two| LEFT < two[0] && two[0] <= two[1] && two[1] < WIDTH),
            "{places:?}"
        );
        for (circle, end) in places.chunks(2).zip(chart.split("<line x1=\"").skip(1)) {
            assert!(end.starts_with(&format!("{:.1}\" x2=\"{:.1}\"", circle[0], circle[1])), "{end}");
        }
    }

    #[test]
    fn axes_end_at_numbers_that_read_well() {
        assert_eq!([0.0, 3.0, 9.0, 41.0, 278.0, 1000.0].map(round_up), [4.0, 4.0, 10.0, 80.0, 400.0, 1000.0]);
    }

    #[test]
    fn an_axis_of_per_cents_begins_near_the_lowest_value() {
        assert_eq!(
            [&[95.0, 99.0][..], &[85.0, 79.9], &[12.0], &[]].map(|v| foot(v.iter().copied())),
            [90.0, 60.0, 0.0, 90.0]
        );
    }

    #[test]
    fn many_samples_become_few_points() {
        let sample = |at| SiteSample {
            at,
            busy: u32::try_from(at).unwrap_or(0),
            up: 10_000,
            free_partitions: 0,
            scattered: 0,
            waiting: 0,
        };
        let samples: Vec<SiteSample> = (0..1000).map(sample).collect();
        let points = thinned(&samples, 899, |sample| Some(f64::from(sample.busy)));
        assert_eq!((points.len(), points[0], points[1]), (300, (0, 1.0), (3, 4.0)));
    }
}
