//! When trays go out of service and come back: made before the replay, so that every placer meets the same outages.

use serde::Serialize;

use crate::random::Random;
use crate::site::Site;
use crate::{HOUR, Seconds};

/// How often trays fail and how long they stay away.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Failures {
    /// Share of the time that a tray is out of service, `0..1`. 0: no tray fails.
    pub unavailable: f64,
    /// Mean time from a failure to the return, in hours; times are exponentially distributed.
    pub repair_hours: f64,
}

/// A tray goes, and comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outage {
    /// When it goes.
    pub begin: Seconds,
    /// The tray.
    pub tray: u32,
    /// When it is back.
    pub end: Seconds,
}

const PURPOSE: u64 = 2;

/// The outages that begin before `until`, ascending. At the begin of the replay as many trays are out of service as at any
/// later time. Trays that are drained anyway have none.
pub fn outages(site: &Site, failures: Failures, seed: u64, until: Seconds) -> Vec<Outage> {
    let mut found = Vec::new();
    if failures.unavailable <= 0.0 {
        return found;
    }
    let repair = failures.repair_hours * HOUR as f64;
    let between = repair * (1.0 - failures.unavailable) / failures.unavailable;
    let mut random = Random::new(seed, PURPOSE);
    for tray in (0..site.trays()).filter(|tray| site.drained().binary_search(tray).is_err()) {
        let mut now = 0.0;
        let mut is_down = random.unit() < failures.unavailable;
        while now < until as f64 {
            if !is_down {
                now += random.exponential(between);
                is_down = true;
                continue;
            }
            let end = now + random.exponential(repair).max(1.0);
            found.push(Outage { begin: now as Seconds, tray, end: end as Seconds + 1 });
            (now, is_down) = (end + 2.0, false);
        }
    }
    found.retain(|outage| outage.begin < until);
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DAY;

    #[test]
    fn as_many_trays_are_out_as_asked_for() {
        let site = Site::racks(100, 18, 1, 1).unwrap();
        let failures = Failures { unavailable: 0.05, repair_hours: 24.0 };
        let outages = outages(&site, failures, 1, 30 * DAY);
        for day in [0, 10, 29] {
            let moment = day * DAY + 1;
            let down = outages.iter().filter(|outage| outage.begin <= moment && moment < outage.end).count();
            assert!((55..115).contains(&down), "day {day}: {down} of 1700");
        }
        assert!(outages.iter().all(|outage| outage.tray % 18 != 17 && outage.begin < outage.end));
    }

    #[test]
    fn a_tray_is_back_before_it_goes_again() {
        let site = Site::racks(2, 4, 1, 0).unwrap();
        let mut outages = outages(&site, Failures { unavailable: 0.5, repair_hours: 0.01 }, 3, DAY);
        outages.sort_by_key(|outage| (outage.tray, outage.begin));
        assert!(outages.len() > 100);
        assert!(outages.windows(2).all(|two| two[0].tray != two[1].tray || two[0].end < two[1].begin));
    }
}
