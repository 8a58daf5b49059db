//! The job records of a real site: what of the output of `sacct --json` (Slurm 23.11 and later) is used here.
//!
//! The form is that of Slurm's data parser, whose fields may have been left out by a filter: one that is missing is empty
//! or 0, and who needs it says so.

use serde::Deserialize;

use crate::Seconds;

/// The output is not JSON of the expected form.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: not what sacct --json writes")]
pub struct AccountingError {
    /// Where, from 1 on.
    pub line: usize,
    /// What the parser says.
    pub source: serde_json::Error,
}

/// One run of a job. With `--duplicates` a job that was requeued has several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Record {
    /// Its number; a task of an array and a component of a heterogeneous job have their own.
    pub job_id: u64,
    /// Name of the Slurm cluster.
    #[serde(default)]
    pub cluster: String,
    /// Name of the Slurm partition.
    #[serde(default)]
    pub partition: String,
    /// Name of the account.
    #[serde(default)]
    pub account: String,
    /// Name of the QOS.
    #[serde(default)]
    pub qos: String,
    /// How many nodes it had.
    #[serde(default)]
    pub allocation_nodes: u64,
    /// Its nodes as a host list; `None assigned` before it has any.
    #[serde(default)]
    pub nodes: String,
    /// When it did what.
    pub time: Times,
    /// What it had.
    #[serde(default)]
    pub tres: Tres,
    /// The command that submitted it.
    #[serde(default)]
    pub submit_line: String,
    /// Nodes of a segment, 0 for none; from Slurm 26.05 on.
    #[serde(default)]
    pub segment_size: u32,
}

/// Moments are seconds since 1970, 0 where there is none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Times {
    /// Seconds that it ran, without those for which it was suspended.
    pub elapsed: Seconds,
    /// When it was submitted.
    pub submission: Seconds,
    /// From when on it could run.
    #[serde(default)]
    pub eligible: Seconds,
    /// When it started.
    #[serde(default)]
    pub start: Seconds,
    /// When it ended; 0 while it runs.
    #[serde(default)]
    pub end: Seconds,
    /// For how many seconds it was suspended.
    #[serde(default)]
    pub suspended: Seconds,
    /// Its time limit.
    #[serde(default)]
    pub limit: Limit,
}

/// Minutes, if there is a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Limit {
    #[serde(default)]
    set: bool,
    #[serde(default)]
    infinite: bool,
    #[serde(default)]
    number: u64,
}

impl Limit {
    /// The limit; None for none.
    pub fn minutes(self) -> Option<u64> {
        (self.set && !self.infinite).then_some(self.number)
    }
}

/// Resources by Slurm's names for them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Tres {
    /// What was allocated.
    #[serde(default)]
    pub allocated: Vec<Resource>,
}

/// One resource: `gres/gpu:gb200` has the type `gres` and the name `gpu:gb200`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Resource {
    /// `cpu`, `mem`, `node`, `gres`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// The name of one of many; empty where the type says all.
    #[serde(default)]
    pub name: String,
    /// How many; below 0 or beyond all bounds where Slurm does not know, as for energy.
    #[serde(default)]
    count: Option<serde_json::Number>,
}

impl Resource {
    /// How many, 0 where Slurm does not know.
    pub fn count(&self) -> u64 {
        const UNKNOWN: u64 = u64::MAX - 2;
        self.count.as_ref().and_then(serde_json::Number::as_u64).filter(|&count| count < UNKNOWN).unwrap_or(0)
    }
}

impl Tres {
    /// GPUs allocated: `gres/gpu`, or, where a site counts only types, all `gres/gpu:...` together.
    pub fn gpus(&self) -> u64 {
        let gres = || self.allocated.iter().filter(|resource| resource.kind == "gres");
        let all = gres().find(|resource| resource.name == "gpu").map(Resource::count);
        let typed = gres().filter(|resource| resource.name.starts_with("gpu:"));
        all.unwrap_or_else(|| typed.fold(0, |sum, resource| sum.saturating_add(resource.count())))
    }
}

#[derive(Deserialize)]
struct Output {
    jobs: Vec<Record>,
}

/// Reads the records, in their order.
///
/// # Errors
/// [`AccountingError`] at the first thing that is not of the form.
pub fn records(text: &str) -> Result<Vec<Record>, AccountingError> {
    let output: Output = serde_json::from_str(text)
        .map_err(|source| AccountingError { line: source.line().max(1), source })?;
    Ok(output.jobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_slurm_writes_is_read() {
        let records = records(include_str!("../tests/sacct/slurm-26.05.5.json")).unwrap();
        let short: Vec<_> =
            records.iter().map(|r| (r.job_id, &r.nodes[..], r.tres.gpus(), r.time.elapsed)).collect();
        assert_eq!(
            short,
            [
                (1, "r02n[01-02]", 8, 5),
                (2, "r01n[01-04],r02n[03-04]", 24, 6),
                (4, "r01n[01-02],r02n[03-04]", 16, 144),
                (5, "r02n02", 1, 4),
                (3, "r02n01", 2, 4),
                (5, "r01n03", 1, 19),
                (7, "r01n03", 0, 3),
                (8, "None assigned", 0, 0),
                (9, "None assigned", 0, 0),
                (10, "r01n03", 1, 5),
            ]
        );
        let segments: Vec<u32> =
            records.iter().map(|record| record.segment_size).filter(|&s| s > 0).collect();
        assert_eq!(segments, [2]);
    }

    #[test]
    fn gpus_are_counted_once_whether_their_types_are_counted_or_not() {
        let gpus = |allocated: &str| {
            let text = format!("{{\"allocated\":[{allocated}]}}");
            serde_json::from_str::<Tres>(&text).unwrap().gpus()
        };
        let cpu = "{\"type\":\"cpu\",\"name\":\"\",\"id\":1,\"count\":144}";
        let gpu = "{\"type\":\"gres\",\"name\":\"gpu\",\"id\":1001,\"count\":8}";
        let typed = "{\"type\":\"gres\",\"name\":\"gpu:gb200\",\"id\":1002,\"count\":8}";
        let other = "{\"type\":\"gres\",\"name\":\"gpumem\",\"count\":99}";
        assert_eq!(gpus(cpu), 0);
        assert_eq!(gpus(&[cpu, gpu, other].join(",")), 8);
        assert_eq!(gpus(&[typed, gpu].join(",")), 8);
        assert_eq!(gpus(&[typed, cpu, typed].join(",")), 16);
        for unknown in ["-2", "18446744073709551614", "0"] {
            assert_eq!(gpus(&gpu.replace('8', unknown)), 0, "{unknown}");
        }
        assert_eq!(gpus("{\"type\":\"energy\",\"name\":\"\",\"id\":3,\"count\":-2}"), 0);
    }
}
