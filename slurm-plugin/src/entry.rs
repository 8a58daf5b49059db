//! The functions of the topology plugin interface: one thin function per symbol.
//!
//! Order and types are those of `slurm_topo_ops_t` and `syms[]` in Slurm 26.05.3 `src/interfaces/topology.c`. What our
//! model does not own (messages, names, ranks, fragmentation) is answered by Slurm's own plugin from its copy of the
//! same blocks, so that it stays right when a micro release changes it. Every function accepts a NULL context, which
//! is what slurmstepd and scontrol have.

use std::ffi::{c_char, c_int, c_void};
use std::{mem, ptr};

use crate::abi::{
    TOPO_DATA_EXCLUSIVE_TOPO, TOPO_DATA_REC_CNT, TOPO_RC_ERROR, TOPO_RC_SUCCESS, bitstr_t, buf_t, hostlist_t,
    node_record_t, topology_ctx_t, topology_data, topology_eval_t,
};
use crate::context::Context;
use crate::host::node;
use crate::host::stock::stock;
use crate::{metrics, records, wall};

/// Runs the body behind the wall. After a panic it runs again, with nothing of ours in force any more, so that stock
/// answers; `$on_panic` is the answer should even that fail. In each body a call of stock is the last thing that happens,
/// or has a wall of its own behind it: nothing is done twice.
macro_rules! entry {
    ($name:ident, $on_panic:expr, $body:expr) => {{
        let body = || $body;
        wall::guard(stringify!($name), body).or_else(|| wall::again(body)).unwrap_or_else(|| $on_panic)
    }};
}

/// Our state behind a `plugin_ctx`; None for NULL.
///
/// # Safety
/// `plugin_ctx` is NULL or what `topology_p_build_config` left there; Slurm's locks keep other threads away during `'a`.
unsafe fn context<'a>(plugin_ctx: *mut c_void) -> Option<&'a mut Context> {
    // SAFETY: by the caller's word.
    unsafe { plugin_ctx.cast::<Context>().as_mut() }
}

/// As [`context`], for entry points that get Slurm's context.
///
/// # Safety
/// `tctx` is NULL or a context of this plugin; else as for [`context`].
unsafe fn context_of<'a>(tctx: *mut topology_ctx_t) -> Option<&'a mut Context> {
    // SAFETY: by the caller's word.
    let tctx = unsafe { tctx.as_ref() }?;
    // SAFETY: by the caller's word.
    unsafe { context(tctx.plugin_ctx) }
}

/// Puts a node into a block, or out of all for a NULL unit.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_add_rm_node(
    node: *mut node_record_t,
    unit: *mut c_char,
    tctx: *mut topology_ctx_t,
) -> c_int {
    entry!(topology_p_add_rm_node, TOPO_RC_ERROR, {
        // SAFETY: Slurm's argument.
        let Some(context) = (unsafe { context_of(tctx) }) else { return TOPO_RC_SUCCESS };
        // SAFETY: Slurm's arguments.
        unsafe { context.add_rm_node(node, unit) }
    })
}

/// Whether one-node jobs may bypass the topology. Where we steer they may not: they would break whole free partitions.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_allow_one_node(plugin_ctx: *mut c_void) -> bool {
    entry!(topology_p_allow_one_node, true, {
        // SAFETY: Slurm's argument.
        let Some(context) = (unsafe { context(plugin_ctx) }) else { return true };
        !context.steers() && context.shadow.allow_one_node()
    })
}

/// Builds the models of one topology.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_build_config(tctx: *mut topology_ctx_t) -> c_int {
    entry!(topology_p_build_config, TOPO_RC_ERROR, {
        let Some(records) = records() else { return TOPO_RC_ERROR };
        if node::count() == 0 {
            return TOPO_RC_SUCCESS;
        }
        // SAFETY: Slurm's argument.
        match unsafe { Context::build(tctx, records) } {
            Ok(None) => TOPO_RC_SUCCESS,
            Ok(Some(context)) => {
                // SAFETY: Slurm's argument, alive during the call.
                unsafe { (*tctx).plugin_ctx = Box::into_raw(Box::new(context)).cast() };
                TOPO_RC_SUCCESS
            }
            Err(rc) => rc,
        }
    })
}

/// Frees the models of one topology.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_destroy_config(tctx: *mut topology_ctx_t) -> c_int {
    entry!(topology_p_destroy_config, TOPO_RC_ERROR, {
        // SAFETY: Slurm's argument, alive during the call.
        let Some(tctx) = (unsafe { tctx.as_mut() }) else { return TOPO_RC_SUCCESS };
        let ours = mem::replace(&mut tctx.plugin_ctx, ptr::null_mut()).cast::<Context>();
        if !ours.is_null() {
            // SAFETY: made by `topology_p_build_config`, and just taken out of the only place that holds it.
            drop(unsafe { Box::from_raw(ours) });
        }
        TOPO_RC_SUCCESS
    })
}

