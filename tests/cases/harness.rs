//! The table of cases and what runs them: who shares a cluster, who is skipped, what is kept of a failure.
#![forbid(unsafe_code)]

use anyhow::{Context as _, bail};
use libtest_mimic::{Completion, Failed, Trial};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tests::stage::Artifact;
use tests::tree::Tree;
use tests::{Cluster, ClusterBuilder, Plugin, paths};

/// Environment variable that turns skips into failures.
const NO_SKIP: &str = "SLURM_NVLINK_NO_SKIP";

/// Environment variable that names the [`Half`] that is to run.
const HALF: &str = "SLURM_NVLINK_CASES";

/// What every cluster needs.
const BASE: [Artifact; 4] = [Artifact::TopologyGen, Artifact::Imex, Artifact::ImexCtl, Artifact::Nvml];

/// What a case does on a shared cluster.
pub(crate) type OnCluster = fn(&Cluster) -> anyhow::Result<()>;

/// A case.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// Name, with the module in front.
    pub(crate) name: &'static str,
    /// On what it runs.
    pub(crate) body: Body,
}

/// On what a case runs.
#[derive(Clone, Copy)]
pub(crate) enum Body {
    /// On a shared cluster of this setup; it must leave the cluster as it found it.
    On(Setup, OnCluster),
    /// On this setup once with our plugin and once with Slurm's own.
    OnBoth(Setup, OnCluster),
    /// On clusters that it starts itself (with [`Setup::start`]), of this setup.
    Own(Setup, fn(&Setup) -> anyhow::Result<()>),
}

/// What a cluster is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setup {
    /// Name of the profile.
    pub(crate) profile: &'static str,
    /// Slurm's own topology/block instead of ours.
    pub(crate) stock: bool,
    /// With imex-prolog and imex-epilog.
    pub(crate) imex: bool,
}

impl Setup {
    /// Two racks of four trays, Slurm's own plugin, no prolog.
    pub(crate) const PLAIN_SMALL: Self = Self { profile: "small-2x4", stock: true, imex: false };

    /// A builder for a cluster of this setup. `name` tells clusters of one case apart.
    pub(crate) fn builder(&self, name: &str) -> ClusterBuilder {
        let plugin = if self.stock { Plugin::Stock } else { Plugin::Ours };
        let builder = Cluster::builder().name(&cluster_name(name)).profile(self.profile).plugin(plugin);
        if self.imex { builder } else { builder.without_imex() }
    }

    /// Starts a cluster of this setup.
    pub(crate) fn start(&self, name: &str) -> anyhow::Result<Cluster> {
        self.builder(name).start()
    }

    /// Why this setup cannot run here.
    fn lacks(&self) -> Option<String> {
        if !nix::unistd::geteuid().is_root() {
            return Some("needs root".to_owned());
        }
        let plugin = (!self.stock).then_some([Artifact::Plugin, Artifact::Confirm, Artifact::Planted]);
        let imex = self.imex.then_some([Artifact::Prolog, Artifact::Epilog]);
        let needed = BASE.into_iter().chain(plugin.into_iter().flatten()).chain(imex.into_iter().flatten());
        let missing: Vec<&str> =
            needed.filter(|artifact| artifact.find().is_none()).map(Artifact::file_name).collect();
        if !missing.is_empty() {
            return Some(format!("not staged: {} (cargo xtask build)", missing.join(", ")));
        }
        // Made once, if need be; without a network it may be impossible, and trying again for each case helps nobody.
        static TREE: OnceLock<Option<String>> = OnceLock::new();
        let no_tree = || Tree::ensure().err().map(|error| format!("no root tree with Slurm: {error:#}"));
        TREE.get_or_init(no_tree).clone()
    }
}

/// Name of a cluster of this test run; two runs beside each other do not meet.
pub(crate) fn cluster_name(name: &str) -> String {
    format!("case-{}-{name}", std::process::id())
}

/// The cluster that the next case may use again.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Option<(Setup, Cluster)>>>);

impl Shared {
    /// Ends the shared cluster.
    pub(crate) fn end(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Runs a case on the cluster of its setup. A cluster on which a case failed is not used again.
    fn run(&self, setup: Setup, name: &str, case: OnCluster) -> anyhow::Result<()> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster = match place.take() {
            Some((ours, cluster)) if ours == setup => cluster,
            other => {
                drop(other);
                setup.start("shared")?
            }
        };
        match case(&cluster) {
            Ok(()) => {
                *place = Some((setup, cluster));
                Ok(())
            }
            Err(error) => Err(explained(error, &cluster, name)),
        }
    }
}

