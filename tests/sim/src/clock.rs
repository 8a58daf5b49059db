//! Time stamps in the two forms that IMEX prints. Always UTC, so that logs of several trays line up.
#![forbid(unsafe_code)]

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A moment, split for printing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    year: u64,
    month: u64,
    day: u64,
    second_of_day: u64,
    milli: u32,
}

impl Stamp {
    /// Now. A clock before 1970 shows 1970.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_unix(since.as_secs(), since.subsec_millis())
    }

    /// The moment `seconds` after the start of 1970, plus `milli` milliseconds.
    pub fn from_unix(seconds: u64, milli: u32) -> Self {
        let (year, month, day) = civil(seconds / 86_400);
        Self { year, month, day, second_of_day: seconds % 86_400, milli }
    }

    /// `Mon DD YYYY HH:MM:SS`, as at the head of a log line.
    pub fn log(&self) -> String {
        let month =
            usize::try_from(self.month - 1).ok().and_then(|index| MONTHS.get(index)).unwrap_or(&"???");
        format!("{month} {:02} {:04} {}", self.day, self.year, self.time())
    }

    /// `M/D/YYYY HH:MM:SS.mmm`, as in the first log line and in the domain view.
    pub fn slashed(&self) -> String {
        format!("{}/{}/{:04} {}.{:03}", self.month, self.day, self.year, self.time(), self.milli)
    }

    fn time(&self) -> String {
        let second = self.second_of_day;
        format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
    }
}

/// Year, month and day of the day number `days` after 1970-01-01.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_have_both_vendor_forms() {
        let stamp = Stamp::from_unix(1_790_932_502, 117);
        assert_eq!(stamp.slashed(), "10/2/2026 09:15:02.117");
        assert_eq!(stamp.log(), "Oct 02 2026 09:15:02");
    }

    #[test]
    fn days_around_month_year_and_leap_ends_are_right() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(364), (1970, 12, 31));
        assert_eq!(civil(365), (1971, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(11_017), (2000, 3, 1));
        assert_eq!(civil(20_454), (2026, 1, 1));
    }
}
