#![forbid(unsafe_code)]
//! Slurm's question -> the pure choice -> sets of nodes, tried one after the other.
//!
//! The work grows with the partitions and the nodes that are candidates, not with the cluster.

mod survey;

use std::ffi::c_int;
use std::num::NonZeroU32;

use fabric::placement::{self, Candidate, Request};

use crate::abi::layout::Layout;
use crate::abi::{TOPO_RC_NO_FIT, TOPO_RC_SEGMENT_NO_FIT, TOPO_RC_SUCCESS};
use crate::bits;
use crate::host::eval::Eval;
use crate::host::job::{Job, Odd};
use crate::host::node::NodeTable;
use crate::model::Model;
use crate::slurm_log;
use survey::{NodeSet, Pick, Survey};

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
        Err(NotOurs::Stock(why)) => return Outcome::Delegated(why),
        Err(NotOurs::TooFewCpus { least }) => {
            slurm_log!(
                Debug,
                "JobId={} waits: its {} CPUs need {least} trays, and it may have {}",
                job.id,
                job.min_cpus,
                eval.most()
            );
            return Outcome::Answered(eval.refuse(TOPO_RC_NO_FIT));
        }
    };
    let nodes = NodeTable::new(layout.node);
    let question = Question { model, job: &job, nodes: &nodes, request: &request };
    let partitions = question.survey(eval, eval.usable()).partitions(&request);
    if partitions.iter().all(|p| p.free == 0) {
        return Outcome::Delegated("no usable node is in a block");
    }
    match placement::candidates(&partitions, &request) {
        Ok(mut candidates) if question.in_one_partition() => question.try_partitions(eval, &mut candidates),
        Ok(mut candidates) => question.try_several(eval, &mut candidates),
        Err(refusal) => {
            slurm_log!(Debug, "JobId={} waits: {refusal}", job.id);
            let rc = if request.segment.is_some() { TOPO_RC_SEGMENT_NO_FIT } else { TOPO_RC_NO_FIT };
            Outcome::Answered(eval.refuse(rc))
        }
    }
}

/// Why a job is not placed by our choice.
enum NotOurs {
    /// It is stock's.
    Stock(&'static str),
    /// No set of as many trays as it may have has the CPUs.
    TooFewCpus {
        /// Trays that it would need.
        least: u32,
    },
}

/// The job as the choice sees it.
fn request(eval: &Eval<'_>, model: &Model, job: &Job<'_>) -> Result<Request, NotOurs> {
    let required = job.required.unwrap_or(&[]);
    if !bits::is_subset(required, eval.usable()) {
        return Err(NotOurs::Stock("a required node is not usable"));
    }
    let required = bits::count(required);
    let wanted = eval.wanted().max(required);
    let segment = NonZeroU32::new(u32::from(job.segment)).filter(|segment| segment.get() < wanted);
    // One segment has nothing to be consolidated with.
    if job.odd.is_some_and(|odd| odd != Odd::Consolidate || segment.is_some()) {
        return Err(NotOurs::Stock("the job asks for something that only Slurm's own evaluator knows"));
    }
    if let Some(segment) = segment {
        if wanted % segment != 0 {
            return Err(NotOurs::Stock("the segment size does not divide the node count"));
        }
        if required > 0 {
            return Err(NotOurs::Stock("segments with required nodes"));
        }
    }
    if wanted == 0 || wanted > eval.most() {
        return Err(NotOurs::Stock("the node count is out of bounds"));
    }
    let least = trays_for_cpus(eval, job.min_cpus, wanted);
    if least > eval.most() {
        return Err(NotOurs::TooFewCpus { least });
    }
    let trays = if segment.is_some() { wanted } else { least };
    if segment.is_none() && trays > model.largest() {
        if required > 0 {
            return Err(NotOurs::Stock("more than a partition, with required nodes"));
        }
        if model.aggregated_levels {
            return Err(NotOurs::Stock("more than a partition, and aggregated blocks are configured"));
        }
    }
    Ok(Request { trays, segment, spread: job.spread, required })
}

/// How many trays the job's CPUs need at least: `wanted`, unless all usable nodes are too small for that.
fn trays_for_cpus(eval: &Eval<'_>, cpus: u32, wanted: u32) -> u32 {
    let share = cpus.div_ceil(wanted.max(1));
    let mut largest = 1;
    for node in bits::ones(eval.usable()) {
        if largest >= share {
            break;
        }
        largest = largest.max(u32::from(eval.cpus(node)));
    }
    wanted.max(cpus.div_ceil(largest))
}

/// A job of ours and all that is known about it.
struct Question<'q> {
    model: &'q Model,
    job: &'q Job<'q>,
    nodes: &'q NodeTable<'q>,
    request: &'q Request,
}

impl<'q> Question<'q> {
    fn in_one_partition(&self) -> bool {
        self.request.segment.is_none() && self.request.trays <= self.model.largest()
    }

