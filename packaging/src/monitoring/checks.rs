//! What must hold, one line each.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use ::tests::cluster::Target;
use anyhow::{Context as _, Result, bail, ensure};

use super::api::{Labels, Series};
use super::dashboard::{Panel, Times};
use super::ledger::Ledger;
use super::picture::Line;
use super::site::{CTL, RUN, SCRAPE, Site, TEXTFILES};
use super::sources::{Listed, Sources};
use super::story::Told;

/// Where promtool finds the files.
const SHIPPED: &str = "/run/monitoring";
/// Labels that Prometheus adds.
const ADDED: [&str; 3] = ["__name__", "instance", "job"];

/// The alerts by Prometheus' own tool.
pub(super) fn promtool(site: &Site, sources: &Sources, ledger: &mut Ledger) {
    let run = |command: &str| -> Result<String> {
        for (name, text) in [("rules.yml", &sources.rules), ("test.yml", &sources.rule_tests)] {
            site.cluster().ctl(&["mkdir", "--parents", SHIPPED])?;
            site.cluster().write_file(
                &Target::controller(),
                &format!("{SHIPPED}/slurm-nvlink.{name}"),
                text,
            )?;
        }
        site.cluster().ctl(&["sh", "-c", &format!("cd {SHIPPED} && promtool {command} 2>&1")])
    };
    ledger.check(
        "promtool check rules",
        run("check rules --lint=all --lint-fatal slurm-nvlink.rules.yml")
            .map(|_| format!("{} alerts", sources.alerts().len())),
    );
    ledger.check("promtool test rules", run("test rules slurm-nvlink.test.yml").map(|_| String::new()));
    let untested = sources.untested();
    ledger.check(
        "every alert is tested silent and firing, with its true times",
        if untested.is_empty() {
            Ok(String::new())
        } else {
            Err(anyhow::anyhow!("not: {}", untested.join(", ")))
        },
    );
}

/// What the exporters gave to Prometheus.
pub(super) fn collected(site: &Site, sources: &Sources, told: &Told, ledger: &mut Ledger) {
    let nodes = site.nodes().len();
    let up =
        always(site, told, "up", nodes, 1.0).and_then(|up| Ok(format!("{up}, {}", longest(site, told)?)));
    ledger.check("every target was up all the time", up);
    let errors = always(site, told, "node_textfile_scrape_error", nodes, 0.0);
    ledger.check("no exporter had an error with its text files", errors);
    ledger.check("promtool check metrics, each file", files(site));
    let seen = site.api().over("{__name__=~\"slurm_nvlink_.+\"}", told.window());
    ledger.check(
        "the guide's metrics are those in Prometheus",
        seen.and_then(|seen| same(&sources.listed, &seen)),
    );
}

/// Whether so many series always had one value.
fn always(site: &Site, told: &Told, query: &str, wanted: usize, value: f64) -> Result<String> {
    let series = site.api().over(query, told.window())?;
    ensure!(series.len() == wanted, "{query}: {} series instead of {wanted}", series.len());
    let points =
        series.iter().flat_map(|series| series.points.iter().map(move |point| (&series.labels, point)));
    if let Some((labels, (at, other))) = points.clone().find(|(_, (_, found))| *found != value) {
        bail!("{query} was {other} at {at} on {labels:?}");
    }
    Ok(format!("{wanted} targets, {} scrapes", points.count()))
}

/// How long the longest scrape took.
fn longest(site: &Site, told: &Told) -> Result<String> {
    let series = site.api().over("max(scrape_duration_seconds)", told.window())?;
    let longest =
        series.iter().flat_map(|series| &series.points).map(|(_, value)| *value).fold(0.0, f64::max);
    Ok(format!("none took longer than {longest:.2} s"))
}

