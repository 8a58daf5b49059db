//! Rules that hold for every replay, whoever places the jobs.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use replay::job::{Ask, Job};
use replay::outages::Failures;
use replay::placer::{Naive, Ours, Placer, PlacerFault, Refused, View};
use replay::report::{Report, Run};
use replay::scenario::{Reference, Scenario, Settings};
use replay::site::Site;

/// Checks each choice of another placer.
struct Watched<P> {
    inner: P,
    /// Whether jobs and segments must keep together.
    keeps: bool,
}

impl<P: Placer> Placer for Watched<P> {
    fn place(&mut self, view: View<'_>, ask: Ask) -> Result<Result<Vec<u32>, Refused>, PlacerFault> {
        assert!(view.usable.ones().all(|tray| view.up.contains(tray)), "what is usable is up");
        let answer = self.inner.place(view, ask)?;
        if let Ok(trays) = &answer {
            let mut each = trays.clone();
            each.sort_unstable();
            each.dedup();
            assert_eq!(each.len(), ask.trays as usize, "no tray twice, and as many as wanted");
            assert!(each.iter().all(|&tray| view.usable.contains(tray)));
            let mut shares: BTreeMap<usize, u32> = BTreeMap::new();
            for &tray in trays {
                *shares.entry(view.site.partition_of(tray)).or_default() += 1;
            }
            let fits = view.site.partitions().iter().any(|p| view.site.capacity(p) >= ask.trays);
            if self.keeps && ask.segment == 0 && fits {
                assert_eq!(shares.len(), 1, "a job that fits a partition lies in one");
            }
            if self.keeps && ask.segment > 0 {
                assert!(shares.values().all(|share| share % ask.segment == 0), "segments are whole");
            }
        }
        Ok(answer)
    }
}

fn any_jobs() -> impl Strategy<Value = Vec<Job>> {
    let job = (0u64..5_000, 1u32..14, 0u32..4, 1u64..3_000, 0u64..3_000, 0i64..3);
    proptest::collection::vec(job, 1..40).prop_map(|jobs| {
        let job = |(submit, trays, parts, run, more, priority)| Job {
            name: String::new(),
            submit,
            trays,
            segment: if parts > 0 && trays % parts == 0 { trays / parts } else { 0 },
            run,
            limit: run + more,
            priority,
        };
        jobs.into_iter().map(job).collect()
    })
}

