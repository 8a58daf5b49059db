//! Axes and numbers that read well.

#![forbid(unsafe_code)]

use super::super::dashboard::Unit;

/// Steps of the axis of time, in seconds.
const TIMES: [f64; 8] = [10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

/// The end of an axis from 0 and the distance of its lines, of which there are three to five.
pub(super) fn axis(highest: f64) -> (f64, f64) {
    let highest = if highest > 0.0 { highest } else { 1.0 };
    let decade = 10f64.powf((highest / 4.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade);
    let step = step.into_iter().find(|step| highest / step <= 4.0).unwrap_or(decade * 10.0);
    ((highest / step).ceil() * step, step)
}

/// The distance of marks on an axis of time, so that there are about so many.
pub(super) fn time_step(seconds: f64, wanted: f64) -> f64 {
    TIMES.into_iter().find(|step| seconds / step <= wanted).unwrap_or(7200.0)
}

/// A value with its unit.
pub(super) fn value(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Short => plain(value),
        Unit::Seconds if value == 0.0 => "0 s".to_owned(),
        Unit::Seconds if value.abs() < 1.0 => format!("{} ms", plain(value * 1000.0)),
        Unit::Seconds => format!("{} s", plain(value)),
    }
}

/// Three digits at most, unless there are more in front of the point.
fn plain(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Minutes and seconds.
pub(super) fn clock(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round();
    format!("{:.0}:{:02.0}", (seconds / 60.0).floor(), seconds % 60.0)
}

/// About so many minutes, in words.
pub(super) fn minutes(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round();
    if minutes > 1.0 { format!("{minutes:.0} minutes") } else { "A minute".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_one_of_its_lines_above_all_values() {
        for highest in [0.0, 0.004, 0.7, 1.0, 1.01, 2.0, 8.0, 9.9, 33.4, 400.0, 1234.0] {
            let (top, step) = axis(highest);
            let lines = top / step;
            assert!(top >= highest && (lines - lines.round()).abs() < 1e-9, "{highest}: {top} by {step}");
            assert!((2.0..4.5).contains(&lines), "{highest}: {top} by {step}");
        }
        assert_eq!(axis(8.0), (8.0, 2.0));
    }

    #[test]
    fn numbers_are_short_and_have_units() {
        let short = [0.0, 1.0, 2.126, 33.27, 1234.4].map(|number| value(number, Unit::Short));
        assert_eq!(short, ["0", "1", "2.13", "33.3", "1234"]);
        let seconds = [0.0, 0.0417, 0.5, 33.2].map(|number| value(number, Unit::Seconds));
        assert_eq!(seconds, ["0 s", "41.7 ms", "500 ms", "33.2 s"]);
    }

    #[test]
    fn times_are_minutes() {
        assert_eq!([0.0, 59.6, 61.0, 600.0].map(clock), ["0:00", "1:00", "1:01", "10:00"]);
        assert_eq!((time_step(240.0, 6.0), time_step(50.0, 6.0)), (60.0, 10.0));
        assert_eq!([250.0, 40.0].map(minutes), ["4 minutes", "A minute"]);
    }
}
