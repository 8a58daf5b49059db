//! What must hold all the time, and what must hold when a round is over. Pure.
#![forbid(unsafe_code)]

use super::plan::{Ask, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Blocks by name, each with the trays of one NVLink partition.
pub type Blocks = BTreeMap<String, BTreeSet<String>>;

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// A job, or a segment of it, that fits a partition lies in several.
    Split {
        /// The job's number.
        job: u32,
        /// What was asked for.
        asked: String,
        /// Trays by block.
        lies: BTreeMap<String, usize>,
    },
    /// A tray's daemon has a list of others than the job's trays in its partition.
    WrongMembers {
        /// The job's number.
        job: u32,
        /// Where the list was seen.
        tray: String,
        /// Addresses in it that do not belong there, or the ones that are missing.
        difference: String,
    },
    /// The script of a job over several trays of a partition began and there was no channel.
    NoChannel {
        /// The job's number.
        job: u32,
        /// Where its script runs.
        tray: String,
    },
    /// A tray to which nothing was done is out of service.
    HealthyDrained {
        /// The tray.
        tray: String,
        /// State and reason.
        why: String,
    },
    /// Something of a job is left on a tray when no job is there any more.
    Left {
        /// The tray.
        tray: String,
        /// What.
        what: BTreeSet<String>,
    },
    /// The blocks of slurmctld are not the partitions of the fabric.
    WrongBlocks(String),
    /// slurmctld's memory has grown.
    Memory {
        /// Kilobytes when the first round was over.
        first: u64,
        /// Kilobytes now.
        now: u64,
    },
    /// Something did not come to an end, or did not work.
    Stuck(String),
}

/// Where a job of this size may lie: in one block, if the fabric has one that is large enough, counting trays that are out.
#[must_use]
pub fn locality(job: u32, ask: &Ask, nodes: &[String], blocks: &Blocks) -> Option<Violation> {
    let largest = blocks.values().map(BTreeSet::len).max().unwrap_or(0);
    let mut lies: BTreeMap<String, usize> = BTreeMap::new();
    for node in nodes {
        let block = blocks.iter().find(|(_, trays)| trays.contains(node)).map(|(name, _)| name);
        *lies.entry(block.cloned().unwrap_or_default()).or_default() += 1;
    }
    let unit = match ask.kind {
        Kind::Segments(segment) => segment,
        _ => nodes.len(),
    };
    // What is larger than any partition must be split.
    let whole = unit > largest || lies.values().all(|count| count % unit == 0);
    (!whole).then(|| Violation::Split { job, asked: format!("{ask:?}"), lies })
}

/// The trays whose daemons form one domain with the daemon of `tray`; one alone has none.
#[must_use]
pub fn domain<'a>(nodes: &'a [String], tray: &str, blocks: &Blocks) -> Vec<&'a String> {
    let block = blocks.values().find(|trays| trays.contains(tray));
    nodes.iter().filter(|node| block.is_some_and(|trays| trays.contains(*node))).collect()
}

/// Whether a list of members, as it was written for a job's daemon, names exactly these addresses.
#[must_use]
pub fn members(job: u32, tray: &str, list: &str, wanted: &BTreeSet<String>) -> Option<Violation> {
    let seen: BTreeSet<String> = list.lines().map(|line| line.trim().to_owned()).collect();
    let difference: Vec<String> = seen
        .difference(wanted)
        .map(|address| format!("+{address}"))
        .chain(wanted.difference(&seen).map(|address| format!("-{address}")))
        .collect();
    (!difference.is_empty()).then(|| Violation::WrongMembers {
        job,
        tray: tray.to_owned(),
        difference: difference.join(" "),
    })
}

/// Only trays to which something was done may be out of service; where slurmctld was killed, also those that Slurm itself takes
/// out ([`is_number_given_twice`]).
#[must_use]
pub fn drained(
    out: &BTreeMap<String, String>,
    struck: &BTreeSet<String>,
    controller_was_killed: bool,
) -> Vec<Violation> {
    out.iter()
        .filter(|(tray, _)| !struck.contains(*tray))
        .filter(|(_, why)| !(controller_was_killed && is_number_given_twice(why)))
        .map(|(tray, why)| Violation::HealthyDrained { tray: tray.clone(), why: why.clone() })
        .collect()
}

/// Whether a tray is out of service because slurmctld, killed, has forgotten a job and given its number to another one: slurmd
/// starts no second job of a number, and slurmctld drains its tray then (Slurm 26.05 src/slurmctld/agent.c, `DSH_DUP_JOBID`).
#[must_use]
pub fn is_number_given_twice(why: &str) -> bool {
    why.ends_with("Duplicate jobid")
}

/// Whether a tray's `imex.log` shows that Slurm has started a job there once more without a prolog, as slurmctld, killed, had forgotten
/// the first start: another job's prolog has removed what that one left, and no prolog of this job came after.
#[must_use]
pub fn is_start_without_prolog(log: &str, job: u32) -> bool {
    let (removed, begins) = (format!("earlier_job={job}"), format!("job={job}"));
    let has = |line: &str, word: &str| line.split_whitespace().any(|found| found == word);
    let last = log
        .lines()
        .rfind(|line| has(line, &removed) || (line.contains("beginning the domain") && has(line, &begins)));
    last.is_some_and(|line| has(line, &removed))
}

/// Each partition of the fabric is the trays of one block, and no block has others.
#[must_use]
pub fn blocks(seen: &Blocks, fabric: &[BTreeSet<String>]) -> Option<Violation> {
    let seen: BTreeSet<&BTreeSet<String>> = seen.values().filter(|trays| !trays.is_empty()).collect();
    let wanted: BTreeSet<&BTreeSet<String>> = fabric.iter().collect();
    (seen != wanted).then(|| Violation::WrongBlocks(format!("{seen:?}, and the fabric is {wanted:?}")))
}

