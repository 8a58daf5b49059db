//! Slurm's code as a placer.
#![forbid(unsafe_code)]

use replay::job::Ask;
use replay::placer::{Placer, PlacerFault, Refused, View};
use replay::site::Site;
use replay::trays::TraySet;

use crate::host::{Host, Loads, Parts};
use crate::protocol::{JobQuestion, TraysQuestion};
use crate::scene::{Cluster, plain_job};

/// CPUs of a tray: as many as Slurm's records of the lab's nodes hold.
const CPUS: u16 = 4;

/// Slurm with a topology plugin in a process of its own, asked for each placement.
pub struct SlurmPlacer {
    host: Host,
    asked: u64,
}

impl SlurmPlacer {
    /// Starts it for a site, with one block for each NVLink partition and the largest as the base size, less the spares.
    ///
    /// # Errors
    /// The process does not start.
    pub fn start(parts: &Parts, loads: Loads, site: &Site) -> anyhow::Result<Self> {
        let racks = site.partitions().iter().map(|partition| partition.end - partition.start).collect();
        let cluster = Cluster { racks, block_sizes: vec![site.largest()], ..Cluster::default() };
        let mut host = Host::start(parts, loads, &cluster, false)?;
        host.ready(&cluster)?;
        Ok(Self { host, asked: 0 })
    }

    /// How often Slurm was asked.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// Memory of its process, in kilobytes.
    ///
    /// # Errors
    /// The process has ended.
    pub fn resident_kb(&self) -> anyhow::Result<u64> {
        self.host.resident_kb()
    }
}

impl Placer for SlurmPlacer {
    fn place(&mut self, view: View<'_>, ask: Ask) -> Result<Result<Vec<u32>, Refused>, PlacerFault> {
        self.asked += 1;
        let mut down = TraySet::full(view.site.trays());
        for tray in view.up.ones() {
            down.remove(tray);
        }
        let job = JobQuestion { segment: u16::try_from(ask.segment)?, ..plain_job(ask.trays) };
        let question = TraysQuestion { usable: runs(view.usable), drained: runs(&down), cpus: CPUS, job };
        let answer = self.host.ask_trays(question)?;
        Ok(if answer.rc == 0 { Ok(answer.nodes) } else { Err(Refused::Slurm(answer.rc)) })
    }
}

/// A set as runs: the first tray and how many.
fn runs(set: &TraySet) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for tray in set.ones() {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == tray => *count += 1,
            _ => runs.push((tray, 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{Job, Scene, idle_tray};

    #[test]
    fn few_words_mean_the_same_question() {
        let mut set = TraySet::full(70);
        set.remove_all(&[0, 5, 6, 69]);
        assert_eq!(runs(&set), [(1, 4), (7, 62)]);
        let mut trays = vec![idle_tray(CPUS); 70];
        for tray in [0, 5, 6, 69] {
            trays[tray].busy = true;
        }
        trays[5].drained = true;
        let cluster = Cluster { racks: vec![70], ..Cluster::default() };
        let scene = Scene {
            cluster,
            trays,
            job: Job { asked: plain_job(3), excluded: Vec::new(), hres_left: Vec::new() },
        };
        let question =
            TraysQuestion { usable: runs(&set), drained: vec![(5, 1)], cpus: CPUS, job: plain_job(3) };
        assert_eq!(question.in_full(70), scene.question());
    }
}
