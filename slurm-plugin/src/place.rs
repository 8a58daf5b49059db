#![forbid(unsafe_code)]
//! Slurm's question -> the pure choice -> sets of nodes, tried one after the other.

use std::ffi::c_int;
use std::num::NonZeroU32;

use fabric::placement::{self, Candidate, Partition, Request};

use crate::abi::layout::Layout;
use crate::abi::{TOPO_RC_NO_FIT, TOPO_RC_SEGMENT_NO_FIT, TOPO_RC_SUCCESS};
use crate::bits;
use crate::host::eval::Eval;
use crate::host::job::Job;
use crate::host::log::{Level, enabled};
use crate::host::node::NodeTable;
use crate::model::{Block, Model};
use crate::slurm_log;

/// What became of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Placed or refused; Slurm's return code.
    Answered(c_int),
    /// Left as it was, for stock to answer, and why.
    Delegated(&'static str),
}

/// Places the job, or refuses, or leaves it to stock.
pub(crate) fn evaluate(eval: &mut Eval<'_>, model: &Model, layout: &Layout) -> Outcome {
    let Some(job) = eval.job(layout) else {
        return Outcome::Delegated("the job's records do not look as they should");
    };
    let request = match request(eval, model, &job) {
        Ok(request) => request,
        Err(why) => return Outcome::Delegated(why),
    };
    let nodes = NodeTable::new(layout.node);
    let partitions = Survey { eval, model, job: &job, nodes: &nodes }.partitions(&request);
    if partitions.iter().all(|p| p.free == 0) {
        return Outcome::Delegated("no usable node is in a block");
    }
    match placement::candidates(&partitions, &request) {
        Ok(candidates) => try_each(eval, model, &job, &nodes, &candidates),
        Err(refusal) => {
            slurm_log!(Debug, "JobId={} waits: {refusal}", job.id);
            let rc = if request.segment.is_some() { TOPO_RC_SEGMENT_NO_FIT } else { TOPO_RC_NO_FIT };
            Outcome::Answered(eval.refuse(rc))
        }
    }
}

/// The job as the choice sees it, or why it is stock's.
fn request(eval: &Eval<'_>, model: &Model, job: &Job<'_>) -> Result<Request, &'static str> {
    if job.odd.is_some() {
        return Err("the job asks for something that only Slurm's own evaluator knows");
    }
    let required = job.required.unwrap_or(&[]);
    if !bits::is_subset(required, eval.usable()) {
        return Err("a required node is not usable");
    }
    let required = bits::count(required);
    let wanted = eval.wanted().max(required);
    let segment = NonZeroU32::new(u32::from(job.segment)).filter(|segment| segment.get() < wanted);
    if let Some(segment) = segment {
        if wanted % segment != 0 {
            return Err("the segment size does not divide the node count");
        }
        if required > 0 {
            return Err("segments with required nodes");
        }
    }
    let trays =
        if segment.is_some() { wanted } else { wanted.max(trays_for_cpus(eval, job.min_cpus, wanted)) };
    if trays == 0 || trays > eval.most() {
        return Err("the node count is out of bounds");
    }
    if segment.is_none() && trays > model.largest() {
        if required > 0 {
            return Err("more than a partition, with required nodes");
        }
        if model.aggregated_levels {
            return Err("more than a partition, and aggregated blocks are configured");
        }
    }
    Ok(Request { trays, segment, spread: job.spread, required })
}

/// How many trays the job's CPUs need at least. Each usable node has one or more.
fn trays_for_cpus(eval: &Eval<'_>, cpus: u32, wanted: u32) -> u32 {
    if cpus <= wanted {
        return wanted;
    }
    let largest = bits::ones(eval.usable()).map(|node| eval.cpus(node)).max().unwrap_or(0);
    cpus.div_ceil(u32::from(largest).max(1))
}

/// What the choice needs to know of nodes.
struct Survey<'s, 'e> {
    eval: &'s Eval<'e>,
    model: &'s Model,
    job: &'s Job<'s>,
    nodes: &'s NodeTable<'s>,
}

impl Survey<'_, '_> {
    fn partitions(&self, request: &Request) -> Vec<Partition> {
        let largest = self.model.largest();
        let spans = request.segment.is_none() && request.trays > largest;
        // Looking at every node's record is worth it only where the answer or a log line needs it.
        let health_matters = spans || enabled(Level::Debug);
        let weight_matters_from = request.segment.map_or(request.trays, NonZeroU32::get);

        let partition = |block: &Block| {
            let usable = self.eval.usable();
            let free = bits::overlap(block.words(), usable);
            let lightest = || bits::common(block.words(), usable).map(|node| self.weight(node)).min();
            Partition {
                trays: block.trays(),
                healthy: if health_matters { self.healthy(block) } else { block.trays() },
                free,
                required: self.job.required.map_or(0, |required| bits::overlap(required, block.words())),
                weight: if free < weight_matters_from { None } else { lightest() }.unwrap_or(u64::MAX),
            }
        };
        self.model.blocks.iter().map(partition).collect()
    }

    fn weight(&self, node: usize) -> u64 {
        self.nodes.get(node).map_or(u64::MAX, |node| node.weight())
    }

    fn healthy(&self, block: &Block) -> u32 {
        let healthy =
            bits::ones(block.words()).filter(|&n| self.nodes.get(n).is_some_and(|node| node.is_healthy()));
        u32::try_from(healthy.count()).unwrap_or(u32::MAX)
    }

    /// The nodes that a candidate may use. In one partition Slurm's evaluator picks among all that are usable; over
    /// several the nodes are chosen here, lowest weight first, then in order.
    fn nodes_of(&self, candidate: &Candidate) -> Vec<u64> {
        let usable = self.eval.usable();
        if let Some(only) = candidate.only_partition() {
            return usable.iter().zip(self.model.blocks[only].words()).map(|(a, b)| a & b).collect();
        }
        let mut chosen = vec![0; usable.len()];
        for share in &candidate.shares {
            let mut free: Vec<usize> =
                bits::common(self.model.blocks[share.partition].words(), usable).collect();
            free.sort_by_key(|&node| self.weight(node));
            for &node in free.iter().take(share.trays as usize) {
                bits::put(&mut chosen, node, true);
            }
        }
        chosen
    }
}

/// Tries the sets in order. The code of the first failure is the one that the user sees.
fn try_each(
    eval: &mut Eval<'_>,
    model: &Model,
    job: &Job<'_>,
    nodes: &NodeTable<'_>,
    candidates: &[Candidate],
) -> Outcome {
    let mut first_failure = None;
    for candidate in candidates {
        let chosen = Survey { eval, model, job, nodes }.nodes_of(candidate);
        let rc = eval.try_on(&chosen);
        if rc == TOPO_RC_SUCCESS {
            slurm_log!(Debug, "JobId={} fits {}", job.id, describe(model, candidate));
            return Outcome::Answered(rc);
        }
        first_failure.get_or_insert(rc);
    }
    let in_one = candidates.iter().all(|candidate| candidate.only_partition().is_some());
    match first_failure {
        // Cores or GRES are short in every partition: waiting is right, spanning would not be.
        Some(rc) if in_one && !eval.gres_per_job() => Outcome::Answered(eval.refuse(rc)),
        _ => Outcome::Delegated("the chosen nodes lack cores or GRES"),
    }
}

fn describe(model: &Model, candidate: &Candidate) -> String {
    let shares: Vec<String> = candidate
        .shares
        .iter()
        .map(|share| {
            format!("{} trays of block {}", share.trays, model.blocks[share.partition].name.to_string_lossy())
        })
        .collect();
    shares.join(" and ")
}