/// Each file of metrics on each node, by promtool, as a user who is not root reads it.
fn files(site: &Site) -> Result<String> {
    let mut count = 0;
    for node in site.nodes() {
        let find = format!("find {TEXTFILES} {RUN} -name 'slurm_nvlink_*.prom' 2>/dev/null || :");
        let found = site.cluster().tray(&node, &["sh", "-c", &find])?;
        let files: BTreeSet<&str> = found.lines().collect();
        let wanted = if node == CTL { 2 } else { 1 };
        ensure!(files.len() == wanted, "{node} has {files:?}");
        for file in files {
            let check = format!("runuser --user prometheus -- promtool check metrics <{file} 2>&1");
            let said = site.cluster().tray(&node, &["sh", "-c", &check]).with_context(|| file.to_owned())?;
            ensure!(said.trim().is_empty(), "{node}: {file}: {said}");
            count += 1;
        }
    }
    Ok(format!("{count} files"))
}

/// Whether the list of metrics has the names and labels of the series, no more and no less.
fn same(listed: &[Listed], seen: &[Series]) -> Result<String> {
    let mut found: BTreeMap<&str, BTreeSet<BTreeSet<&str>>> = BTreeMap::new();
    for Series { labels, .. } in seen {
        let name = labels.get("__name__").map_or("", String::as_str);
        let own = labels.keys().map(String::as_str).filter(|label| !ADDED.contains(label)).collect();
        found.entry(name).or_default().insert(own);
    }
    let mut wrong = Vec::new();
    for Listed { name, labels } in listed {
        let labels: BTreeSet<&str> = labels.iter().map(String::as_str).collect();
        match found.remove(name.as_str()) {
            None => wrong.push(format!("{name} is in the list, but not there")),
            Some(sets) if sets != BTreeSet::from([labels.clone()]) => {
                wrong.push(format!("{name} has the labels {sets:?}, the list says {labels:?}"));
            }
            Some(_) => {}
        }
    }
    wrong.extend(found.keys().map(|name| format!("{name} is there, but not in the list")));
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(format!("{} metrics, {} series", listed.len(), seen.len()))
}

/// That the rules were evaluated, and that what was planted has fired and nothing else.
pub(super) fn alerts(site: &Site, told: &Told, ledger: &mut Ledger) {
    let rules = || -> Result<String> {
        let rules = site.api().rules()?;
        let sick: Vec<String> = rules
            .iter()
            .filter(|rule| rule.health != "ok")
            .map(|rule| format!("{}: {} {}", rule.name, rule.health, rule.last_error))
            .collect();
        ensure!(!rules.is_empty() && sick.is_empty(), "{}", sick.join("\n"));
        Ok(String::new())
    };
    ledger.check("Prometheus evaluates every rule", rules());
    let fired = site.api().over("ALERTS{alertstate=\"firing\"}", told.window());
    ledger
        .check("exactly the planted alerts have fired", fired.and_then(|fired| exact(&fired, &told.planted)));
}

fn exact(fired: &[Series], planted: &[(&str, &str)]) -> Result<String> {
    let label = |labels: &Labels, name: &str| labels.get(name).cloned().unwrap_or_default();
    let fired: BTreeSet<(String, String)> = fired
        .iter()
        .map(|series| (label(&series.labels, "alertname"), label(&series.labels, "instance")))
        .collect();
    let planted: BTreeSet<(String, String)> =
        planted.iter().map(|(alert, node)| ((*alert).to_owned(), Site::instance(node))).collect();
    let wrong: Vec<String> = fired
        .symmetric_difference(&planted)
        .map(|(alert, instance)| {
            let how = if fired.contains(&(alert.clone(), instance.clone())) { "has" } else { "has not" };
            format!("{alert} on {instance} {how}")
        })
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join(", "));
    Ok(format!("{} have", fired.len()))
}

