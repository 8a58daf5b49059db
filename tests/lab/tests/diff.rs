//! The quick differential run: a few thousand random situations on Slurm's own plugin and on ours, as cargo built it
//! for this test, with its debug assertions; and answers that were made wrong on purpose, each of which must be found.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use lab::check;
use lab::diff::{self, Pair, Plan};
use lab::host::{Loads, Parts};
use lab::protocol::{Answer, Gpus};
use lab::random::{Random, Variety};
use lab::replay::SlurmPlacer;
use lab::rules::{self, Rule};
use lab::scene::{Scene, Tray, idle_tray};
use lab::scene_file;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use replay::outages::Failures;
use replay::placer::Ours;
use replay::scenario::{Reference, Settings};
use replay::summary::Summary;
use tests::tree::Tree;

/// Situations of one seed.
const CASES: u32 = 1000;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let plan = |seed| Plan { seed, cases: CASES, nodes: None, racks: None, with: Variety::ALL.to_vec() };
    let racks = |plan| Plan { nodes: Some(200), racks: Some(50), ..plan };
    let plain = |plan| Plan { with: Vec::new(), ..plan };
    let trials = [
        ("seed_1", plan(1)),
        ("seed_2", plan(2)),
        ("many_small_racks", racks(plan(3))),
        ("whole_trays_only", plain(plan(4))),
    ];
    let mut trials: Vec<Trial> = trials
        .map(|(name, plan)| {
            let run = move || with_parts(|parts| compare(&parts, &plan));
            Trial::ignorable_test(format!("ours_against_stock::{name}"), run)
        })
        .into();
    trials
        .push(Trial::ignorable_test("planted_violations_are_found", || with_parts(|parts| planted(&parts))));
    let replayed = || with_parts(|parts| the_plugin_replays_as_the_core(&parts));
    trials.push(Trial::ignorable_test("the_plugin_replays_as_the_core", replayed));
    let larger = || with_parts(|parts| larger_by_cpus(&parts));
    trials.push(Trial::ignorable_test("ours_against_stock::a_job_whose_cpus_no_partition_has", larger));
    let alike = || with_parts(|parts| alike_racks(&parts));
    trials.push(Trial::ignorable_test("ours_against_stock::racks_of_alike_trays", alike));
    let other = || with_parts(|parts| other_entry_points(&parts));
    trials.push(Trial::ignorable_test("ours_against_stock::every_other_entry_point", other));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn with_parts(run: impl FnOnce(Parts) -> anyhow::Result<()>) -> Result<Completion, Failed> {
    let Some(tree) = Tree::find().map_err(in_full)? else {
        return Ok(Completion::ignored_with(
            "there is no root tree with Slurm; `cargo xtask cluster up` makes one",
        ));
    };
    let program = PathBuf::from(env!("CARGO_BIN_EXE_lab-host"));
    let plugin = plugin(&program).map_err(in_full)?;
    run(Parts { program, plugin, tree }).map_err(in_full)?;
    Ok(Completion::Completed)
}

fn other_entry_points(parts: &Parts) -> anyhow::Result<()> {
    let lines = lab::entries::compare(parts, 5, 12)?;
    ensure!(lines > 1000, "only {lines} answers were compared");
    Ok(())
}

/// Two racks of four trays, of which two each are small: no partition has 32 CPUs, both have.
const TWO_RACKS: &str = "
[cluster]
racks = [4, 4]
block_sizes = [2]
[trays]
cpus = 8
[trays.cpus_of]
\"n[3-4,7-8]\" = 1
[job]
nodes = 3
most_nodes = 4
cpus = 32
";

