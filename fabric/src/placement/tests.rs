//! Exhaustive for small shapes, then random ones, then the sentences.

mod groups;

use super::*;
use proptest::prelude::*;

fn candidates(partitions: &[Partition], request: &Request) -> Result<Vec<Candidate>, Refusal> {
    super::candidates(partitions, request, &Rules::default()).map(Iterator::collect)
}

fn partition(trays: u32, healthy: u32, free: u32) -> Partition {
    Partition { trays, healthy, free, idle: free, required: 0, weight: 1, light: free, spare: free }
}

fn job(trays: u32) -> Request {
    Request { trays, segment: None, spread: false, consolidate: false, required: 0, held: false }
}

fn in_segments(trays: u32, segment: u32) -> Request {
    Request { segment: NonZeroU32::new(segment), ..job(trays) }
}

fn shares(placement: &Candidate) -> Vec<(usize, u32)> {
    placement.shares.iter().map(|s| (s.partition, s.trays)).collect()
}

fn best(partitions: &[Partition], request: &Request) -> Vec<(usize, u32)> {
    shares(&candidates(partitions, request).expect("a placement")[0])
}

/// Calls `check` for every state of up to `count` partitions of at most `size` trays.
fn each_state(count: usize, size: u32, check: &mut impl FnMut(&[Partition])) {
    fn extend(state: &mut Vec<Partition>, count: usize, size: u32, check: &mut impl FnMut(&[Partition])) {
        if !state.is_empty() {
            check(state);
        }
        if state.len() == count {
            return;
        }
        for trays in 1..=size {
            for healthy in 0..=trays {
                for free in 0..=healthy {
                    state.push(partition(trays, healthy, free));
                    extend(state, count, size, check);
                    state.pop();
                }
            }
        }
    }
    extend(&mut Vec::new(), count, size, check);
}

/// What every candidate must satisfy, whatever the state.
fn assert_sound(partitions: &[Partition], request: &Request, found: &[Candidate]) {
    assert!(!found.is_empty(), "{partitions:?} {request:?}: empty list");
    let largest = partitions.iter().map(|p| p.trays).max().unwrap_or(0);
    for way in found {
        let total: u32 = way.shares.iter().map(|s| s.trays).sum();
        assert_eq!(total, request.trays, "{partitions:?} {request:?} {way:?}: wrong size");
        assert!(way.shares.windows(2).all(|w| w[0].partition < w[1].partition), "{way:?}: not ordered");
        for share in &way.shares {
            assert!(
                share.trays >= 1 && share.trays <= partitions[share.partition].free,
                "{way:?}: more than free"
            );
        }
        match request.segment.filter(|s| s.get() < request.trays) {
            Some(segment) => {
                assert!(way.shares.iter().all(|s| s.trays % segment == 0), "{way:?}: a segment is split");
                if request.spread {
                    assert!(way.shares.iter().all(|s| s.trays == segment.get()), "{way:?}: not spread");
                }
            }
            None if request.trays <= largest => {
                assert_eq!(
                    way.shares.len(),
                    1,
                    "{partitions:?} {request:?} {way:?}: split though it fits one"
                );
            }
            None => {}
        }
    }
}

#[test]
fn every_small_state_gives_a_sound_answer_or_a_justified_refusal() {
    each_state(3, 3, &mut |partitions| {
        let total: u32 = partitions.iter().map(|p| p.trays).sum();
        let most_free = partitions.iter().map(|p| p.free).max().unwrap_or(0);
        let largest = partitions.iter().map(|p| p.trays).max().unwrap_or(0);
        for trays in 1..=total + 1 {
            match candidates(partitions, &job(trays)) {
                Ok(found) => assert_sound(partitions, &job(trays), &found),
                Err(_) if trays <= largest => {
                    assert!(most_free < trays, "{partitions:?} {trays}: refused though free")
                }
                Err(_) => {
                    // The fewest partitions by healthy trays do not have the trays free.
                    let free: u32 = partitions.iter().map(|p| p.free).sum();
                    let healthy: u32 = partitions.iter().map(|p| p.healthy).sum();
                    assert!(
                        free < trays || free < healthy,
                        "{partitions:?} {trays}: refused though all is free"
                    );
                }
            }
            for segment in 1..trays {
                for spread in [false, true] {
                    let request = Request { spread, ..in_segments(trays - trays % segment, segment) };
                    if let Ok(found) = candidates(partitions, &request) {
                        assert_sound(partitions, &request, &found);
                    } else {
                        let room: u32 = partitions
                            .iter()
                            .map(|p| if spread { (p.free / segment).min(1) } else { p.free / segment })
                            .sum();
                        let fits_one = request.trays == segment && most_free >= segment;
                        assert!(
                            room < request.trays / segment && !fits_one,
                            "{partitions:?} {request:?}: refused"
                        );
                    }
                }
            }
        }
    });
}

