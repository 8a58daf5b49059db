//! The differential run: random situations, each answered by stock and by ours.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::host::{Host, Loads, Parts};
use crate::protocol::Answer;
use crate::random::{Random, Variety};
use crate::report::Report;
use crate::scene::{Change, Cluster, Scene};
use crate::{check, rules, scene_file};

/// Situations on one cluster before the next cluster is made.
const SCENES_PER_CLUSTER: u32 = 100;

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The seed of everything.
    pub seed: u64,
    /// Number of situations.
    pub cases: u32,
    /// Bound of the nodes of each cluster.
    pub nodes: Option<u32>,
    /// Racks of each cluster.
    pub racks: Option<u32>,
    /// What the situations have beside racks and whole trays.
    pub with: Vec<Variety>,
}

/// Runs the plan. Situations with violations are written to `folder`.
///
/// # Errors
/// A host does not start, ends, or gives no answer; the text names the situation.
pub fn run(parts: &Parts, plan: &Plan, folder: &Path) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut random = Random::new(plan.seed);
    while report.cases < plan.cases {
        let mut cluster = random.cluster(&plan.with, plan.nodes, plan.racks);
        let mut pair = Pair::start(parts, &cluster, false)?;
        for _ in 0..SCENES_PER_CLUSTER.min(plan.cases - report.cases) {
            let changes = random.changes(&plan.with, &cluster);
            pair.change(&mut cluster, &changes)?;
            report.count_changes(&changes);
            let scene = random.scene(&plan.with, &cluster);
            let name = format!("seed-{}-case-{}", plan.seed, report.cases + 1);
            let (stock, ours) = match pair.ask(&scene) {
                Ok(answers) => answers,
                Err(error) => {
                    let file = write(folder, &name, &scene, &[format!("{error:#}")], None)?;
                    return Err(error.context(format!("the situation is in {}", file.display())));
                }
            };
            let verdict = check::compare(&scene, &stock, &ours);
            report.count(&scene, &verdict);
            if let Some(first) = verdict.violations.first() {
                let file = write(folder, &name, &scene, &verdict.violations, Some((&stock, &ours)))?;
                report.violations.push((file, first.clone()));
            }
        }
    }
    Ok(report)
}

/// Two hosts with the same cluster.
pub struct Pair {
    /// Slurm's own plugin.
    pub stock: Host,
    /// Ours.
    pub ours: Host,
}

impl Pair {
    /// Starts both.
    ///
    /// # Errors
    /// One of them does not start.
    pub fn start(parts: &Parts, cluster: &Cluster, verbose: bool) -> anyhow::Result<Self> {
        let mut pair = Self {
            stock: Host::start(parts, Loads::Stock, cluster, verbose).context("the host with stock")?,
            ours: Host::start(parts, Loads::Ours, cluster, verbose).context("the host with ours")?,
        };
        pair.stock.ready(cluster).context("the host with stock")?;
        pair.ours.ready(cluster).context("the host with ours")?;
        Ok(pair)
    }

    /// Starts ours twice: with settings in `TopologyParam` in the place of stock, and without.
    ///
    /// # Errors
    /// One of them does not start.
    pub fn of_ours(parts: &Parts, cluster: &Cluster, param: &str) -> anyhow::Result<Self> {
        let mut pair = Self {
            stock: Host::start_with_param(parts, cluster, param).context("the host with settings")?,
            ours: Host::start(parts, Loads::Ours, cluster, false).context("the host with ours")?,
        };
        pair.stock.ready(cluster).context("the host with settings")?;
        pair.ours.ready(cluster).context("the host with ours")?;
        Ok(pair)
    }

    /// Makes changes on both, and in the cluster.
    ///
    /// # Errors
    /// Ours refuses a change, or accepts one that names no block.
    pub fn change(&mut self, cluster: &mut Cluster, changes: &[Change]) -> anyhow::Result<()> {
        for &change in changes {
            self.stock.change(change).context("the host with stock")?;
            let rc = self.ours.change(change).context("the host with ours")?;
            ensure!(rc == 0, "ours refuses \"{}\" with {rc}", String::from(change));
            if let Change::Move { node, .. } = change {
                let rc = self.ours.move_node(node, Some("no-such-block".to_owned()))?;
                ensure!(rc != 0, "ours puts n{} into a block that is not there", node + 1);
            }
            cluster.changes.push(change);
        }
        Ok(())
    }

    /// Stock's answer and ours.
    ///
    /// # Errors
    /// One of them gives none.
    pub fn ask(&mut self, scene: &Scene) -> anyhow::Result<(Answer, Answer)> {
        let question = scene.question();
        self.stock.ask(&question).context("the host with stock")?;
        self.ours.ask(&question).context("the host with ours")?;
        let stock = self.stock.answer().context("the host with stock")?;
        let ours = self.ours.answer().context("the host with ours")?;
        Ok((stock, ours))
    }
}

/// An answer in words.
pub fn describe(scene: &Scene, answer: &Answer) -> String {
    if answer.rc != 0 {
        return format!("refuses ({})", answer.rc);
    }
    let shares: Vec<String> = rules::shares(scene, answer)
        .iter()
        .map(|(&(rack, node), count)| match rack {
            usize::MAX => format!("n{} in no block", node + 1),
            rack => format!("{count} in b{}", rack + 1),
        })
        .collect();
    format!("{}: {}", scene_file::names(answer.nodes.iter().copied()), shares.join(", "))
}

fn write(
    folder: &Path,
    name: &str,
    scene: &Scene,
    violations: &[String],
    answers: Option<(&Answer, &Answer)>,
) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let file = folder.join(format!("{name}.toml"));
    let mut text: String =
        violations.iter().map(|line| format!("# {}\n", line.replace('\n', "\n# "))).collect();
    if let Some((stock, ours)) = answers {
        text.push_str(&format!("# stock: {}\n# ours: {}\n", describe(scene, stock), describe(scene, ours)));
    }
    text.push_str(&scene_file::emit(scene)?);
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}
