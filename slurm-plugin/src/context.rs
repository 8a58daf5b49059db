//! What the plugin keeps for one topology, behind Slurm's `plugin_ctx`.
//!
//! ```text
//! build ──> stock's shadow + our model    steering: our model answers what it owns, stock the rest
//!       └─> stock's shadow alone          delegating: topology.conf, nodes in two blocks, or not slurmctld
//!       └─> nothing                       no block of the file can be used: jobs know no blocks
//! ```
//!
//! Stock ends the process on many faults of a file. On a reload that is right: the slurmctld that runs goes on with the
//! blocks that it has. At a start nobody would go on, so stock gets what is left of the file without its faults.

use std::ffi::{CStr, c_char, c_int};
use std::mem;

use fabric::placement::{Rules, Span, Split};

use crate::abi::{TOPO_RC_ERROR, TOPO_RC_SUCCESS, node_record_t, topology_ctx_t, topology_eval_t};
use crate::config::Fault;
use crate::host::config::Substitute;
use crate::host::eval::Eval;
use crate::host::node::{self, Node};
use crate::host::record::Records;
use crate::host::shadow::{self, Shadow};
use crate::host::{config, memory, process};
use crate::model::{Change, Model};
use crate::place::{self, Ends, Outcome};
use crate::{metrics, slurm_log, wall};

/// One topology's state.
pub(crate) struct Context {
    /// Slurm's own model of the same blocks.
    pub(crate) shadow: Shadow,
    /// Our model, where we steer.
    model: Option<Model>,
    records: &'static Records,
    /// In the metrics, where this process places jobs.
    counted: Option<metrics::Topology>,
}

impl Context {
    /// Builds both models; None when nothing of the configuration can be used. All its faults are logged before stock gets
    /// to see it.
    ///
    /// # Errors
    /// Stock's return code.
    ///
    /// # Safety
    /// `tctx` is the argument of `topology_p_build_config`.
    pub(crate) unsafe fn build(
        tctx: *mut topology_ctx_t,
        records: &'static Records,
    ) -> Result<Option<Self>, c_int> {
        // Behind a wall of its own: whatever becomes of our model, stock's is built.
        let blocks = wall::guard("topology_p_build_config", || {
            // SAFETY: Slurm's context, by the caller's word.
            unsafe { read_blocks(tctx, records) }
        });
        let (model, substitute) = match blocks {
            None => (None, None),
            Some(Blocks::None) => {
                // Nothing of ours is left that could take it out of the metrics again.
                // SAFETY: Slurm's context, by the caller's word.
                mem::forget(counted(unsafe { name_of(tctx) }, false, records));
                return Ok(None);
            }
            Some(Blocks::AsWritten(model)) => (model, None),
            Some(Blocks::Mended(model, substitute)) => (model, Some(substitute)),
        };
        // SAFETY: as above; the configuration lives until destroy_config.
        let shadow = unsafe { Shadow::build(tctx, substitute) }?;
        // SAFETY: Slurm's context, by the caller's word.
        let counted = counted(unsafe { name_of(tctx) }, model.is_some(), records);
        Ok(Some(Self { shadow, model, records, counted }))
    }

    /// Whether jobs are steered here.
    pub(crate) fn steers(&self) -> bool {
        self.model.is_some() && !wall::is_breached()
    }

    /// `topology_p_eval_nodes`.
    ///
    /// # Safety
    /// `eval` is the argument of that function.
    pub(crate) unsafe fn eval_nodes(&mut self, eval: *mut topology_eval_t) -> c_int {
        metrics::tick();
        shadow::begin_evaluation();
        if let Some(model) = self.model.as_ref().filter(|_| !wall::is_breached()) {
            let (records, shadow) = (self.records, &mut self.shadow);
            let ours = wall::guard("topology_p_eval_nodes", || {
                // SAFETY: Slurm's evaluation, by the caller's word; what is made of it ends with this closure.
                unsafe { Eval::new(eval, node::count()) }
                    .map(|mut eval| place::evaluate(&mut eval, model, shadow, records))
            });
            match ours.flatten() {
                Some(Outcome::Answered(rc)) => {
                    metrics::count(if rc == TOPO_RC_SUCCESS {
                        // SAFETY: Slurm's evaluation, by the caller's word.
                        unsafe { self.note(eval) };
                        metrics::Outcome::Placed
                    } else {
                        metrics::Outcome::Refused
                    });
                    return rc;
                }
                Some(Outcome::Delegated(why)) => slurm_log!(Debug, "left to Slurm's own evaluator: {why}"),
                Some(Outcome::Distrusted(record)) => distrust(record),
                None => {}
            }
        }
        metrics::count(metrics::Outcome::Delegated);
        // SAFETY: the evaluation is as Slurm passed it: ours put everything back.
        let rc = unsafe { self.shadow.eval_nodes(eval) };
        if rc == TOPO_RC_SUCCESS {
            // SAFETY: Slurm's evaluation, by the caller's word.
            unsafe { self.note(eval) };
        }
        rc
    }

