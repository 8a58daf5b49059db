//! Aggregated blocks, consolidated segments and required trays, against choices found by trying all.

use super::*;

/// Up to four partitions of one or two trays in every state, required trays included, one and two of them.
fn each_small_state(check: &mut impl FnMut(&[Partition])) {
    fn extend(state: &mut Vec<Partition>, check: &mut impl FnMut(&[Partition])) {
        if state.len() == 4 {
            return check(state);
        }
        for (trays, healthy, free, required) in [
            (1, 1, 1, 0),
            (1, 1, 0, 0),
            (2, 2, 2, 0),
            (2, 2, 1, 0),
            (2, 1, 1, 0),
            (2, 0, 0, 0),
            (2, 2, 2, 1),
            (2, 1, 1, 1),
        ] {
            state.push(Partition { required, ..partition(trays, healthy, free) });
            extend(state, check);
            state.pop();
        }
    }
    extend(&mut Vec::new(), check);
}

fn required(partitions: &[Partition]) -> u32 {
    partitions.iter().map(|p| p.required).sum()
}

/// All subsets of a range of positions.
fn subsets(range: Range<usize>) -> impl Iterator<Item = Vec<usize>> {
    let all: Vec<usize> = range.collect();
    (0u32..1 << all.len()).map(move |mask| {
        all.iter()
            .enumerate()
            .filter(|(bit, _)| mask >> bit & 1 == 1)
            .map(|(_, &position)| position)
            .collect()
    })
}

/// Group sizes from the one that holds the job by its size, as a person would write them down for base size 2.
fn sizes(blocks: u32, levels: &[usize]) -> Vec<usize> {
    let mut sizes: Vec<usize> = levels.iter().copied().filter(|&size| size >= blocks as usize).collect();
    sizes.push(4);
    sizes
}

/// Groups that can hold a job, each with the fewest partitions that it needs.
type Able = Vec<(Range<usize>, usize)>;

/// For a spanning job the size of the smallest groups of which one can hold it with its healthy trays, and those that can,
/// each with the fewest partitions that it needs.
fn span_by_trying_all(partitions: &[Partition], trays: u32, levels: &[usize]) -> Option<(usize, Able)> {
    sizes(trays.div_ceil(2), levels).into_iter().find_map(|size| {
        let needed = |group: Range<usize>| {
            let holds =
                |subset: &Vec<usize>| subset.iter().map(|&i| partitions[i].healthy).sum::<u32>() >= trays;
            let fewest = subsets(group.clone()).filter(holds).map(|subset| subset.len()).min();
            fewest.map(|fewest| (group, fewest))
        };
        let able: Able = groups(partitions, size).filter_map(needed).collect();
        (!able.is_empty()).then_some((size, able))
    })
}

fn rules(levels: &[usize], split: Split) -> Rules {
    let sizes = [1].into_iter().chain(levels.iter().copied()).map(|size| 2 * size as u32).collect();
    let levels = Levels::new(&crate::sizes::BlockSizes::new(sizes).unwrap());
    Rules { levels, split, ..Rules::default() }
}

const LEVELS: [&[usize]; 3] = [&[], &[2], &[2, 4]];

#[test]
fn spanning_jobs_lie_where_trying_all_says() {
    each_small_state(&mut |partitions| {
        let largest = partitions.iter().map(|p| p.trays).max().unwrap_or(0);
        for (levels, split) in LEVELS.into_iter().flat_map(|l| [(l, Split::Even), (l, Split::Packed)]) {
            for trays in (largest + 1).max(required(partitions))..=8 {
                let request = Request { required: required(partitions), ..job(trays) };
                let says = || format!("{partitions:?} {trays} trays, levels {levels:?}, {split:?}");
                let bound = span_by_trying_all(partitions, trays, levels);
                let possible = bound.iter().flat_map(|(_, able)| able).any(|(group, fewest)| {
                    subsets(group.clone()).any(|subset| {
                        let sum = |count: fn(&Partition) -> u32| -> u32 {
                            subset.iter().map(|&i| count(&partitions[i])).sum()
                        };
                        subset.len() <= *fewest
                            && sum(|p| p.free) >= trays
                            && sum(|p| p.required) == request.required
                    })
                });
                let found = super::super::candidates(partitions, &request, &rules(levels, split));
                assert_eq!(found.is_ok(), possible, "{}: {found:?}", says());
                for way in found.into_iter().flatten() {
                    let (size, able) = bound.as_ref().unwrap();
                    let first = way.shares[0].partition;
                    let group = able.iter().find(|(group, _)| group.contains(&first));
                    let fewest = group.map_or(0, |&(_, fewest)| fewest);
                    assert_eq!(way.shares.iter().map(|s| s.trays).sum::<u32>(), trays, "{}: {way:?}", says());
                    assert!(way.shares.len() <= fewest, "{}: {way:?}", says());
                    assert!(way.shares.iter().all(|s| s.partition / size == way.shares[0].partition / size));
                    assert!(way.shares.iter().all(|s| s.trays <= partitions[s.partition].free), "{way:?}");
                    assert_has_required(partitions, &way);
                }
            }
        }
    });
}

