//! Every command of the documents, as it stands there: typed on a cluster and judged by what the document promises of it,
//! or claimed by another test that does so. A command that nobody claims fails, and so does a claim that no document makes.
#![forbid(unsafe_code)]

mod claims;
mod cluster_commands;
mod developers;
mod numbers;
mod operators;
mod placing;
mod step;
mod trays;

use crate::harness::{Body, Case, Setup};
use crate::imex::RACKS;
use anyhow::{Context as _, ensure};
use claims::{By, CLAIMS};
use libtest_mimic::{Completion, Trial};
use std::collections::BTreeSet;
use std::fs;
use step::{HostStep, Step};
use tests::documents::{self, Code, Form, Kind, PLAYED, PLAYED_SECTIONS};
use tests::paths;

pub(crate) const CASES: &[Case] = &[
    Case { name: "documents::every_command_is_claimed", body: Body::Own(Setup::PLAIN_SMALL, ledger) },
    Case { name: "documents::what_nobody_claims_is_found", body: Body::Own(Setup::PLAIN_SMALL, planted) },
    Case { name: "documents::looking", body: Body::On(RACKS, |c| step::play(c, operators::LOOKING)) },
    Case { name: "documents::a_rack_changes", body: Body::On(RACKS, |c| step::play(c, operators::CHANGING)) },
    Case { name: "documents::tiers_and_names", body: Body::On(RACKS, |c| step::play(c, operators::TIERS)) },
    Case { name: "documents::on_the_trays", body: Body::On(RACKS, |c| step::play(c, trays::STEPS)) },
    Case { name: "documents::submitting", body: Body::On(RACKS, |c| step::play(c, placing::STEPS)) },
    Case { name: "documents::workloads", body: Body::On(RACKS, |c| step::play(c, numbers::STEPS)) },
    Case { name: "documents::a_test_cluster_to_play_with", body: Body::Own(RACKS, cluster_commands::case) },
    Case { name: "documents::developers", body: Body::Own(RACKS, |_| step::play_here(developers::STEPS)) },
];

/// All steps that are typed here.
fn steps() -> impl Iterator<Item = &'static str> {
    let on_clusters = [
        operators::LOOKING,
        operators::CHANGING,
        operators::TIERS,
        trays::STEPS,
        placing::STEPS,
        numbers::STEPS,
    ];
    let here = [cluster_commands::STEPS, developers::STEPS];
    let typed = on_clusters.into_iter().flatten().map(|step: &Step| step.typed);
    typed.chain(here.into_iter().flatten().map(|step: &HostStep| step.typed))
}

/// What is typed by nobody at each run, as tests that are skipped, with the reason.
pub(crate) fn not_typed() -> Vec<Trial> {
    let trial = |(typed, by): &(&'static str, By)| match by {
        By::NotTyped(why) => {
            let (name, why) = (format!("documents::not_typed: {typed}"), *why);
            Some(Trial::ignorable_test(name, move || Ok(Completion::ignored_with(why))))
        }
        _ => None,
    };
    CLAIMS.iter().filter_map(trial).collect()
}

/// How lines begin that are set in and not typed: what the cli_filter says and the script for HealthCheckProgram, which are
/// compared where they are tried, and a picture in letters.
const SHOWN: [&str; 4] =
    ["sbatch: lua: ", "#!/bin/sh", "reason=$(/usr/sbin/imex-prolog health)", "GPUs --NVML--> reading"];

/// Who claims the code of the documents.
struct Ledger {
    /// What is typed here, or claimed in [`CLAIMS`], or typed by the stage `packages`.
    claimed: BTreeSet<&'static str>,
}

impl Ledger {
    fn new() -> Self {
        let elsewhere = CLAIMS.iter().map(|(typed, _)| *typed);
        Self { claimed: steps().chain(elsewhere).chain(PLAYED).collect() }
    }