    fn survey<'s>(&'s self, eval: &'s Eval<'s>, usable: &'s [u64]) -> Survey<'s> {
        Survey { eval, model: self.model, job: self.job, nodes: self.nodes, usable }
    }

    /// Tries one partition after the other. The code of the first failure is the one that the user sees.
    fn try_partitions(&self, eval: &mut Eval<'_>, candidates: &mut placement::Candidates) -> Outcome {
        let mut first_failure = None;
        let mut chosen = NodeSet::new();
        for candidate in candidates {
            let Some(partition) = candidate.only_partition() else { continue };
            let survey = self.survey(eval, eval.usable());
            if !survey.has_cpus(partition) {
                continue;
            }
            survey.all_of(partition, &mut chosen);
            let rc = eval.try_on(&chosen);
            if rc == TOPO_RC_SUCCESS {
                self.log_placed(&candidate);
                return Outcome::Answered(rc);
            }
            first_failure.get_or_insert(rc);
        }
        if first_failure.is_some() && eval.gres_per_job() {
            return Outcome::Delegated("the chosen nodes lack cores or GRES");
        }
        // Cores or GRES are short in every partition: waiting is right, spanning would not be.
        slurm_log!(
            Debug,
            "JobId={} waits: its CPUs or GRES are short in every NVLink partition",
            self.job.id
        );
        Outcome::Answered(eval.refuse(first_failure.unwrap_or(TOPO_RC_NO_FIT)))
    }

    /// Tries the best set over several partitions. Where CPUs may be short, also the richest trays of the same
    /// partitions, the best set of trays that have the share of each, and at last the segments with most CPUs.
    fn try_several(&self, eval: &mut Eval<'_>, candidates: &mut placement::Candidates) -> Outcome {
        let mut chosen = NodeSet::new();
        let mut ways: Vec<(Candidate, Pick, Option<Vec<u64>>)> =
            candidates.map(|best| (best, Pick::Lightest, None)).collect();
        let cpus_matter = self.job.min_cpus > self.request.trays;
        if cpus_matter {
            ways.extend(ways.first().map(|(best, _, _)| (best.clone(), Pick::Richest, None)));
            let rich = self.with_share_of_cpus(eval);
            let partitions = self.survey(eval, &rich).partitions(self.request);
            if let Some(best) =
                placement::candidates(&partitions, self.request).ok().and_then(|mut c| c.next())
            {
                ways.push((best, Pick::Lightest, Some(rich)));
            }
            ways.sort_by_key(|(candidate, _, _)| candidate.shares.len());
        }
        for (candidate, pick, usable) in &ways {
            let usable = usable.as_deref().unwrap_or(eval.usable());
            self.survey(eval, usable).some_of(candidate, *pick, &mut chosen);
            let rc = eval.try_on(&chosen);
            if rc == TOPO_RC_SUCCESS {
                self.log_placed(candidate);
                return Outcome::Answered(rc);
            }
        }
        match self.request.segment {
            Some(segment) if cpus_matter => self.try_richest(eval, segment),
            _ => Outcome::Delegated("the chosen nodes lack cores or GRES"),
        }
    }

    /// The usable nodes that have an even share of the job's CPUs.
    fn with_share_of_cpus(&self, eval: &Eval<'_>) -> Vec<u64> {
        let share = self.job.min_cpus.div_ceil(self.request.trays.max(1));
        let mut rich = vec![0; eval.usable().len()];
        for node in bits::ones(eval.usable()).filter(|&node| u32::from(eval.cpus(node)) >= share) {
            bits::put(&mut rich, node, true);
        }
        rich
    }

    /// Tries the segments with most CPUs: when these have too few, the job waits.
    fn try_richest(&self, eval: &mut Eval<'_>, segment: NonZeroU32) -> Outcome {
        let mut chosen = NodeSet::new();
        let cpus = self.survey(eval, eval.usable()).richest_segments(self.request, segment, &mut chosen);
        if cpus < u64::from(self.job.min_cpus) && eval.most() == self.request.trays {
            slurm_log!(
                Debug,
                "JobId={} waits: the best segments of {segment} trays have {cpus} CPUs, it needs {}",
                self.job.id,
                self.job.min_cpus
            );
            return Outcome::Answered(eval.refuse(TOPO_RC_SEGMENT_NO_FIT));
        }
        let rc = eval.try_on(&chosen);
        if rc == TOPO_RC_SUCCESS {
            slurm_log!(Debug, "JobId={} fits segments chosen for their CPUs", self.job.id);
            return Outcome::Answered(rc);
        }
        Outcome::Delegated("the chosen nodes lack cores or GRES")
    }

    fn log_placed(&self, candidate: &Candidate) {
        slurm_log!(Debug, "JobId={} fits {}", self.job.id, describe(self.model, candidate));
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
