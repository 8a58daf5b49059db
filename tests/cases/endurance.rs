//! A round of what `cargo xtask soak` plays for hours, and that what it looks for would be found.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case, Setup, explained};
use crate::imex::SMALL;
use anyhow::ensure;
use std::collections::BTreeSet;
use tests::Cluster;
use tests::endurance::plan::{self, Ask, Event, Kind, Plan, Timed};
use tests::endurance::rules::Violation;
use tests::endurance::{Played, Stage};
use tests::soak::Plant;

pub(crate) const CASES: &[Case] = &[
    Case { name: "endurance::a_round_breaks_no_rule", body: Body::Own(SMALL, round) },
    Case { name: "endurance::planted_violations_are_found", body: Body::Own(SMALL, planted) },
];

fn on_cluster(
    setup: &Setup,
    name: &str,
    play: fn(&Cluster, &mut Stage<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let cluster = Stage::prepare(setup.builder(name)).start()?;
    let played = Stage::on(&cluster).and_then(|mut stage| play(&cluster, &mut stage));
    played.map_err(|error| explained(error, &cluster, name))
}

/// Always the same round here; `cargo xtask soak` takes others.
fn round(setup: &Setup) -> anyhow::Result<()> {
    const SEED: u64 = 3;
    on_cluster(setup, "round", |_, stage| {
        let mut plan = plan::random(SEED, 1, stage.shape(), 16_000);
        // The first half of it, and 22 seconds without power are too long here.
        plan.events.retain(|timed| timed.at_ms < 8_000 && !matches!(timed.event, Event::PowerLoss(_)));
        let Played { violations, last_seen, .. } = stage.play(&plan, 1);
        ensure!(violations.is_empty(), "{violations:#?}");
        ensure!(last_seen.len() >= 10 && last_seen.iter().any(|state| state == "COMPLETED"), "{last_seen:?}");
        Ok(())
    })
}

/// Rules are broken on purpose, each on a tray of its own, and each is told with its tray.
fn planted(setup: &Setup) -> anyhow::Result<()> {
    on_cluster(setup, "broken", |cluster, stage| {
        let nodes = cluster.nodes();
        let shape = stage.shape();
        for (tray, plant) in [(1, Plant::NoEpilog), (2, Plant::OwnMembers), (shape.rack, Plant::BlindProlog)]
        {
            plant.on(cluster, &nodes[tray])?;
        }
        let ask = Ask { kind: Kind::Whole, trays: shape.rack, seconds: 3 };
        let events = vec![Timed { at_ms: 0, event: Event::Submit(ask) }; shape.racks];
        let Played { violations, .. } = stage.play(&Plan { shape, events }, 1);
        let seen: BTreeSet<(&str, &str)> = violations
            .iter()
            .filter_map(|violation| match violation {
                Violation::Left { tray, .. } => Some(("left", tray.as_str())),
                Violation::WrongMembers { tray, .. } => Some(("members", tray)),
                Violation::NoChannel { tray, .. } => Some(("channel", tray)),
                _ => None,
            })
            .collect();
        for wanted in [("left", nodes[1].as_str()), ("members", &nodes[2]), ("channel", &nodes[shape.rack])] {
            ensure!(seen.contains(&wanted), "{wanted:?} is not among {violations:#?}");
        }
        Ok(())
    })
}
