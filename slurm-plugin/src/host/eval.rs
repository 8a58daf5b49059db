//! One evaluation: Slurm asks which of the usable nodes a job should get.
//!
//! [`Eval::try_on`] narrows the question to a set of nodes that we chose and lets Slurm's flat evaluator choose cores
//! and GRES on them; [`Eval::try_stock_on`] asks its block evaluator instead. When that fails, everything that Slurm's
//! own retry loop would put back is put back, so that the next set, or stock, starts from the same question.

use std::ffi::c_int;
use std::ptr;
use std::sync::Mutex;

use super::bitmap;
use super::job::Job;
use super::record::Records;
use super::shadow::Shadow;
use super::stock::stock;
use crate::abi::{
    EVAL_ACTION_BREAK, EVAL_ACTION_NONE, TOPO_RC_NO_FIT, TOPO_RC_SUCCESS, bitstr_t, topology_eval_t,
};
use crate::bits;

/// A checked evaluation.
pub(crate) struct Eval<'a> {
    eval: &'a mut topology_eval_t,
    usable: Vec<u64>,
    node_count: usize,
}

impl<'a> Eval<'a> {
    /// Checks what Slurm passed: None when it is not what this release passes.
    ///
    /// # Safety
    /// `eval` is the argument of `topology_p_eval_nodes`, used by this thread alone during `'a`.
    pub(crate) unsafe fn new(eval: *mut topology_eval_t, node_count: usize) -> Option<Self> {
        // SAFETY: Slurm passes a live evaluation, by the caller's word.
        let eval = unsafe { eval.as_mut() }?;
        // SAFETY: the node map is a bitmap or the check says that it is none.
        let size = unsafe { bitmap::size(eval.node_map) }?;
        if size != node_count || eval.avail_core.is_null() || eval.avail_res_array.is_null() {
            return None;
        }
        // SAFETY: as above.
        let usable = unsafe { bitmap::words(eval.node_map) }?.to_vec();
        Some(Self { eval, usable, node_count })
    }

    /// The usable nodes, as Slurm passed them.
    pub(crate) fn usable(&self) -> &[u64] {
        &self.usable
    }

