//! One evaluation: Slurm asks which of the usable nodes a job should get.
//!
//! [`Eval::try_on`] narrows the question to a set of nodes that we chose and lets Slurm's flat evaluator choose cores
//! and GRES on them. When that fails, everything that Slurm's own retry loop would put back is put back, so that the
//! next set, or stock, starts from the same question.

use std::ffi::c_int;
use std::ptr;

use super::bitmap;
use super::job::Job;
use super::node;
use super::stock::stock;
use crate::abi::layout::Layout;
use crate::abi::{EVAL_ACTION_BREAK, EVAL_ACTION_NONE, TOPO_RC_SUCCESS, bitstr_t, topology_eval_t};
use crate::bits;

/// A checked evaluation.
pub(crate) struct Eval<'a> {
    eval: &'a mut topology_eval_t,
    usable: Vec<u64>,
}

impl<'a> Eval<'a> {
    /// Checks what Slurm passed: None when it is not what this release passes.
    ///
    /// # Safety
    /// `eval` is the argument of `topology_p_eval_nodes`, used by this thread alone during `'a`.
    pub(crate) unsafe fn new(eval: *mut topology_eval_t) -> Option<Self> {
        // SAFETY: Slurm passes a live evaluation, by the caller's word.
        let eval = unsafe { eval.as_mut() }?;
        // SAFETY: the node map is a bitmap or the check says that it is none.
        let size = unsafe { bitmap::size(eval.node_map) }?;
        if size != node::count() || eval.avail_core.is_null() || eval.avail_res_array.is_null() {
            return None;
        }
        // SAFETY: as above.
        let usable = unsafe { bitmap::words(eval.node_map) }?.to_vec();
        Some(Self { eval, usable })
    }

    /// The usable nodes, as Slurm passed them.
    pub(crate) fn usable(&self) -> &[u64] {
        &self.usable
    }

    /// The job, or None when its records do not look as promised.
    pub(crate) fn job<'j>(&self, layout: &Layout) -> Option<Job<'j>>
    where
        'a: 'j,
    {
        // SAFETY: Slurm passes the job's record and holds its job lock during the evaluation.
        unsafe { Job::read(self.eval.job_ptr, layout) }
    }

    /// How many nodes the job is to get: stock's block evaluation always takes the least.
    pub(crate) fn wanted(&self) -> u32 {
        self.eval.min_nodes.min(self.eval.req_nodes)
    }

    /// The most nodes that it may get.
    pub(crate) fn most(&self) -> u32 {
        self.eval.max_nodes
    }

    /// Whether the last try found that the job asks for GRES as a whole rather than per node.
    pub(crate) fn gres_per_job(&self) -> bool {
        self.eval.gres_per_job
    }

    /// CPUs that a usable node can give to the job.
    pub(crate) fn cpus(&self, index: usize) -> u16 {
        if !bits::contains(&self.usable, index) {
            return 0;
        }
        // SAFETY: the array has an entry for each node.
        let resources = unsafe { self.eval.avail_res_array.wrapping_add(index).read() };
        // SAFETY: NULL, or a node's resources, which begin with its CPUs in every release.
        unsafe { resources.as_ref() }.map_or(0, |resources| resources.avail_cpus)
    }

    /// Ends the evaluation with a refusal.
    pub(crate) fn refuse(&mut self, rc: c_int) -> c_int {
        self.eval.eval_action = EVAL_ACTION_BREAK.cast_signed();
        rc
    }

    /// Lets Slurm's flat evaluator place the job on some of `nodes`. On success the evaluation holds the answer; on
    /// failure it is as it was.
    pub(crate) fn try_on(&mut self, nodes: &[u64]) -> c_int {
        let mut narrowed = Narrowed::new(self.eval, &self.usable, nodes);
        // SAFETY: the evaluation is live, and narrowed in the way that Slurm itself narrows it; the flat evaluator
        // reads no topology context.
        let rc = unsafe { (stock().flat_eval_nodes)(&raw mut *narrowed.eval) };
        narrowed.succeeded = rc == TOPO_RC_SUCCESS;
        rc
    }
}

