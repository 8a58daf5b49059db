#![forbid(unsafe_code)]
//! Slurm's question -> the pure choice -> sets of nodes, tried one after the other.
//!
//! The work grows with the partitions and the nodes that are candidates, not with the cluster.

mod ends;
mod failed;
mod line;
mod reason;
mod said;
mod survey;

use std::ffi::c_int;
use std::num::NonZeroU32;

use fabric::placement::{self, Candidate, Candidates, Partition, Request, Share};

use crate::abi::{
    TOPO_RC_ERROR, TOPO_RC_INSUFFICIENT, TOPO_RC_NO_FIT, TOPO_RC_SEGMENT_NO_FIT, TOPO_RC_SUCCESS,
};
use crate::bits;
use crate::host::eval::Eval;
use crate::host::job::Job;
use crate::host::log::{Level, enabled};
use crate::host::node::{self, NodeTable};
use crate::host::record::Records;
use crate::host::shadow::Shadow;
use crate::model::Model;
use crate::{metrics, slurm_log};
pub(crate) use ends::Ends;
use ends::Room;
use failed::Failed;
pub(crate) use reason::WORDS as REASONS;
use reason::{Reason, digest};
use said::Topic;
use survey::{Health, NodeSet, Pick, Survey};

/// What became of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Placed or refused; Slurm's return code.
    Answered(c_int),
    /// Left as it was, for stock to answer, and why.
    Delegated(&'static str),
    /// Left as it was, because this record of Slurm's is not as the layout says.
    Distrusted(&'static str),
}

/// Places the job, or refuses, or leaves it to stock.
pub(crate) fn evaluate(
    eval: &mut Eval<'_>,
    model: &Model,
    shadow: &mut Shadow,
    records: &Records,
) -> Outcome {
    let Some(job) = eval.job(records) else {
        return Outcome::Distrusted("a job's record");
    };
    let mut request = match request(eval, &job) {
        Ok(request) => request,
        Err(why) => return Outcome::Delegated(why),
    };
    let Some(nodes) = NodeTable::new(records) else {
        return Outcome::Distrusted("a node's record");
    };
    let known = (request.trays < model.rules.room).then(|| {
        let mut ends = Ends::known();
        ends.look(records);
        (ends, line::ahead(eval, &job, &request, &model.rules, records))
    });
    let room =
        known.as_ref().and_then(|(ends, ahead)| Room::of(ends, &model.rules, request.trays, ahead, &job));
    request.held = room.as_ref().is_some_and(|room| room.held);
    let question = Question { model, job: &job, nodes: &nodes, request: &request, room: room.as_ref() };
    let outcome = question.answer(eval, shadow);
    question.note_in_line(eval, outcome);
    outcome
}

/// Whether all nodes that Slurm offers are free now.
fn is_about_now(eval: &Eval<'_>) -> bool {
    node::idle().is_some_and(|idle| bits::is_subset(eval.usable(), idle))
}

/// Trays are uneven: how many the job needs, and so how many partitions, depends on which.
const LARGER_BY_CPUS: &str = "no NVLink partition has the job's CPUs, also when all of its trays are free";

/// The job as the choice sees it, with as many trays as its CPUs need, or why it is left to stock.
fn request(eval: &Eval<'_>, job: &Job<'_>) -> Result<Request, &'static str> {
    if job.odd.is_some() {
        return Err("the job asks for something that only Slurm's own evaluator knows");
    }
    let required = job.required.unwrap_or(&[]);
    if !bits::is_subset(required, eval.usable()) {
        return Err("a required node is not usable");
    }
    let required = bits::count(required);
    let wanted = eval.wanted().max(required);
    if wanted == 0 || wanted > eval.most() {
        return Err("the node count is out of bounds");
    }
    let segment = NonZeroU32::new(u32::from(job.segment)).filter(|segment| segment.get() < wanted);
    if segment.is_some_and(|segment| wanted % segment != 0) {
        return Err("the segment size does not divide the node count");
    }
    let least = trays_for_cpus(eval, job.min_cpus, wanted);
    let trays = if segment.is_some() && least <= eval.most() { wanted } else { least };
    Ok(Request { trays, segment, spread: job.spread, consolidate: job.consolidate, required, held: false })
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
    /// Where the site keeps room.
    room: Option<&'q Room<'q>>,
}

