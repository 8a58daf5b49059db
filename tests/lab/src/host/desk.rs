#![forbid(unsafe_code)]
//! Lays questions out in memory as slurmctld does, and reads the answers.

use std::ffi::{CString, c_int};
use std::ptr::null_mut;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::ensure;
use lab::layout::{NO_VAL, NO_VAL16, details, eval, hres, job, mc, node, part, resources};
use lab::protocol::{Answer, Answerer, Question};

use crate::gres::Numbers;
use crate::slurm::Slurm;
use crate::symbols::avail_node_bitmap;
use crate::words::Words;

/// Words of a node's cores: header and 64 bits.
const CORE_WORDS: usize = 3;
const RESOURCE_WORDS: usize = resources::SIZE / 8;

/// All memory of one question, and the question.
pub(crate) struct Desk {
    slurm: Slurm,
    eval: Words,
    job: Words,
    details: Words,
    part: Words,
    mc: Words,
    node_map: Words,
    required: Words,
    /// Nodes that are not drained.
    available: Words,
    cores: Words,
    core_array: Words,
    masked_core_array: Words,
    resources: Words,
    resource_array: Words,
    cores_per_socket: Words,
    /// The job's hierarchical resource, and what is left of it: now, and before the evaluation.
    hres: Words,
    hres_left: [Words; 2],
    question: Option<Question>,
    /// Slurm's list of the job's GRES, 0 for none, and what it said of it.
    job_gres: (c_int, u64),
    usable: Vec<usize>,
    /// Where each moved node is to be, as Slurm reads it from the node's record.
    places: Vec<Option<CString>>,
}

impl Desk {
    pub(crate) fn new(slurm: Slurm) -> Self {
        let nodes = slurm.node_count();
        let desk = Self {
            eval: Words::bytes(eval::SIZE),
            job: Words::bytes(job::SIZE),
            details: Words::bytes(details::SIZE),
            part: Words::bytes(part::SIZE),
            mc: Words::bytes(mc::SIZE),
            node_map: Words::bitmap(nodes),
            required: Words::bitmap(nodes),
            available: Words::bitmap(nodes),
            cores: Words::zeroed(nodes * CORE_WORDS),
            core_array: Words::zeroed(nodes),
            masked_core_array: Words::zeroed(nodes),
            resources: Words::zeroed(nodes * RESOURCE_WORDS),
            resource_array: Words::zeroed(nodes),
            cores_per_socket: Words::zeroed(nodes),
            hres: Words::bytes(hres::SIZE),
            hres_left: [Words::zeroed(0), Words::zeroed(0)],
            question: None,
            job_gres: (0, 0),
            usable: Vec::new(),
            places: vec![None; nodes],
            slurm,
        };
        avail_node_bitmap.store(desk.available.pointer(), Ordering::Relaxed);
        desk.job.put(job::MAGIC, job::MAGIC_VALUE);
        desk.job.put(job::DETAILS, desk.details.address());
        desk.job.put(job::JOB_ID, 1);
        desk.job.put(job::PART_PTR, desk.part.address());
        desk.details.put(details::MAGIC, details::MAGIC_VALUE);
        desk.details.put(details::MC_PTR, desk.mc.address());
        desk.details.put(details::MAX_CPUS, NO_VAL);
        desk.part.put(part::MAGIC, part::MAGIC_VALUE);
        desk
    }

    /// The Slurm that is asked.
    pub(crate) fn slurm(&self) -> &Slurm {
        &self.slurm
    }

