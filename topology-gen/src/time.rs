//! Moments that people type and read. All in UTC: no time zone is looked up.
#![forbid(unsafe_code)]

/// Seconds since 1970 of `2026-11-01`, `2026-11-01T08:30`, `2026-11-01T08:30:15`, each with or without a `Z` behind it, or
/// of `@1793491200`.
///
/// # Errors
/// What the text should be, in words.
pub fn parse(text: &str) -> Result<u64, String> {
    let seconds = match text.strip_prefix('@') {
        Some(seconds) => digits(seconds, 1..=12),
        None => moment(text.strip_suffix('Z').unwrap_or(text)),
    };
    seconds.ok_or_else(|| {
        "a time is YYYY-MM-DD or YYYY-MM-DDThh:mm[:ss] in UTC, from 1970 on, or @ with seconds since 1970"
            .to_owned()
    })
}

fn moment(text: &str) -> Option<u64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00"));
    let [year, month, day] = parts(date, '-')?;
    let time = if time.matches(':').count() == 1 { format!("{time}:00") } else { time.to_owned() };
    let [hour, minute, second] = parts(&time, ':')?;
    let possible = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    let days =
        days_before(year) + (1..month).map(|month| days_of(year, month)).sum::<u64>() + day.checked_sub(1)?;
    possible.then_some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Three numbers, of which only the first may have more than two digits.
fn parts(text: &str, between: char) -> Option<[u64; 3]> {
    let mut parts = text.split(between);
    let first = parts.next()?;
    let numbers = [
        digits(first, if between == '-' { 4..=4 } else { 2..=2 })?,
        digits(parts.next()?, 2..=2)?,
        digits(parts.next()?, 2..=2)?,
    ];
    parts.next().is_none().then_some(numbers)
}

fn digits(text: &str, length: std::ops::RangeInclusive<usize>) -> Option<u64> {
    let plain = length.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days from 1970 to the begin of the year.
fn days_before(year: u64) -> u64 {
    (1970..year.min(10_000)).map(|year| 365 + u64::from(is_leap(year))).sum()
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::backup::utc;
    use proptest::prelude::*;

    #[test]
    fn times_are_read_or_refused() {
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("2024-02-29T23:59:59Z", 1_709_251_199),
            ("2026-11-01T08:30", 1_793_521_800),
            ("@1793491200", 1_793_491_200),
        ] {
            assert_eq!(parse(text), Ok(seconds), "{text}");
        }
        for text in [
            "",
            "@",
            "@-1",
            "2026",
            "2026-13-01",
            "2026-02-29",
            "2026-00-01",
            "2026-01-00",
            "26-01-01",
            "1969-12-31",
            "2026-01-01T24:00",
            "2026-01-01T1:00",
            "2026-01-01T10",
            "2026-01-01 10:00",
            "2026-01-01T10:00:00+01:00",
            "2026-01-01T10:00:00:00",
            "+026-01-01",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in 0u64..253_402_300_800) {
            let compact = utc(seconds);
            let part = |from: usize, to: usize| &compact[from..to];
            let text = format!(
                "{}-{}-{}T{}:{}:{}", part(0, 4), part(4, 6), part(6, 8), part(9, 11), part(11, 13), part(13, 15)
            );
            prop_assert_eq!(parse(&text), Ok(seconds));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-0-9T:Z@ a\u{e4}]{0,24}") {
            let _ = parse(&text);
        }
    }
}
