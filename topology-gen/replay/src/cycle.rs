//! One look of the scheduler at the queue: what starts now, and who gets the reservation.
//!
//! See the crate's words on the order of the queue. What a placer has refused is remembered until a tray becomes free, goes
//! or comes: placers are monotone.

use std::collections::{HashMap, HashSet};

use fabric::placement::Standing;

use crate::Seconds;
use crate::cluster::Cluster;
use crate::job::{Ask, Job};
use crate::placer::{Placer, PlacerFault, Refused, View};
use crate::queue::Queue;
use crate::trays::TraySet;

/// Where and when the first blocked job is to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reservation {
    pub(crate) start: Seconds,
    pub(crate) trays: Vec<u32>,
}

/// The first job in line that could not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blocked {
    pub(crate) job: usize,
    pub(crate) why: Refused,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Decision {
    /// Jobs that start, with their trays.
    pub(crate) starts: Vec<(usize, Vec<u32>)>,
    /// The first that does not.
    pub(crate) blocked: Option<Blocked>,
    /// When the job of each tray reaches its time limit, those that start now included; 0 where there is none.
    ends: Vec<Seconds>,
}

impl Decision {
    fn start(&mut self, number: usize, trays: Vec<u32>, end: Seconds) {
        trays.iter().for_each(|&tray| self.ends[tray as usize] = end);
        self.starts.push((number, trays));
    }
}

/// The scheduler, with what it remembers.
#[derive(Debug)]
pub(crate) struct Scheduler {
    /// How many jobs behind the first blocked one are looked at.
    depth: usize,
    epoch: u64,
    refused: HashMap<Ask, Refused>,
    /// Refused on the trays outside of the reservation.
    refused_beside: HashSet<Ask>,
    /// The reservation of this epoch, and whose it is.
    reserved: Option<(usize, Reservation)>,
    health: u64,
    /// What does not fit either when all jobs have ended, until a tray goes or comes.
    hopeless: HashSet<Ask>,
}

impl Scheduler {
    pub(crate) fn new(depth: usize) -> Self {
        Self {
            depth,
            epoch: u64::MAX,
            refused: HashMap::new(),
            refused_beside: HashSet::new(),
            reserved: None,
            health: u64::MAX,
            hopeless: HashSet::new(),
        }
    }

    /// Looks at the queue.
    pub(crate) fn cycle(
        &mut self,
        now: Seconds,
        cluster: &Cluster<'_>,
        queue: &Queue,
        jobs: &[Job],
        placer: &mut dyn Placer,
    ) -> Result<Decision, PlacerFault> {
        if self.epoch != cluster.epoch() {
            self.epoch = cluster.epoch();
            self.refused.clear();
            self.refused_beside.clear();
            self.reserved = None;
        }
        if self.health != cluster.health() {
            self.health = cluster.health();
            self.hopeless.clear();
        }
        let mut decision = Decision { ends: cluster.ends(), ..Decision::default() };
        let mut free = cluster.usable();
        let mut beside: Option<(Seconds, TraySet)> = None;
        let mut behind = 0;
        // Of the jobs that wait for others to end, the largest piece.
        let mut ahead = 0;
        for number in queue.iter() {
            let job = &jobs[number];
            let ask = job.ask();
            let about =
                About { ask, end: now + job.limit, standing: Standing { ahead, waited: now - job.submit } };
            if let Some((start, beside)) = &mut beside {
                behind += 1;
                if behind > self.depth {
                    break;
                }
                let is_short = about.end <= *start;
                let is_refused =
                    self.refused.contains_key(&ask) || !is_short && self.refused_beside.contains(&ask);
                let usable = if is_short { &free } else { &*beside };
                if !is_refused {
                    match on(cluster, usable, &decision, about, placer)? {
                        Ok(trays) => {
                            free.remove_all(&trays);
                            beside.remove_all(&trays);
                            decision.start(number, trays, about.end);
                            continue;
                        }
                        Err(why) if why.is_for_now() => {}
                        Err(why) if is_short => {
                            self.refused.insert(ask, why);
                        }
                        Err(_) => {
                            self.refused_beside.insert(ask);
                        }
                    }
                }
                if !self.hopeless.contains(&ask) {
                    ahead = ahead.max(ask.request().piece());
                }
                continue;
            }
            let why = match self.refused.get(&ask) {
                Some(&why) => why,
                None => match on(cluster, &free, &decision, about, placer)? {
                    Ok(trays) => {
                        free.remove_all(&trays);
                        decision.start(number, trays, about.end);
                        continue;
                    }
                    Err(why) => {
                        if !why.is_for_now() {
                            self.refused.insert(ask, why);
                        }
                        why
                    }
                },
            };
            decision.blocked.get_or_insert(Blocked { job: number, why });
            if let Some(reservation) = self.reserve(number, now, cluster, jobs, &decision, placer)? {
                ahead = ahead.max(ask.request().piece());
                let mut outside = free.clone();
                outside.remove_all(&reservation.trays);
                beside = Some((reservation.start, outside));
            }
        }
        Ok(decision)
    }