/// How much slurmctld's memory may grow from the first round on: its share of what it had, and so many kilobytes.
const GROWTH: (u64, u64) = (2, 16 * 1024);

/// slurmctld's memory when a round is over and its jobs are forgotten.
#[must_use]
pub fn memory(first: u64, now: u64) -> Option<Violation> {
    (now > first + first / GROWTH.0 + GROWTH.1).then_some(Violation::Memory { first, now })
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Split { job, asked, lies } => write!(f, "job {job} ({asked}) is split: {lies:?}"),
            Self::WrongMembers { job, tray, difference } => {
                write!(f, "job {job}: the list of members on {tray} differs: {difference}")
            }
            Self::NoChannel { job, tray } => write!(f, "job {job} began on {tray} without an IMEX channel"),
            Self::HealthyDrained { tray, why } => {
                write!(f, "{tray} had no fault and is out of service: {why}")
            }
            Self::Left { tray, what } => write!(f, "left on {tray}: {what:?}"),
            Self::WrongBlocks(what) => write!(f, "slurmctld has the blocks {what}"),
            Self::Memory { first, now } => write!(f, "slurmctld has {now} kB after {first} kB"),
            Self::Stuck(what) => f.write_str(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(range: std::ops::RangeInclusive<usize>, rack: usize) -> Vec<String> {
        range.map(|tray| format!("r{rack}n{tray}")).collect()
    }

    fn two_racks() -> Blocks {
        [1, 2].map(|rack| (format!("b{rack}"), names(1..=4, rack).into_iter().collect())).into()
    }

    fn whole(trays: usize) -> Ask {
        Ask { kind: Kind::Whole, trays, seconds: 1 }
    }

    fn both(first: usize, second: usize) -> Vec<String> {
        [names(1..=first, 1), names(1..=second, 2)].concat()
    }

    #[test]
    fn a_job_that_fits_a_partition_lies_in_one() {
        assert_eq!(locality(1, &whole(4), &names(1..=4, 2), &two_racks()), None);
        assert!(matches!(locality(1, &whole(4), &both(3, 1), &two_racks()), Some(Violation::Split { .. })));
        // Larger than a partition.
        assert_eq!(locality(1, &whole(5), &both(3, 2), &two_racks()), None);
    }

    #[test]
    fn a_segment_lies_in_one_partition() {
        let segments = Ask { kind: Kind::Segments(2), ..whole(6) };
        assert_eq!(locality(1, &segments, &both(4, 2), &two_racks()), None);
        assert!(locality(1, &segments, &both(3, 3), &two_racks()).is_some());
    }

    #[test]
    fn a_domain_is_the_trays_of_the_job_in_the_partition() {
        let nodes = both(2, 1);
        assert_eq!(domain(&nodes, "r1n2", &two_racks()), [&nodes[0], &nodes[1]]);
        assert_eq!(domain(&nodes, "r2n1", &two_racks()), [&nodes[2]]);
        assert!(domain(&nodes, "r9n9", &two_racks()).is_empty());
    }

    #[test]
    fn members_are_compared_both_ways() {
        let wanted: BTreeSet<String> = ["10.0.0.1", "10.0.0.2"].map(str::to_owned).into();
        assert_eq!(members(1, "a", "10.0.0.2\n10.0.0.1\n", &wanted), None);
        let found = members(1, "a", "10.0.0.1\n10.0.0.3\n", &wanted).unwrap().to_string();
        assert_eq!(found, "job 1: the list of members on a differs: +10.0.0.3 -10.0.0.2");
    }

    #[test]
    fn only_what_was_touched_may_drain() {
        let out = BTreeMap::from([("a".to_owned(), "drained x".to_owned())]);
        assert_eq!(drained(&out, &BTreeSet::from(["a".to_owned()]), false), []);
        assert_eq!(drained(&out, &BTreeSet::new(), true).len(), 1);
        let twice = BTreeMap::from([("a".to_owned(), "drained Duplicate jobid".to_owned())]);
        assert_eq!(drained(&twice, &BTreeSet::new(), false).len(), 1);
        assert_eq!(drained(&twice, &BTreeSet::new(), true), []);
    }

    #[test]
    fn a_forgotten_start_is_known_by_what_another_job_has_removed() {
        let first = "INFO beginning the domain job=43 block=b\n";
        let removed = "WARN removed what an earlier job had left here job=54 earlier_job=43\n";
        let logs = |lines: &[&str]| lines.concat();
        assert!(is_start_without_prolog(&logs(&[first, removed]), 43));
        assert!(!is_start_without_prolog(&logs(&[first, removed]), 54));
        assert!(!is_start_without_prolog(&logs(&[first, removed, first]), 43));
        assert!(!is_start_without_prolog(first, 43));
        assert!(!is_start_without_prolog("", 43));
    }

    #[test]
    fn blocks_are_the_fabrics_partitions_and_an_empty_one_is_none() {
        let mut seen = two_racks();
        let fabric: Vec<BTreeSet<String>> = seen.values().cloned().collect();
        seen.insert("gone".to_owned(), BTreeSet::new());
        assert_eq!(blocks(&seen, &fabric), None);
        assert!(blocks(&seen, &fabric[..1]).is_some());
    }

    #[test]
    fn memory_may_grow_a_little() {
        assert_eq!(memory(20_000, 26_000), None);
        assert!(memory(20_000, 60_000).is_some());
    }
}
