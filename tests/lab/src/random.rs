#![forbid(unsafe_code)]
//! Random clusters and situations from a seed: the same seed gives the same ones on every machine.

use clap::ValueEnum;
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};

use crate::protocol::{Gpus, JobQuestion};
use crate::scene::{Change, Cluster, Job, Scene, Tray, plain_job};

/// Something that situations can have beside racks, whole trays and node counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Variety {
    /// Nodes with GPUs, jobs that ask for them per node, per task and as a whole.
    Gres,
    /// Trays on which other jobs have some of the cores and GPUs.
    Shared,
    /// Several block sizes: aggregated blocks.
    Levels,
    /// Jobs that want a hierarchical resource, of which each rack has an amount.
    Hres,
    /// Nodes that move between blocks, leave and return while Slurm runs, and models that are built again.
    Dynamic,
}

/// The varieties that situations are made of.
pub type Varieties = [Variety];

impl Variety {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Gres, Self::Shared, Self::Levels, Self::Hres, Self::Dynamic];
}

/// A source of numbers.
#[derive(Debug, Clone)]
pub struct Random(SplitMix64);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    /// A number of `low..=high`.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        let span = u64::from(high.max(low) - low) + 1;
        low + (self.0.next_u64() % span) as u32
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: u32) -> bool {
        self.between(1, 100) <= percent
    }

    fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.between(0, items.len() as u32 - 1) as usize]
    }

    /// A cluster; the numbers of nodes and racks are bounds.
    pub fn cluster(&mut self, with: &Varieties, nodes: Option<u32>, racks: Option<u32>) -> Cluster {
        let count = racks.unwrap_or_else(|| self.between(1, 10)).max(1);
        let most = nodes.map_or(18, |nodes| (nodes / count).clamp(1, 72));
        let base = if self.percent(50) { most } else { self.between(1, most) };
        let alike = self.percent(60);
        let racks: Vec<u32> = (0..count).map(|_| if alike { base } else { self.between(1, base) }).collect();
        let levels = with.contains(&Variety::Levels);
        let block_sizes = match self.between(0, 9) {
            0 if levels => Vec::new(),
            1 if levels => vec![base, 2 * base],
            2 if levels => vec![base, 2 * base, 4 * base],
            3 => vec![base.div_ceil(2)],
            _ => vec![base],
        };
        let loose = if self.percent(20) { self.between(1, 4) } else { 0 };
        let gres = with.contains(&Variety::Gres) && self.percent(35);
        let (gpus, cores) =
            if gres { (self.one_of(&[1, 4, 4, 8]), self.one_of(&[4, 8, 64])) } else { (0, 0) };
        Cluster { racks, loose, block_sizes, gpus, cores, changes: Vec::new() }
    }

    /// What changes before the next situation: most often nothing.
    pub fn changes(&mut self, with: &Varieties, cluster: &Cluster) -> Vec<Change> {
        if !with.contains(&Variety::Dynamic) || !self.percent(8) {
            return Vec::new();
        }
        if self.percent(15) {
            return vec![Change::Rebuild];
        }
        let node = self.between(0, cluster.nodes() as u32 - 1);
        let rack = (!self.percent(25)).then(|| self.between(0, cluster.racks.len() as u32 - 1));
        let change = Change::Move { node, rack };
        // The same update again must change nothing.
        if self.percent(30) { vec![change, change] } else { vec![change] }
    }

    /// A situation on a cluster.
    pub fn scene(&mut self, with: &Varieties, cluster: &Cluster) -> Scene {
        let mut trays = self.trays(cluster);
        if with.contains(&Variety::Shared) && self.percent(30) {
            self.share(cluster, &mut trays);
        }
        let usable: Vec<u32> = (0..)
            .zip(&trays)
            .filter(|(_, tray): &(u32, &Tray)| !tray.busy && !tray.drained)
            .map(|(node, _)| node)
            .collect();
        let mut job = self.job(cluster, &usable, trays.iter().map(|tray| tray.cpus).max().unwrap_or(1));
        if cluster.gpus > 0 && self.percent(70) {
            job.asked.gpus = Some(self.gpus(cluster, &job.asked));
        }
        if with.contains(&Variety::Hres) && self.percent(5) {
            let hres = self.between(1, 3);
            let most = hres * cluster.largest().max(1);
            job.asked.hres = hres;
            job.hres_left = (0..=cluster.racks.len()).map(|_| self.between(0, most)).collect();
        }
        Scene { cluster: cluster.clone(), trays, job }
    }

    fn trays(&mut self, cluster: &Cluster) -> Vec<Tray> {
        let (busy, drained) = (self.one_of(&[0, 10, 30, 50, 80, 95]), self.one_of(&[0, 0, 5, 15]));
        let by_rack = self.percent(40);
        let (mut cpus, mut uneven) = (self.one_of(&[1, 4, 8, 64]), self.percent(20));
        if cluster.gpus > 0 {
            (cpus, uneven) = (cluster.cores, false);
        }
        let weights = self.one_of(&[1, 1, 1, 2, 4]);
        let mut rack_busy = false;
        let mut last_rack = None;
        let mut trays = Vec::with_capacity(cluster.nodes());
        for rack in cluster.rack_of_nodes() {
            if rack != last_rack || trays.is_empty() {
                rack_busy = self.percent(busy);
                last_rack = rack;
            }
            let busy = if by_rack { rack_busy != self.percent(5) } else { self.percent(busy) };
            trays.push(Tray {
                busy,
                drained: self.percent(drained),
                cpus: if uneven { self.between(1, u32::from(cpus)) as u16 } else { cpus },
                taken: 0,
                gpus_taken: 0,
                weight: self.between(1, weights),
            });
        }
        trays
    }

    /// Gives cores and GPUs of some trays to other jobs.
    fn share(&mut self, cluster: &Cluster, trays: &mut [Tray]) {
        let shared = self.one_of(&[10, 50, 90]);
        for tray in trays {
            if !self.percent(shared) {
                continue;
            }
            tray.taken = self.between(0, u32::from(tray.cpus) - 1) as u16;
            tray.cpus -= tray.taken;
            tray.gpus_taken = self.between(0, u32::from(cluster.gpus)) as u16;
        }
    }

    fn gpus(&mut self, cluster: &Cluster, asked: &JobQuestion) -> Gpus {
        let of_node = u32::from(cluster.gpus);
        let tasks = asked.num_tasks.max(1) / asked.min_nodes.max(1);
        match self.between(0, 9) {
            0..=5 => Gpus::PerNode(self.between(1, of_node) as u16),
            6..=7 if asked.num_tasks > 0 => Gpus::PerTask(self.between(1, of_node / tasks.max(1)) as u16),
            _ => Gpus::PerJob(self.between(asked.min_nodes, asked.min_nodes * of_node)),
        }
    }

    fn job(&mut self, cluster: &Cluster, usable: &[u32], cpus: u16) -> Job {
        let all = cluster.nodes() as u32;
        let rack = cluster.largest().max(1);
        let mut nodes = match self.between(0, 9) {
            0 => 1,
            1..=5 => self.between(1, rack),
            6..=7 => self.between(1, (usable.len() as u32).max(1)),
            8 => rack.min(all),
            _ => self.between(1, all),
        };
        let mut segment = 0;
        if self.percent(30) {
            segment = self.between(1, rack + 1);
            if self.percent(85) {
                nodes = (nodes.div_ceil(segment) * segment).min(all / segment * segment).max(1);
            }
        }
        let most = if self.percent(15) { self.between(nodes, all.max(nodes)) } else { nodes };
        let cpus_per_task = if self.percent(20) { self.between(1, u32::from(cpus)) as u16 } else { 1 };
        let ntasks_per_node = if self.percent(15) { self.between(1, u32::from(cpus)) as u16 } else { 0 };
        let min_cpus = match self.between(0, 9) {
            0 => self.between(nodes, nodes * u32::from(cpus) + 2),
            1 => nodes * u32::from(cpus),
            _ => nodes * u32::from(ntasks_per_node.max(1)) * u32::from(cpus_per_task),
        };
        let mut required = if self.percent(15) { self.some(usable, nodes.min(3)) } else { Vec::new() };
        let excluded = if self.percent(10) { self.some(usable, 4) } else { Vec::new() };
        required.retain(|node| !excluded.contains(node));
        if self.percent(12) {
            let asked = self.tasks_only(all, rack, cpus, cpus_per_task, required);
            return Job { asked, excluded, hres_left: Vec::new() };
        }
        let asked = JobQuestion {
            min_nodes: nodes,
            req_nodes: most,
            max_nodes: most,
            min_cpus,
            cpus_per_task,
            num_tasks: if self.percent(20) { nodes } else { 0 },
            ntasks_per_node,
            segment: u16::try_from(segment).unwrap_or(0),
            spread: segment > 0 && self.percent(20),
            consolidate: segment > 0 && self.percent(10),
            exclusive: self.percent(80),
            required,
            gpus: None,
            hres: 0,
        };
        Job { asked, excluded, hres_left: Vec::new() }
    }

    /// `-n` alone: the CPUs decide how many trays.
    fn tasks_only(
        &mut self,
        all: u32,
        rack: u32,
        cpus: u16,
        cpus_per_task: u16,
        required: Vec<u32>,
    ) -> JobQuestion {
        let trays = self.between(1, rack);
        let tasks = self.between(1, u32::from(cpus) * trays + 1);
        JobQuestion {
            max_nodes: all,
            req_nodes: 1,
            min_cpus: tasks * u32::from(cpus_per_task),
            num_tasks: tasks,
            cpus_per_task,
            exclusive: self.percent(50),
            required,
            ..plain_job(1)
        }
    }

    /// Some of the nodes.
    fn some(&mut self, nodes: &[u32], most: u32) -> Vec<u32> {
        let count = if nodes.is_empty() { 0 } else { self.between(1, most.max(1)) };
        let mut picked: Vec<u32> =
            (0..count).map(|_| nodes[self.between(0, nodes.len() as u32 - 1) as usize]).collect();
        picked.sort_unstable();
        picked.dedup();
        picked
    }
}