/// Every panel has lines that move; gives them, in the order of the panels.
///
/// # Errors
/// Never for a panel: that is in the ledger, and the panel has no lines.
pub(super) fn panels(
    site: &Site,
    sources: &Sources,
    told: &Told,
    ledger: &mut Ledger,
) -> Result<Vec<Vec<Line>>> {
    let window = told.window();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the story takes minutes, and ends after its begin"
    )]
    let times = Times { scrape: SCRAPE, step: SCRAPE, range: (window.end - window.begin) as u32 };
    let mut all = Vec::new();
    for panel in &sources.dashboard.panels {
        let mut lines = Vec::new();
        let outcome = asked(site, told, panel, times, &mut lines).and_then(|()| moves(&lines));
        ledger.check(&format!("panel {:?}", panel.title), outcome);
        all.push(lines);
    }
    Ok(all)
}

/// Asks what a panel asks.
fn asked(site: &Site, told: &Told, panel: &Panel, times: Times, lines: &mut Vec<Line>) -> Result<()> {
    for target in &panel.targets {
        let query = target.resolved(times)?;
        let series = site.api().over(&query, told.window())?;
        let has_value = |series: &Series| series.points.iter().any(|(_, value)| value.is_finite());
        ensure!(series.iter().any(has_value), "no data for {query}");
        lines.extend(
            series.into_iter().map(|Series { labels, points }| Line { name: target.name(&labels), points }),
        );
    }
    Ok(())
}

fn moves(lines: &[Line]) -> Result<String> {
    let values = |line: &Line| -> BTreeSet<u64> {
        let finite = line.points.iter().filter(|(_, value)| value.is_finite());
        finite.map(|(_, value)| value.to_bits()).collect()
    };
    let moving = lines.iter().filter(|line| values(line).len() > 1).count();
    ensure!(moving > 0, "nothing in it has changed");
    Ok(format!("{} series, {moving} of them move", lines.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(labels: &[(&str, &str)]) -> Series {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Series { labels, points: vec![(1.0, 1.0)] }
    }

    #[test]
    fn the_list_must_be_whole_and_right() {
        let listed = |names: &[&str]| -> Vec<Listed> {
            let one = |name: &&str| Listed { name: (*name).to_owned(), labels: ["x".to_owned()].into() };
            names.iter().map(one).collect()
        };
        let seen = [series(&[("__name__", "a"), ("x", "1"), ("instance", "i"), ("job", "j")])];
        assert_eq!(same(&listed(&["a"]), &seen).unwrap(), "1 metrics, 1 series");
        let wrong = |listed: &[Listed], seen: &[Series]| same(listed, seen).unwrap_err().to_string();
        assert_eq!(wrong(&listed(&["a", "b"]), &seen), "b is in the list, but not there");
        assert_eq!(wrong(&[], &seen), "a is there, but not in the list");
        let bare = [series(&[("__name__", "a")])];
        assert_eq!(wrong(&listed(&["a"]), &bare), "a has the labels {{}}, the list says {\"x\"}");
    }

    #[test]
    fn an_alert_on_another_node_is_another_alert() {
        let fired = [series(&[("alertname", "A"), ("instance", "ctl:9100")])];
        assert_eq!(exact(&fired, &[("A", "ctl")]).unwrap(), "1 have");
        assert_eq!(exact(&fired, &[]).unwrap_err().to_string(), "A on ctl:9100 has");
        assert_eq!(
            exact(&fired, &[("A", "r01n01")]).unwrap_err().to_string(),
            "A on ctl:9100 has, A on r01n01:9100 has not"
        );
    }

    #[test]
    fn a_panel_that_stands_still_is_wrong() {
        let line = |values: &[f64]| Line {
            name: String::new(),
            points: values.iter().map(|value| (0.0, *value)).collect(),
        };
        assert!(moves(&[line(&[1.0, 1.0, f64::NAN])]).is_err() && moves(&[]).is_err());
        assert_eq!(moves(&[line(&[1.0, 1.0]), line(&[0.0, 1.0])]).unwrap(), "2 series, 1 of them move");
    }
}