    /// Answers a question, and keeps it for [`Desk::time`].
    pub(crate) fn ask(&mut self, question: Question) -> anyhow::Result<Answer> {
        let nodes = self.slurm.node_count();
        let counts =
            [question.cpus.len(), question.taken.len(), question.gpus_taken.len(), question.weights.len()];
        ensure!(counts == [nodes; 4], "the question has {counts:?} nodes, not {nodes}");
        self.put_away();
        self.lay_out_nodes(&question);
        self.lay_out_job(&question);
        self.lay_out_hres(&question);
        self.usable = (0..nodes).filter(|&index| question.cpus[index] > 0).collect();
        self.question = Some(question);
        if self.job_gres.0 != 0 {
            return Ok(Answer { rc: self.job_gres.0, nodes: Vec::new(), intact: true });
        }
        self.reset();
        let rc = self.slurm.evaluate(&self.eval);
        let intact = self.eval.member(eval::AVAIL_CORE) == self.core_array.address()
            && self.eval.member(eval::NODE_MAP) == self.node_map.address()
            && self.usable.iter().all(|&index| {
                let resources = self.resource_array.get(index);
                self.core_array.get(index) == self.cores.address_of(index * CORE_WORDS)
                    && (resources == 0 || resources == self.resources.address_of(index * RESOURCE_WORDS))
            });
        let nodes =
            if rc == 0 { self.node_map.ones().map(|index| index as u32).collect() } else { Vec::new() };
        Ok(Answer { rc, nodes, intact })
    }

    /// Puts a node into a block, or out of all; Slurm's return code.
    pub(crate) fn move_node(&mut self, node: u32, block: Option<String>) -> anyhow::Result<c_int> {
        let node = node as usize;
        ensure!(node < self.places.len(), "there is no node {node}");
        let place = block.map(|block| CString::new(format!("lab:{block}"))).transpose()?;
        let text = place.as_ref().map_or(0, |text| text.as_ptr().expose_provenance() as u64);
        self.slurm.put(node, node::TOPOLOGY_STR, text);
        self.places[node] = place;
        Ok(self.slurm.move_node(node))
    }

    /// Builds the plugin's model again; Slurm's return code.
    pub(crate) fn rebuild(&self) -> anyhow::Result<c_int> {
        self.slurm.rebuild()
    }

    /// Answers the last question again and again; nanoseconds of each time.
    pub(crate) fn time(&mut self, answerer: Answerer, repetitions: u32) -> anyhow::Result<Vec<u64>> {
        ensure!(self.question.is_some(), "there is no question yet");
        let mut times = Vec::with_capacity(repetitions as usize);
        for _ in 0..repetitions {
            self.reset();
            let begin = Instant::now();
            match answerer {
                Answerer::Plugin => {
                    self.slurm.evaluate(&self.eval);
                }
                Answerer::Floor => self.trivial_choice(),
            }
            times.push(u64::try_from(begin.elapsed().as_nanos())?);
        }
        Ok(times)
    }

    /// The first usable nodes, as many as wanted, and Slurm's flat evaluator on just these.
    fn trivial_choice(&self) {
        let wanted = self.eval.member(eval::MIN_NODES) as usize;
        let chosen: Vec<usize> = self.node_map.ones().take(wanted).collect();
        self.node_map.clear_bits();
        for &index in &chosen {
            self.node_map.set_bit(index);
            self.masked_core_array.set(index, self.core_array.get(index));
        }
        self.eval.put(eval::AVAIL_CORE, self.masked_core_array.address());
        self.slurm.evaluate_flat(&self.eval);
        self.eval.put(eval::AVAIL_CORE, self.core_array.address());
        for &index in &chosen {
            self.masked_core_array.set(index, 0);
        }
    }

    fn lay_out_nodes(&self, question: &Question) {
        self.core_array.clear();
        self.resource_array.clear();
        let sockets = self.slurm.gres.as_ref().map_or(1, |gres| gres.sockets);
        for (index, &cpus) in question.cpus.iter().enumerate() {
            let most = match &self.slurm.gres {
                Some(gres) => u64::from(gres.cores),
                None => u64::from(cpus + question.taken[index]).max(1),
            };
            for (member, value) in [
                (node::BOARDS, 1),
                (node::TOT_SOCKETS, sockets.into()),
                (node::CORES, most / u64::from(sockets)),
                (node::TOT_CORES, most),
                (node::CPUS, most),
                (node::TPC, 1),
                (node::THREADS, 1),
                (node::WEIGHT, u64::from(question.weights[index])),
                (node::SCHED_WEIGHT, sched_weight(question.weights[index], 0)),
                (node::NODE_STATE, if cpus > 0 { node::STATE_IDLE } else { node::STATE_ALLOCATED }),
            ] {
                self.slurm.put(index, member, value);
            }
            if let Some(gres) = &self.slurm.gres {
                gres.take(index, question.gpus_taken[index]);
            }
        }
        (0..question.cpus.len()).for_each(|index| self.available.set_bit(index));
        for &index in &question.drained {
            self.slurm.put(index as usize, node::NODE_STATE, node::STATE_IDLE | node::STATE_DRAIN);
            self.available.clear_bit(index as usize);
        }
    }