    /// The job, or None when its records do not look as promised.
    pub(crate) fn job<'j>(&self, records: &Records) -> Option<Job<'j>>
    where
        'a: 'j,
    {
        // SAFETY: Slurm passes the job's record and holds its job lock during the evaluation.
        unsafe { Job::read(self.eval.job_ptr, records) }
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

    /// GPUs that a usable node can give to the job, whatever their type.
    pub(crate) fn gpus(&self, index: usize) -> u16 {
        if !bits::contains(&self.usable, index) {
            return 0;
        }
        // SAFETY: the array has an entry for each node.
        let resources = unsafe { self.eval.avail_res_array.wrapping_add(index).read() };
        // SAFETY: NULL, or a node's resources, which begin with its CPUs and GPUs in every release.
        unsafe { resources.as_ref() }.map_or(0, |resources| resources.avail_gpus)
    }

    /// What usable nodes offer to the job, and how they lie to each other: on nodes that offer the same in the same order
    /// Slurm's evaluator gives the same answer.
    pub(crate) fn offer(&self, nodes: &[usize]) -> Vec<u64> {
        let mut offer = Vec::with_capacity(3 * nodes.len());
        let first = nodes.first().copied().unwrap_or(0);
        for &node in nodes.iter().filter(|&&node| bits::contains(&self.usable, node)) {
            // SAFETY: the array has an entry for each node.
            let resources = unsafe { self.eval.avail_res_array.wrapping_add(node).read() };
            // SAFETY: NULL, or a node's resources, which begin with its CPUs and GPUs in every release.
            let (cpus, gpus) =
                unsafe { resources.as_ref() }.map_or((0, 0), |node| (node.avail_cpus, node.avail_gpus));
            offer.push(((node - first) as u64) << 32 | u64::from(gpus) << 16 | u64::from(cpus));
            // SAFETY: the array has an entry for each node.
            let cores = unsafe { self.eval.avail_core.wrapping_add(node).read() };
            // SAFETY: each entry is NULL or the bitmap of the node's cores.
            offer.extend_from_slice(unsafe { bitmap::words(cores) }.unwrap_or(&[]));
        }
        offer
    }

    /// Whether all cores of a usable node are offered to the job.
    pub(crate) fn offers_all_cores(&self, index: usize) -> bool {
        if !bits::contains(&self.usable, index) {
            return false;
        }
        // SAFETY: the array has an entry for each node.
        let cores = unsafe { self.eval.avail_core.wrapping_add(index).read() };
        // SAFETY: each entry is NULL or the bitmap of the node's cores.
        let size = unsafe { bitmap::size(cores) };
        // SAFETY: as above.
        let cores = unsafe { bitmap::words(cores) };
        size.zip(cores).is_some_and(|(size, cores)| bits::count(cores) as usize == size)
    }

    /// Ends the evaluation with a refusal.
    pub(crate) fn refuse(&mut self, rc: c_int) -> c_int {
        self.eval.eval_action = EVAL_ACTION_BREAK.cast_signed();
        rc
    }

    /// Lets Slurm's flat evaluator place the job on some of `nodes`. On success the evaluation holds the answer; on
    /// failure it is as it was.
    pub(crate) fn try_on(&mut self, nodes: &[usize]) -> c_int {
        self.try_with(nodes, |eval| {
            // SAFETY: the evaluation is live, and narrowed in the way that Slurm itself narrows it; the flat evaluator
            // reads no topology context.
            unsafe { (stock().flat_eval_nodes)(eval) }
        })
    }

    /// Lets Slurm's block evaluator place the job on some of `nodes`, which then must be an answer that `is_right`: nodes
    /// as words of a bitmap. On success the evaluation holds the answer; on failure it is as it was.
    pub(crate) fn try_stock_on(
        &mut self,
        nodes: &[usize],
        shadow: &mut Shadow,
        is_right: impl FnOnce(&[u64]) -> bool,
    ) -> c_int {
        let evaluate = |eval: *mut topology_eval_t| {
            // SAFETY: the evaluation is live, and narrowed in the way that Slurm itself narrows it.
            let rc = unsafe { shadow.eval_nodes(eval) };
            // SAFETY: as above.
            let map = unsafe { (*eval).node_map };
            // SAFETY: checked to be a bitmap when the evaluation began; the evaluator leaves it in place.
            let answer = unsafe { bitmap::words(map) };
            if rc == TOPO_RC_SUCCESS && !answer.is_some_and(is_right) { TOPO_RC_NO_FIT } else { rc }
        };
        self.try_with(nodes, evaluate)
    }

    fn try_with(&mut self, nodes: &[usize], evaluate: impl FnOnce(*mut topology_eval_t) -> c_int) -> c_int {
        let mut narrowed = Narrowed::new(self.eval, &self.usable, nodes, self.node_count);
        let rc = evaluate(&raw mut *narrowed.eval);
        narrowed.succeeded = rc == TOPO_RC_SUCCESS;
        rc
    }
}

/// The cores and CPUs of one node, as they were: for jobs with GRES the evaluator takes some away from both.
struct SavedCores {
    node: usize,
    cpus: u16,
    /// Where its words begin in `Narrowed::saved_words`, and how many they are.
    words: (usize, usize),
}

/// An evaluation narrowed to some nodes. Dropping it puts everything back (also when a panic unwinds), or, after
/// success, all but the answer.
struct Narrowed<'e> {
    eval: &'e mut topology_eval_t,
    usable: &'e [u64],
    max_nodes: u32,
    req_nodes: u32,
    prefer_alloc_nodes: bool,
    all_cores: *mut *mut bitstr_t,
    cores: CoreArray,
    saved_cores: Vec<SavedCores>,
    saved_words: Vec<u64>,
    succeeded: bool,
}