/// A way to try: how many nodes of which partitions, which of them first, and out of which nodes if not all usable ones.
type Way<'w> = (Candidate, Pick, Option<&'w [u64]>);

impl<'q> Question<'q> {
    /// Places the job, or refuses, or leaves it to stock.
    fn answer(&self, eval: &mut Eval<'_>, shadow: &mut Shadow) -> Outcome {
        let Self { model, job, request, .. } = *self;
        if request.trays > eval.most() {
            let reason = Reason::TooFewCpus { cpus: job.min_cpus, least: request.trays, most: eval.most() };
            return self.refuse(eval, reason, None);
        }
        let mut partitions = self.survey(eval, eval.usable()).partitions(request, Health::Assumed);
        if partitions.iter().all(|p| p.free == 0) {
            return Outcome::Delegated("no usable node is in a block");
        }
        for position in placement::tied(&partitions, request, &model.rules) {
            self.survey(eval, eval.usable()).look_at(position, &mut partitions[position]);
        }
        // With all trays taken for healthy, what is placed is placed as it would be otherwise: free trays are healthy.
        let choice = placement::candidates(&partitions, request, &model.rules).or_else(|refusal| {
            if !self.health_matters() {
                return Err(refusal);
            }
            let partitions = self.survey(eval, eval.usable()).partitions(request, Health::AsNeeded);
            placement::candidates(&partitions, request, &model.rules)
        });
        match choice {
            Ok(candidates) if candidates.in_one_partition() => {
                self.try_partitions(eval, shadow, candidates, &partitions)
            }
            Ok(candidates) => self.try_several(eval, candidates),
            Err(_) if self.is_larger_by_cpus(eval) => Outcome::Delegated(LARGER_BY_CPUS),
            Err(refusal) => self.refuse(eval, Reason::Partitions(refusal), None),
        }
    }

    fn survey<'s>(&'s self, eval: &'s Eval<'s>, usable: &'s [u64]) -> Survey<'s> {
        Survey { eval, model: self.model, job: self.job, nodes: self.nodes, usable, room: self.room }
    }

    /// Whether trays that are drained or down have a part in where the job may lie.
    fn health_matters(&self) -> bool {
        let larger = self.request.trays > self.model.largest();
        match self.request.segment {
            Some(_) => self.request.consolidate,
            None => larger || self.model.rules.may_span_degraded(self.request.trays),
        }
    }

    /// Whether the job fits a partition by its number of trays, and none by its CPUs, and stock may take several for it.
    fn is_larger_by_cpus(&self, eval: &Eval<'_>) -> bool {
        let by_trays = self.request.segment.is_none() && self.request.trays <= self.model.largest();
        by_trays
            && self.job.min_cpus > self.request.trays
            && self.stock_may_take_several(eval)
            && !self.survey(eval, eval.usable()).some_partition_may_have_cpus(self.request.trays)
    }

    /// Whether stock looks for the job in more than one partition at a time: where its trays are more than a base block
    /// has by `block_sizes`. Otherwise stock tries what we try, one partition after the other.
    fn stock_may_take_several(&self, eval: &Eval<'_>) -> bool {
        eval.wanted() > self.model.rules.levels.base()
    }

    /// Whether an answer of stock has as many trays as the job may have, which stock does not always heed, and lies in one
    /// partition or has more trays than any.
    fn is_right(&self, answer: &[u64], most: u32) -> bool {
        let count = bits::count(answer);
        let in_one = || self.model.blocks.iter().any(|block| block.overlap(answer) == count);
        (self.request.trays..=most).contains(&count) && (count > self.model.largest() || in_one())
    }