/// A job that fits a partition by its trays and none by its CPUs gets stock's answer. Of trays on which other jobs run
/// nobody knows what they will have: while these may make up a partition that is large enough, it waits.
fn larger_by_cpus(parts: &Parts) -> anyhow::Result<()> {
    let mut scene = scene_file::parse(TWO_RACKS)?;
    let mut pair = Pair::start(parts, &scene.cluster, false)?;
    let large = [0, 1, 4, 5];
    let (stock, ours) = pair.ask(&scene)?;
    ensure!(ours.rc == 0 && ours.nodes == large && stock.nodes == large, "all free: {ours:?}, {stock:?}");
    for tray in [6, 7] {
        scene.trays[tray].busy = true;
    }
    let (stock, ours) = pair.ask(&scene)?;
    ensure!(ours.rc != 0 && stock.nodes == large, "two small trays busy: {ours:?}, {stock:?}");
    Ok(())
}

fn compare(parts: &Parts, plan: &Plan) -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lab");
    let report = diff::run(parts, plan, &folder)?;
    ensure!(report.violations.is_empty(), "seed {}:\n{report}", plan.seed);
    Ok(())
}

/// A day of jobs on six racks: the plugin, loaded by Slurm, places each job in the same partitions as the placement core does
/// without Slurm. No tray fails, because within a partition the two may take other trays.
fn the_plugin_replays_as_the_core(parts: &Parts) -> anyhow::Result<()> {
    let failures = Failures { unavailable: 0.0, repair_hours: 1.0 };
    for (parts_of_rack, drained) in [(1, 0), (1, 1), (2, 0)] {
        let reference = Reference {
            racks: 6,
            parts: parts_of_rack,
            drained,
            jobs: 250,
            days: 1,
            load: 1.1,
            failures,
            ..Reference::default()
        };
        let scenario = reference.scenario(Settings { warm_up: 0, ..Settings::default() })?;
        let mut plugin = SlurmPlacer::start(parts, Loads::Ours, &scenario.site)?;
        let by_plugin = replay::run(&scenario, &mut plugin)?;
        let by_core = replay::run(&scenario, &mut Ours::default())?;
        ensure!(plugin.asked() > 100, "Slurm was asked only {} times", plugin.asked());
        let without_reasons = |mut summary: Summary| {
            summary.costs.clear();
            summary
        };
        ensure!(
            without_reasons(by_plugin) == without_reasons(by_core),
            "{reference:?}: the plugin does not place as the core"
        );
    }
    Ok(())
}

/// Racks that are free or busy as a whole, of trays that are all the same: the plain case, which random situations seldom are.
fn alike_racks(parts: &Parts) -> anyhow::Result<()> {
    let mut random = Random::new(6);
    let (mut placed, mut refused) = (0, 0);
    for _ in 0..10 {
        let cluster = random.cluster(&[Variety::Gres, Variety::Levels], None, Some(6));
        let mut pair = Pair::start(parts, &cluster, false)?;
        for _ in 0..100 {
            let mut scene = random.scene(&[Variety::Gres], &cluster);
            let cpus = if cluster.cores > 0 { cluster.cores } else { 4 };
            let racks = cluster.rack_of_nodes();
            let busy: Vec<bool> = cluster.racks.iter().map(|_| random.percent(30)).collect();
            for (tray, rack) in scene.trays.iter_mut().zip(racks) {
                *tray = Tray { busy: rack.is_some_and(|rack| busy[rack]), ..idle_tray(cpus) };
            }
            let is_usable = |&node: &u32| !scene.trays[node as usize].busy;
            scene.job.asked.required.retain(is_usable);
            if cluster.gpus > 0 && random.percent(50) {
                // As many as so many trays have, or a few more: then some partition has them, or none.
                let asked = &mut scene.job.asked;
                (asked.req_nodes, asked.max_nodes) = (asked.min_nodes, asked.min_nodes);
                let all = asked.min_nodes * u32::from(cluster.gpus);
                asked.gpus = Some(Gpus::PerJob(all + random.between(0, 2)));
            }
            let (stock, ours) = pair.ask(&scene)?;
            let verdict = check::compare(&scene, &stock, &ours);
            ensure!(verdict.violations.is_empty(), "{:?} in\n{scene:?}", verdict.violations);
            *(if ours.rc == 0 { &mut placed } else { &mut refused }) += 1;
        }
    }
    ensure!(placed > 100 && refused > 100, "{placed} placed, {refused} refused");
    Ok(())
}

