//! A second copy of a topology's context that belongs to Slurm's own block plugin.
//!
//! Stock builds its model from the same configuration into this copy. Whatever is delegated is asked of stock with
//! this copy in place of Slurm's context, so that stock never sees our data and we never see its.
//!
//! Slurm asks a plugin once in an evaluation, and stock's answer begins with a record of its own for the job (`topo_jobinfo`),
//! whatever the job had before (Slurm 26.05.3 src/plugins/topology/block/topology_block.c). So stock's entry point is called once
//! in each evaluation; where it is asked again, what comes behind it is called: Slurm's common code with stock's evaluator.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use super::config::Substitute;
use super::stock::stock;
use crate::abi::{TOPO_RC_SUCCESS, bitstr_t, node_record_t, topology_ctx_t, topology_data, topology_eval_t};

/// What stock's entry point puts into an evaluation for Slurm's common code to call.
type Evaluator = unsafe extern "C" fn(*mut topology_eval_t) -> c_int;

thread_local! {
    /// Stock's evaluator, if its entry point was called in the evaluation that this thread is in.
    static ASKED: Cell<Option<Evaluator>> = const { Cell::new(None) };
}

/// An evaluation begins: stock has not been asked in it.
pub(crate) fn begin_evaluation() {
    ASKED.set(None);
}

/// Stock's context of one topology. Boxed, because stock keeps no pointer to it but evaluation hands one on.
pub(crate) struct Shadow {
    context: Box<topology_ctx_t>,
    /// What it is configured by, if not by Slurm's own configuration.
    _substitute: Option<Substitute>,
    /// Stock's model of all nodes in one block, made when it is first asked for.
    one_block: Option<Box<Self>>,
}

impl Shadow {
    /// Lets stock build its model, of Slurm's configuration or of a substitute. Stock ends the process on a configuration
    /// that it cannot use.
    ///
    /// # Errors
    /// Stock's return code.
    ///
    /// # Safety
    /// `tctx` is Slurm's context of this topology; its configuration and names live until the shadow is dropped.
    pub(crate) unsafe fn build(
        tctx: *const topology_ctx_t,
        mut substitute: Option<Substitute>,
    ) -> Result<Self, c_int> {
        // SAFETY: valid by the caller's word; the copy shares the configuration, which stock only reads here.
        let mut copy = Box::new(unsafe { ptr::read(tctx) });
        copy.plugin_ctx = ptr::null_mut();
        if let Some(substitute) = &mut substitute {
            copy.config = substitute.as_ptr().cast();
        }
        // SAFETY: the copy is a context without a model, as stock expects.
        let rc = unsafe { (stock().build_config)(&raw mut *copy) };
        if rc == TOPO_RC_SUCCESS && !copy.plugin_ctx.is_null() {
            Ok(Self { context: copy, _substitute: substitute, one_block: None })
        } else {
            Err(rc)
        }
    }

    fn model(&self) -> *mut c_void {
        self.context.plugin_ctx
    }

    /// Stock with all nodes in one block: on nodes of one partition it answers as with all blocks, without looking at the
    /// others. None when stock cannot build that.
    pub(crate) fn of_one_block(&mut self) -> Option<&mut Self> {
        if self.one_block.is_none() {
            let substitute = Substitute::one_block()?;
            // SAFETY: a copy of Slurm's context, of which only the configuration is exchanged.
            let shadow = unsafe { Self::build(&raw const *self.context, Some(substitute)) }.ok()?;
            self.one_block = Some(Box::new(shadow));
        }
        self.one_block.as_deref_mut()
    }