fn scenario(jobs: Vec<Job>, racks: u32, drained: u32, spares: u32, unavailable: f64, seed: u64) -> Scenario {
    Scenario {
        site: Site::racks(racks, 4, 1, drained).unwrap().with_spares(spares).unwrap(),
        jobs,
        failures: Failures { unavailable, repair_hours: 0.2 },
        seed,
        horizon: None,
        settings: Settings { warm_up: 0, checkpoint: 300, sample: 100, ..Settings::default() },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_job_runs_or_says_why_not(
        jobs in any_jobs(),
        racks in 1u32..5,
        drained in 0u32..2,
        spares in 0u32..2,
        unavailable in prop_oneof![Just(0.0), Just(0.1)],
        seed in 0u64..100,
    ) {
        let scenario = scenario(jobs, racks, drained, spares, unavailable, seed);
        let placers: [(&mut dyn Placer, bool); 2] = [
            (&mut Watched { inner: Ours::default(), keeps: true }, true),
            (&mut Watched { inner: Naive, keeps: false }, false),
        ];
        for (placer, keeps) in placers {
            let summary = replay::run(&scenario, placer).unwrap();
            let never: usize = summary.never.iter().map(|never| never.jobs).sum();
            let ran: usize = summary.classes.iter().map(|class| class.ran).sum();
            prop_assert_eq!(ran + never, scenario.jobs.len());
            prop_assert!(summary.occupancy <= 1.0);
            // A placer checks itself before a start; here all that ran is looked at again.
            prop_assert!(!keeps || summary.broken == 0);
            for class in &summary.classes {
                prop_assert!(class.wait.p50 >= 0.0 && class.partitions_used >= 0.0);
            }
            for sample in &summary.samples {
                prop_assert!(sample.busy <= scenario.site.trays());
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_report_to_the_last_byte() {
    let json = || {
        let reference = Reference { racks: 6, jobs: 200, days: 1, seed: 5, ..Reference::default() };
        let scenario = reference.scenario(Settings { warm_up: 0, ..Settings::default() }).unwrap();
        let runs =
            [("ours", &mut Ours::default() as &mut dyn Placer), ("naive", &mut Naive)].map(|(placer, of)| {
                Run { placer: placer.to_owned(), summary: replay::run(&scenario, of).unwrap() }
            });
        Report { title: "twice".into(), assumptions: scenario.assumptions(), runs: runs.into() }
            .json()
            .unwrap()
    };
    assert_eq!(json(), json());
}

#[test]
fn a_small_case_by_hand() {
    // One rack of 4. a takes 3 trays for 100 s, b wants 4 and waits for a, c is short and goes in front of b, d is not.
    let job = |name: &str, submit, trays, run| Job {
        name: name.to_owned(),
        submit,
        trays,
        segment: 0,
        run,
        limit: run,
        priority: 0,
    };
    let jobs = vec![job("a", 0, 3, 100), job("b", 10, 4, 50), job("c", 20, 1, 60), job("d", 30, 1, 200)];
    let settings = Settings { interval: 1, warm_up: 0, sample: 50, ..Settings::default() };
    let scenario = Scenario { horizon: Some(400), settings, ..scenario(jobs, 1, 0, 0, 0.0, 1) };
    let summary = replay::run(&scenario, &mut Ours::default()).unwrap();
    let wait = |trays| summary.class(trays).unwrap().wait;
    // c starts at 20 and d at 150, when b has run from 100.
    assert_eq!((wait(3).max, wait(4).max, wait(1).p50, wait(1).max), (0.0, 90.0, 0.0, 120.0));
    assert_eq!(summary.end, 350);
    // 3 x 100 + 4 x 50 + 60 + 200 tray seconds of 4 x 400.
    assert!((summary.occupancy - 760.0 / 1600.0).abs() < 1e-12);
    assert_eq!((summary.partitions_used, summary.at_fewest, summary.broken), (1.0, 1.0, 0));
    // From 10 to 100 b waited; 1 tray was idle from 10 to 20 and from 80 on. d waited behind it for b's reservation, and from
    // 100 to 150 for the end of b.
    let costs: Vec<(u64, f64, &str)> = summary
        .costs
        .iter()
        .map(|cost| (cost.seconds, cost.idle_tray_hours * 3600.0, &cost.reason[..]))
        .collect();
    assert_eq!(costs, [(140, 30.0, "too few free trays")]);
}

#[test]
fn jobs_that_cannot_run_are_told_apart() {
    let job =
        |trays| Job { name: String::new(), submit: 0, trays, segment: 0, run: 10, limit: 10, priority: 0 };
    let scenario = scenario(vec![job(4), job(6), job(9), job(3)], 2, 1, 0, 0.0, 1);
    let summary = replay::run(&scenario, &mut Ours::default()).unwrap();
    let never: Vec<(u32, &str)> = summary.never.iter().map(|never| (never.trays, never.why)).collect();
    assert_eq!(never, [(4, "waits for drained trays"), (9, "fits no site of this shape")]);
}

#[test]
fn a_replay_of_a_day_counts_its_second_half() {
    let window = |days| {
        let reference = Reference { racks: 2, jobs: 40, days, ..Reference::default() };
        let scenario = reference.scenario(Settings::default()).unwrap();
        let summary = replay::run(&scenario, &mut Ours::default()).unwrap();
        (summary.window, summary.occupancy > 0.0)
    };
    assert_eq!(window(1), ((43_200, 86_400), true));
    assert_eq!(window(3), ((86_400, 259_200), true));
}