/// Takes real answers of ours, makes each wrong in every way that fits, and looks whether the check says so.
fn planted(parts: &Parts) -> anyhow::Result<()> {
    let mut random = Random::new(5);
    let mut found = std::collections::BTreeMap::new();
    for _ in 0..4 {
        let cluster = random.cluster(&Variety::ALL, None, Some(4));
        let mut pair = Pair::start(parts, &cluster, false)?;
        for _ in 0..100 {
            let scene = random.scene(&Variety::ALL, &cluster);
            let (stock, ours) = pair.ask(&scene)?;
            if ours.rc != 0 || !check::compare(&scene, &stock, &ours).violations.is_empty() {
                continue;
            }
            for (rule, wrong) in wrong_answers(&scene, &ours) {
                let verdict = check::compare(&scene, &stock, &wrong);
                let named = verdict.ours.iter().any(|breach| breach.rule == rule);
                ensure!(
                    named && (!verdict.violations.is_empty() || verdict.left.is_some()),
                    "{rule:?} is broken by {:?} and not found in\n{scene:?}",
                    wrong.nodes
                );
                *found.entry(rule).or_insert(0) += 1;
            }
        }
    }
    for rule in
        [Rule::Whole, Rule::Segment, Rule::Count, Rule::Usable, Rule::Required, Rule::Cpus, Rule::Intact]
    {
        ensure!(found.contains_key(&rule), "{rule:?} was never broken: {found:?}");
    }
    Ok(())
}

/// Answers that break a rule for sure.
fn wrong_answers(scene: &Scene, right: &Answer) -> Vec<(Rule, Answer)> {
    let asked = &scene.job.asked;
    let racks = scene.cluster.rack_of_nodes();
    let all = || 0..scene.trays.len() as u32;
    let last = *right.nodes.last().unwrap_or(&0);
    // One node, which no rule but the planted one asks for, exchanged for another.
    let exchanged = |other: u32| {
        let mut nodes: Vec<u32> = right.nodes.iter().copied().filter(|&node| node != last).collect();
        nodes.push(other);
        nodes.sort_unstable();
        Answer { nodes, ..right.clone() }
    };
    let elsewhere = all().find(|&node| {
        scene.cpus(node) > 0 && racks[node as usize] != racks[last as usize] && !right.nodes.contains(&node)
    });
    let unusable = all().find(|&node| scene.cpus(node) == 0 && !right.nodes.contains(&node));
    let fewer = |count: usize| Answer { nodes: right.nodes[..count].to_vec(), ..right.clone() };
    let count = right.nodes.len();
    let in_segments = (1..scene.wanted()).contains(&asked.segment.into());

    let mut wrong = vec![(Rule::Intact, Answer { intact: false, ..right.clone() })];
    wrong.extend(unusable.map(|node| (Rule::Usable, exchanged(node))));
    wrong.push((Rule::Count, fewer(scene.wanted() as usize - 1)));
    if asked.min_cpus > 0 {
        wrong.push((Rule::Cpus, fewer(0)));
    }
    if asked.required.contains(&last) {
        wrong.extend(elsewhere.map(|node| (Rule::Required, exchanged(node))));
    }
    let fits = count as u32 <= scene.cluster.largest() && racks[last as usize].is_some();
    if !in_segments && fits && count > 1 && rules::shares(scene, right).len() == 1 {
        wrong.extend(elsewhere.map(|node| (Rule::Whole, exchanged(node))));
    }
    if in_segments && asked.segment > 1 && racks[last as usize].is_some() {
        wrong.extend(elsewhere.map(|node| (Rule::Segment, exchanged(node))));
    }
    wrong
}

/// Our plugin as cargo built it for this test: beside the host program.
fn plugin(program: &Path) -> anyhow::Result<PathBuf> {
    let folder = program.parent().context("the host program is in no folder")?;
    ["deps/libtopology_block.so", "libtopology_block.so"]
        .iter()
        .map(|name| folder.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("no libtopology_block.so in {}", folder.display()))
}

fn in_full(error: anyhow::Error) -> Failed {
    format!("{error:#}").into()
}