    /// Whether a piece of code needs nobody else to try it.
    fn settles(&self, document: &str, code: &Code) -> bool {
        let played = document == "README.md"
            && matches!(code.form, Form::Shell(_))
            && PLAYED_SECTIONS.contains(&code.heading.as_str());
        played
            || code.kind() == Kind::Other
                && (code.form == Form::Inline || SHOWN.iter().any(|begin| code.text.starts_with(begin)))
            || self.claimed.contains(code.text.as_str())
            || self.is_said_in_short(code)
    }

    /// A command or an option that is a part of one that is claimed: all its words stand there, in their order.
    fn is_said_in_short(&self, code: &Code) -> bool {
        self.claimed.iter().any(|claimed| {
            let mut words = claimed.split_whitespace();
            let is_option = code.kind() == Kind::Option;
            let same_program = is_option || claimed.split(' ').next() == code.text.split(' ').next();
            let same = |word: &str, other: &str| {
                other.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
            };
            same_program && code.text.split_whitespace().all(|word| words.any(|other| same(word, other)))
        })
    }
}

/// What of the documents nobody claims.
fn unclaimed(documents: &[documents::Document]) -> Vec<String> {
    let ledger = Ledger::new();
    let mut missing = Vec::new();
    for document in documents {
        for code in document.code() {
            if !ledger.settles(&document.name, &code) {
                missing.push(format!("{}, {:?}: {}", document.name, code.heading, code.text));
            }
        }
    }
    missing
}

/// What is claimed and stands in no document.
fn unsaid(documents: &[documents::Document]) -> Vec<&'static str> {
    let said: BTreeSet<String> =
        documents.iter().flat_map(documents::Document::code).map(|code| code.text).collect();
    Ledger::new().claimed.into_iter().filter(|claimed| !said.contains(*claimed)).collect()
}

fn ledger(_: &Setup) -> anyhow::Result<()> {
    let documents = documents::all()?;
    let missing = unclaimed(&documents);
    ensure!(missing.is_empty(), "nobody tries these:\n{}", missing.join("\n"));
    let unsaid = unsaid(&documents);
    ensure!(unsaid.is_empty(), "no document says these:\n{}", unsaid.join("\n"));
    CLAIMS.iter().try_for_each(|(typed, by)| by.holds().with_context(|| format!("the claim of {typed:?}")))
}

impl By {
    /// The test that is named is there, is run, and has these words.
    fn holds(self) -> anyhow::Result<()> {
        match self {
            Self::Case(case, words) => {
                ensure!(
                    crate::CASES.concat().iter().any(|known| known.name == case),
                    "there is no case {case}"
                );
                let module = case.split("::").next().unwrap_or(case);
                has(&format!("tests/cases/{module}.rs"), words)
            }
            Self::Shown(file, function, words) => {
                has(file, &format!("fn {function}("))?;
                has(file, words)
            }
            Self::NotTyped(why) => {
                ensure!(!why.is_empty(), "no reason");
                Ok(())
            }
        }
    }
}

/// A file of the workspace has these words.
fn has(file: &str, words: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(paths::workspace().join(file)).with_context(|| format!("read {file}"))?;
    ensure!(text.contains(words), "no {words:?} in {file}");
    Ok(())
}

/// A renamed option, a new command, and a command that is gone are told.
fn planted(_: &Setup) -> anyhow::Result<()> {
    let mut documents = documents::all()?;
    let guide =
        documents.iter_mut().find(|document| document.name == "docs/operating.md").context("no guide")?;
    let (old, new) = ("topology-gen tiers --qos", "topology-gen tiers --with-qos");
    ensure!(guide.text.contains(old), "the guide has no {old:?}");
    guide.text = guide.text.replace(old, new);
    guide.text.push_str("\nThen `topology-gen why --segment 4`.\n");
    let missing = unclaimed(&documents);
    ensure!(missing.len() == 2 && missing.iter().any(|line| line.ends_with(new)), "{missing:?}");
    ensure!(unsaid(&documents) == [old], "{:?}", unsaid(&documents));
    ensure!(By::Case("documents::gone", "fn").holds().is_err());
    ensure!(By::Case("documents::looking", "these words, cut\u{20}in two").holds().is_err());
    Ok(())
}
