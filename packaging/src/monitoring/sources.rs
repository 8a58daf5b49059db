//! What is checked, as it is shipped: the guide's words on metrics, the alerts and their tests, the dashboard.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::dashboard::Dashboard;

/// How much shorter the waits of alerts are on the site: minutes become seconds. Nothing else of the rules is changed.
pub(super) const QUICKER: u32 = 60;

/// A metric of the guide's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) labels: BTreeSet<String>,
}

/// The files.
#[derive(Debug)]
pub(super) struct Sources {
    /// The alerts as they are shipped.
    pub(super) rules: String,
    /// Their tests for promtool.
    pub(super) rule_tests: String,
    pub(super) dashboard: Dashboard,
    pub(super) listed: Vec<Listed>,
    /// `TopologyParam` as the guide says it.
    pub(super) topology_param: String,
    /// `ARGS` of the controller's node exporter as the guide says them.
    pub(super) exporter_args: String,
    /// The command of the service topology-gen-watch.
    pub(super) watch: String,
}

impl Sources {
    /// Reads them from the repository.
    ///
    /// # Errors
    /// A file is missing, or does not have what is looked for.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let text = |name: &str| fs::read_to_string(root.join(name)).with_context(|| format!("read {name}"));
        let monitoring = |end: &str| text(&format!("packaging/monitoring/slurm-nvlink.{end}"));
        let guide = text("docs/operating.md")?;
        let unit = text("packaging/systemd/topology-gen-watch.service")?;
        let typed = |key: &str| {
            let found = guide.lines().find_map(|line| line.strip_prefix("    ")?.strip_prefix(key));
            found.with_context(|| format!("docs/operating.md has no line {key}"))
        };
        let listed = listed(&guide);
        ensure!(!listed.is_empty(), "docs/operating.md lists no metrics");
        Ok(Self {
            rules: monitoring("rules.yml")?,
            rule_tests: monitoring("test.yml")?,
            dashboard: Dashboard::parse(&monitoring("dashboard.json")?).context("the dashboard")?,
            listed,
            topology_param: typed("TopologyParam=")?.to_owned(),
            exporter_args: typed("ARGS=")?.trim_matches('"').to_owned(),
            watch: unit
                .lines()
                .find_map(|line| line.strip_prefix("ExecStart="))
                .context("topology-gen-watch.service has no ExecStart")?
                .to_owned(),
        })
    }

    /// The names of the alerts.
    pub(super) fn alerts(&self) -> Vec<&str> {
        self.rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect()
    }

    /// Alerts that promtool's tests do not show both silent and firing.
    pub(super) fn untested(&self) -> Vec<&str> {
        let shown = |alert: &str, ends: fn(&str) -> bool| {
            let cases = self.rule_tests.split("- eval_time:").skip(1);
            let mut of_alert = cases.filter(|case| case.contains(&format!("alertname: {alert}\n")));
            of_alert
                .any(|case| case.split_once("exp_alerts:").is_some_and(|(_, expected)| ends(expected.trim())))
        };
        let alerts = self.alerts().into_iter();
        alerts
            .filter(|alert| !shown(alert, |end| end == "[]") || !shown(alert, |end| end.len() > 2))
            .collect()
    }

    /// The alerts with waits [`QUICKER`] times shorter.
    ///
    /// # Errors
    /// A wait is not in whole minutes.
    pub(super) fn quick_rules(&self) -> Result<String> {
        quick(&self.rules)
    }
}

fn quick(rules: &str) -> Result<String> {
    let line = |line: &str| -> Result<String> {
        let Some((before, wait)) = line.split_once("for: ").filter(|(before, _)| before.trim().is_empty())
        else {
            return Ok(line.to_owned());
        };
        let minutes: u32 = wait
            .strip_suffix('m')
            .and_then(|minutes| minutes.parse().ok())
            .with_context(|| format!("{line:?} is not in minutes"))?;
        Ok(format!("{before}for: {}s", minutes * 60 / QUICKER))
    };
    let lines: Vec<String> = rules.lines().map(line).collect::<Result<_>>()?;
    Ok(lines.join("\n") + "\n")
}

/// The rows of the guide's list of metrics.
fn listed(guide: &str) -> Vec<Listed> {
    let row = |line: &str| {
        let (metric, _) = line.strip_prefix("| `")?.split_once('`')?;
        let (name, labels) = metric.split_once('{').unwrap_or((metric, ""));
        let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
        let listed = Listed { name: name.to_owned(), labels: labels.map(str::to_owned).collect() };
        name.starts_with("slurm_nvlink_").then_some(listed)
    };
    guide.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> Sources {
        Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap()
    }

    #[test]
    fn what_is_shipped_is_read() {
        let sources = sources();
        assert!(sources.alerts().len() >= 10 && sources.dashboard.panels.len() >= 15);
        assert!(sources.topology_param.starts_with("nvlink_metrics=/run/"), "{}", sources.topology_param);
        assert_eq!(sources.exporter_args.matches("--collector.textfile.directory=").count(), 2);
        assert!(sources.watch.starts_with("/usr/bin/topology-gen watch $"), "{}", sources.watch);
    }

    #[test]
    fn every_alert_is_tested_silent_and_firing() {
        let mut sources = sources();
        assert_eq!(sources.untested(), Vec::<&str>::new());
        sources.rule_tests = sources.rule_tests.replace("alertname: ImexFault", "alertname: Other");
        assert_eq!(sources.untested(), ["ImexFault"]);
    }

    #[test]
    fn minutes_of_waits_become_seconds_and_nothing_else_changes() {
        let rules = "a:\n        for: 15m\n    x: for: 2m\n    expr: x[5m] > 900\n";
        assert_eq!(quick(rules).unwrap(), rules.replacen("for: 15m", "for: 15s", 1));
        assert!(quick("  for: 90s").is_err());
    }

    #[test]
    fn the_list_gives_names_and_labels() {
        let guide = "| name | what |\n| `slurm_nvlink_a{x,y}` | w |\n| `slurm_nvlink_b` | w |\n| `topology-gen show` | w |\n";
        let labels = ["x", "y"].map(str::to_owned).into();
        let bare = Listed { name: "slurm_nvlink_b".to_owned(), labels: BTreeSet::new() };
        assert_eq!(listed(guide), [Listed { name: "slurm_nvlink_a".to_owned(), labels }, bare]);
    }
}
