//! The jobs of a real site, from the output of `sacct --json` (Slurm 23.11 and later).
//!
//! Read are the nodes of the allocation, the elapsed time, the time limit, the moment from which the job could run, and
//! the segment, before Slurm 26.05 from `--segment` of the submit line. A node counts as a tray. Priorities are not read:
//! those that Slurm keeps are the last ones, and say nothing about the order at the time.

use crate::accounting::{Record, records};
use crate::job::Job;

use super::{WorkloadError, from_first};

/// Jobs of a site, and how many were left out because they never ran.
pub use super::swf::Trace;

/// Reads the jobs. One that ran longer than its limit, or has none, gets its run time as the limit.
///
/// # Errors
/// [`WorkloadError`] with the line, or with the job, of the first thing that is wrong.
pub fn parse(text: &str) -> Result<Trace, WorkloadError> {
    let records = records(text).map_err(|error| {
        WorkloadError::at(error.line, format!("not what sacct --json writes: {}", error.source))
    })?;
    let (mut jobs, mut left_out) = (Vec::new(), 0);
    for Record { job_id, allocation_nodes, time, submit_line, segment_size, .. } in records {
        if allocation_nodes == 0 || time.elapsed == 0 {
            left_out += 1;
            continue;
        }
        let trays = u32::try_from(allocation_nodes).unwrap_or(u32::MAX);
        let limit =
            time.limit.minutes().map_or(time.elapsed, |minutes| minutes.saturating_mul(60).max(time.elapsed));
        let job = Job {
            name: job_id.to_string(),
            submit: time.submission.max(time.eligible),
            trays,
            segment: Some(segment_size)
                .filter(|&size| size > 0)
                .or_else(|| segment(&submit_line))
                .filter(|&size| size > 0 && trays.is_multiple_of(size))
                .unwrap_or(0),
            run: time.elapsed,
            limit,
            priority: 0,
        };
        jobs.push(job.checked().map_err(|what| WorkloadError::Job { job: job_id.to_string(), what })?);
    }
    Ok(Trace { jobs: from_first(jobs), left_out })
}

/// The segment of a submit line: `--segment=16` or `--segment 16`.
fn segment(submit_line: &str) -> Option<u32> {
    let mut words = submit_line.split_whitespace();
    while let Some(word) = words.next() {
        match word.strip_prefix("--segment") {
            Some("") => return words.next()?.parse().ok(),
            Some(value) if value.starts_with('=') => return value[1..].parse().ok(),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(id: u32, nodes: u32, elapsed: u32, limit: &str, line: &str) -> String {
        format!(
            "{{\"job_id\":{id},\"name\":\"x\",\"allocation_nodes\":{nodes},\"submit_line\":\"{line}\",\"time\":{{\
             \"elapsed\":{elapsed},\"submission\":{},\"eligible\":{},\"limit\":{limit}}}}}",
            1000 + id,
            1000 + id * 2
        )
    }

    #[test]
    fn jobs_of_a_site_are_read() {
        let number = "{\"set\":true,\"infinite\":false,\"number\":60}";
        let infinite = "{\"set\":true,\"infinite\":true,\"number\":0}";
        let text = format!(
            "{{\"meta\":{{}},\"jobs\":[{},{},{},{}]}}",
            record(1, 32, 3000, number, "sbatch -N32 --segment=16 x.sh"),
            record(2, 0, 0, number, "sbatch x"),
            record(3, 18, 5000, number, "sbatch --segment 4 x"),
            record(4, 1, 10, infinite, ""),
        );
        let trace = parse(&text).unwrap();
        let short: Vec<_> =
            trace.jobs.iter().map(|j| (&j.name[..], j.submit, j.trays, j.segment, j.run, j.limit)).collect();
        assert_eq!(
            short,
            [("1", 0, 32, 16, 3000, 3600), ("3", 4, 18, 0, 5000, 5000), ("4", 6, 1, 0, 10, 10)]
        );
        assert_eq!(trace.left_out, 1);
    }

    #[test]
    fn what_slurm_writes_is_read() {
        let trace = parse(include_str!("../../tests/sacct/slurm-26.05.5.json")).unwrap();
        let short: Vec<_> = trace
            .jobs
            .iter()
            .map(|job| (&job.name[..], job.submit, job.trays, job.segment, job.run))
            .collect();
        assert_eq!(
            short,
            [
                ("1", 0, 2, 0, 5),
                ("2", 0, 6, 0, 6),
                ("4", 8, 4, 2, 144),
                ("5", 8, 1, 0, 4),
                ("3", 8, 1, 0, 4),
                ("5", 134, 1, 0, 19),
                ("7", 14, 1, 0, 3),
                ("10", 14, 1, 0, 5),
            ]
        );
        assert_eq!(trace.left_out, 2);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let said = |text: &str| parse(text).unwrap_err().to_string();
        assert!(said("").starts_with("line 1: not what sacct --json writes: EOF"), "{}", said(""));
        assert!(said("{\n\"jobs\": 3}").starts_with("line 2: not what sacct --json writes: invalid type"));
        assert!(said("{\"jobs\":\n[{\"job_id\":1}]}").contains("missing field `time`"));
        let huge = format!("{{\"jobs\":[{}]}}", record(7, 4_000_000, 10, "{}", ""));
        assert_eq!(said(&huge), "job 7: a job of 4000000 trays; 1 to 1000000 can be replayed");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]{}:,\"a-z0-9 \n]{0,60}") {
            let _ = parse(&format!("{{\"jobs\":[{text}]}}"));
            let _ = parse(&text);
        }
    }
}
