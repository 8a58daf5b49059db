#![forbid(unsafe_code)]
//! When trays become free, as far as the plugin knows: so small jobs can leave room to the segments of large ones.
//!
//! Known is what runs, looked up once a minute, and what this process has placed since, in whichever topology: topologies share
//! trays. What is not known is taken for what never ends: then the choice is as without it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use fabric::placement::Rules;

use super::line::Ahead;
use crate::bits;
use crate::host::eval::Eval;
use crate::host::job::Job;
use crate::host::record::Records;
use crate::host::running::{self, Running};
use crate::host::{node, process};

/// Time limits from here on are none (`slurm/slurm.h`: `NO_VAL`, `INFINITE`).
const NO_LIMIT: u32 = 0xffff_fffe;
/// Seconds between two looks at all jobs that run. One is a walk over all jobs that slurmctld has: 3 to 9 ms for 15,000 of which 5,000
/// run, on cold caches. What it tells beyond the placements of this process is what ran before it, and limits that were changed.
const LOOK: u64 = 60;

/// When each node's job reaches its time limit.
#[derive(Default)]
pub(crate) struct Ends {
    /// In seconds since 1970, by node; 0, or no entry, where nothing is known.
    nodes: Vec<u64>,
    /// When all jobs were looked at, in seconds since 1970.
    looked: u64,
}

static KNOWN: Mutex<Ends> = Mutex::new(Ends { nodes: Vec::new(), looked: 0 });

impl Ends {
    /// What is known. A panic while it is held leaves it whole.
    pub(crate) fn known() -> MutexGuard<'static, Self> {
        KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the jobs that run, if that was not done for a minute.
    pub(super) fn look(&mut self, records: &Records) {
        let now = process::now();
        if now.abs_diff(self.looked) < LOOK {
            return;
        }
        let mut found = Self { nodes: Vec::with_capacity(self.nodes.len()), looked: now };
        if running::each(records, |job| found.add(job)).is_some() {
            *self = found;
        }
    }

    /// A job that runs, perhaps beside others on its nodes.
    fn add(&mut self, job: &Running<'_>) {
        let end = if job.time_limit >= NO_LIMIT { u64::MAX } else { job.end };
        for node in bits::ones(job.nodes) {
            let known = self.at(node);
            *known = end.max(*known);
        }
    }

    /// Remembers a job that was placed, as the evaluation now has it, on nodes where nothing runs. Anything else is a test of
    /// Slurm, or a job on shared trays.
    pub(crate) fn note(&mut self, answer: &Eval<'_>, job: &Job<'_>) {
        let chosen = answer.usable();
        let is_free = node::idle().is_some_and(|idle| bits::is_subset(chosen, idle));
        let Some(end) = end(job, process::now()).filter(|_| is_free && job.id != 0 && !job.backfill_test)
        else {
            return;
        };
        for node in bits::ones(chosen) {
            *self.at(node) = end;
        }
    }

    fn at(&mut self, node: usize) -> &mut u64 {
        if node >= self.nodes.len() {
            self.nodes.resize(node + 1, 0);
        }
        &mut self.nodes[node]
    }
}

/// When this job reaches its time limit if it starts now; None where that is not known.
fn end(job: &Job<'_>, now: u64) -> Option<u64> {
    let limit = |minutes| if minutes >= NO_LIMIT { u64::MAX } else { now + 60 * u64::from(minutes) };
    job.time_limit.map(limit)
}

/// What trays the job can have and leave the room that it has to leave.
pub(super) struct Room<'e> {
    ends: &'e Ends,
    /// Nodes that run nothing.
    idle: &'e [u64],
    /// Nodes that are neither drained nor down.
    available: &'e [u64],
    rules: &'e Rules,
    /// Trays of the job.
    trays: u32,
    ahead: &'e Ahead,
    /// Whether the job waits rather than delay room.
    pub(super) held: bool,
    end: u64,
}

impl<'e> Room<'e> {
    /// For a job of so many trays; None where nothing is known of its end.
    pub(super) fn of(
        ends: &'e Ends,
        rules: &'e Rules,
        trays: u32,
        ahead: &'e Ahead,
        job: &Job<'_>,
    ) -> Option<Self> {
        let (idle, available) = (node::idle().unwrap_or(&[]), node::available().unwrap_or(&[]));
        let held = rules.leaves(trays, ahead.worst()).is_some_and(|leaves| leaves.held);
        Some(Self { ends, idle, available, rules, trays, ahead, held, end: end(job, process::now())? })
    }