impl<'e> Narrowed<'e> {
    fn new(eval: &'e mut topology_eval_t, usable: &'e [u64], nodes: &[usize], node_count: usize) -> Self {
        let mut narrowed = Self {
            max_nodes: eval.max_nodes,
            req_nodes: eval.req_nodes,
            prefer_alloc_nodes: eval.prefer_alloc_nodes,
            all_cores: eval.avail_core,
            eval,
            usable,
            cores: CoreArray::take(node_count),
            saved_cores: Vec::with_capacity(nodes.len()),
            saved_words: Vec::with_capacity(nodes.len() * 2),
            succeeded: false,
        };
        for &node in nodes.iter().filter(|&&node| bits::contains(usable, node)) {
            narrowed.add_cores_of(node);
        }
        // SAFETY: checked to be a bitmap when the evaluation began; nobody else looks at it now.
        if let Some(map) = unsafe { bitmap::words_mut(narrowed.eval.node_map) } {
            map.fill(0);
            for saved in &narrowed.saved_cores {
                bits::put(map, saved.node, true);
            }
        }
        let eval = &mut *narrowed.eval;
        eval.avail_core = narrowed.cores.0.as_mut_ptr();
        // The flat evaluator takes the larger of the two, stock's block evaluation the smaller.
        eval.req_nodes = eval.req_nodes.min(eval.min_nodes);
        eval.prefer_alloc_nodes = false;
        eval.eval_nodes = None;
        eval.trump_others = false;
        eval.eval_action = EVAL_ACTION_NONE.cast_signed();
        narrowed
    }

    /// Adds a usable node and keeps its cores.
    fn add_cores_of(&mut self, node: usize) {
        // SAFETY: the array has an entry for each node, of which this is one: it is in the node map.
        let bitmap = unsafe { self.all_cores.wrapping_add(node).read() };
        // SAFETY: each entry is NULL or the bitmap of the node's cores.
        let words = unsafe { bitmap::words(bitmap) }.unwrap_or(&[]);
        // SAFETY: as for the cores.
        let resources = unsafe { self.eval.avail_res_array.wrapping_add(node).read() };
        // SAFETY: NULL, or a node's resources, which begin with its CPUs in every release.
        let cpus = unsafe { resources.as_ref() }.map_or(0, |resources| resources.avail_cpus);
        self.saved_cores.push(SavedCores { node, cpus, words: (self.saved_words.len(), words.len()) });
        self.saved_words.extend_from_slice(words);
        self.cores.0[node] = bitmap;
    }
}

impl Drop for Narrowed<'_> {
    fn drop(&mut self) {
        self.eval.avail_core = self.all_cores;
        self.eval.req_nodes = self.req_nodes;
        self.eval.prefer_alloc_nodes = self.prefer_alloc_nodes;
        for &SavedCores { node, cpus, words: (start, length) } in &self.saved_cores {
            // The evaluator may have exchanged the node's bitmap.
            let bitmap = std::mem::replace(&mut self.cores.0[node], ptr::null_mut());
            // SAFETY: the array has an entry for each node.
            unsafe { self.all_cores.wrapping_add(node).write(bitmap) };
            if !self.succeeded
                // SAFETY: the bitmap of the node's cores; nobody else looks at it now.
                && let Some(cores) = unsafe { bitmap::words_mut(bitmap) }
                && cores.len() == length
            {
                cores.copy_from_slice(&self.saved_words[start..start + length]);
            }
            // SAFETY: as above.
            let resources = unsafe { self.eval.avail_res_array.wrapping_add(node).read() };
            if !self.succeeded
                // SAFETY: NULL, or a node's resources; nobody else looks at them now.
                && let Some(resources) = unsafe { resources.as_mut() }
            {
                resources.avail_cpus = cpus;
            }
        }
        self.cores.give_back();
        if !self.succeeded {
            self.eval.max_nodes = self.max_nodes;
            // SAFETY: checked to be a bitmap when the evaluation began; nobody else looks at it now.
            if let Some(map) = unsafe { bitmap::words_mut(self.eval.node_map) } {
                for (word, &usable) in map.iter_mut().zip(self.usable) {
                    *word = usable;
                }
            }
        }
    }
}

/// An array of the cores of each node; NULL for all that are not chosen. It is as long as the cluster has nodes, so one
/// is kept and used again.
struct CoreArray(Vec<*mut bitstr_t>);

/// The array that nobody uses now, with NULL in every entry.
static SPARE: Mutex<Option<CoreArray>> = Mutex::new(None);

