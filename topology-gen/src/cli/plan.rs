//! From facts to a plan and the file that says it, as `generate`, `apply` and `watch` need it.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fabric::topology::cluster_default;
use fabric::{Blame, HostList, NodeName, Report, Topology};

use super::facts::SourceArgs;
use super::{Output, in_file, read_text};
use crate::emit::{count, yaml};
use crate::failure::Failure;
use crate::plan::{self, BaseSize, Names, Plan, PlanError, Tier, TierWish, Today, Wishes, compose};
use crate::reconcile::{Reason, Trays, reconcile};
use crate::site_map;
use crate::source::Inventory;

/// What to do about trays that hold the file back.
pub(super) const HELD: &str =
    "hint: mend the refused trays, drop them with --ignore, or leave them out with --accept-partial";
/// Topology for nodes without multi-node NVLink.
pub(super) const FLAT: &str = "flat";

/// Where facts come from and what is planned with them.
#[derive(Debug, clap::Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    pub(super) source: SourceArgs,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// What is planned.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Plan")]
struct PolicyArgs {
    /// Base block size, or -N for N trays to spare in the largest NVLink partition
    ///
    /// Without it as many to spare as in the previous file, else none.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    base_size: Option<BaseSize>,
    /// A service tier: the same blocks with another base size, N or -N
    ///
    /// A topology of its own, called NAME. Tiers of the previous file stay; the size none takes one out.
    #[arg(long, value_name = "NAME=SIZE")]
    tier: Vec<TierWish>,
    /// Names and places of the racks, a CSV
    ///
    /// Its columns are block,domain,clique,nodes,row,hall.
    #[arg(long, value_name = "FILE")]
    site_map: Option<PathBuf>,
    /// GPUs each tray should have; without it what Slurm's Gres says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    expect_gpus: Option<u32>,
    /// Nodes to leave out of all blocks
    #[arg(long, value_name = "HOSTLIST")]
    ignore: Option<HostList>,
    /// Name of the block topology
    #[arg(long, value_name = "NAME", default_value = "nvlink")]
    topology: String,
    /// Forget block names and positions of the present file
    #[arg(long)]
    fresh: bool,
    /// Write the file though some trays are refused; these trays are left out
    #[arg(long)]
    accept_partial: bool,
}

/// A plan and the file that says it.
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) tiers: Vec<Tier>,
    pub(super) trays: Trays,
    pub(super) today: Option<Today>,
    pub(super) topologies: Vec<Topology>,
    /// What was read.
    pub(super) inventory: Inventory,
    /// The new topology.yaml.
    pub(super) text: String,
    /// Whether some trays are refused and nobody has said that the rest will do.
    pub(super) held: bool,
}

impl PlanArgs {
    /// Name of the block topology.
    pub(super) fn topology(&self) -> &str {
        &self.policy.topology
    }

    /// Whether names and positions of before are forgotten.
    pub(super) fn is_fresh(&self) -> bool {
        self.policy.fresh
    }

    /// Plans from the facts and the file of before, and says what it found.
    pub(super) fn planned(
        &self,
        previous: Option<&Path>,
        output: &mut Output<'_>,
    ) -> Result<Planned, Failure> {
        let policy = &self.policy;
        let map = policy.site_map.as_deref().map(site_map_of).transpose()?;
        let inventory = self.source.inventory(output)?;
        for note in &inventory.notes {
            output.say(format_args!("warning: {note}"));
        }
        let previous = self::previous(previous.filter(|_| !policy.fresh), output)?;
        let ignored: BTreeSet<NodeName> = policy.ignore.iter().flatten().cloned().collect();
        let trays = reconcile(&inventory, policy.expect_gpus, &ignored);
        say_reasons(&trays, output);
        let ours = self.topology();
        let before = previous.iter().find(|topology| topology.name == ours).and_then(Topology::block);
        let wishes = Wishes { base: policy.base_size, map: map.as_ref() };
        let failure = |error: PlanError| plan_failure(&error, &trays);
        let plan = plan::plan(&trays, before, wishes).map_err(failure)?;
        let tiers = self.tiers(&plan, &previous).map_err(failure)?;
        say_plan(&plan, &trays, before.is_some(), output);
        let today = plan::today(&plan, &tiers, &trays, ours);
        say_sizes(&plan, &tiers, today.as_ref(), output);
        let names = Names { block: ours, flat: FLAT };
        let topologies = compose(&plan, &tiers, &previous, names, !trays.outside.is_empty());
        if let Some(default) = cluster_default(&previous).filter(|topology| topology.name != ours) {
            output.say(format_args!(
                "note: the cluster default stays topology {:?} of the previous file",
                default.name
            ));
        }
        let promises: Vec<String> =
            std::iter::once(plan.guarantee()).chain(tiers.iter().map(Tier::to_string)).collect();
        let text = checked(yaml::text(&topologies, &promises), &topologies)?;
        let held = trays.has_problems() && !policy.accept_partial;
        Ok(Planned { plan, tiers, trays, today, topologies, inventory, text, held })
    }

