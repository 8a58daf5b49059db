//! Is what was seen as it must be? Pure: from observations to sentences about what is wrong.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::imex::Domain;
use super::plan::Wish;

/// NVLink partitions by block name, each with its trays.
pub(super) type Partitions = BTreeMap<String, BTreeSet<String>>;

/// What there is of IMEX domains, by tray: lines that begin with `daemon:`, `channel:` or `file:`.
pub(super) type Traces = BTreeMap<String, Vec<String>>;

/// A job that runs, as it was seen.
#[derive(Debug)]
pub(super) struct Seen {
    /// What was asked for.
    pub(super) wish: Wish,
    /// Slurm's number of the job.
    pub(super) id: String,
    /// From the submission until all of its trays run it.
    pub(super) ready: Duration,
    /// Its part in each NVLink partition.
    pub(super) parts: Vec<Part>,
}

/// The trays of a job in one NVLink partition.
#[derive(Debug)]
pub(super) struct Part {
    /// Name of the partition's block.
    pub(super) partition: String,
    /// The job's trays in it.
    pub(super) trays: BTreeSet<String>,
    /// The tray that was asked for its IMEX domain, and its answer or why there is none.
    pub(super) domain: (String, Result<Domain, String>),
}

/// The parts of a job on `trays`: partition and trays, in the order of names. Trays outside of every partition come
/// under the name `none`.
pub(super) fn split(trays: &[String], partitions: &Partitions) -> BTreeMap<String, BTreeSet<String>> {
    let mut parts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for tray in trays {
        let place = partitions.iter().find(|(_, members)| members.contains(tray));
        let name = place.map_or("none", |(name, _)| name.as_str());
        parts.entry(name.to_owned()).or_default().insert(tray.clone());
    }
    parts
}

/// What is wrong with a job's placement and its IMEX domains.
pub(super) fn job(seen: &Seen, partitions: &Partitions) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut say = |text: String| wrong.push(format!("job {}: {text}", seen.id));
    let trays: usize = seen.parts.iter().map(|part| part.trays.len()).sum();
    if trays != seen.wish.trays {
        say(format!("has {trays} trays, asked for {}", seen.wish.trays));
    }
    let sizes: Vec<usize> = partitions.values().map(BTreeSet::len).collect();
    let fewest = seen.wish.fewest_partitions(&sizes);
    if fewest != Some(seen.parts.len()) {
        let fewest = fewest.map_or("none".to_owned(), |count| count.to_string());
        say(format!("lies in {} NVLink partitions, the fewest possible is {fewest}", seen.parts.len()));
    }
    for Part { partition, trays, domain: (asked, domain) } in &seen.parts {
        if let Some(segment) = seen.wish.segment.filter(|segment| trays.len() % segment != 0) {
            say(format!("{} trays in {partition} are no whole segments of {segment}", trays.len()));
        }
        match domain {
            Err(why) => say(format!("no IMEX domain on {asked}: {why}")),
            Ok(domain) if domain.members != *trays => {
                say(format!(
                    "the IMEX domain of {asked} has other members than the job's trays in {partition}: {:?}",
                    domain.members
                ));
            }
            Ok(domain) if domain.status != "UP" || !domain.unready.is_empty() => {
                say(format!(
                    "the IMEX domain of {asked} is {}, not connected: {:?}",
                    domain.status, domain.unready
                ));
            }
            Ok(_) => {}
        }
    }
    wrong
}

/// Jobs that run side by side must not share a tray.
pub(super) fn apart(jobs: &[Seen]) -> Vec<String> {
    let mut owner: BTreeMap<&str, &str> = BTreeMap::new();
    let mut wrong = Vec::new();
    for job in jobs {
        for tray in job.parts.iter().flat_map(|part| &part.trays) {
            if let Some(other) = owner.insert(tray, &job.id) {
                wrong.push(format!("jobs {other} and {} share the tray {tray}", job.id));
            }
        }
    }
    wrong
}

/// While jobs run, each of their trays has one IMEX daemon, one channel and files, and no other tray has anything. (This
/// also shows that the look at the trays after the jobs is not blind.)
pub(super) fn traces(jobs: &[Seen], traces: &Traces) -> Vec<String> {
    let mut wrong = Vec::new();
    let busy: BTreeSet<&String> =
        jobs.iter().flat_map(|job| &job.parts).flat_map(|part| &part.trays).collect();
    for tray in &busy {
        let lines = traces.get(*tray).map_or(&[][..], Vec::as_slice);
        let count = |kind: &str| lines.iter().filter(|line| line.starts_with(kind)).count();
        if (count("daemon:"), count("channel:")) != (1, 1) || count("file:") == 0 {
            wrong.push(format!(
                "{tray} runs a job, but has not one daemon, one channel and its files: {lines:?}"
            ));
        }
    }
    let idle = traces.iter().filter(|(tray, _)| !busy.contains(tray));
    wrong.extend(idle.flat_map(|(tray, lines)| {
        lines.iter().map(move |line| format!("{tray} runs no job, but has {line}"))
    }));
    wrong
}