// SAFETY: a spare array holds only NULL, and one in use stays with its evaluation.
unsafe impl Send for CoreArray {}

impl CoreArray {
    fn take(node_count: usize) -> Self {
        let spare = SPARE.try_lock().ok().and_then(|mut spare| spare.take());
        match spare {
            Some(array) if array.0.len() == node_count => array,
            _ => Self(vec![ptr::null_mut(); node_count]),
        }
    }

    /// Keeps the array for the next evaluation. Each entry was set to NULL before.
    fn give_back(&mut self) {
        if let Ok(mut spare) = SPARE.try_lock() {
            *spare = Some(Self(std::mem::take(&mut self.0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::abi::{BITSTR_MAGIC_VALUE, avail_res_head_t};

    const NODES: usize = 70;

    fn bitmap(bits: usize, words: &[u64]) -> Vec<u64> {
        [&[u64::from(BITSTR_MAGIC_VALUE), bits as u64], words].concat()
    }

    /// The memory behind an evaluation of 70 nodes, 0 to 65 usable, each with four cores and CPUs.
    struct Question {
        node_map: Vec<u64>,
        core_bitmaps: Vec<Vec<u64>>,
        cores: Vec<*mut bitstr_t>,
        resources: Vec<avail_res_head_t>,
        resource_places: Vec<*mut avail_res_head_t>,
        eval: topology_eval_t,
    }

    /// Everything of a question that Slurm sees.
    #[derive(PartialEq)]
    struct State {
        node_map: Vec<u64>,
        core_bitmaps: Vec<Vec<u64>>,
        cores: Vec<*mut bitstr_t>,
        avail_core: *mut *mut bitstr_t,
        counts: [u32; 3],
        prefer_alloc_nodes: bool,
        cpus: Vec<u16>,
    }

    impl Question {
        fn new() -> Box<Self> {
            // SAFETY: zero is valid for every member: numbers, false, NULL and no function.
            let eval = unsafe { std::mem::zeroed() };
            let mut question = Box::new(Self {
                node_map: bitmap(NODES, &[u64::MAX, 0b11]),
                core_bitmaps: vec![bitmap(4, &[0b1111]); NODES],
                cores: Vec::new(),
                resources: vec![avail_res_head_t { avail_cpus: 4, avail_gpus: 1 }; NODES],
                resource_places: Vec::new(),
                eval,
            });
            let q = &mut *question;
            q.cores = q.core_bitmaps.iter_mut().map(|bitmap| bitmap.as_mut_ptr().cast()).collect();
            q.resource_places = q.resources.iter_mut().map(|place| place as *mut _).collect();
            q.eval.node_map = q.node_map.as_mut_ptr().cast();
            q.eval.avail_core = q.cores.as_mut_ptr();
            q.eval.avail_res_array = q.resource_places.as_mut_ptr();
            (q.eval.min_nodes, q.eval.req_nodes, q.eval.max_nodes) = (2, 3, 5);
            q.eval.prefer_alloc_nodes = true;
            question
        }

        fn eval(&mut self) -> Eval<'_> {
            // SAFETY: all memory lives in `self`, which is borrowed exclusively.
            unsafe { Eval::new(&raw mut self.eval, NODES) }.expect("a valid evaluation")
        }

        fn state(&self) -> State {
            let eval = &self.eval;
            State {
                node_map: self.node_map.clone(),
                core_bitmaps: self.core_bitmaps.clone(),
                cores: self.cores.clone(),
                avail_core: eval.avail_core,
                counts: [eval.min_nodes, eval.req_nodes, eval.max_nodes],
                prefer_alloc_nodes: eval.prefer_alloc_nodes,
                cpus: self.resources.iter().map(|resources| resources.avail_cpus).collect(),
            }
        }
    }

    /// An evaluator that uses up what it gets, and takes a core and CPUs of each node, as Slurm's does for jobs with GRES.
    fn devour(eval: *mut topology_eval_t, rc: c_int) -> c_int {
        // SAFETY: the evaluation of a `Question`.
        let eval = unsafe { &mut *eval };
        assert_eq!((eval.req_nodes, eval.prefer_alloc_nodes), (2, false));
        // SAFETY: as above.
        let map = unsafe { bitmap::words_mut(eval.node_map) }.unwrap();
        let chosen: Vec<usize> = bits::ones(map).collect();
        assert_eq!(chosen, [1, 65], "only the usable ones among the given nodes");
        for index in 0..NODES {
            // SAFETY: an entry for each node.
            let cores = unsafe { eval.avail_core.wrapping_add(index).read() };
            assert_eq!(cores.is_null(), !chosen.contains(&index));
            // SAFETY: NULL or the node's cores.
            if let Some(cores) = unsafe { bitmap::words_mut(cores) } {
                cores[0] &= 0b0111;
            }
        }
        for &index in &chosen {
            // SAFETY: an entry for each node.
            let resources = unsafe { eval.avail_res_array.wrapping_add(index).read() };
            // SAFETY: the node's resources.
            unsafe { (*resources).avail_cpus = 3 };
        }
        bits::put(map, 65, false);
        eval.max_nodes -= 2;
        rc
    }

    /// Nodes 1, 65 and 69; the last one is not usable.
    const GIVEN: [usize; 3] = [1, 65, 69];

    #[test]
    fn a_failed_try_leaves_no_trace() {
        let mut question = Question::new();
        let before = question.state();
        assert_eq!(question.eval().try_with(&GIVEN, |eval| devour(eval, 7203)), 7203);
        assert!(question.state() == before);
    }

    #[test]
    fn a_panic_leaves_no_trace() {
        let mut question = Question::new();
        let before = question.state();
        let mut eval = question.eval();
        let caught = catch_unwind(AssertUnwindSafe(|| {
            eval.try_with(&GIVEN, |eval| {
                devour(eval, 0);
                panic!("on purpose")
            })
        }));
        assert!(caught.is_err());
        assert!(question.state() == before);
    }

    #[test]
    fn a_try_that_succeeds_leaves_the_answer() {
        let mut question = Question::new();
        let before = question.state();
        assert_eq!(question.eval().try_with(&GIVEN, |eval| devour(eval, 0)), 0);
        let after = question.state();
        assert_eq!(after.node_map, bitmap(NODES, &[0b10, 0]), "the chosen node");
        assert_eq!(after.counts, [2, 3, 3], "what Slurm counts down stays counted down");
        assert!(after.cores == before.cores && after.avail_core == before.avail_core);
        assert!(after.prefer_alloc_nodes == before.prefer_alloc_nodes);
        for (index, cores) in after.core_bitmaps.iter().enumerate() {
            assert_eq!(cores[2], if [1, 65].contains(&index) { 0b0111 } else { 0b1111 }, "node {index}");
        }
    }

    #[test]
    fn what_does_not_look_right_is_not_touched() {
        let mut question = Question::new();
        // SAFETY: all memory lives in `question`.
        assert!(unsafe { Eval::new(&raw mut question.eval, NODES + 1) }.is_none());
        question.node_map[0] ^= 1;
        // SAFETY: as above.
        assert!(unsafe { Eval::new(&raw mut question.eval, NODES) }.is_none());
        // SAFETY: NULL is allowed.
        assert!(unsafe { Eval::new(ptr::null_mut(), NODES) }.is_none());
    }

    #[test]
    fn offers_are_equal_where_nodes_and_distances_are() {
        let mut question = Question::new();
        question.core_bitmaps[9][2] = 0b0111;
        question.resources[19].avail_gpus = 0;
        let eval = question.eval();
        assert_eq!(eval.offer(&[1, 2, 4]), eval.offer(&[31, 32, 34]));
        for other in [[31, 32, 33], [8, 9, 11], [16, 17, 19], [64, 65, 67]] {
            assert_ne!(eval.offer(&[1, 2, 4]), eval.offer(&other), "{other:?}");
        }
    }

    #[test]
    fn cpus_are_those_of_usable_nodes() {
        let mut question = Question::new();
        question.resource_places[3] = ptr::null_mut();
        let eval = question.eval();
        assert_eq!(
            [eval.cpus(0), eval.cpus(3), eval.cpus(65), eval.cpus(66), eval.cpus(1 << 20)],
            [4, 0, 4, 0, 0]
        );
    }
}