    /// How many trays the job can have in a partition of which `free` nodes are usable and `others` are not.
    pub(super) fn spare(&self, partition: usize, free: u32, others: impl Iterator<Item = usize>) -> u32 {
        // A job that is held is so only where somebody ahead of it can start.
        let leaves = self.rules.leaves(self.trays, self.ahead.standing(partition));
        let Some(leaves) = leaves.filter(|leaves| free > 0 && leaves.held == self.held) else { return free };
        let end = |node: usize| match self.ends.nodes.get(node) {
            // Kept for somebody else.
            _ if bits::contains(self.idle, node) => Some(0),
            None | Some(0) => None,
            Some(&end) => Some(end),
        };
        let mut ends: Vec<u64> =
            others.filter(|&node| bits::contains(self.available, node)).filter_map(end).collect();
        leaves.spare(free, &mut ends, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(time_limit: Option<u32>) -> Job<'static> {
        Job {
            id: 1,
            min_cpus: 1,
            segment: 0,
            spread: false,
            consolidate: false,
            backfill_test: false,
            time_limit,
            queued: None,
            required: None,
            odd: None,
        }
    }

    #[test]
    fn a_job_ends_at_its_limit_or_never() {
        let ends = [Some(0), Some(10), Some(NO_LIMIT - 1), Some(NO_LIMIT), Some(u32::MAX), None];
        let ends = ends.map(|limit| end(&job(limit), 1_000));
        let longest = 1_000 + 60 * u64::from(NO_LIMIT - 1);
        assert_eq!(ends, [Some(1_000), Some(1_600), Some(longest), Some(u64::MAX), Some(u64::MAX), None]);
    }

    #[test]
    fn a_tray_is_busy_until_the_last_of_its_jobs_ends() {
        let mut ends = Ends::default();
        for (time_limit, end, nodes) in
            [(10, 700, 0b11), (60, 3_700, 0b10), (5, 400, 0b110), (NO_LIMIT, 9, 0b1000)]
        {
            ends.add(&Running { time_limit, end, nodes: &[nodes] });
        }
        assert_eq!(ends.nodes, [700, 3_700, 400, u64::MAX]);
    }

    #[test]
    fn what_is_drained_or_unknown_is_never_free() {
        // Nodes 0 to 3 of a partition of 6 are busy until 100, 200, 200 and for nobody knows how long; 4 and 5 are usable.
        let ends = Ends { nodes: vec![100, 200, 200, 0], looked: 0 };
        let spare = |room, minutes: u64, idle: u64, available: u64| {
            let (idle, available, rules) = (&[idle][..], &[available][..], rules(room));
            let (ahead, end) = (&Ahead::default(), 60 * minutes);
            let room =
                Room { ends: &ends, idle, available, rules: &rules, trays: 1, ahead, held: false, end };
            assert_eq!(room.spare(0, 0, 0..4), 0);
            room.spare(0, 2, 0..4)
        };
        // Room for 4 is there at 200, with one to spare, for 6 never.
        assert_eq!([3, 4].map(|minutes| spare(4, minutes, 0, 0b11_1111)), [2, 1]);
        assert_eq!(spare(6, 4, 0, 0b11_1111), 2);
        // Node 1 is drained, node 3 is kept for somebody else.
        assert_eq!(spare(5, 4, 0, 0b11_1101), 2);
        assert_eq!(spare(5, 4, 0b1000, 0b11_1101), 0);
        assert!(Room::of(&ends, &rules(4), 1, &Ahead::default(), &job(None)).is_none());
    }

    #[test]
    fn a_held_job_leaves_room_only_where_somebody_ahead_can_start() {
        // 2 of 6 trays are free, the others from 200 on.
        let ends = Ends { nodes: vec![200; 4], looked: 0 };
        let rules = Rules { patience: 1, ..rules(6) };
        let spare = |ahead: Ahead| {
            let held = rules.leaves(1, ahead.worst()).unwrap().held;
            let room = Room {
                ends: &ends,
                idle: &[0],
                available: &[0b11_1111],
                rules: &rules,
                trays: 1,
                ahead: &ahead,
                held,
                end: 300,
            };
            [0, 1, 2].map(|partition| room.spare(partition, 2, 0..4))
        };
        assert_eq!(spare(Ahead::default()), [0; 3]);
        assert_eq!(spare(Ahead::of(&[6, 0])), [0, 2, 2]);
        assert_eq!(spare(Ahead::of(&[0, 7])), [2, 0, 2]);
    }

    fn rules(room: u32) -> Rules {
        Rules { room, ..Rules::default() }
    }
}
