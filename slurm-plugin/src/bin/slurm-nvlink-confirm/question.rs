//! A question to Slurm's evaluators: which of these nodes does this job get?
//!
//! The job and its details are Slurm's own records. Each question begins with them as they were at first, plus what is
//! *planted* at places where a member may be.

use std::ffi::c_int;

use topology_block::abi::{BITSTR_MAGIC_VALUE, topology_eval_t};

use crate::memory::{peek, pointer, poke, zeroed};
use crate::slurm::{By, NODES, Slurm};

/// CPUs of each node.
pub(crate) const CPUS: u16 = 4;
/// Room for what a node can give to a job; 56 bytes in 26.05.
const RESOURCES: usize = 256;
/// Room for a job's tasks and cores (`gres_mc_data_t`), and where the CPUs of a task are in it.
const TASKS: usize = 64;
const CPUS_PER_TASK: usize = 10;
/// Cores are what is given out (`SELECT_CORE`).
const BY_CORE: u16 = 4;

/// Something planted: where, and which bytes.
pub(crate) type Plant = (usize, Vec<u8>);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Slurm's return code, 0 when the job gets nodes.
    pub(crate) rc: c_int,
    /// Which ones.
    pub(crate) nodes: Vec<usize>,
}

/// The memory of all questions.
pub(crate) struct Desk<'s> {
    slurm: &'s Slurm,
    /// Slurm's job record.
    pub(crate) job: usize,
    /// Its details.
    pub(crate) details: usize,
    at_first: [(usize, Vec<u8>); 2],
    eval: usize,
    node_map: usize,
    cores: Vec<usize>,
    core_array: usize,
    resources: Vec<usize>,
    resource_array: usize,
    tasks: usize,
}

impl<'s> Desk<'s> {
    /// A desk for a job of Slurm's and its details.
    pub(crate) fn new(slurm: &'s Slurm, job: usize, details: usize) -> Self {
        let at_first = [job, details].map(|record| {
            // SAFETY: a record of Slurm is as long as Slurm says.
            (record, unsafe { peek(record, slurm.size_of(record)) })
        });
        let cores: Vec<usize> = (0..NODES).map(|_| bitmap(CPUS.into(), &[])).collect();
        let resources: Vec<usize> = (0..NODES).map(|_| zeroed(RESOURCES)).collect();
        let desk = Self {
            slurm,
            job,
            details,
            at_first,
            eval: zeroed(size_of::<topology_eval_t>()),
            node_map: bitmap(NODES, &[]),
            core_array: zeroed(8 * NODES),
            cores,
            resource_array: zeroed(8 * NODES),
            resources,
            tasks: zeroed(TASKS),
        };
        put(desk.tasks + CPUS_PER_TASK, &1u16.to_ne_bytes());
        desk
    }

    /// Plants something that all later questions begin with.
    pub(crate) fn keep(&mut self, (address, bytes): Plant) {
        for (record, first) in &mut self.at_first {
            if let Some(offset) =
                address.checked_sub(*record).filter(|offset| offset + bytes.len() <= first.len())
            {
                first[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
        }
    }

    /// Asks.
    ///
    /// May crash: Slurm's code follows what is planted.
    pub(crate) fn ask(&self, by: By, usable: &[usize], nodes: u32, plants: &[Plant]) -> Answer {
        self.ask_with(by, usable, nodes, plants, None)
    }

    /// Asks the part that all plugins share, which calls `own` unless the job wants otherwise.
    pub(crate) fn ask_common(
        &self,
        usable: &[usize],
        nodes: u32,
        plants: &[Plant],
        own: unsafe extern "C" fn(*mut topology_eval_t) -> c_int,
    ) -> Answer {
        self.ask_with(By::Common, usable, nodes, plants, Some(own))
    }

    fn ask_with(
        &self,
        by: By,
        usable: &[usize],
        nodes: u32,
        plants: &[Plant],
        own: Option<unsafe extern "C" fn(*mut topology_eval_t) -> c_int>,
    ) -> Answer {
        for (address, bytes) in self.at_first.iter().chain(plants) {
            put(*address, bytes);
        }
        set_bits(self.node_map, usable);
        for index in 0..NODES {
            put(self.resources[index], &[0; RESOURCES]);
            let is_usable = usable.contains(&index);
            let entry = |address: usize| if is_usable { address } else { 0 }.to_ne_bytes();
            put(self.resources[index], &CPUS.to_ne_bytes());
            set_bits(self.cores[index], &[0, 1, 2, 3]);
            put(self.core_array + 8 * index, &entry(self.cores[index]));
            put(self.resource_array + 8 * index, &entry(self.resources[index]));
        }
        put(self.eval, &[0; size_of::<topology_eval_t>()]);
        let eval = pointer::<topology_eval_t>(self.eval);
        // SAFETY: zeroed memory of this size is a valid evaluation, used by this function alone.
        let question = unsafe { &mut *eval };
        question.avail_core = pointer(self.core_array);
        question.avail_res_array = pointer(self.resource_array);
        question.cr_type = BY_CORE;
        question.eval_nodes = own;
        question.job_ptr = pointer(self.job);
        question.mc_ptr = pointer(self.tasks);
        question.node_map = pointer(self.node_map);
        question.tctx = pointer(self.slurm.context);
        (question.min_nodes, question.req_nodes, question.max_nodes) = (nodes, nodes, nodes);
        // SAFETY: the evaluation is as Slurm makes it; what is planted may make it crash, in a trial.
        let rc = unsafe { self.slurm.evaluate(by, eval) };
        Answer { rc, nodes: if rc == 0 { bits(self.node_map) } else { Vec::new() } }
    }
}

/// A bitmap of Slurm's form.
pub(crate) fn bitmap(bits: usize, set: &[usize]) -> usize {
    let address = zeroed(8 * (2 + bits.div_ceil(64)));
    put(address, &u64::from(BITSTR_MAGIC_VALUE).to_ne_bytes());
    put(address + 8, &(bits as u64).to_ne_bytes());
    set_bits(address, set);
    address
}

/// Sets these bits, all below 64, and clears the others.
fn set_bits(bitmap: usize, set: &[usize]) {
    let word = set.iter().fold(0u64, |word, bit| word | 1 << bit);
    put(bitmap + 16, &word.to_ne_bytes());
}

fn bits(bitmap: usize) -> Vec<usize> {
    // SAFETY: a bitmap of `bitmap` above.
    let word = unsafe { crate::memory::u64_at(bitmap + 16) };
    (0..NODES).filter(|bit| word >> bit & 1 != 0).collect()
}

fn put(address: usize, bytes: &[u8]) {
    // SAFETY: the callers write to memory of their own, or to records of Slurm that nobody else uses.
    unsafe { poke(address, bytes) };
}