    /// Tries one partition after the other. The code of the first failure is the one that the user sees.
    fn try_partitions(
        &self,
        eval: &mut Eval<'_>,
        shadow: &mut Shadow,
        candidates: Candidates,
        partitions: &[Partition],
    ) -> Outcome {
        let mut first_failure = None;
        let mut failed = Failed::default();
        let mut chosen = NodeSet::new();
        for candidate in candidates {
            let Some(partition) = candidate.only_partition() else { continue };
            let survey = self.survey(eval, eval.usable());
            if !survey.has_cpus(partition) {
                continue;
            }
            survey.all_of(partition, &mut chosen);
            if failed.rules_out(eval, &chosen) {
                continue;
            }
            let plain = self.gets_the_first(&partitions[partition], &chosen)
                && (first_failure.is_none() || eval.gres_per_job());
            let rc = self.try_partition(eval, shadow, partition, plain, &mut failed, &mut chosen);
            if rc == TOPO_RC_SUCCESS {
                self.log_placed(eval, &candidate, &chosen);
                return Outcome::Answered(rc);
            }
            first_failure.get_or_insert(rc);
        }
        if self.is_larger_by_cpus(eval) {
            return Outcome::Delegated(LARGER_BY_CPUS);
        }
        if first_failure.is_some() && eval.gres_per_job() && self.stock_may_take_several(eval) {
            let all: NodeSet = bits::ones(eval.usable()).collect();
            let most = eval.most();
            let mut chosen = NodeSet::new();
            let is_right = |answer: &[u64]| {
                chosen = bits::ones(answer).collect();
                self.is_right(answer, most)
            };
            let rc = eval.try_stock_on(&all, shadow, is_right);
            if rc == TOPO_RC_SUCCESS {
                self.count_placed(eval, &chosen);
                return Outcome::Answered(rc);
            }
        }
        // Cores or GRES are short in every partition: waiting is right, spanning would not be. Where the flat evaluator does not
        // say more than that it failed, the user reads what Slurm's block evaluator would say.
        let rc = first_failure.map(|rc| if rc == TOPO_RC_ERROR { TOPO_RC_INSUFFICIENT } else { rc });
        self.refuse(eval, Reason::ShortEverywhere, rc)
    }

    /// Whether a job that can run on these free nodes of a partition gets the first of them, whichever of Slurm's evaluators is
    /// asked: it counts trays, and they are neighbours that run nothing and have the same weight.
    fn gets_the_first(&self, partition: &Partition, nodes: &[usize]) -> bool {
        let counts_trays = self.request.trays > 1
            && self.request.required == 0
            && self.job.segment == 0
            && self.job.min_cpus <= self.request.trays;
        let alike = partition.light == partition.free && partition.idle == partition.free;
        let are_neighbours =
            || matches!(nodes, [first, .., last] if last - first + 1 == partition.free as usize);
        counts_trays && alike && are_neighbours()
    }

    /// Tries a partition in which the job may lie. For GPUs of the whole job the flat evaluator does not suffice: it takes
    /// cores away from nodes before it knows whether they have enough, and does not give them back. Slurm's block
    /// evaluator is asked for the richest nodes, which have enough if any have, and at last for all of them.
    ///
    /// In a `plain` case it is asked first: the flat one walks over the whole cluster, which on a large one takes longer than
    /// everything else.
    fn try_partition(
        &self,
        eval: &mut Eval<'_>,
        shadow: &mut Shadow,
        partition: usize,
        plain: bool,
        failed: &mut Failed,
        chosen: &mut NodeSet,
    ) -> c_int {
        let trays = |trays| Candidate { shares: vec![Share { partition, trays }] };
        if self.request.required > 0 {
            // Beside nodes that the job names, Slurm's evaluator does not heed weights.
            let (least, lightest) = (trays(self.request.trays), Pick::Lightest);
            self.survey(eval, eval.usable()).some_of(&least, lightest, chosen);
            if eval.try_on(chosen) == TOPO_RC_SUCCESS {
                return TOPO_RC_SUCCESS;
            }
        }
        self.survey(eval, eval.usable()).all_of(partition, chosen);
        let most = eval.most();
        let counts = self.request.trays..=most;
        let first = plain.then(|| shadow.of_one_block()).flatten();
        let first = first
            .map(|stock| eval.try_stock_on(chosen, stock, |answer| counts.contains(&bits::count(answer))));
        let rc = match first {
            Some(rc) if rc == TOPO_RC_SUCCESS || eval.gres_per_job() => rc,
            _ => eval.try_on(chosen),
        };
        if rc == TOPO_RC_SUCCESS {
            return rc;
        }
        failed.add(eval, chosen);
        if !eval.gres_per_job() {
            return rc;
        }
        let Some(stock) = shadow.of_one_block() else { return rc };
        let cpus_matter = self.job.min_cpus > self.request.trays;
        for (pick, of_use) in [(Pick::MostGpus, true), (Pick::Richest, cpus_matter)] {
            self.survey(eval, eval.usable()).some_of(&trays(eval.most()), pick, chosen);
            if of_use
                && eval.try_stock_on(chosen, stock, |answer| self.is_right(answer, most)) == TOPO_RC_SUCCESS
            {
                return TOPO_RC_SUCCESS;
            }
            if pick == Pick::MostGpus {
                failed.add_richest(eval, chosen);
            }
        }
        self.survey(eval, eval.usable()).all_of(partition, chosen);
        if first.is_some()
            || failed.has_richer(eval, chosen)
            || eval.try_stock_on(chosen, stock, |answer| self.is_right(answer, most)) != TOPO_RC_SUCCESS
        {
            return rc;
        }
        TOPO_RC_SUCCESS
    }