/// The blocks must be the NVLink partitions of the simulated hardware, whatever they are called.
pub(super) fn discovery(found: &Partitions, hardware: &[Vec<String>]) -> Vec<String> {
    let found: BTreeSet<&BTreeSet<String>> = found.values().collect();
    let real: BTreeSet<BTreeSet<String>> =
        hardware.iter().map(|trays| trays.iter().cloned().collect()).collect();
    if found == real.iter().collect() {
        return Vec::new();
    }
    vec![format!("the blocks are not the NVLink partitions of the simulated racks: {found:?}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trays(rack: &str, numbers: std::ops::RangeInclusive<u32>) -> BTreeSet<String> {
        numbers.map(|number| format!("{rack}n{number:02}")).collect()
    }

    fn racks() -> Partitions {
        [("b1".to_owned(), trays("r01", 1..=18)), ("b2".to_owned(), trays("r02", 1..=18))].into()
    }

    fn part(partition: &str, trays: BTreeSet<String>) -> Part {
        let domain = Domain { status: "UP".to_owned(), members: trays.clone(), unready: BTreeSet::new() };
        Part { partition: partition.to_owned(), domain: ("asked".to_owned(), Ok(domain)), trays }
    }

    fn seen(wish: Wish, parts: Vec<Part>) -> Seen {
        Seen { wish, id: "7".to_owned(), ready: Duration::ZERO, parts }
    }

    #[test]
    fn a_job_in_one_partition_with_its_own_domain_is_right() {
        let wish = Wish { trays: 16, segment: None };
        assert_eq!(job(&seen(wish, vec![part("b1", trays("r01", 1..=16))]), &racks()), [""; 0]);
    }

    #[test]
    fn a_job_that_spans_without_need_is_wrong() {
        let wish = Wish { trays: 16, segment: None };
        let parts = vec![part("b1", trays("r01", 1..=8)), part("b2", trays("r02", 1..=8))];
        assert_eq!(
            job(&seen(wish, parts), &racks()),
            ["job 7: lies in 2 NVLink partitions, the fewest possible is 1"]
        );
    }

    #[test]
    fn a_domain_with_a_stranger_or_without_a_member_is_wrong() {
        let wish = Wish { trays: 2, segment: None };
        for members in [trays("r01", 1..=3), trays("r01", 1..=1)] {
            let mut one = part("b1", trays("r01", 1..=2));
            one.domain.1.as_mut().unwrap().members = members;
            let wrong = job(&seen(wish, vec![one]), &racks());
            assert!(wrong.len() == 1 && wrong[0].contains("other members"), "{wrong:?}");
        }
    }

    #[test]
    fn a_domain_that_is_not_up_is_wrong() {
        let mut one = part("b1", trays("r01", 1..=1));
        one.domain.1.as_mut().unwrap().status = "DEGRADED".to_owned();
        assert_eq!(job(&seen(Wish { trays: 1, segment: None }, vec![one]), &racks()).len(), 1);
    }

    #[test]
    fn a_broken_segment_is_wrong() {
        let wish = Wish { trays: 24, segment: Some(12) };
        let parts = vec![part("b1", trays("r01", 1..=14)), part("b2", trays("r02", 1..=10))];
        assert_eq!(job(&seen(wish, parts), &racks()).len(), 2);
    }

    #[test]
    fn a_shared_tray_is_noticed() {
        let wish = Wish { trays: 1, segment: None };
        let one = || seen(wish, vec![part("b1", trays("r01", 1..=1))]);
        assert_eq!(apart(&[one(), one()]), ["jobs 7 and 7 share the tray r01n01"]);
        assert_eq!(apart(&[one()]), [""; 0]);
    }

    #[test]
    fn traces_belong_to_the_trays_of_running_jobs() {
        let jobs = [seen(Wish { trays: 1, segment: None }, vec![part("b1", trays("r01", 1..=1))])];
        let lines = || ["daemon: x", "channel: y", "file: z"].map(str::to_owned).to_vec();
        let right: Traces = [("r01n01".to_owned(), lines())].into();
        assert_eq!(traces(&jobs, &right), [""; 0]);
        assert_eq!(traces(&jobs, &Traces::new()).len(), 1);
        assert_eq!(traces(&[], &right).len(), 3);
    }

    #[test]
    fn a_tray_in_a_wrong_block_is_noticed() {
        let hardware: Vec<Vec<String>> =
            racks().into_values().map(|trays| trays.into_iter().collect()).collect();
        assert_eq!(discovery(&racks(), &hardware), [""; 0]);
        let mut wrong = racks();
        let tray = wrong.get_mut("b1").unwrap().pop_first().unwrap();
        wrong.get_mut("b2").unwrap().insert(tray);
        assert_eq!(discovery(&wrong, &hardware).len(), 1);
    }

    #[test]
    fn a_tray_in_no_partition_is_not_lost() {
        let parts = split(&["r01n01".to_owned(), "login".to_owned()], &racks());
        assert_eq!(parts.keys().collect::<Vec<_>>(), ["b1", "none"]);
    }
}