    /// Remembers when the job reaches its time limit that was just placed.
    ///
    /// # Safety
    /// `eval` is the argument of `topology_p_eval_nodes`, with the answer.
    unsafe fn note(&self, eval: *mut topology_eval_t) {
        if !self.steers() || self.model.as_ref().is_none_or(|model| model.rules.room == 0) {
            return;
        }
        let records = self.records;
        wall::guard("topology_p_eval_nodes", || {
            // SAFETY: Slurm's evaluation, by the caller's word; what is made of it ends with this closure.
            let answer = unsafe { Eval::new(eval, node::count()) };
            if let Some(answer) = answer
                && let Some(job) = answer.job(records)
            {
                Ends::known().note(&answer, &job);
            }
        });
    }

    /// `topology_p_add_rm_node`. Stock forgets a node that is put where it already is (SchedMD/slurm pull request
    /// 225), so it is asked only for real changes.
    ///
    /// # Safety
    /// The arguments are those of that function.
    pub(crate) unsafe fn add_rm_node(&mut self, node: *mut node_record_t, unit: *mut c_char) -> c_int {
        // SAFETY: NULL or a C string that lives during the call.
        let block: Option<&CStr> = unsafe { memory::text(unit) };
        let index = wall::guard(ADD_RM_NODE, || Node::new(node, self.records).and_then(Node::index));
        if let Some(None) = index {
            distrust("a node's record");
            self.steer_no_more();
        }
        let index = index.flatten();
        match wall::guard(ADD_RM_NODE, || Some(self.model.as_ref()?.change(index?, block))).flatten() {
            Some(Change::None) => return TOPO_RC_SUCCESS,
            Some(Change::NoSuchBlock) => return TOPO_RC_ERROR,
            Some(Change::Needed) | None => {}
        }
        // SAFETY: Slurm's arguments, passed on.
        let rc = unsafe { self.shadow.add_rm_node(node, unit) };
        if rc == TOPO_RC_SUCCESS
            && let (Some(model), Some(index)) = (&mut self.model, index)
            && wall::guard(ADD_RM_NODE, || model.place(index, block)).is_none()
        {
            // The change is in force in stock's model; ours has missed it.
            self.steer_no_more();
        }
        rc
    }

    fn steer_no_more(&mut self) {
        self.model = None;
        self.counted.iter().for_each(metrics::Topology::is_left_to_slurm);
    }
}

/// For the log: the entry point that this is about.
const ADD_RM_NODE: &str = "topology_p_add_rm_node";

/// The topology in the metrics, which begin here when slurm.conf wants them; None where jobs are not placed. Behind a wall of
/// its own: nothing may depend on it.
fn counted(name: String, steered: bool, records: &Records) -> Option<metrics::Topology> {
    let begin = || {
        if !process::is_slurmctld() {
            return None;
        }
        let (build_id, layout) = crate::build()?;
        metrics::begin(&config::topology_param(records)?, (&build_id, layout));
        Some(metrics::Topology::new(&name, steered))
    };
    wall::again(begin).flatten()
}