/// Whether one node can run a one-node job.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_eval_node(eval: *mut topology_eval_t, index: c_int) -> c_int {
    // SAFETY: Slurm's arguments, passed on; stock reads no context here.
    entry!(topology_p_eval_node, TOPO_RC_ERROR, unsafe { (stock().eval_node)(eval, index) })
}

/// Chooses the nodes of a job.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_eval_nodes(eval: *mut topology_eval_t) -> c_int {
    entry!(topology_p_eval_nodes, TOPO_RC_ERROR, {
        // SAFETY: Slurm's argument, alive during the call.
        let tctx = unsafe { (*eval).tctx };
        // SAFETY: Slurm sets the topology of the job's partition.
        match unsafe { context_of(tctx) } {
            // SAFETY: Slurm's argument.
            Some(context) => unsafe { context.eval_nodes(eval) },
            // SAFETY: Slurm's argument; the flat evaluator needs no context.
            None => unsafe { (stock().flat_eval_nodes)(eval) },
        }
    })
}

/// Adds the rest of each touched block.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_whole_topo(mask: *mut bitstr_t, plugin_ctx: *mut c_void) -> c_int {
    entry!(topology_p_whole_topo, TOPO_RC_ERROR, {
        // SAFETY: Slurm's argument.
        let Some(context) = (unsafe { context(plugin_ctx) }) else { return TOPO_RC_SUCCESS };
        // SAFETY: Slurm's arguments.
        unsafe { context.shadow.whole_topo(mask) }
    })
}

/// The nodes of a block by name; Slurm does not free them.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_get_bitmap(name: *mut c_char, plugin_ctx: *mut c_void) -> *mut bitstr_t {
    entry!(topology_p_get_bitmap, ptr::null_mut(), {
        // SAFETY: Slurm's argument.
        let Some(context) = (unsafe { context(plugin_ctx) }) else { return ptr::null_mut() };
        // SAFETY: Slurm's arguments.
        unsafe { context.shadow.get_bitmap(name) }
    })
}

/// Ranks nodes by block before any model exists (`TopologyParam=BlockAsNodeRank`).
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_generate_node_ranking(tctx: *mut topology_ctx_t) -> bool {
    entry!(topology_p_generate_node_ranking, false, {
        // SAFETY: Slurm's argument, alive during the call.
        if unsafe { !(*tctx).plugin_ctx.is_null() } {
            return false;
        }
        // SAFETY: without a model, stock makes one of its own in the context and takes it out again.
        unsafe { (stock().generate_node_ranking)(tctx) }
    })
}

/// `block.node` and its pattern.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_get_node_addr(
    name: *mut c_char,
    address: *mut *mut c_char,
    pattern: *mut *mut c_char,
    plugin_ctx: *mut c_void,
) -> c_int {
    entry!(topology_p_get_node_addr, TOPO_RC_ERROR, {
        // SAFETY: Slurm's argument.
        let Some(context) = (unsafe { context(plugin_ctx) }) else { return TOPO_RC_ERROR };
        // SAFETY: Slurm's arguments.
        unsafe { context.shadow.get_node_addr(name, address, pattern) }
    })
}

/// Splits a host list for message forwarding; blocks play no part in it.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_split_hostlist(
    hosts: *mut hostlist_t,
    parts: *mut *mut *mut hostlist_t,
    count: *mut c_int,
    tree_width: u16,
    _plugin_ctx: *mut c_void,
) -> c_int {
    entry!(topology_p_split_hostlist, 0, {
        // Slurm looks after its nodes also while there are no jobs.
        metrics::tick();
        // SAFETY: Slurm's arguments, passed on; stock reads no context here.
        unsafe { (stock().split_hostlist)(hosts, parts, count, tree_width, ptr::null_mut()) }
    })
}

/// Answers one of the questions of `enum topology_data`.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_get(
    kind: topology_data,
    data: *mut c_void,
    plugin_ctx: *mut c_void,
) -> c_int {
    entry!(topology_p_get, TOPO_RC_ERROR, {
        // SAFETY: Slurm's arguments.
        if let Some(context) = unsafe { context(plugin_ctx) } {
            // SAFETY: Slurm's arguments.
            return unsafe { context.shadow.get(kind, data) };
        }
        let number = match kind {
            TOPO_DATA_EXCLUSIVE_TOPO => 1,
            TOPO_DATA_REC_CNT => 0,
            _ => return TOPO_RC_ERROR,
        };
        // SAFETY: for these two questions `data` is an int.
        unsafe { *data.cast::<c_int>() = number };
        TOPO_RC_SUCCESS
    })
}