    fn lay_out_job(&mut self, question: &Question) {
        let asked = &question.job;
        let mut numbers = Numbers::new(asked);
        self.job_gres = self.slurm.gres.as_ref().map_or((0, 0), |gres| gres.job_list(asked, &mut numbers));
        self.job.put(job::GRES_LIST_REQ, self.job_gres.1);
        let mut flags = 0;
        if asked.spread {
            flags |= job::SPREAD_SEGMENTS;
        }
        if asked.consolidate {
            flags |= job::CONSOLIDATE_SEGMENTS;
        }
        self.job.put(job::BIT_FLAGS, flags);
        self.required.clear_bits();
        for &index in &asked.required {
            self.required.set_bit(index as usize);
        }
        let required = if asked.required.is_empty() { 0 } else { self.required.address() };
        for (member, value) in [
            (details::CPUS_PER_TASK, u64::from(asked.cpus_per_task)),
            (details::MIN_CPUS, numbers.min_cpus()),
            (details::MIN_NODES, u64::from(asked.min_nodes)),
            (details::MAX_NODES, u64::from(asked.max_nodes)),
            (details::NTASKS_PER_NODE, u64::from(asked.ntasks_per_node)),
            (details::NUM_TASKS, u64::from(asked.num_tasks)),
            (details::PN_MIN_CPUS, 1),
            (details::REQ_NODE_BITMAP, required),
            (details::SEGMENT_SIZE, u64::from(asked.segment)),
            (details::WHOLE_NODE, u64::from(asked.exclusive)),
        ] {
            self.details.put(member, value);
        }
        self.mc.put(mc::CPUS_PER_TASK, u64::from(asked.cpus_per_task));
        self.mc.put(mc::NTASKS_PER_NODE, u64::from(asked.ntasks_per_node));
    }

    /// One level of leaves, bound to the topology that is evaluated: stock then counts what each block has.
    fn lay_out_hres(&mut self, question: &Question) {
        let left = &question.hres_left;
        let select = if question.job.hres > 0 { self.hres.address() } else { 0 };
        self.job.put(job::HRES_SELECT, select);
        self.hres_left = [Words::bytes(4 * left.len()), Words::bytes(4 * left.len())];
        for counters in &self.hres_left {
            for (leaf, &left) in left.iter().enumerate() {
                counters.put((4 * leaf, 4), left.into());
            }
        }
        for (member, value) in [
            (hres::AVAIL_HRES, self.hres_left[0].address()),
            (hres::AVAIL_HRES_ORIG, self.hres_left[1].address()),
            (hres::DEPTH, 1),
            (hres::HRES_PER_NODE, question.job.hres.into()),
            (hres::LAYERS_CNT, left.len() as u64),
            (hres::TOPOLOGY_IDX, 0),
        ] {
            self.hres.put(member, value);
        }
    }

    /// Puts back everything that an evaluation may change.
    fn reset(&self) {
        let Some(question) = &self.question else { return };
        self.put_away_resources();
        self.node_map.clear_bits();
        let sockets = self.slurm.gres.as_ref().map_or(1, |gres| gres.sockets);
        for &index in &self.usable {
            let (cpus, taken) = (u64::from(question.cpus[index]), u64::from(question.taken[index]));
            let cores = index * CORE_WORDS;
            self.cores.set(cores, lab::layout::BITMAP_MAGIC);
            self.cores.set(cores + 1, cpus + taken);
            // Other jobs have the first cores.
            let free = (u64::MAX >> (64 - cpus.clamp(1, 64))) << taken;
            self.cores.set(cores + 2, free);
            self.core_array.set(index, self.cores.address_of(cores));
            let place = index * RESOURCE_WORDS;
            self.cores_per_socket.set(index, cpus);
            for (member, value) in [
                (resources::AVAIL_CPUS, cpus),
                (resources::AVAIL_RES_PROD, cpus),
                (resources::AVAIL_CORES_PER_SOCK, self.cores_per_socket.address_of(index)),
                (resources::MAX_CPUS, cpus),
                (resources::MIN_CPUS, 1),
                (resources::SOCK_CNT, sockets.into()),
                (resources::SOCK_GRES_LIST, 0),
                (resources::TPC, 1),
                (
                    resources::HRES_LEAF_IDX,
                    question.hres_leaf.get(index).map_or(NO_VAL16, |&leaf| leaf.into()),
                ),
            ] {
                self.resources.put_at(place, member, value);
            }
            if self.add_gpus(question, index) {
                self.node_map.set_bit(index);
                self.resource_array.set(index, self.resources.address_of(place));
            }
        }
        self.reset_evaluation(question);
    }