    /// Stock's answer to a whole evaluation.
    ///
    /// # Safety
    /// `eval` is the evaluation that Slurm asked for, whole, or narrowed to nodes of blocks. [`begin_evaluation`] was called when
    /// this thread was asked for it.
    pub(crate) unsafe fn eval_nodes(&mut self, eval: *mut topology_eval_t) -> c_int {
        // SAFETY: `eval` is live; only its context is exchanged for the length of the call.
        let theirs = unsafe { (*eval).tctx };
        // SAFETY: as above.
        unsafe { (*eval).tctx = &raw mut *self.context };
        let rc = match ASKED.get() {
            None => {
                // SAFETY: the evaluation is as Slurm made it, and the context is stock's own.
                let rc = unsafe { (stock().eval_nodes)(eval) };
                // SAFETY: as above.
                ASKED.set(unsafe { (*eval).eval_nodes });
                rc
            }
            Some(evaluator) => {
                // SAFETY: as above.
                let again = unsafe { &mut *eval };
                // As stock's entry point does where there are nodes of blocks: it was asked about some before.
                again.eval_nodes = Some(evaluator);
                again.trump_others = true;
                // SAFETY: as above. The entry point of topology/flat is Slurm's common code and nothing else
                // (Slurm 26.05.3 src/plugins/topology/flat/topology_flat.c).
                unsafe { (stock().flat_eval_nodes)(eval) }
            }
        };
        // SAFETY: as above.
        unsafe { (*eval).tctx = theirs };
        rc
    }

    /// # Safety
    /// `node` is a live node record, `unit` NULL or a C string.
    pub(crate) unsafe fn add_rm_node(&mut self, node: *mut node_record_t, unit: *mut c_char) -> c_int {
        // The node may be new.
        self.one_block = None;
        // SAFETY: by the caller's word; the context is stock's own.
        unsafe { (stock().add_rm_node)(node, unit, &raw mut *self.context) }
    }

    /// # Safety
    /// `mask` is a live node bitmap.
    pub(crate) unsafe fn whole_topo(&self, mask: *mut bitstr_t) -> c_int {
        // SAFETY: by the caller's word; the model is stock's own.
        unsafe { (stock().whole_topo)(mask, self.model()) }
    }

    /// # Safety
    /// `name` is a C string.
    pub(crate) unsafe fn get_bitmap(&self, name: *mut c_char) -> *mut bitstr_t {
        // SAFETY: by the caller's word; the model is stock's own.
        unsafe { (stock().get_bitmap)(name, self.model()) }
    }

    /// # Safety
    /// The arguments are Slurm's, as for `topology_p_get_node_addr`.
    pub(crate) unsafe fn get_node_addr(
        &self,
        name: *mut c_char,
        address: *mut *mut c_char,
        pattern: *mut *mut c_char,
    ) -> c_int {
        // SAFETY: by the caller's word; the model is stock's own.
        unsafe { (stock().get_node_addr)(name, address, pattern, self.model()) }
    }

    /// # Safety
    /// `data` is a place for what `kind` asks for.
    pub(crate) unsafe fn get(&self, kind: topology_data, data: *mut c_void) -> c_int {
        // SAFETY: by the caller's word; the model is stock's own.
        unsafe { (stock().get)(kind, data, self.model()) }
    }

    /// # Safety
    /// `mask` is a live node bitmap.
    pub(crate) unsafe fn get_fragmentation(&self, mask: *mut bitstr_t) -> u32 {
        // SAFETY: by the caller's word; the model is stock's own.
        unsafe { (stock().get_fragmentation)(mask, self.model()) }
    }

    /// # Safety
    /// `node` is a live node record, `text` a place with NULL or a string of Slurm's allocator.
    pub(crate) unsafe fn get_topology_str(&mut self, node: *mut node_record_t, text: *mut *mut c_char) {
        // SAFETY: by the caller's word; the context is stock's own.
        unsafe { (stock().get_topology_str)(node, text, &raw mut *self.context) }
    }

    /// # Safety
    /// The arguments are Slurm's, as for `topology_p_get_rank`.
    pub(crate) unsafe fn get_rank(&self, nodes: *mut bitstr_t, rank: *mut *mut u32, size: *mut u32) -> c_int {
        // SAFETY: by the caller's word; the model is stock's own.
        unsafe { (stock().get_rank)(nodes, rank, size, self.model()) }
    }

    /// Whether stock would take the short way for one-node jobs.
    pub(crate) fn allow_one_node(&self) -> bool {
        // SAFETY: the model is stock's own.
        unsafe { (stock().allow_one_node)(self.model()) }
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        // SAFETY: the context has stock's model, which nobody uses afterwards.
        unsafe { (stock().destroy_config)(&raw mut *self.context) };
    }
}