fn assert_has_required(partitions: &[Partition], way: &Candidate) {
    for (position, p) in partitions.iter().enumerate().filter(|(_, p)| p.required > 0) {
        let share = way.shares.iter().find(|s| s.partition == position).map_or(0, |s| s.trays);
        assert!(share >= p.required, "{partitions:?} {way:?}: required trays are left out");
    }
}

#[test]
fn segments_lie_where_trying_all_says() {
    each_small_state(&mut |partitions| {
        for (wanted, segment) in [(2, 1), (4, 1), (2, 2), (3, 2)] {
            for (spread, consolidate) in [(false, false), (true, false), (false, true), (true, true)] {
                // Aggregated blocks play a part for consolidated segments only.
                for levels in LEVELS.into_iter().take(if consolidate { LEVELS.len() } else { 1 }) {
                    let request = Request {
                        spread,
                        consolidate,
                        required: required(partitions),
                        ..in_segments(wanted * segment, segment)
                    };
                    if request.required <= request.trays {
                        assert_segments(partitions, &request, levels);
                    }
                }
            }
        }
    });
}

fn assert_segments(partitions: &[Partition], request: &Request, levels: &[usize]) {
    let segment = request.segment.unwrap().get();
    let wanted = request.trays / segment;
    let fit = |trays: u32| if request.spread { (trays / segment).min(1) } else { trays / segment };
    let room = |range: Range<usize>, count: fn(&Partition) -> u32| -> u32 {
        partitions[range].iter().map(|p| fit(count(p))).sum()
    };
    let blocks = if request.spread { segment.div_ceil(2) * wanted } else { request.trays.div_ceil(2) };
    let size = if request.consolidate {
        let mut sizes = sizes(blocks, levels);
        if blocks == 1 {
            sizes.insert(0, 1);
        }
        let holds = |size: &usize| groups(partitions, *size).any(|g| room(g, |p| p.healthy) >= wanted);
        sizes.into_iter().find(holds).unwrap_or(4)
    } else {
        4
    };
    // Every way to give each partition of a group a number of segments.
    let possible = groups(partitions, size).any(|group| {
        let most = partitions[group.clone()].iter().map(|p| fit(p.free));
        let ways = most.fold(vec![vec![]], |ways: Vec<Vec<u32>>, most| {
            let longer = |way: Vec<u32>| (0..=most).map(move |n| [way.clone(), vec![n]].concat());
            ways.into_iter().flat_map(longer).collect()
        });
        let all_in = partitions[group.clone()].iter().map(|p| p.required).sum::<u32>() == request.required;
        all_in
            && room(group.clone(), |p| p.free) >= wanted
            && ways.iter().any(|way| {
                let holds = |(p, &n): (&Partition, &u32)| n * segment >= p.required;
                way.iter().sum::<u32>() == wanted && partitions[group.clone()].iter().zip(way).all(holds)
            })
    });
    let says = || format!("{partitions:?} {request:?}, levels {levels:?}");
    let found = super::super::candidates(partitions, request, &rules(levels, Split::Even));
    assert_eq!(found.is_ok(), possible, "{}: {found:?}", says());
    for way in found.into_iter().flatten() {
        assert_sound(partitions, request, std::slice::from_ref(&way));
        assert_has_required(partitions, &way);
        assert!(
            way.shares.iter().all(|s| s.partition / size == way.shares[0].partition / size),
            "{}",
            says()
        );
    }
}

fn levels(sizes: &[u32]) -> Rules {
    Rules { levels: Levels::new(&crate::sizes::BlockSizes::new(sizes.to_vec()).unwrap()), ..Rules::default() }
}

fn best(partitions: &[Partition], request: &Request, rules: &Rules) -> Vec<(usize, u32)> {
    shares(&super::super::candidates(partitions, request, rules).expect("a placement").next().unwrap())
}

#[test]
fn a_job_over_two_partitions_takes_an_aligned_pair() {
    let mut racks = vec![partition(18, 18, 18); 6];
    racks[0].free = 2;
    assert_eq!(best(&racks, &job(36), &levels(&[18, 36])), [(2, 18), (3, 18)]);
    assert_eq!(best(&racks, &job(20), &levels(&[18, 36])), [(2, 10), (3, 10)]);
    assert_eq!(best(&racks, &job(20), &levels(&[18])), [(1, 10), (2, 10)]);
    racks.iter_mut().step_by(2).for_each(|rack| rack.free = 2);
    let waits = super::super::candidates(&racks, &job(36), &levels(&[18, 36])).unwrap_err();
    assert_eq!(
        waits.to_string(),
        "needs 36 trays in 2 NVLink partitions, the fewest that can hold it, all in one aggregated block of 2 NVLink \
         partitions; the best 2 have 20 free"
    );
    assert_eq!(outlook(&racks, &job(36), &levels(&[18, 36])), Outlook::Later);
}