    /// Adds what the node's GPUs and sockets can give to the job; false when its GPUs are not enough.
    fn add_gpus(&self, question: &Question, index: usize) -> bool {
        let Some(gres) = &self.slurm.gres else { return true };
        let free = self.cores.get(index * CORE_WORDS + 2);
        let per_socket = gres.cores / gres.sockets;
        let of_socket = |socket: u16| free >> (socket * per_socket) & (u64::MAX >> (64 - per_socket));
        let counts: Vec<u16> =
            (0..gres.sockets).map(|socket| of_socket(socket).count_ones() as u16).collect();
        let place = index * RESOURCE_WORDS;
        if self.job_gres.1 != 0 {
            let cores = self.cores.address_of(index * CORE_WORDS);
            let Some(on_node) = gres.on_node(index, &question.job, self.job_gres.1, cores) else {
                return false;
            };
            let product = u64::from(question.cpus[index]) * u64::from(on_node.gpus);
            self.resources.put_at(place, resources::SOCK_GRES_LIST, on_node.sock_list);
            self.resources.put_at(place, resources::AVAIL_GPUS, on_node.gpus.into());
            self.resources.put_at(place, resources::AVAIL_RES_PROD, product);
            let weight = sched_weight(question.weights[index], on_node.near);
            self.slurm.put(index, node::SCHED_WEIGHT, weight);
        }
        self.resources.put_at(place, resources::AVAIL_CORES_PER_SOCK, gres.numbers(&counts));
        true
    }

    /// Gives back to Slurm what the last evaluation had of it.
    fn put_away_resources(&self) {
        let Some(gres) = &self.slurm.gres else { return };
        for &index in &self.usable {
            if self.resource_array.get(index) == 0 {
                continue;
            }
            self.resource_array.set(index, 0);
            let place = index * RESOURCE_WORDS;
            gres.free(self.resources.member_at(place, resources::AVAIL_CORES_PER_SOCK));
            gres.free_list(self.resources.member_at(place, resources::SOCK_GRES_LIST));
        }
    }

    /// Gives back to Slurm what the last question had of it.
    fn put_away(&mut self) {
        self.put_away_resources();
        if let Some(gres) = &self.slurm.gres {
            gres.free_list(std::mem::take(&mut self.job_gres).1);
        }
    }

    fn reset_evaluation(&self, question: &Question) {
        let asked = &question.job;
        let before = self.eval.member(eval::TCTX);
        self.eval.clear();
        for (member, value) in [
            (eval::TCTX, before),
            (eval::AVAIL_CORE, self.core_array.address()),
            (eval::AVAIL_RES_ARRAY, self.resource_array.address()),
            (eval::CR_TYPE, eval::CR_CORE),
            (eval::JOB_PTR, self.job.address()),
            (eval::MAX_NODES, u64::from(asked.max_nodes)),
            (eval::MC_PTR, self.mc.address()),
            (eval::MIN_NODES, u64::from(asked.min_nodes)),
            (eval::NODE_MAP, self.node_map.address()),
            (eval::REQ_NODES, u64::from(asked.req_nodes)),
        ] {
            self.eval.put(member, value);
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        avail_node_bitmap.store(null_mut(), Ordering::Relaxed);
        self.put_away();
    }
}

/// The scheduling weight as slurmctld makes it: nodes with more GPUs near their free cores are lighter.
fn sched_weight(weight: u32, near_gpus: u16) -> u64 {
    u64::from(weight) << 8 | (0xff - u64::from(near_gpus))
}
