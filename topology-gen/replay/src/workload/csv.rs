//! Workloads as comma-separated values.
//!
//! ```text
//! # comments and empty lines count for nothing
//! submit,trays,run,limit,segment,priority,name
//! 0,16,3600,7200,16,0,train
//! 60,1,600,,,,
//! ```
//!
//! The header names the columns in any order; `submit`, `trays` and `run` must be there. Times are whole seconds, `submit` from
//! any moment: the replay begins with the first one. A missing limit is the run time, a missing segment or priority 0.

use crate::Seconds;
use crate::job::Job;

use super::{WorkloadError, from_first};

const COLUMNS: [&str; 7] = ["submit", "trays", "run", "limit", "segment", "priority", "name"];

/// Reads a workload.
///
/// # Errors
/// [`WorkloadError`] with the line of the first thing that is wrong.
pub fn parse(text: &str) -> Result<Vec<Job>, WorkloadError> {
    let mut header: Option<Vec<usize>> = None;
    let mut jobs = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = text.split(',').map(str::trim).collect();
        match &header {
            None => header = Some(columns(line, &fields)?),
            Some(header) => jobs.push(job(line, header, &fields)?),
        }
    }
    if header.is_none() {
        return Err(WorkloadError::Empty);
    }
    Ok(from_first(jobs))
}

/// Which column each field is.
fn columns(line: usize, fields: &[&str]) -> Result<Vec<usize>, WorkloadError> {
    let mut found: Vec<usize> = Vec::new();
    for field in fields {
        let column = COLUMNS.iter().position(|name| name == field);
        let column = column.filter(|column| !found.contains(column)).ok_or_else(|| {
            WorkloadError::at(
                line,
                format!("column {field:?} is unknown or comes twice; known are {COLUMNS:?}"),
            )
        })?;
        found.push(column);
    }
    for (column, name) in COLUMNS.iter().enumerate().take(3) {
        if !found.contains(&column) {
            return Err(WorkloadError::at(line, format!("there is no column {name:?}")));
        }
    }
    Ok(found)
}

fn job(line: usize, header: &[usize], fields: &[&str]) -> Result<Job, WorkloadError> {
    if fields.len() != header.len() {
        let what = format!("{} fields, the header has {}", fields.len(), header.len());
        return Err(WorkloadError::at(line, what));
    }
    let field = |column: usize| {
        let place = header.iter().position(|&found| found == column)?;
        fields.get(place).copied().filter(|text| !text.is_empty())
    };
    let number = |column: usize| -> Result<Option<Seconds>, WorkloadError> {
        let Some(text) = field(column) else { return Ok(None) };
        let what = || format!("{}: {text:?} is no whole number from 0 to 10^12", COLUMNS[column]);
        let number = text.parse().ok().filter(|&number| number <= 1_000_000_000_000);
        number.map(Some).ok_or_else(|| WorkloadError::at(line, what()))
    };
    let must = |column: usize| {
        number(column)?.ok_or_else(|| WorkloadError::at(line, format!("{} is missing", COLUMNS[column])))
    };
    let (submit, trays, run) = (must(0)?, must(1)?, must(2)?);
    let priority = match field(5) {
        None => 0,
        Some(text) => text
            .parse()
            .map_err(|_| WorkloadError::at(line, format!("priority: {text:?} is no whole number")))?,
    };
    Job {
        name: field(6).map_or_else(|| format!("line {line}"), str::to_owned),
        submit,
        trays: u32::try_from(trays).unwrap_or(u32::MAX),
        segment: u32::try_from(number(4)?.unwrap_or(0)).unwrap_or(u32::MAX),
        run,
        limit: number(3)?.unwrap_or(run),
        priority,
    }
    .checked()
    .map_err(|what| WorkloadError::at(line, what))
}

/// Writes a workload.
pub fn emit(jobs: &[Job]) -> String {
    let mut text = format!("{}\n", COLUMNS.join(","));
    for job in jobs {
        let Job { name, submit, trays, segment, run, limit, priority } = job;
        let name: String = name.chars().map(|c| if c == ',' || c.is_control() { ' ' } else { c }).collect();
        text.push_str(&format!("{submit},{trays},{run},{limit},{segment},{priority},{}\n", name.trim()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_come_in_any_order_and_may_be_missing() {
        let jobs = parse("# x\ntrays,run,submit,name\n16,3600,1000,train\n\n1,600,940,\n").unwrap();
        let short: Vec<_> =
            jobs.iter().map(|j| (j.name.as_str(), j.submit, j.trays, j.run, j.limit, j.segment)).collect();
        assert_eq!(short, [("train", 60, 16, 3600, 3600, 0), ("line 5", 0, 1, 600, 600, 0)]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let head = "submit,trays,run,limit,segment,priority\n";
        for (text, said) in [
            ("", "no header line; it begins with the names of the columns: submit,trays,run"),
            ("trays,run\n", "line 1: there is no column \"submit\""),
            (
                "trays,trays\n",
                "line 1: column \"trays\" is unknown or comes twice; known are [\"submit\", \"trays\", \"run\", \"limit\", \"segment\", \"priority\", \"name\"]",
            ),
            (&format!("{head}1,2,3\n"), "line 2: 3 fields, the header has 6"),
            (&format!("{head}\n1,,3,,,\n"), "line 3: trays is missing"),
            (&format!("{head}1,x,3,,,\n"), "line 2: trays: \"x\" is no whole number from 0 to 10^12"),
            (&format!("{head}1,-2,3,,,\n"), "line 2: trays: \"-2\" is no whole number from 0 to 10^12"),
            (&format!("{head}1,0,3,,,\n"), "line 2: a job of 0 trays; 1 to 1000000 can be replayed"),
            (&format!("{head}1,4,3,,3,\n"), "line 2: the segment of 3 trays does not divide the job of 4"),
            (&format!("{head}1,4,30,20,,\n"), "line 2: it runs 30 s, longer than its limit of 20 s"),
            (&format!("{head}1,4,3,,,1.5\n"), "line 2: priority: \"1.5\" is no whole number"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), said);
        }
    }

    fn any_job() -> impl Strategy<Value = Job> {
        (0u64..1_000_000, 1u32..600, 0u32..4, 1u64..100_000, 0u64..100_000, any::<i16>(), "[a-z]{1,8}")
            .prop_map(|(submit, trays, parts, run, more, priority, name)| Job {
                name,
                submit,
                trays,
                segment: if parts > 0 && trays % parts == 0 { trays / parts } else { 0 },
                run,
                limit: run + more,
                priority: priority.into(),
            })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(jobs in proptest::collection::vec(any_job(), 0..20)) {
            prop_assert_eq!(parse(&emit(&jobs)).unwrap(), from_first(jobs));
        }

        #[test]
        fn any_text_is_read_or_refused_with_its_line(text in "(submit,trays,run(,limit)?\n)?([-0-9a-z,.# \n\u{e4}]{0,60})") {
            match parse(&text) {
                Ok(jobs) => prop_assert!(jobs.iter().all(|job| job.trays > 0 && job.run <= job.limit)),
                Err(WorkloadError::Empty) => {}
                Err(WorkloadError::Line { line, .. }) => prop_assert!(line <= text.lines().count()),
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }
}