#[test]
fn a_drained_tray_in_every_pair_lets_a_job_into_a_larger_block() {
    let mut racks = vec![partition(18, 18, 18); 8];
    racks.iter_mut().step_by(2).for_each(|rack| (rack.healthy, rack.free) = (17, 17));
    assert_eq!(best(&racks, &job(35), &levels(&[18, 36, 72])), [(0, 17), (1, 18)]);
    assert_eq!(best(&racks, &job(36), &levels(&[18, 36, 72])), [(1, 18), (3, 18)]);
}

#[test]
fn consolidated_segments_stay_in_one_aggregated_block() {
    let mut racks = vec![partition(18, 18, 18); 4];
    racks[0].free = 6;
    let request = Request { consolidate: true, ..in_segments(24, 12) };
    assert_eq!(best(&racks, &request, &levels(&[18, 36])), [(2, 12), (3, 12)]);
    racks[2].free = 6;
    assert_eq!(
        super::super::candidates(&racks, &request, &levels(&[18, 36])).unwrap_err().to_string(),
        "needs 2 segments of 12 trays, each in one NVLink partition, all in one aggregated block of 2 NVLink partitions; \
         there is room for 1"
    );
    assert_eq!(best(&racks, &in_segments(24, 12), &levels(&[18, 36])), [(1, 12), (3, 12)]);
}

#[test]
fn required_trays_choose_the_partitions_of_a_larger_job() {
    let mut racks = vec![partition(18, 18, 18); 4];
    racks[1].required = 3;
    racks[3].required = 12;
    let request = Request { required: 15, ..job(20) };
    assert_eq!(best(&racks, &request, &Rules::default()), [(1, 8), (3, 12)]);
    let segments = Request { required: 15, ..in_segments(24, 8) };
    assert_eq!(best(&racks, &segments, &Rules::default()), [(1, 8), (3, 16)]);
    racks[0].required = 1;
    let request = Request { required: 16, ..job(20) };
    let refusal = |request: &Request, rules: &Rules| {
        super::super::candidates(&racks, request, rules).unwrap_err().to_string()
    };
    assert_eq!(
        refusal(&request, &Rules::default()),
        "the 16 required trays are in 3 NVLink partitions, and 2 can hold the job"
    );
    assert_eq!(
        refusal(&request, &levels(&[18, 36])),
        "the 16 required trays are not in one NVLink partition or aggregated block, as a job of this size must be"
    );
    assert_eq!(
        refusal(&Request { required: 17, ..job(20) }, &Rules::default()),
        "not all of the 17 required trays are in an NVLink partition"
    );
    assert_eq!(
        refusal(&Request { required: 16, ..in_segments(24, 12) }, &Rules::default()),
        "the 16 required trays do not fit into the job's segments of 12 trays"
    );
}

#[test]
fn a_site_can_have_jobs_packed() {
    let racks = [partition(18, 18, 18), partition(18, 18, 4), partition(18, 18, 18)];
    let packed = Rules { split: Split::Packed, ..Rules::default() };
    assert_eq!(best(&racks, &job(20), &packed), [(0, 18), (1, 2)]);
    assert_eq!(best(&racks, &job(36), &packed), [(0, 18), (2, 18)]);
}

#[test]
fn a_site_can_let_jobs_span_that_no_partition_can_hold_until_it_is_mended() {
    let degraded = Rules { span: Span::Degraded, ..Rules::default() };
    let mut racks = vec![partition(18, 17, 17); 4];
    assert_eq!(best(&racks, &job(18), &degraded), [(0, 9), (1, 9)]);
    assert_eq!(best(&racks, &job(17), &degraded), [(0, 17)]);
    assert_eq!(outlook(&racks, &job(18), &Rules::default()), Outlook::WhenMended);
    racks[3] = partition(18, 18, 17);
    let waits = super::super::candidates(&racks, &job(18), &degraded).unwrap_err();
    assert!(matches!(waits, Refusal::NoPartitionFree { .. }), "a partition can hold it when a job has ended");
}

#[test]
fn a_job_above_the_base_size_spans_where_no_partition_can_hold_it_until_it_is_mended() {
    let spare = levels(&[17]);
    let mut racks = vec![partition(18, 17, 17); 4];
    assert_eq!(best(&racks, &job(18), &spare), [(0, 9), (1, 9)]);
    assert_eq!(best(&racks, &job(17), &spare), [(0, 17)]);
    assert_eq!(outlook(&racks, &job(18), &levels(&[18])), Outlook::WhenMended);
    racks[3] = partition(18, 18, 17);
    let waits = super::super::candidates(&racks, &job(18), &spare).unwrap_err();
    assert!(matches!(waits, Refusal::NoPartitionFree { .. }), "a partition can hold it when a job has ended");
    // Without sizes in the file nothing is written down that could be exceeded.
    let unwritten = Rules { levels: Levels::by_default(17), ..Rules::default() };
    assert_eq!(outlook(&[partition(18, 17, 17); 4], &job(18), &unwritten), Outlook::WhenMended);
}
