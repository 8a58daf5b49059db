#![forbid(unsafe_code)]
//! Room that small jobs leave to the pieces of large ones: segments, or jobs without segments.

use super::Rules;

/// Of the site's patience, the part for which a job also leaves the room of pieces that are larger than the site's room.
const PART_FOR_LARGER: u64 = 3;

/// The room that a job leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaves {
    /// Trays of it in one partition: the site's room.
    pub room: u32,
    /// More trays in one partition that it leaves as well: those of a larger piece that waits ahead of it.
    pub larger: Option<u32>,
    /// Whether the job waits where it would delay that; else it only prefers partitions where it does not.
    pub held: bool,
}

/// Where a job stands in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Trays of the largest piece that waits ahead of it; 0: none does.
    pub ahead: u32,
    /// Seconds since it could have started.
    pub waited: u64,
}

impl Rules {
    /// What a job of so many trays leaves; None where it is no smaller than the site's room, or there is none.
    ///
    /// While a piece of that room waits ahead of it and the site's patience lasts, it is held. For the first third of that time
    /// a larger piece that waits ahead is heeded, too: whole partitions become free seldom, but to wait for them costs more.
    pub fn leaves(&self, trays: u32, standing: Standing) -> Option<Leaves> {
        let room = (trays < self.room).then_some(self.room)?;
        let patience = 60 * u64::from(self.patience);
        let held = standing.ahead >= room && standing.waited < patience;
        let is_heeded = held && standing.ahead > room && standing.waited < patience / PART_FOR_LARGER;
        Some(Leaves { room, larger: is_heeded.then_some(standing.ahead), held })
    }
}

impl Leaves {
    /// How many of the free trays of a partition a job until `end` can have and delay nothing of it.
    pub fn spare(&self, free: u32, ends: &mut [u64], end: u64) -> u32 {
        let of_larger = self.larger.map_or(free, |larger| spare(larger, free, ends, end));
        spare(self.room, free, ends, end).min(of_larger)
    }
}

/// How many of the `free` trays of a partition a job can have until the moment `end`, so that `room` trays are free there as soon
/// as they would be without it. `ends` are the moments at which its busy trays become free as far as anybody knows, in any
/// order; those of which nothing is known are left out.
///
/// All of them where `room` trays will not be free anyway.
pub fn spare(room: u32, free: u32, ends: &mut [u64], end: u64) -> u32 {
    if free >= room {
        return free - room;
    }
    let missing = (room - free) as usize;
    if missing > ends.len() {
        return free;
    }
    let (_, &mut moment, _) = ends.select_nth_unstable(missing - 1);
    if end <= moment {
        return free;
    }
    let freed = ends.iter().filter(|&&other| other <= moment).count();
    u32::try_from(freed - missing).unwrap_or(u32::MAX).min(free)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The moment from which so many trays are free.
    fn moment(room: u32, free: u32, ends: &[u64]) -> Option<u64> {
        let moments = [0].iter().chain(ends).copied();
        let is_room = |&moment: &u64| {
            free as usize + ends.iter().filter(|&&end| end <= moment).count() >= room as usize
        };
        moments.filter(is_room).min()
    }

    #[test]
    fn a_job_beside_one_that_ends_later_takes_no_room() {
        // 16 trays busy until 100, 2 free: room for 16 is there at 100.
        assert_eq!([99, 100, 101].map(|end| spare(16, 2, &mut [100; 16], end)), [2; 3]);
        // One of the others goes on until 200.
        let mut ends = [100; 16];
        ends[3] = 200;
        assert_eq!([99, 100, 101, 200].map(|end| spare(16, 2, &mut ends, end)), [2, 2, 1, 1]);
    }

    #[test]
    fn a_free_partition_has_two_trays_to_spare() {
        assert_eq!([16, 18, 20].map(|room| spare(room, 18, &mut [], 5)), [2, 0, 18]);
        // Room that never comes is not delayed: nothing is known of the others.
        assert_eq!(spare(16, 15, &mut [], 5), 15);
    }

    #[test]
    fn a_job_is_held_behind_a_large_one_while_patience_lasts() {
        let rules = Rules { room: 16, patience: 60, ..Rules::default() };
        let leaves = |trays, ahead, waited| {
            let leaves = rules.leaves(trays, Standing { ahead, waited })?;
            Some((leaves.held, leaves.larger))
        };
        assert_eq!([16, 18, 64].map(|trays| leaves(trays, 18, 0)), [None; 3]);
        assert_eq!([0, 4, 15].map(|ahead| leaves(1, ahead, 0)), [Some((false, None)); 3]);
        assert_eq!([0, 3_599, 3_600].map(|waited| leaves(15, 16, waited).unwrap().0), [true, true, false]);
        assert_eq!(
            [0, 1_199, 1_200, 3_600].map(|waited| leaves(1, 18, waited).unwrap()),
            [(true, Some(18)), (true, Some(18)), (true, None), (false, None)]
        );
        let impatient = Rules { patience: 0, ..rules.clone() };
        let leaves = impatient.leaves(1, Standing { ahead: 18, waited: 0 });
        assert_eq!(leaves, Some(Leaves { room: 16, larger: None, held: false }));
        assert_eq!(Rules::default().leaves(1, Standing { ahead: 18, waited: 0 }), None);
    }

    #[test]
    fn a_larger_piece_ahead_takes_what_the_room_would_spare() {
        let leaves = |larger| Leaves { room: 16, larger, held: true };
        // 16 trays busy until 100, 2 free.
        let spare = |larger, end| leaves(larger).spare(2, &mut [100; 16], end);
        assert_eq!([(None, 101), (Some(18), 100), (Some(18), 101)].map(|(l, end)| spare(l, end)), [2, 2, 0]);
    }

    proptest! {
        #[test]
        fn it_is_what_the_moments_say(
            room in 1u32..6,
            free in 0u32..6,
            mut ends in prop::collection::vec(1u64..8, 0..8),
            trays in 1u32..6,
            end in 1u64..9,
        ) {
            prop_assume!(trays <= free);
            let before = moment(room, free, &ends);
            let after = ends.iter().copied().chain((0..trays).map(|_| end)).collect::<Vec<_>>();
            let after = moment(room, free - trays, &after);
            let later = before.is_some() && after > before;
            prop_assert_eq!(trays > spare(room, free, &mut ends, end), later);
        }
    }
}