#[test]
fn drained_trays_never_make_a_spanning_job_wait_for_ever() {
    // One of 18 drained in each of 4 racks; every size above one rack that the healthy trays hold is placed.
    let racks = vec![partition(18, 17, 17); 4];
    for trays in 19..=68 {
        let found = candidates(&racks, &job(trays)).expect("placed");
        assert_sound(&racks, &job(trays), &found);
        assert_eq!(found[0].shares.len(), trays.div_ceil(17) as usize, "{trays} trays");
    }
}

#[test]
fn a_job_as_large_as_a_partition_waits_when_one_tray_is_drained_everywhere() {
    let racks = vec![partition(18, 17, 17); 4];
    let refusal = candidates(&racks, &job(18)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "needs 18 trays in one NVLink partition; the best partition has 17 free and 1 drained or down"
    );
}

#[test]
fn small_jobs_fill_broken_partitions_first() {
    let racks = [partition(18, 18, 18), partition(18, 18, 5), partition(18, 18, 9)];
    let order: Vec<usize> =
        candidates(&racks, &job(1)).unwrap().iter().filter_map(Candidate::only_partition).collect();
    assert_eq!(order, [1, 2, 0]);
    assert_eq!(best(&racks, &job(6)), [(2, 6)]);
    assert_eq!(best(&racks, &job(18)), [(0, 18)]);
}

#[test]
fn a_small_job_goes_beside_another_that_shares_its_tray() {
    let shared = Partition { idle: 17, ..partition(18, 18, 18) };
    assert_eq!(best(&[partition(18, 18, 18), shared, partition(18, 18, 18)], &job(1)), [(1, 1)]);
}

#[test]
fn of_equal_partitions_the_degraded_one_takes_the_small_job() {
    let racks = [partition(18, 18, 9), partition(18, 17, 9), partition(18, 16, 9), partition(18, 18, 12)];
    assert_eq!(best(&racks, &job(4)), [(1, 4)]);
    assert_eq!(best(&racks, &job(10)), [(3, 10)]);
    assert_eq!(tied(&racks, &job(4), &Rules::default()), [0, 1, 2]);
    assert_eq!(tied(&racks, &job(10), &Rules::default()), [0; 0]);
    assert_eq!(tied(&racks, &job(20), &Rules::default()), [0; 0]);
    assert_eq!(tied(&racks, &in_segments(8, 4), &Rules::default()), [0; 0]);
}

#[test]
fn a_small_job_goes_where_it_delays_no_room_then_best_fit() {
    let delayed = |free| Partition { spare: 0, ..partition(18, 18, free) };
    let racks = [delayed(4), partition(18, 18, 18), partition(18, 18, 12), delayed(18)];
    let order: Vec<usize> =
        candidates(&racks, &job(4)).unwrap().iter().filter_map(Candidate::only_partition).collect();
    assert_eq!(order, [2, 1, 0, 3]);
    assert_eq!(best(&racks, &in_segments(4, 2)), [(2, 4)]);
    // Room is no reason to refuse, nor to take more partitions.
    assert_eq!(best(&[delayed(4), delayed(8)], &job(4)), [(0, 4)]);
    assert_eq!(best(&[partition(18, 18, 2), delayed(8), partition(18, 18, 2)], &in_segments(4, 2)), [(1, 4)]);
    let heavy = Partition { weight: 10, ..partition(18, 18, 18) };
    assert_eq!(best(&[delayed(18), heavy], &job(4)), [(0, 4)]);
}

#[test]
fn a_held_job_takes_nothing_but_spare_trays() {
    let rack = |free, spare| Partition { spare, ..partition(18, 18, free) };
    let held = |request| Request { held: true, ..request };
    let racks = [rack(12, 2), rack(17, 1), rack(6, 6)];
    assert_eq!(best(&racks, &held(job(4))), [(2, 4)]);
    assert_eq!(tied(&racks, &held(job(2)), &Rules::default()), [0; 0]);
    // Two segments find no spare place together, one each does.
    assert_eq!(best(&racks, &held(in_segments(8, 2))), [(0, 2), (2, 6)]);
    for request in [job(7), in_segments(12, 2)] {
        assert_eq!(candidates(&racks, &held(request)), Err(Refusal::KeptForLarger));
        let rules = Rules::default();
        assert!(candidates(&racks, &request).is_ok());
        assert_eq!(outlook(&racks, &held(request), &rules), Outlook::Later);
    }
    // What does not fit anyway says why.
    let waits = Refusal::NoPartitionFree { wanted: 18, best_free: 17, best_unhealthy: 0 };
    assert_eq!(candidates(&racks, &held(job(18))), Err(waits));
}