    /// Tries the best sets over several partitions. Where CPUs may be short, also the richest trays of the same
    /// partitions, the best set of trays that have the share of each, and at last the segments with most CPUs.
    fn try_several(&self, eval: &mut Eval<'_>, candidates: Candidates) -> Outcome {
        let mut chosen = NodeSet::new();
        let mut ways: Vec<Way<'_>> = candidates.map(|way| (way, Pick::Lightest, None)).collect();
        let cpus_matter = self.job.min_cpus > self.request.trays;
        let rich = if cpus_matter { self.with_share_of_cpus(eval) } else { Vec::new() };
        if cpus_matter {
            ways.extend(ways.first().map(|(best, ..)| (best.clone(), Pick::Richest, None)));
            let health = if self.health_matters() { Health::AsNeeded } else { Health::Assumed };
            let partitions = self.survey(eval, &rich).partitions(self.request, health);
            let best = placement::candidates(&partitions, self.request, &self.model.rules);
            ways.extend(
                best.ok().and_then(|mut ways| ways.next()).map(|way| (way, Pick::Lightest, Some(&rich[..]))),
            );
            ways.sort_by_key(|(candidate, ..)| candidate.shares.len());
        }
        for (candidate, pick, usable) in &ways {
            self.survey(eval, usable.unwrap_or(eval.usable())).some_of(candidate, *pick, &mut chosen);
            let rc = eval.try_on(&chosen);
            if rc == TOPO_RC_SUCCESS {
                self.log_placed(eval, candidate, &chosen);
                return Outcome::Answered(rc);
            }
        }
        match self.request.segment {
            Some(segment) if cpus_matter && !self.request.consolidate && self.request.required == 0 => {
                self.try_richest(eval, segment)
            }
            _ => Outcome::Delegated("the chosen nodes lack cores or GRES"),
        }
    }

    /// The usable nodes that have an even share of the job's CPUs, and those that it names.
    fn with_share_of_cpus(&self, eval: &Eval<'_>) -> Vec<u64> {
        let share = self.job.min_cpus.div_ceil(self.request.trays.max(1));
        let mut rich = vec![0; eval.usable().len()];
        let named = |node| self.job.required.is_some_and(|required| bits::contains(required, node));
        for node in bits::ones(eval.usable()) {
            bits::put(&mut rich, node, u32::from(eval.cpus(node)) >= share || named(node));
        }
        rich
    }

    /// Tries the segments with most CPUs: when these have too few, the job waits.
    fn try_richest(&self, eval: &mut Eval<'_>, segment: NonZeroU32) -> Outcome {
        let mut chosen = NodeSet::new();
        let cpus = self.survey(eval, eval.usable()).richest_segments(self.request, segment, &mut chosen);
        if cpus < u64::from(self.job.min_cpus) && eval.most() == self.request.trays {
            let reason = Reason::PoorSegments { cpus: self.job.min_cpus, best: cpus };
            return self.refuse(eval, reason, None);
        }
        let rc = eval.try_on(&chosen);
        if rc == TOPO_RC_SUCCESS {
            slurm_log!(Debug, "JobId={} fits segments chosen for their CPUs", self.job.id);
            self.count_placed(eval, &chosen);
            return Outcome::Answered(rc);
        }
        Outcome::Delegated("the chosen nodes lack cores or GRES")
    }

    /// Refuses with a code of Slurm, by default the one for this kind of job, and says why.
    fn refuse(&self, eval: &mut Eval<'_>, reason: Reason, rc: Option<c_int>) -> Outcome {
        self.log_waits(eval, reason);
        self.count_refused(eval, reason);
        let usual = if self.request.segment.is_some() { TOPO_RC_SEGMENT_NO_FIT } else { TOPO_RC_NO_FIT };
        Outcome::Answered(eval.refuse(rc.unwrap_or(usual)))
    }