    /// The reservation of a blocked job; None when it cannot start with the trays that are up now. One that was found is
    /// kept while no tray becomes free, goes or comes.
    fn reserve(
        &mut self,
        number: usize,
        now: Seconds,
        cluster: &Cluster<'_>,
        jobs: &[Job],
        decision: &Decision,
        placer: &mut dyn Placer,
    ) -> Result<Option<Reservation>, PlacerFault> {
        let ask = jobs[number].ask();
        if self.hopeless.contains(&ask) {
            return Ok(None);
        }
        if let Some((whose, reservation)) = &self.reserved {
            // Jobs in front of it that start now may have taken trays of it.
            let mut started = decision.starts.iter().flat_map(|(_, trays)| trays);
            if *whose == number && !started.any(|tray| reservation.trays.contains(tray)) {
                return Ok(Some(reservation.clone()));
            }
        }
        self.refused_beside.clear();
        let found = earliest(&jobs[number], now, cluster, jobs, decision, placer)?;
        self.reserved = found.clone().map(|reservation| (number, reservation));
        if found.is_none() {
            self.hopeless.insert(ask);
        }
        Ok(found)
    }
}

/// What a placer is told of a job.
#[derive(Debug, Clone, Copy)]
struct About {
    ask: Ask,
    /// When it would reach its time limit if it started now.
    end: Seconds,
    standing: Standing,
}

/// Asks the placer for a job, unless it is clear that there are too few trays.
fn on(
    cluster: &Cluster<'_>,
    usable: &TraySet,
    decision: &Decision,
    about: About,
    placer: &mut dyn Placer,
) -> Result<Result<Vec<u32>, Refused>, PlacerFault> {
    let About { ask, end, standing } = about;
    let count = usable.count();
    if count < ask.trays {
        return Ok(Err(Refused::TooFew { wanted: ask.trays, usable: count }));
    }
    placer
        .place(View { site: cluster.site, up: &cluster.up, usable, ends: &decision.ends, end, standing }, ask)
}