/// Frees what `topology_p_get` gave.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_topoinfo_free(topoinfo: *mut c_void) -> c_int {
    // SAFETY: made by stock.
    entry!(topology_p_topoinfo_free, TOPO_RC_ERROR, unsafe { (stock().topoinfo_free)(topoinfo) })
}

/// Packs what `topology_p_get` gave.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_topoinfo_pack(
    topoinfo: *mut c_void,
    buffer: *mut buf_t,
    protocol: u16,
) -> c_int {
    // SAFETY: made by stock.
    entry!(topology_p_topoinfo_pack, TOPO_RC_ERROR, unsafe {
        (stock().topoinfo_pack)(topoinfo, buffer, protocol)
    })
}

/// Prints for `scontrol show topology`.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_topoinfo_print(
    topoinfo: *mut c_void,
    nodes: *mut c_char,
    unit: *mut c_char,
    out: *mut *mut c_char,
) -> c_int {
    // SAFETY: made by stock.
    entry!(topology_p_topoinfo_print, TOPO_RC_ERROR, unsafe {
        (stock().topoinfo_print)(topoinfo, nodes, unit, out)
    })
}

/// Unpacks what the controller sent.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_topoinfo_unpack(
    topoinfo: *mut *mut c_void,
    buffer: *mut buf_t,
    protocol: u16,
) -> c_int {
    // SAFETY: Slurm's arguments, passed on.
    entry!(topology_p_topoinfo_unpack, TOPO_RC_ERROR, unsafe {
        (stock().topoinfo_unpack)(topoinfo, buffer, protocol)
    })
}

/// Frees a job's record of segments.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_jobinfo_free(jobinfo: *mut c_void) {
    // SAFETY: made by stock.
    entry!(topology_p_jobinfo_free, (), unsafe { (stock().jobinfo_free)(jobinfo) });
}

/// Packs a job's record of segments.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_jobinfo_pack(jobinfo: *mut c_void, buffer: *mut buf_t, protocol: u16) {
    // SAFETY: made by stock.
    entry!(topology_p_jobinfo_pack, (), unsafe { (stock().jobinfo_pack)(jobinfo, buffer, protocol) });
}

/// Unpacks a job's record of segments.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_jobinfo_unpack(
    jobinfo: *mut *mut c_void,
    buffer: *mut buf_t,
    protocol: u16,
) -> c_int {
    // SAFETY: Slurm's arguments, passed on.
    entry!(topology_p_jobinfo_unpack, TOPO_RC_ERROR, unsafe {
        (stock().jobinfo_unpack)(jobinfo, buffer, protocol)
    })
}

/// Reads a job's record of segments.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_jobinfo_get(kind: u32, jobinfo: *mut c_void, data: *mut c_void) -> c_int {
    // SAFETY: made by stock.
    entry!(topology_p_jobinfo_get, TOPO_RC_ERROR, unsafe { (stock().jobinfo_get)(kind, jobinfo, data) })
}

/// How much the free nodes are scattered.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_get_fragmentation(mask: *mut bitstr_t, plugin_ctx: *mut c_void) -> u32 {
    entry!(topology_p_get_fragmentation, 0, {
        // SAFETY: Slurm's argument.
        let Some(context) = (unsafe { context(plugin_ctx) }) else { return 0 };
        // SAFETY: Slurm's arguments.
        unsafe { context.shadow.get_fragmentation(mask) }
    })
}

/// Appends `topology:block` of a node.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_get_topology_str(
    node: *mut node_record_t,
    text: *mut *mut c_char,
    tctx: *mut topology_ctx_t,
) {
    entry!(topology_p_get_topology_str, (), {
        // SAFETY: Slurm's arguments.
        if let Some(context) = unsafe { context_of(tctx) } {
            // SAFETY: Slurm's arguments.
            unsafe { context.shadow.get_topology_str(node, text) };
        }
    });
}

/// Ranks the nodes of a job for task layout.
///
/// # Safety
/// Called by Slurm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn topology_p_get_rank(
    nodes: *mut bitstr_t,
    rank: *mut *mut u32,
    size: *mut u32,
    plugin_ctx: *mut c_void,
) -> c_int {
    entry!(topology_p_get_rank, TOPO_RC_ERROR, {
        // SAFETY: Slurm's arguments.
        if let Some(context) = unsafe { context(plugin_ctx) } {
            // SAFETY: Slurm's arguments.
            return unsafe { context.shadow.get_rank(nodes, rank, size) };
        }
        // SAFETY: Slurm passes two places for the answer.
        unsafe { *rank = ptr::null_mut() };
        // SAFETY: as above.
        unsafe { *size = 0 };
        TOPO_RC_SUCCESS
    })
}

#[cfg(test)]
mod tests;
