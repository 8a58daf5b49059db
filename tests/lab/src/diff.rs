//! The differential run: random situations, each answered by stock and by ours.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::check::{self, Class, Verdict};
use crate::host::{Host, Loads, Parts};
use crate::protocol::Answer;
use crate::random::Random;
use crate::scene::{Cluster, Scene};
use crate::scene_file;

/// Situations on one cluster before the next cluster is made.
const SCENES_PER_CLUSTER: u32 = 100;

/// What to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The seed of everything.
    pub seed: u64,
    /// Number of situations.
    pub cases: u32,
    /// Bound of the nodes of each cluster.
    pub nodes: Option<u32>,
    /// Racks of each cluster.
    pub racks: Option<u32>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// Situations of each class, by reason.
    pub classes: BTreeMap<(Class, String), u32>,
    /// Files that hold situations with violations, and the first violation of each.
    pub violations: Vec<(PathBuf, String)>,
}

impl Report {
    fn of_class(&self, class: Class) -> u32 {
        self.classes.iter().filter(|((of, _), _)| *of == class).map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for class in Class::ALL {
            writeln!(f, "{:>8}  {}", self.of_class(class), class.name())?;
            for ((of, reason), count) in &self.classes {
                if *of == class && !reason.is_empty() {
                    writeln!(f, "          {count:>8}  {reason}")?;
                }
            }
        }
        for (file, violation) in &self.violations {
            writeln!(f, "violation: {violation}\n    {}", file.display())?;
        }
        writeln!(f, "{:>8}  violations", self.violations.len())
    }
}

/// Runs the plan. Situations with violations are written to `folder`.
///
/// # Errors
/// A host does not start, ends, or gives no answer; the text names the situation.
pub fn run(parts: &Parts, plan: Plan, folder: &Path) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut number = 0;
    let mut random = Random::new(plan.seed);
    while number < plan.cases {
        let cluster = random.cluster(plan.nodes, plan.racks);
        let mut pair = Pair::start(parts, &cluster, false)?;
        for _ in 0..SCENES_PER_CLUSTER.min(plan.cases - number) {
            let scene = random.scene(&cluster);
            number += 1;
            let name = format!("seed-{}-case-{number}", plan.seed);
            let (stock, ours) = match pair.ask(&scene) {
                Ok(answers) => answers,
                Err(error) => {
                    let file = write(folder, &name, &scene, &[format!("{error:#}")], None)?;
                    return Err(error.context(format!("the situation is in {}", file.display())));
                }
            };
            let Verdict { class, reason, violations } = check::compare(&scene, &stock, &ours);
            if let Some(first) = violations.first() {
                let file = write(folder, &name, &scene, &violations, Some((&stock, &ours)))?;
                report.violations.push((file, first.clone()));
            }
            *report.classes.entry((class, reason)).or_insert(0) += 1;
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
        let stock = Host::start(parts, Loads::Stock, cluster, verbose).context("the host with stock")?;
        let ours = Host::start(parts, Loads::Ours, cluster, verbose).context("the host with ours")?;
        Ok(Self { stock, ours })
    }

    /// Stock's answer and ours.
    ///
    /// # Errors
    /// One of them gives none.
    pub fn ask(&mut self, scene: &Scene) -> anyhow::Result<(Answer, Answer)> {
        let question = scene.question();
        let stock = self.stock.ask(question.clone()).context("the host with stock")?;
        let ours = self.ours.ask(question).context("the host with ours")?;
        Ok((stock, ours))
    }
}

/// An answer in words.
pub fn describe(scene: &Scene, answer: &Answer) -> String {
    if answer.rc != 0 {
        return format!("refuses ({})", answer.rc);
    }
    let shares: Vec<String> = check::shares(scene, answer)
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
