//! The trays as they are now: who has them and which are in service.

use std::collections::BTreeMap;

use crate::Seconds;
use crate::site::Site;
use crate::trays::TraySet;

/// A job on its trays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) trays: Vec<u32>,
    pub(crate) since: Seconds,
    /// When it reaches its time limit, which is all that a scheduler knows of its end.
    pub(crate) limit_end: Seconds,
    /// How manieth run of the job it is.
    pub(crate) number: u32,
}

/// The trays and the running jobs.
#[derive(Debug)]
pub(crate) struct Cluster<'s> {
    pub(crate) site: &'s Site,
    pub(crate) up: TraySet,
    /// Trays that are up and have no job, spares included.
    idle: TraySet,
    holders: Vec<Option<usize>>,
    running: BTreeMap<usize, Running>,
    busy: u32,
    /// Counts what can make a refused job fit: each tray that became free, went or came.
    epoch: u64,
    /// Counts trays that went or came.
    health: u64,
}

impl<'s> Cluster<'s> {
    pub(crate) fn new(site: &'s Site) -> Self {
        let mut up = TraySet::full(site.trays());
        up.remove_all(site.drained());
        let holders = vec![None; site.trays() as usize];
        Self { site, idle: up.clone(), up, holders, running: BTreeMap::new(), busy: 0, epoch: 0, health: 0 }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn health(&self) -> u64 {
        self.health
    }

    pub(crate) fn busy(&self) -> u32 {
        self.busy
    }

    pub(crate) fn idle(&self) -> &TraySet {
        &self.idle
    }

    /// When the job of each tray reaches its time limit; 0 where there is none.
    pub(crate) fn ends(&self) -> Vec<Seconds> {
        let mut ends = vec![0; self.holders.len()];
        for run in self.running.values() {
            run.trays.iter().for_each(|&tray| ends[tray as usize] = run.limit_end);
        }
        ends
    }

    pub(crate) fn running(&self) -> &BTreeMap<usize, Running> {
        &self.running
    }

    /// The trays that jobs can have now.
    pub(crate) fn usable(&self) -> TraySet {
        let mut usable = self.idle.clone();
        self.site.hold_back(&self.up, &mut usable);
        usable
    }

    /// The trays that jobs can have when those of the given running jobs are free, too.
    pub(crate) fn usable_without(&self, ended: &[usize]) -> TraySet {
        let mut usable = self.idle.clone();
        for job in ended {
            if let Some(running) = self.running.get(job) {
                running
                    .trays
                    .iter()
                    .filter(|&&tray| self.up.contains(tray))
                    .for_each(|&tray| usable.insert(tray));
            }
        }
        self.site.hold_back(&self.up, &mut usable);
        usable
    }

    /// Gives trays to a job. Whoever chose them: only idle ones are accepted.
    pub(crate) fn start(&mut self, job: usize, running: Running) -> Result<(), String> {
        let mut taken = TraySet::empty(self.site.trays());
        for &tray in &running.trays {
            if tray >= self.site.trays() || !self.idle.contains(tray) || taken.contains(tray) {
                return Err(format!("tray {tray} was chosen for job {job} and is not free"));
            }
            taken.insert(tray);
        }
        for &tray in &running.trays {
            self.idle.remove(tray);
            self.holders[tray as usize] = Some(job);
        }
        self.busy += running.trays.len() as u32;
        self.running.insert(job, running);
        Ok(())
    }

    /// Takes a job off its trays.
    pub(crate) fn end(&mut self, job: usize) -> Option<Running> {
        let running = self.running.remove(&job)?;
        for &tray in &running.trays {
            self.holders[tray as usize] = None;
            if self.up.contains(tray) {
                self.idle.insert(tray);
            }
        }
        self.busy -= running.trays.len() as u32;
        self.epoch += 1;
        Some(running)
    }

    /// A tray goes out of service; the job that has it, which is to be ended.
    pub(crate) fn down(&mut self, tray: u32) -> Option<usize> {
        self.up.remove(tray);
        self.idle.remove(tray);
        self.epoch += 1;
        self.health += 1;
        self.holders[tray as usize]
    }

    /// A tray is back.
    pub(crate) fn back(&mut self, tray: u32) {
        self.up.insert(tray);
        if self.holders[tray as usize].is_none() {
            self.idle.insert(tray);
        }
        self.epoch += 1;
        self.health += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(trays: &[u32]) -> Running {
        Running { trays: trays.to_vec(), since: 0, limit_end: 9, number: 0 }
    }

    #[test]
    fn a_tray_has_one_job_and_none_while_it_is_away() {
        let site = Site::racks(1, 4, 1, 1).unwrap();
        let mut cluster = Cluster::new(&site);
        assert_eq!(cluster.usable().ones().collect::<Vec<_>>(), [0, 1, 2]);
        cluster.start(7, running(&[0, 1])).unwrap();
        assert!(cluster.start(8, running(&[1, 2])).unwrap_err().contains("tray 1"));
        assert!(cluster.start(8, running(&[2, 2])).is_err());
        assert!(cluster.start(8, running(&[3])).is_err());
        assert_eq!(cluster.down(1), Some(7));
        assert_eq!(cluster.end(7).map(|run| run.trays), Some(vec![0, 1]));
        assert_eq!((cluster.usable().ones().collect::<Vec<_>>(), cluster.busy()), (vec![0, 2], 0));
        cluster.back(1);
        assert_eq!(cluster.usable().count(), 3);
    }
}