/// The name of a topology; that of topology.conf has none.
///
/// # Safety
/// As for [`Context::build`].
unsafe fn name_of(tctx: *const topology_ctx_t) -> String {
    // SAFETY: Slurm's context, by the caller's word.
    let name = unsafe { (*tctx).name };
    // SAFETY: NULL or a C string that lives with the context.
    unsafe { memory::text(name) }
        .map_or_else(|| "default".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Takes the site's settings from slurm.conf.
fn read_settings(rules: &mut Rules, records: &Records) {
    let Some(settings) = config::topology_param(records) else { return distrust("slurm.conf's record") };
    for unknown in rules.read(&settings) {
        slurm_log!(Error, "TopologyParam={unknown}: no such setting of slurm-nvlink; it is ignored");
    }
    if rules.split == Split::Packed {
        slurm_log!(Info, "nvlink_split=packed: jobs over several NVLink partitions fill one after the other");
    }
    settle_room(rules, records);
    if rules.span == Span::Degraded {
        slurm_log!(
            Info,
            "nvlink_span=degraded: jobs may span that no NVLink partition can hold until it is mended"
        );
    }
}

/// Says what becomes of the room that a site keeps and of its patience, and drops what cannot be had.
fn settle_room(rules: &mut Rules, records: &Records) {
    let (room, patience) = (rules.room, rules.patience);
    if patience > 0 && room == 0 {
        slurm_log!(
            Error,
            "nvlink_patience={patience}: nobody waits for room without nvlink_room; set it as well, as in \
             nvlink_room=16,nvlink_patience={patience}"
        );
    }
    if room > 0 && records.times().is_none() {
        let also = if patience > 0 {
            format!(" and nvlink_patience={patience} has no effect")
        } else {
            String::new()
        };
        slurm_log!(
            Error,
            "nvlink_room={room}: no room is kept{also}, as it is not known where this build of Slurm has the time limits of jobs"
        );
        rules.room = 0;
    }
    if rules.room == 0 {
        rules.patience = 0;
        return;
    }
    slurm_log!(Info, "nvlink_room={room}: jobs of fewer trays leave room for {room} where they can choose");
    if patience > 0 {
        slurm_log!(
            Info,
            "nvlink_patience={patience}: behind larger jobs they wait up to {patience} minutes rather than take that room"
        );
    }
}

/// Steers no more, because this record of Slurm's is not as the layout says.
fn distrust(record: &str) {
    wall::breach(&format!(
        "{record} is not laid out as confirmed for this build (slurm-nvlink-confirm measures it again)"
    ));
}

/// The blocks of a topology.
enum Blocks {
    /// As Slurm's configuration has them, with our model of them where jobs are steered.
    AsWritten(Option<Model>),
    /// Without those that are faulty.
    Mended(Option<Model>, Substitute),
    /// None can be used.
    None,
}

/// Reads the blocks, and says what is wrong with them.
///
/// # Safety
/// As for [`Context::build`].
unsafe fn read_blocks(tctx: *mut topology_ctx_t, records: &Records) -> Blocks {
    // SAFETY: Slurm's context, by the caller's word.
    let name = unsafe { name_of(tctx) };
    // SAFETY: as above.
    let tctx = unsafe { &*tctx };
    if tctx.config.is_null() {
        if process::is_slurmctld() {
            slurm_log!(
                Info,
                "topology {name} is not from topology.yaml: jobs are left to Slurm's own evaluator"
            );
        }
        return Blocks::AsWritten(None);
    }
    // SAFETY: with topology.yaml a topology of this plugin has a block configuration.
    let config = unsafe { config::read(tctx.config.cast()) };
    let faults = match Model::build(&config, node::count()) {
        Ok(model) => return Blocks::AsWritten(steering(model, &name, records)),
        Err(faults) => faults,
    };
    for fault in &faults {
        slurm_log!(Error, "topology {name}: {fault}");
    }
    let count = faults.len();
    let also = if count == 1 { "fault" } else { "faults" };
    if !faults.iter().any(Fault::is_fatal) {
        slurm_log!(
            Error,
            "topology {name}: {count} {also}, listed above; it is left to Slurm's own topology/block"
        );
        return Blocks::AsWritten(None);
    }
    if process::is_on_trial() {
        slurm_log!(
            Error,
            "topology {name}: {count} {also}, listed above, on which Slurm's own topology/block ends this slurmctld; the one \
             that runs goes on with the blocks that it has"
        );
        return Blocks::AsWritten(None);
    }
    let mended = config.mended(&faults);
    let (all, left) = (config.blocks.len(), mended.blocks.len());
    let model = Model::build(&mended, node::count());
    if matches!(&model, Err(faults) if faults.iter().any(Fault::is_fatal)) {
        slurm_log!(
            Error,
            "topology {name}: {count} {also}, listed above, and nothing is left of it: until the file is mended jobs know no \
             blocks"
        );
        return Blocks::None;
    }
    slurm_log!(
        Error,
        "topology {name}: {count} {also}, listed above; {left} of {all} blocks are in force until the file is mended, \
         block_sizes {}",
        if mended.sizes == config.sizes { "as written" } else { "as if not set" }
    );
    // SAFETY: Slurm's own configuration, which lives until destroy_config.
    let substitute = unsafe { Substitute::new(tctx.config.cast(), &mended) };
    Blocks::Mended(model.ok().and_then(|model| steering(model, &name, records)), substitute)
}

/// The model, when this is the process that places jobs.
fn steering(mut model: Model, name: &str, records: &Records) -> Option<Model> {
    if !process::is_slurmctld() {
        return None;
    }
    read_settings(&mut model.rules, records);
    let above = model.rules.levels.promised().filter(|base| *base < model.largest()).map_or_else(
        String::new,
        |base| {
            format!(
                "; above the base size of {base} they span while no NVLink partition has so many in service"
            )
        },
    );
    slurm_log!(
        Info,
        "topology {name}: jobs are steered into {} NVLink partitions of up to {} trays{above}",
        model.blocks.len(),
        model.largest()
    );
    Some(model)
}