/// An evaluation narrowed to some nodes. Dropping it puts everything back (also when a panic unwinds), or, after
/// success, all but the answer.
struct Narrowed<'e> {
    eval: &'e mut topology_eval_t,
    usable: &'e [u64],
    nodes: &'e [u64],
    max_nodes: u32,
    req_nodes: u32,
    prefer_alloc_nodes: bool,
    all_cores: *mut *mut bitstr_t,
    cores: Vec<*mut bitstr_t>,
    /// The cores of each node, as they were: the evaluator removes some for jobs with GRES.
    saved_cores: Vec<(usize, Vec<u64>)>,
    succeeded: bool,
}

impl<'e> Narrowed<'e> {
    fn new(eval: &'e mut topology_eval_t, usable: &'e [u64], nodes: &'e [u64]) -> Self {
        let all_cores = eval.avail_core;
        let mut cores = vec![ptr::null_mut(); node::count()];
        let mut saved_cores = Vec::new();
        for index in bits::common(nodes, usable) {
            // SAFETY: the array has an entry for each node.
            let of_node = unsafe { all_cores.wrapping_add(index).read() };
            // SAFETY: each entry is NULL or the bitmap of the node's cores.
            if let Some(words) = unsafe { bitmap::words(of_node) } {
                saved_cores.push((index, words.to_vec()));
            }
            cores[index] = of_node;
        }
        let mut narrowed = Self {
            max_nodes: eval.max_nodes,
            req_nodes: eval.req_nodes,
            prefer_alloc_nodes: eval.prefer_alloc_nodes,
            eval,
            usable,
            nodes,
            all_cores,
            cores,
            saved_cores,
            succeeded: false,
        };
        narrowed.set_node_map(|usable, chosen| usable & chosen);
        let eval = &mut *narrowed.eval;
        eval.avail_core = narrowed.cores.as_mut_ptr();
        // The flat evaluator takes the larger of the two, stock's block evaluation the smaller.
        eval.req_nodes = eval.req_nodes.min(eval.min_nodes);
        eval.prefer_alloc_nodes = false;
        eval.eval_nodes = None;
        eval.trump_others = false;
        eval.eval_action = EVAL_ACTION_NONE.cast_signed();
        narrowed
    }

    fn set_node_map(&mut self, word: impl Fn(u64, u64) -> u64) {
        // SAFETY: checked to be a bitmap when the evaluation began; nobody else looks at it now.
        if let Some(map) = unsafe { bitmap::words_mut(self.eval.node_map) } {
            for (i, slot) in map.iter_mut().enumerate() {
                *slot =
                    word(self.usable.get(i).copied().unwrap_or(0), self.nodes.get(i).copied().unwrap_or(0));
            }
        }
    }
}

impl Drop for Narrowed<'_> {
    fn drop(&mut self) {
        self.eval.avail_core = self.all_cores;
        self.eval.req_nodes = self.req_nodes;
        self.eval.prefer_alloc_nodes = self.prefer_alloc_nodes;
        for &(index, ref words) in &self.saved_cores {
            let of_node = self.cores[index];
            // SAFETY: the array has an entry for each node; the evaluator may have exchanged the node's bitmap.
            unsafe { self.all_cores.wrapping_add(index).write(of_node) };
            if !self.succeeded
                // SAFETY: the bitmap of the node's cores; nobody else looks at it now.
                && let Some(cores) = unsafe { bitmap::words_mut(of_node) }
                && cores.len() == words.len()
            {
                cores.copy_from_slice(words);
            }
        }
        if !self.succeeded {
            self.eval.max_nodes = self.max_nodes;
            self.set_node_map(|usable, _| usable);
        }
    }
}