    /// Says once, and again when the reason changes, why a job waits. What the backfill scheduler finds out about later
    /// times is not said, and what Slurm evaluates for a reservation, which has no job id, neither.
    fn log_waits(&self, eval: &Eval<'_>, reason: Reason) {
        let id = self.job.id;
        if !enabled(Level::Info) || !self.waits_now(eval) {
            return;
        }
        if !said::is_due(id, Topic::Waits, reason.identity()) {
            return;
        }
        let mut reason = reason;
        let mut outlook = None;
        if let Reason::Partitions(_) = reason {
            let partitions = self.survey(eval, eval.usable()).partitions(self.request, Health::Read);
            if let Err(refusal) = placement::candidates(&partitions, self.request, &self.model.rules) {
                reason = Reason::Partitions(refusal);
                outlook = Some(placement::outlook(&partitions, self.request, &self.model.rules));
            }
        }
        if said::is_news(id, Topic::Waits, digest(&(reason.identity(), outlook))) {
            slurm_log!(Info, "JobId={id} waits: {reason}");
        }
    }

    /// Whether this is about a job, and about now.
    fn waits_now(&self, eval: &Eval<'_>) -> bool {
        self.job.id != 0 && (!self.job.backfill_test || is_about_now(eval))
    }

    /// Whether this places a job on trays that are free now. On trays that others still use it is a test of Slurm, or on
    /// shared trays the first of several passes.
    fn is_placed_now(&self, eval: &Eval<'_>, chosen: &[usize]) -> bool {
        let idle = node::idle().unwrap_or(&[]);
        let is_free = |node: usize| bits::contains(idle, node) || !eval.offers_all_cores(node);
        self.job.id != 0 && !self.job.backfill_test && chosen.iter().all(|&node| is_free(node))
    }

    /// Counts a job for the metrics, once for each reason.
    fn count_refused(&self, eval: &Eval<'_>, reason: Reason) {
        if metrics::are_wanted()
            && self.waits_now(eval)
            && said::is_news(self.job.id, Topic::CountedWaits, digest(&reason.word()))
        {
            metrics::count_refused(reason.word());
        }
    }

    /// Counts a job for the metrics, once for one partition and once for several.
    fn count_placed(&self, eval: &Eval<'_>, chosen: &[usize]) {
        if !metrics::are_wanted() || !self.is_placed_now(eval, chosen) {
            return;
        }
        let mut answer = vec![0; eval.usable().len()];
        for &node in chosen {
            bits::put(&mut answer, node, true);
        }
        let spans = self.model.blocks.iter().filter(|block| block.overlap(&answer) > 0).count() > 1;
        if said::is_news(self.job.id, Topic::CountedPlaced, 1 + u64::from(spans)) {
            metrics::count_placed(spans);
        }
    }

    /// Says once over which partitions a job lies that lies over several.
    fn log_placed(&self, eval: &Eval<'_>, candidate: &Candidate, chosen: &[usize]) {
        self.count_placed(eval, chosen);
        let id = self.job.id;
        slurm_log!(Debug, "JobId={id} fits {}", describe(self.model, candidate));
        let count = candidate.shares.len();
        let spans = count > 1 && id != 0 && !self.job.backfill_test && enabled(Level::Info);
        if !spans || !said::is_due(id, Topic::Spans, 0) || !self.is_placed_now(eval, chosen) {
            return;
        }
        let shares: Vec<(usize, u32)> = candidate.shares.iter().map(|s| (s.partition, s.trays)).collect();
        if said::is_news(id, Topic::Spans, digest(&shares)) {
            slurm_log!(
                Info,
                "JobId={id} spans {count} NVLink partitions: {}",
                describe(self.model, candidate)
            );
        }
    }
}

fn describe(model: &Model, candidate: &Candidate) -> String {
    let shares: Vec<String> = candidate
        .shares
        .iter()
        .map(|share| {
            let trays = if share.trays == 1 { "tray" } else { "trays" };
            let block = model.blocks[share.partition].name.to_string_lossy();
            format!("{} {trays} of block {block}", share.trays)
        })
        .collect();
    shares.join(", ")
}