/// The earliest moment at which the job fits when running jobs, and those that start now, go on until their time limits.
fn earliest(
    job: &Job,
    now: Seconds,
    cluster: &Cluster<'_>,
    jobs: &[Job],
    decision: &Decision,
    placer: &mut dyn Placer,
) -> Result<Option<Reservation>, PlacerFault> {
    let ask = job.ask();
    let about = About { ask, end: now + job.limit, standing: Standing::default() };
    // Ends, each with the job and what it gives back.
    let running =
        cluster.running().iter().map(|(&job, run)| (run.limit_end.max(now), job, run.trays.as_slice()));
    let starting =
        decision.starts.iter().map(|(job, trays)| (now + jobs[*job].limit, *job, trays.as_slice()));
    let mut ends: Vec<(Seconds, usize, &[u32])> = running.chain(starting).collect();
    ends.sort_unstable_by_key(|&(end, job, _)| (end, job));
    let taken: Vec<u32> = decision.starts.iter().flat_map(|(_, trays)| trays.iter().copied()).collect();
    let after = |count: usize| {
        let ended: Vec<usize> = ends[..count].iter().map(|&(_, job, _)| job).collect();
        let mut usable = cluster.usable_without(&ended);
        usable.remove_all(&taken);
        for (_, job, trays) in &ends[..count] {
            if !cluster.running().contains_key(job) {
                usable.insert_all(trays);
            }
        }
        usable
    };
    // As many ends as give the number of trays at least, then in growing steps, then back to the first that suffices.
    let mut sum = cluster.usable().count() as usize - taken.len().min(cluster.usable().count() as usize);
    let mut low = 0;
    while low < ends.len() && (sum < ask.trays as usize || low == 0) {
        sum += ends[low].2.len();
        low += 1;
    }
    let mut fits = None;
    let (mut at, mut step) = (low, 1);
    while !ends.is_empty() {
        match on(cluster, &after(at), decision, about, placer)? {
            Ok(trays) => {
                fits = Some((at, trays));
                break;
            }
            Err(_) if at == ends.len() => break,
            Err(_) => {
                low = at + 1;
                at = (at + step).min(ends.len());
                step *= 2;
            }
        }
    }
    let Some((mut high, mut trays)) = fits else { return Ok(None) };
    while low < high {
        let middle = low + (high - low) / 2;
        match on(cluster, &after(middle), decision, about, placer)? {
            Ok(found) => (high, trays) = (middle, found),
            Err(_) => low = middle + 1,
        }
    }
    Ok(Some(Reservation { start: ends[high - 1].0, trays }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Running;
    use crate::placer::Ours;
    use crate::site::Site;
    use fabric::placement::Rules;

    fn job(trays: u32, limit: Seconds) -> Job {
        Job { name: String::new(), submit: 0, trays, segment: 0, run: limit, limit, priority: 0 }
    }

    /// The same by a site that keeps room for 3 of 4 trays, with so many minutes of patience.
    fn starts_with_patience(
        patience: u32,
        racks: u32,
        running: &[(&[u32], Seconds)],
        waiting: &[(u32, Seconds)],
    ) -> Vec<(usize, Vec<u32>)> {
        let rules = Rules { room: 3, patience, ..Rules::default() };
        starts_by(&mut Ours::new(rules), racks, running, waiting)
    }

    /// Starts of one cycle at 100 on racks of 4 trays, with these jobs running (trays, end) and these waiting.
    fn starts(
        racks: u32,
        running: &[(&[u32], Seconds)],
        waiting: &[(u32, Seconds)],
    ) -> Vec<(usize, Vec<u32>)> {
        starts_by(&mut Ours::default(), racks, running, waiting)
    }

    fn starts_by(
        placer: &mut Ours,
        racks: u32,
        running: &[(&[u32], Seconds)],
        waiting: &[(u32, Seconds)],
    ) -> Vec<(usize, Vec<u32>)> {
        let site = Site::racks(racks, 4, 1, 0).unwrap();
        let mut cluster = Cluster::new(&site);
        let mut jobs: Vec<Job> = running.iter().map(|(trays, _)| job(trays.len() as u32, 1)).collect();
        for (number, &(trays, limit_end)) in running.iter().enumerate() {
            cluster.start(number, Running { trays: trays.to_vec(), since: 0, limit_end, number: 0 }).unwrap();
        }
        let mut queue = Queue::default();
        for &(trays, limit) in waiting {
            queue.add(jobs.len(), &job(trays, limit));
            jobs.push(job(trays, limit));
        }
        let mut scheduler = Scheduler::new(10);
        let decision = scheduler.cycle(100, &cluster, &queue, &jobs, placer).unwrap();
        decision.starts.into_iter().map(|(number, trays)| (number - running.len(), trays)).collect()
    }

    #[test]
    fn a_job_that_ends_in_time_may_use_reserved_trays() {
        // One rack: 2 of 4 busy until 200. The first waiting job wants all 4 at 200.
        let running: &[(&[u32], Seconds)] = &[(&[0, 1], 200)];
        assert_eq!(starts(1, running, &[(4, 50), (1, 100)]), [(1, vec![2])]);
        assert_eq!(starts(1, running, &[(4, 50), (1, 101)]), []);
    }

    #[test]
    fn a_longer_job_takes_other_trays() {
        // Rack 1 is the earlier one to become free, so it is reserved; rack 2 has 2 free trays.
        let running: &[(&[u32], Seconds)] = &[(&[0], 200), (&[4, 5], 900)];
        assert_eq!(starts(2, running, &[(4, 50), (2, 1000)]), [(1, vec![6, 7])]);
        assert_eq!(starts(2, running, &[(4, 50), (3, 1000)]), []);
        assert_eq!(starts(2, running, &[(4, 50), (3, 100)]), [(1, vec![1, 2, 3])]);
    }

    #[test]
    fn a_job_that_can_never_start_reserves_nothing() {
        assert_eq!(starts(1, &[(&[0], 200)], &[(5, 50), (3, 1000)]), [(1, vec![1, 2, 3])]);
    }

    #[test]
    fn a_small_job_waits_behind_a_large_one_while_patience_lasts() {
        // The first rack is whole again at 200 and reserved; in the others 2 trays are free and room for 3 comes at 900.
        let running: &[(&[u32], Seconds)] = &[(&[0], 200), (&[4, 5], 900), (&[8, 9], 900)];
        let waiting = [(4, 50), (2, 1000)];
        assert_eq!(starts_with_patience(0, 3, running, &waiting), [(1, vec![6, 7])]);
        // It has waited 100 s.
        assert_eq!(starts_with_patience(1, 3, running, &waiting), [(1, vec![6, 7])]);
        assert_eq!(starts_with_patience(2, 3, running, &waiting), []);
        // One that ends before delays nobody; neither does one of a single tray, beside which 3 are still free by then.
        assert_eq!(starts_with_patience(2, 3, running, &[(4, 50), (2, 800)]), [(1, vec![6, 7])]);
        assert_eq!(starts_with_patience(2, 3, running, &[(4, 50), (1, 1000)]), [(1, vec![6])]);
        // Nobody waits behind a small job, or behind one that never starts.
        assert_eq!(starts_with_patience(2, 2, &running[1..2], &[(2, 1000), (2, 1000)]).len(), 2);
        assert_eq!(starts_with_patience(2, 3, running, &[(13, 50), (2, 1000)]), [(1, vec![6, 7])]);
    }

    #[test]
    fn jobs_that_start_now_count_for_the_reservation() {
        // The first takes 2 trays until 400; the second then fits at 400, not at 200.
        let running: &[(&[u32], Seconds)] = &[(&[0, 1], 200)];
        assert_eq!(starts(1, running, &[(1, 300), (4, 50), (1, 300)]), [(0, vec![2]), (2, vec![3])]);
        assert_eq!(starts(1, running, &[(1, 300), (4, 50), (1, 301)]), [(0, vec![2])]);
    }
}
