#![forbid(unsafe_code)]
//! Room that small jobs leave to the segments of large ones.

/// Whether a job on `trays` of the `free` trays of a partition, until the moment `end`, lets `room` trays be free there later
/// than they would be without it. `ends` are the moments at which its busy trays become free as far as anybody knows, in any
/// order; those of which nothing is known are left out.
///
/// Never where `room` trays will not be free anyway.
pub fn delays_room(room: u32, free: u32, ends: &mut [u64], trays: u32, end: u64) -> bool {
    if free >= room {
        return free.saturating_sub(trays) < room;
    }
    let missing = (room - free) as usize;
    if missing > ends.len() {
        return false;
    }
    let (_, &mut moment, _) = ends.select_nth_unstable(missing - 1);
    let freed = ends.iter().filter(|&&other| other <= moment).count();
    end > moment && freed - missing < trays as usize
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
        let delays = |trays, end| delays_room(16, 2, &mut [100; 16], trays, end);
        assert_eq!(
            [delays(2, 99), delays(2, 100), delays(2, 101), delays(1, 101)],
            [false, false, false, false]
        );
        // One of the others goes on until 200.
        let mut ends = [100; 16];
        ends[3] = 200;
        let mut delays = |trays, end| delays_room(16, 2, &mut ends, trays, end);
        assert_eq!([delays(1, 200), delays(2, 100), delays(2, 101)], [false, false, true]);
    }

    #[test]
    fn a_free_partition_has_two_trays_to_spare() {
        assert_eq!([1, 2, 3].map(|trays| delays_room(16, 18, &mut [], trays, 5)), [false, false, true]);
        // Room that never comes is not delayed: nothing is known of the others.
        assert!(!delays_room(16, 15, &mut [], 15, 5));
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
            prop_assert_eq!(delays_room(room, free, &mut ends, trays, end), later);
        }
    }
}