/// Adds to a case's failure what the cluster's logs say, and keeps them.
pub(crate) fn explained(error: anyhow::Error, cluster: &Cluster, case: &str) -> anyhow::Error {
    let kept = keep(cluster, case);
    error.context(format!("{}logs: {}", cluster.log_tails(), kept.display()))
}

/// Copies the logs of a cluster to a place that outlives it.
fn keep(cluster: &Cluster, case: &str) -> PathBuf {
    let target = paths::workspace().join("target/case-logs").join(case.replace("::", "-"));
    if let Err(error) = cluster.keep_logs(&target) {
        eprintln!("the logs could not be kept: {error:#}");
    }
    target
}

/// One half of the cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    /// Those on clusters of their own.
    Own,
    /// Those on shared clusters.
    Shared,
}

impl Half {
    /// Those that are to run: unless one is named, both.
    pub(crate) fn wanted() -> anyhow::Result<&'static [Self]> {
        let Some(named) = std::env::var_os(HALF) else { return Ok(&[Self::Own, Self::Shared]) };
        match named.to_str() {
            Some("own") => Ok(&[Self::Own]),
            Some("shared") => Ok(&[Self::Shared]),
            _ => bail!("{HALF} is own or shared, not {}", named.display()),
        }
    }
}

/// The cases on clusters of their own, as the test runner takes them.
pub(crate) fn own(cases: Vec<Case>) -> Vec<Trial> {
    let own = |case: Case| match case.body {
        Body::Own(setup, run) => Some(trial(case.name.to_owned(), setup, move || run(&setup))),
        Body::On(..) | Body::OnBoth(..) => None,
    };
    cases.into_iter().filter_map(own).collect()
}

/// The cases on shared clusters, all of a setup one after the other, whatever their order in the table.
pub(crate) fn on_shared(cases: Vec<Case>, shared: &Shared) -> Vec<Trial> {
    let both = |setup: Setup| [Setup { stock: true, ..setup }, Setup { stock: false, ..setup }];
    let mut sorted: Vec<(Setup, String, OnCluster)> = Vec::new();
    for case in cases {
        match case.body {
            Body::On(setup, run) => sorted.push((setup, case.name.to_owned(), run)),
            Body::OnBoth(setup, run) => sorted.extend(both(setup).map(|setup| {
                let plugin = if setup.stock { "stock" } else { "ours" };
                (setup, format!("{}::{plugin}", case.name), run)
            })),
            Body::Own(..) => {}
        }
    }
    sorted.sort_by_key(|(setup, ..)| (setup.profile, setup.stock, setup.imex));
    let trial = |(setup, name, run): (Setup, String, OnCluster)| {
        let (shared, case) = (shared.clone(), name.clone());
        trial(name, setup, move || shared.run(setup, &case, run))
    };
    sorted.into_iter().map(trial).collect()
}

/// How long each case took.
static TIMES: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());
/// So many of the longest are told.
const LONGEST: usize = 12;

/// Prints which cases took the longest.
pub(crate) fn print_times() {
    let mut times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    times.sort_unstable_by(|a, b| b.cmp(a));
    let all: Duration = times.iter().map(|(time, _)| *time).sum();
    println!("the longest of {} cases, {:.0} s together:", times.len(), all.as_secs_f64());
    for (time, name) in times.iter().take(LONGEST) {
        println!("{:>7.1} s {name}", time.as_secs_f64());
    }
}

fn trial(name: String, setup: Setup, run: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> Trial {
    let case = name.clone();
    Trial::ignorable_test(name, move || {
        if let Some(why) = setup.lacks() {
            return match std::env::var_os(NO_SKIP) {
                Some(value) if value == "1" => Err(Failed::from(why)),
                _ => Ok(Completion::ignored_with(why)),
            };
        }
        let begin = Instant::now();
        let ran = run();
        TIMES.lock().unwrap_or_else(PoisonError::into_inner).push((begin.elapsed(), case));
        ran.context("case")
            .map(|()| Completion::Completed)
            .map_err(|error| Failed::from(format!("{error:#}")))
    })
}
