//! What the fabric promises a job, and whether a placement keeps it. Judged by tray numbers alone, whoever placed the job.

use crate::job::Ask;
use crate::site::Site;
use crate::trays::TraySet;

/// How a placement lies in the fabric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lie {
    /// Partitions in which it is.
    pub partitions: u32,
    /// Whether trays that were to share a partition do not: a job that fits one partition in several, or a segment in
    /// several.
    pub broken: bool,
}

/// How these trays of a job lie, while these trays are up. A job in one piece may lie in several partitions while none of
/// them has so many trays up; whether it then does or waits is for the site to decide.
pub fn lie(site: &Site, up: &TraySet, ask: Ask, trays: &[u32]) -> Lie {
    let mut shares = vec![0u32; site.partitions().len()];
    for &tray in trays {
        shares[site.partition_of(tray)] += 1;
    }
    let partitions = count(shares.iter().filter(|&&share| share > 0).count());
    let broken = match ask.segment {
        0 => partitions > 1 && fits_one_now(site, up, ask.trays),
        segment => shares.iter().map(|share| share / segment).sum::<u32>() * segment < ask.trays,
    };
    Lie { partitions, broken }
}

/// The fewest partitions that the job needs when all trays are up and free; None when it fits not even then.
pub fn fewest(site: &Site, ask: Ask) -> Option<u32> {
    let piece = if ask.segment == 0 { 1 } else { ask.segment };
    let mut rooms: Vec<u32> =
        site.partitions().iter().map(|partition| site.capacity(partition) / piece * piece).collect();
    rooms.sort_unstable_by_key(|&room| std::cmp::Reverse(room));
    let mut sum = 0u32;
    let last = rooms.iter().position(|&room| {
        sum = sum.saturating_add(room);
        sum >= ask.trays
    });
    last.map(|last| count(last + 1))
}

/// Whether some partition has so many trays up.
fn fits_one_now(site: &Site, up: &TraySet, trays: u32) -> bool {
    site.partitions().iter().any(|partition| up.count_in(partition).min(site.capacity(partition)) >= trays)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(trays: u32, segment: u32) -> Ask {
        Ask { trays, segment }
    }

    #[test]
    fn a_job_that_fits_one_partition_lies_in_one() {
        let site = Site::racks(3, 4, 1, 0).unwrap();
        let up = TraySet::full(12);
        assert_eq!(lie(&site, &up, ask(2, 0), &[2, 3]), Lie { partitions: 1, broken: false });
        assert_eq!(lie(&site, &up, ask(2, 0), &[3, 4]), Lie { partitions: 2, broken: true });
        assert_eq!(lie(&site, &up, ask(5, 0), &[0, 1, 2, 3, 8]), Lie { partitions: 2, broken: false });
    }

    #[test]
    fn a_job_that_no_partition_holds_now_may_lie_in_several() {
        let site = Site::racks(2, 4, 1, 0).unwrap();
        let mut up = TraySet::full(8);
        up.remove_all(&[3, 7]);
        let trays = [0, 1, 4, 5];
        assert_eq!(lie(&site, &up, ask(4, 0), &trays), Lie { partitions: 2, broken: false });
        up.insert(7);
        assert_eq!(lie(&site, &up, ask(4, 0), &trays), Lie { partitions: 2, broken: true });
    }

    #[test]
    fn a_segment_lies_in_one_partition() {
        let site = Site::racks(3, 4, 1, 0).unwrap();
        let up = TraySet::full(12);
        assert_eq!(lie(&site, &up, ask(4, 2), &[0, 1, 4, 5]), Lie { partitions: 2, broken: false });
        assert_eq!(lie(&site, &up, ask(4, 2), &[0, 1, 2, 4]), Lie { partitions: 2, broken: true });
        assert_eq!(lie(&site, &up, ask(4, 1), &[0, 4, 8, 9]), Lie { partitions: 3, broken: false });
    }

    #[test]
    fn the_fewest_partitions_follow_from_the_sizes() {
        let site = Site::racks(3, 18, 1, 0).unwrap();
        assert_eq!(fewest(&site, ask(18, 0)), Some(1));
        assert_eq!(fewest(&site, ask(19, 0)), Some(2));
        assert_eq!(fewest(&site, ask(48, 16)), Some(3));
        assert_eq!(fewest(&site, ask(64, 16)), None);
        assert_eq!(fewest(&site, ask(12, 4)), Some(1));
        assert_eq!(fewest(&site, ask(55, 0)), None);
    }
}
