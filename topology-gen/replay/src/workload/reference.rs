//! The workload of the reference scenario: a made-up site that trains large models and lets many people try things.
//!
//! NVIDIA published in May 2026 a simulation of GB200 NVL72 under Slurm: about 5,000 trays, 15,000 jobs over 7 days,
//! segments of 16 trays for large jobs and small ones for small jobs, 1 % of the trays not available. Everything else is our
//! assumption, and stands here:
//!
//! - the sizes, and how the work is shared between them ([`CLASSES`]): most jobs are small, most work is in large ones;
//! - jobs arrive evenly distributed over the time (no days and nights);
//! - run times are log-normal (sigma 1, at most 10 times the median), scaled so that all jobs together ask for exactly the
//!   given work;
//! - time limits are 1.1 to 3 times the run time, rounded up to 10 minutes;
//! - all jobs have the same priority.

use crate::Seconds;
use crate::job::Job;
use crate::random::Random;

const PURPOSE: u64 = 1;
/// Shortest run, in seconds.
const SHORTEST: f64 = 60.0;
const LIMIT_STEP: Seconds = 600;

/// A size of jobs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Class {
    /// Trays.
    pub trays: u32,
    /// `--segment`, 0 for none.
    pub segment: u32,
    /// Share of the jobs, in percent.
    pub jobs: f64,
    /// Share of the tray hours, in percent.
    pub work: f64,
}

const fn class(trays: u32, segment: u32, jobs: f64, work: f64) -> Class {
    Class { trays, segment, jobs, work }
}

/// The sizes of the reference workload. Jobs of 2 and 16 trays have one segment, those of 18 want a whole rack.
pub const CLASSES: [Class; 12] = [
    class(1, 1, 40.0, 6.0),
    class(2, 2, 16.0, 4.0),
    class(4, 2, 12.0, 5.0),
    class(8, 4, 9.4, 7.0),
    class(12, 4, 3.4, 3.0),
    class(16, 16, 8.0, 15.0),
    class(18, 0, 3.4, 6.0),
    class(32, 16, 3.6, 12.0),
    class(64, 16, 2.3, 15.0),
    class(128, 16, 1.2, 12.0),
    class(256, 16, 0.5, 10.0),
    class(512, 16, 0.2, 5.0),
];

/// What is assumed of these jobs, in sentences.
pub fn assumptions() -> Vec<String> {
    let classes: Vec<String> = CLASSES
        .iter()
        .map(|class| {
            let segment = if class.segment > 0 { format!("/{}", class.segment) } else { String::new() };
            format!("{}{segment} {} % and {} %", class.trays, class.jobs, class.work)
        })
        .collect();
    vec![
        "Made-up jobs; the number of trays, jobs and days, segments of 16 for large jobs and 1 % of trays away follow what \
         NVIDIA published of a simulation of GB200 NVL72 under Slurm in May 2026; all else is our assumption."
            .to_owned(),
        format!(
            "Trays/segment, with the share of the jobs and of the tray hours: {}. Segments that are larger than every \
             NVLink partition are halved until they fit.",
            classes.join("; ")
        ),
        "Jobs arrive evenly over the time. Run times are log-normal (sigma 1), scaled to the load; time limits are 1.1 to 3 \
         times the run time; all priorities are equal."
            .to_owned(),
    ]
}

/// So many jobs from 0 to `horizon` that ask for so many tray seconds together (within the rounding to seconds and the
/// shortest run). Segments larger than `largest`, the trays of the largest NVLink partition, are halved until they fit.
pub fn jobs(seed: u64, count: u32, horizon: Seconds, tray_seconds: f64, largest: u32) -> Vec<Job> {
    let mut random = Random::new(seed, PURPOSE);
    let weights = CLASSES.map(|class| class.jobs);
    let mut submits: Vec<Seconds> =
        (0..count).map(|_| random.within(0.0, horizon as f64) as Seconds).collect();
    submits.sort_unstable();
    let mut drawn: Vec<(Class, f64)> = Vec::with_capacity(submits.len());
    for _ in 0..count {
        let class = CLASSES[random.weighted(&weights)];
        // Proportional to the mean run of the class.
        let mean = class.work / class.jobs / f64::from(class.trays);
        drawn.push((class, mean * random.normal().exp().min(10.0)));
    }
    let work: f64 = drawn.iter().map(|(class, run)| f64::from(class.trays) * run).sum();
    let scale = if work > 0.0 { tray_seconds / work } else { 0.0 };
    (1..)
        .zip(submits.into_iter().zip(drawn))
        .map(|(number, (submit, (class, run)))| {
            let run = (run * scale).max(SHORTEST);
            let limit = (run * random.within(1.1, 3.0)) as Seconds;
            let run = run as Seconds;
            Job {
                name: format!("j{number}"),
                submit,
                trays: class.trays,
                segment: fitting(class.segment, largest),
                run,
                limit: limit.max(run).div_ceil(LIMIT_STEP) * LIMIT_STEP,
                priority: 0,
            }
        })
        .collect()
}

fn fitting(mut segment: u32, largest: u32) -> u32 {
    while segment > largest.max(1) {
        segment /= 2;
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DAY, HOUR};

    #[test]
    fn shares_are_whole() {
        assert!((CLASSES.iter().map(|class| class.jobs).sum::<f64>() - 100.0).abs() < 1e-9);
        assert!((CLASSES.iter().map(|class| class.work).sum::<f64>() - 100.0).abs() < 1e-9);
    }

    #[test]
    fn the_jobs_ask_for_the_work_and_are_sound() {
        let work = 5004.0 * 7.0 * DAY as f64;
        let jobs = jobs(1, 15_000, 7 * DAY, work, 18);
        assert_eq!(jobs.len(), 15_000);
        let asked: f64 = jobs.iter().map(|job| f64::from(job.trays) * job.run as f64).sum();
        assert!((asked / work - 1.0).abs() < 0.01, "{}", asked / work);
        for job in &jobs {
            assert!(job.submit < 7 * DAY && job.run >= 60 && job.run <= job.limit && job.limit % 600 == 0);
            assert!(job.segment == 0 || job.trays % job.segment == 0);
        }
        let ones = jobs.iter().filter(|job| job.trays == 1);
        let hours: Vec<f64> = ones.map(|job| job.run as f64 / HOUR as f64).collect();
        assert!((5_700..6_300).contains(&hours.len()), "{}", hours.len());
        let mean = hours.iter().sum::<f64>() / hours.len() as f64;
        assert!((6.0..12.0).contains(&mean), "{mean}");
    }

    #[test]
    fn segments_fit_the_partitions() {
        assert!(jobs(1, 500, DAY, 1e8, 9).iter().all(|job| job.segment <= 8));
        assert_eq!(
            [(16, 18), (16, 9), (4, 1), (0, 4)].map(|(of, largest)| fitting(of, largest)),
            [16, 8, 1, 0]
        );
    }

    #[test]
    fn a_seed_is_a_workload() {
        assert_eq!(jobs(3, 100, DAY, 1e8, 18), jobs(3, 100, DAY, 1e8, 18));
        assert_ne!(jobs(3, 100, DAY, 1e8, 18), jobs(4, 100, DAY, 1e8, 18));
    }
}
