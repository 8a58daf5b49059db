//! Workloads in the Standard Workload Format of the Parallel Workloads Archive (version 2.2).
//!
//! One job a line, 18 fields between blanks, -1 where nothing is known; comments begin with `;`. Read are: 1 number, 2
//! submission, 4 run time, 5 processors allocated, 8 processors requested, 9 time requested, 11 status. A job of the
//! format has processors, not trays: so many processors as the caller says make one tray.

use crate::Seconds;
use crate::job::Job;

use super::{WorkloadError, from_first};

/// Least fields of a line that are needed.
const FIELDS_MIN: usize = 11;
/// Fields of the format.
const FIELDS: usize = 18;
/// Largest number of a field.
const NUMBER_MAX: f64 = 1e12;

/// Jobs of a trace, and how many of its lines were left out because their job never ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// Lines of jobs that used no time or no processors: cancelled while they waited, or failed at once.
    pub left_out: usize,
}

/// Reads a trace of a machine with so many processors in what is to be a tray. A job that ran longer than it asked for gets
/// its run time as its limit.
///
/// # Errors
/// [`WorkloadError`] with the line of the first thing that is wrong.
pub fn parse(text: &str, processors_per_tray: u32) -> Result<Trace, WorkloadError> {
    let (mut jobs, mut left_out) = (Vec::new(), 0);
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with(';') {
            continue;
        }
        match job(line, text, processors_per_tray.max(1))? {
            Some(job) => jobs.push(job),
            None => left_out += 1,
        }
    }
    Ok(Trace { jobs: from_first(jobs), left_out })
}

fn job(line: usize, text: &str, processors_per_tray: u32) -> Result<Option<Job>, WorkloadError> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    if !(FIELDS_MIN..=FIELDS).contains(&fields.len()) {
        let what = format!("{} fields; the Standard Workload Format has {FIELDS}", fields.len());
        return Err(WorkloadError::at(line, what));
    }
    // None where nothing is known. Traces have times with fractions, too.
    let field = |number: usize| -> Result<Option<Seconds>, WorkloadError> {
        let text = fields[number - 1];
        let value: Option<f64> = text.parse().ok();
        match value.filter(|value| (-1.0..=NUMBER_MAX).contains(value)) {
            Some(value) if value < 0.0 => Ok(None),
            Some(value) => Ok(Some(value as Seconds)),
            None => {
                let what = format!("field {number}: {text:?} is no number from -1 to 10^12");
                Err(WorkloadError::at(line, what))
            }
        }
    };
    let (number, submit, run) = (field(1)?, field(2)?, field(4)?);
    let (allocated, requested, limit) = (field(5)?, field(8)?, field(9)?);
    let processors = allocated.filter(|&p| p > 0).or(requested).unwrap_or(0);
    let run = run.unwrap_or(0);
    if run == 0 || processors == 0 {
        return Ok(None);
    }
    let Some(submit) = submit else {
        return Err(WorkloadError::at(line, "field 2: there is no time of submission".to_owned()));
    };
    let trays = processors.div_ceil(processors_per_tray.into());
    Job {
        name: number.map_or_else(|| format!("line {line}"), |number| number.to_string()),
        submit,
        trays: u32::try_from(trays).unwrap_or(u32::MAX),
        segment: 0,
        run,
        limit: limit.unwrap_or(run).max(run),
        priority: 0,
    }
    .checked()
    .map(Some)
    .map_err(|what| WorkloadError::at(line, what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_trace_is_read() {
        let text = "; Computer: made up\n;\n\
            1  100 5 3600   64 -1 -1   64  7200 -1 1 3 1 -1 1 -1 -1 -1\n\
            2  160 0   -1   -1 -1 -1    4   600 -1 5 3 1 -1 1 -1 -1 -1\n\
            3  220 0   90.5  5 -1 -1   -1    60 -1 1 3 1 -1 1 -1 -1 -1\n";
        let trace = parse(text, 4).unwrap();
        let short: Vec<_> =
            trace.jobs.iter().map(|j| (&j.name[..], j.submit, j.trays, j.run, j.limit)).collect();
        assert_eq!(short, [("1", 0, 16, 3600, 7200), ("3", 120, 2, 90, 90)]);
        assert_eq!(trace.left_out, 1);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, said) in [
            ("1 2 3\n", "line 1: 3 fields; the Standard Workload Format has 18"),
            (";\n1 2 3 4 five 6 7 8 9 10 11\n", "line 2: field 5: \"five\" is no number from -1 to 10^12"),
            ("1 2 3 nan 5 6 7 8 9 10 11\n", "line 1: field 4: \"nan\" is no number from -1 to 10^12"),
            ("1 -1 3 4 5 6 7 8 9 10 11\n", "line 1: field 2: there is no time of submission"),
            (
                "1 0 3 4 1e9 6 7 8 9 10 11\n",
                "line 1: a job of 1000000000 trays; 1 to 1000000 can be replayed",
            ),
        ] {
            assert_eq!(parse(text, 1).unwrap_err().to_string(), said);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_with_its_line(
            lines in proptest::collection::vec("(-?[0-9]{1,6}(\\.[0-9])? ){9,19}|[-;a-z0-9. \u{e4}]{0,40}", 0..8),
            processors in 0u32..100,
        ) {
            let text = lines.join("\n");
            match parse(&text, processors) {
                Ok(trace) => prop_assert!(trace.jobs.iter().all(|job| job.trays > 0 && job.run <= job.limit)),
                Err(WorkloadError::Line { line, .. }) => prop_assert!((1..=lines.len()).contains(&line)),
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }
}
