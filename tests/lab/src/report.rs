//! What came of a differential run, as a table.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::check::{Class, Left, Verdict};
use crate::protocol::Gpus;
use crate::rules::Rule;
use crate::scene::{Change, Scene};

/// Counts of situations and answers.
#[derive(Debug, Default)]
pub struct Report {
    /// Situations.
    pub cases: u32,
    /// Situations that have something, by what it is.
    pub with: BTreeMap<&'static str, u32>,
    /// Situations of each class, by reason.
    pub classes: BTreeMap<(Class, String), u32>,
    /// Answers that break a rule: of stock, of ours, and of ours where it leaves the job to stock.
    pub broken: BTreeMap<Rule, [u32; 3]>,
    /// Situations in which ours gives stock's answer by design, by the reason.
    pub left: BTreeMap<Left, u32>,
    /// Those of them whose answer breaks a rule.
    pub broken_left: BTreeMap<(Left, Rule), u32>,
    /// Both place: ours in fewer, in as many, in more partitions.
    pub partitions: [u32; 3],
    /// Changes: nodes moved, the same again, models built again.
    pub changes: [u32; 3],
    /// Files that hold situations with violations, and the first violation of each.
    pub violations: Vec<(PathBuf, String)>,
}

impl Report {
    /// Counts a situation and its answers.
    pub fn count(&mut self, scene: &Scene, verdict: &Verdict) {
        self.cases += 1;
        for feature in features(scene) {
            *self.with.entry(feature).or_insert(0) += 1;
        }
        *self.classes.entry((verdict.class, verdict.reason.clone())).or_insert(0) += 1;
        let of_ours = if verdict.left.is_some() { 2 } else { 1 };
        if let Some(left) = verdict.left {
            *self.left.entry(left).or_insert(0) += 1;
        }
        for (breaches, who) in [(&verdict.stock, 0), (&verdict.ours, of_ours)] {
            let mut rules: Vec<Rule> = breaches.iter().map(|breach| breach.rule).collect();
            rules.dedup();
            for rule in rules {
                self.broken.entry(rule).or_insert([0; 3])[who] += 1;
                if let (Some(left), 2) = (verdict.left, who) {
                    *self.broken_left.entry((left, rule)).or_insert(0) += 1;
                }
            }
        }
        if let Some((stock, ours)) = verdict.partitions {
            let place = match ours.cmp(&stock) {
                std::cmp::Ordering::Less => 0,
                std::cmp::Ordering::Equal => 1,
                std::cmp::Ordering::Greater => 2,
            };
            self.partitions[place] += 1;
        }
    }

    /// Counts changes that were made together.
    pub fn count_changes(&mut self, changes: &[Change]) {
        for (position, change) in changes.iter().enumerate() {
            let kind = match change {
                Change::Rebuild => 2,
                Change::Move { .. } if position > 0 && changes[position - 1] == *change => 1,
                Change::Move { .. } => 0,
            };
            self.changes[kind] += 1;
        }
    }

    fn of_class(&self, class: Class) -> u32 {
        self.classes.iter().filter(|((of, _), _)| *of == class).map(|(_, count)| count).sum()
    }
}

/// What a situation has beside racks, whole trays and a number of nodes.
fn features(scene: &Scene) -> Vec<&'static str> {
    let (cluster, asked) = (&scene.cluster, &scene.job.asked);
    let segment = u32::from(asked.segment);
    let any = |is: fn(&crate::scene::Tray) -> bool| scene.trays.iter().any(is);
    let all = [
        ("GPUs per node", matches!(asked.gpus, Some(Gpus::PerNode(_)))),
        ("GPUs of the whole job", matches!(asked.gpus, Some(Gpus::PerJob(_)))),
        ("GPUs per task", matches!(asked.gpus, Some(Gpus::PerTask(_)))),
        ("a hierarchical resource", asked.hres > 0),
        ("trays shared with other jobs", any(|tray| tray.taken > 0 || tray.gpus_taken > 0)),
        ("drained trays", any(|tray| tray.drained)),
        ("several weights", scene.trays.windows(2).any(|pair| pair[0].weight != pair[1].weight)),
        ("several levels", cluster.has_aggregates()),
        ("nodes in no block", cluster.rack_of_nodes().contains(&None)),
        ("nodes moved before", !cluster.changes.is_empty()),
        ("required nodes", !asked.required.is_empty()),
        ("excluded nodes", !scene.job.excluded.is_empty()),
        ("segments", segment > 0 && segment < scene.wanted()),
        ("a range of nodes", asked.min_nodes != asked.max_nodes),
        ("more CPUs than nodes", asked.min_cpus > scene.wanted()),
        ("more than a partition", scene.wanted() > cluster.largest()),
    ];
    all.into_iter().filter_map(|(name, has)| has.then_some(name)).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>9}  situations, of these with", self.cases)?;
        for (feature, count) in &self.with {
            writeln!(f, "{:>9}  {count:>9}  {feature}", "")?;
        }
        let [moves, repeats, rebuilds] = self.changes;
        writeln!(
            f,
            "{moves:>9}  nodes moved between blocks, {repeats} of them once more to the same; {rebuilds} models built again\n"
        )?;
        for class in Class::ALL {
            writeln!(f, "{:>9}  {}", self.of_class(class), class.name())?;
            for ((of, reason), count) in &self.classes {
                if *of == class && !reason.is_empty() {
                    writeln!(f, "{:>9}  {count:>9}  {reason}", "")?;
                }
            }
        }
        let [fewer, as_many, more] = self.partitions;
        writeln!(f, "\n{fewer:>9}  times ours uses fewer partitions than stock")?;
        writeln!(f, "{as_many:>9}  times as many")?;
        writeln!(f, "{more:>9}  times more\n")?;
        writeln!(f, "{:>9}{:>9}{:>9}  answers with", "stock", "ours", "left")?;
        for rule in Rule::ALL {
            let [stock, ours, left] = self.broken.get(&rule).copied().unwrap_or_default();
            writeln!(f, "{stock:>9}{ours:>9}{left:>9}  {}", rule.broken())?;
        }
        let all: u32 = self.left.values().sum();
        writeln!(f, "\n{all:>9}  left to Slurm's own evaluator by design, with the same answer:")?;
        for (left, count) in &self.left {
            writeln!(f, "{:>9}{count:>9}  {}", "", left.why())?;
            for ((_, rule), count) in self.broken_left.iter().filter(|((of, _), _)| of == left) {
                writeln!(f, "{:>18}{count:>9}  {}", "", rule.broken())?;
            }
        }
        writeln!(f)?;
        for (file, violation) in &self.violations {
            writeln!(f, "violation: {violation}\n    {}", file.display())?;
        }
        writeln!(f, "{:>9}  violations", self.violations.len())
    }
}