    /// The tiers, none of which may take the place of a topology that is something else.
    fn tiers(&self, plan: &Plan, previous: &[Topology]) -> Result<Vec<Tier>, PlanError> {
        let ours = self.topology();
        for wish in &self.policy.tier {
            let is_tier = plan::tiers_of(previous, ours).any(|(name, _)| name == wish.name);
            let is_other = previous.iter().any(|topology| topology.name == wish.name) && !is_tier;
            if wish.name == ours || wish.name == FLAT || is_other {
                return Err(PlanError::TierTaken { name: wish.name.clone() });
            }
        }
        plan::tiers(plan, previous, ours, &self.policy.tier)
    }
}

/// The site map in a file.
fn site_map_of(path: &Path) -> Result<site_map::SiteMap, Failure> {
    site_map::parse(&read_text(path)?).map_err(|error| in_file(path, &error))
}

/// The topologies of the previous file; none without one.
fn previous(path: Option<&Path>, output: &mut Output<'_>) -> Result<Vec<Topology>, Failure> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let (topologies, notes) = fabric::slurm_yaml::parse_with_notes(&read_text(path)?).map_err(|error| {
        in_file(path, &error)
            .hint("mend the file, or give --fresh to plan without it: block names and positions then change")
    })?;
    for note in notes {
        output.say(format_args!("warning: {}: {note}", path.display()));
    }
    Ok(topologies)
}

fn plan_failure(error: &PlanError, trays: &Trays) -> Failure {
    let failure = Failure::of(Blame::Config, error);
    match error {
        PlanError::NothingValid if trays.silent.is_empty() => {
            failure.hint("without multi-node NVLink Slurm needs no topology.yaml; else see the reasons above")
        }
        PlanError::NothingValid => failure.hint(
            "start slurmd on the trays with --extra \"$(topology-gen probe --extra)\", or collect topology-gen probe into \
             --readings FILE",
        ),
        PlanError::BaseTooLarge { .. } => failure.hint("give a base size up to the trays of the largest NVLink partition"),
        PlanError::Spares { .. } => failure.hint("spare fewer trays"),
        PlanError::TierTaken { .. } => failure.hint("give the tier another name"),
        PlanError::Base { .. } => failure,
    }
}

/// What is written must read back as what was planned; anything else is our fault and must not reach Slurm.
fn checked(text: String, topologies: &[Topology]) -> Result<String, Failure> {
    match fabric::slurm_yaml::parse(&text) {
        Ok(read) if read == topologies => Ok(text),
        Ok(_) => Err(Failure(Report::new(Blame::Bug, "the new topology.yaml does not read back as planned"))),
        Err(error) => {
            let mut failure = Failure::of(Blame::Bug, &error);
            failure.0.message = format!("the new topology.yaml cannot be read back: {}", failure.0.message);
            Err(failure)
        }
    }
}

/// One line for all nodes with the same reason.
fn say_reasons(trays: &Trays, output: &mut Output<'_>) {
    let groups: [(&str, &[Reason]); 5] = [
        ("refused", &trays.rejected),
        ("refused, not ready", &trays.pending),
        ("warning", &trays.warnings),
        ("no reading", &trays.silent),
        ("outside NVLink", &trays.outside),
    ];
    for (label, reasons) in groups {
        let mut nodes: BTreeMap<&str, HostList> = BTreeMap::new();
        for reason in reasons {
            nodes.entry(&reason.why).or_default().push(reason.node.clone());
        }
        for (why, nodes) in nodes {
            output.say(format_args!("{label}: {nodes}: {why}"));
        }
    }
}

fn say_plan(plan: &Plan, trays: &Trays, known: bool, output: &mut Output<'_>) {
    let total: usize = plan.blocks.iter().map(|block| block.nodes.len()).sum();
    output.say(format_args!(
        "{}, {} in blocks, {} outside NVLink",
        count(trays.partitions.len(), "NVLink partition"),
        count(total, "tray"),
        count(trays.outside.len(), "node"),
    ));
    for block in plan.blocks.iter().filter(|block| !block.stale.is_empty()) {
        let stale: HostList =
            block.nodes.iter().filter(|node| block.stale.contains(*node)).cloned().collect();
        output.say(format_args!("stale: {stale}: kept in {} where it was last", block.name));
    }
    if !plan.unplaced.is_empty() {
        let nodes: HostList = plan.unplaced.iter().cloned().collect();
        output.say(format_args!("warning: {nodes}: in no block, nothing is known of it"));
    }
    if known {
        for change in &plan.changes {
            output.say(format_args!("change: {change}"));
        }
    }
    if !trays.outside.is_empty() {
        output
            .say(format_args!("hint: give partitions of nodes outside NVLink Topology={FLAT} in slurm.conf"));
    }
}

/// What jobs can rely on, and what today's missing trays take from that.
fn say_sizes(plan: &Plan, tiers: &[Tier], today: Option<&Today>, output: &mut Output<'_>) {
    output.say(plan.guarantee());
    for tier in tiers {
        output.say(tier);
    }
    let Some(today) = today else { return };
    let away = count(today.away.len(), "tray");
    output.say(format_args!("today {away} can run no job: {}", today.away));
    for (name, base, sizes) in today.waiting.iter().filter(|(.., sizes)| !sizes.is_empty()) {
        output.say(format_args!(
            "in topology {name} (base size {base}) Slurm's own topology/block lets jobs of these sizes wait for them: {sizes}"
        ));
    }
}