#[test]
fn lower_weight_comes_before_best_fit() {
    let heavy = Partition { weight: 10, ..partition(18, 18, 4) };
    assert_eq!(best(&[heavy, partition(18, 18, 18)], &job(4)), [(1, 4)]);
    assert_eq!(best(&[heavy, partition(18, 18, 18)], &in_segments(4, 2)), [(1, 4)]);
    let heavy = Partition { weight: 10, ..partition(18, 18, 18) };
    let racks = [partition(18, 18, 18), heavy, partition(18, 18, 18)];
    assert_eq!(best(&racks, &job(20)), [(0, 10), (2, 10)]);
    assert_eq!(best(&racks, &in_segments(24, 12)), [(0, 12), (2, 12)]);
}

#[test]
fn of_equal_partitions_the_one_that_needs_no_heavier_trays_is_taken() {
    // Two of the first one's trays are powered down.
    let asleep = Partition { light: 2, ..partition(4, 4, 4) };
    let racks = [asleep, partition(4, 4, 4)];
    assert_eq!(best(&racks, &job(4)), [(1, 4)]);
    assert_eq!(best(&racks, &job(2)), [(0, 2)]);
    // Best fit goes before it.
    let asleep = Partition { light: 2, ..partition(4, 4, 3) };
    assert_eq!(best(&[partition(4, 4, 4), asleep], &job(3)), [(1, 3)]);
}

#[test]
fn spanning_jobs_are_split_evenly_where_that_needs_no_more_partitions() {
    let racks = vec![partition(18, 18, 18); 3];
    assert_eq!(best(&racks, &job(20)), [(0, 10), (1, 10)]);
    assert_eq!(best(&racks, &job(32)), [(0, 16), (1, 16)]);
    assert_eq!(best(&racks, &job(36)), [(0, 18), (1, 18)]);
    let uneven = [partition(18, 18, 18), partition(18, 18, 6), partition(18, 18, 6)];
    assert_eq!(best(&uneven, &job(24)), [(0, 18), (1, 6)]);
}

#[test]
fn spanning_jobs_wait_rather_than_scatter() {
    let racks = vec![partition(18, 18, 8); 4];
    let refusal = candidates(&racks, &job(20)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "needs 20 trays in 2 NVLink partitions, the fewest that can hold it; the best 2 have 16 free"
    );
}

#[test]
fn segments_lie_in_one_partition_each() {
    let racks = vec![partition(18, 18, 18); 2];
    assert_eq!(best(&racks, &in_segments(24, 12)), [(0, 12), (1, 12)]);
    assert_eq!(best(&racks, &in_segments(16, 8)), [(0, 16)]);
    let spread = Request { spread: true, ..in_segments(16, 8) };
    assert_eq!(best(&racks, &spread), [(0, 8), (1, 8)]);
    let spread_too_far = Request { spread: true, ..in_segments(24, 8) };
    assert_eq!(
        candidates(&racks, &spread_too_far).unwrap_err().to_string(),
        "needs 3 segments of 8 trays, each in one NVLink partition of its own; there is room for 2"
    );
    assert_eq!(
        candidates(&racks, &in_segments(40, 20)).unwrap_err().to_string(),
        "a segment of 20 trays is larger than every NVLink partition; the largest has 18"
    );
}

#[test]
fn required_trays_fix_the_partition() {
    let named = Partition { required: 2, ..partition(18, 18, 18) };
    let request = Request { required: 2, ..job(4) };
    assert_eq!(best(&[partition(18, 18, 5), named], &request), [(1, 4)]);
    let half = Partition { required: 1, ..partition(18, 18, 18) };
    assert_eq!(
        candidates(&[half, half], &request).unwrap_err().to_string(),
        "the 2 required trays are not in one NVLink partition or aggregated block, as a job of this size must be"
    );
}

#[test]
fn no_partitions_at_all_is_a_refusal() {
    assert!(candidates(&[], &job(1)).is_err());
}

fn any_partition() -> impl Strategy<Value = Partition> {
    (1u32..=72).prop_flat_map(|trays| {
        (0..=trays).prop_flat_map(move |healthy| {
            (0..=healthy, 1u64..4)
                .prop_map(move |(free, weight)| Partition { weight, ..partition(trays, healthy, free) })
        })
    })
}

proptest! {
    #[test]
    fn random_states_give_sound_answers(
        partitions in proptest::collection::vec(any_partition(), 1..40),
        trays in 1u32..400, segment in 0u32..40, spread in any::<bool>(),
    ) {
        let trays = if segment > 0 { trays.div_ceil(segment) * segment } else { trays };
        let request = Request { spread, ..in_segments(trays, segment) };
        if let Ok(found) = candidates(&partitions, &request) {
            assert_sound(&partitions, &request, &found);
        }
    }

    #[test]
    fn the_order_of_partitions_does_not_change_how_many_are_used(
        mut partitions in proptest::collection::vec(any_partition(), 1..12), trays in 1u32..200,
    ) {
        let used = |p: &[Partition]| candidates(p, &job(trays)).map(|c| c[0].shares.len()).ok();
        let before = used(&partitions);
        partitions.reverse();
        prop_assert_eq!(before, used(&partitions));
    }
}
