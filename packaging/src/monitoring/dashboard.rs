//! The dashboard as Grafana reads it: panels, their places, and the queries behind them.

#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::api::Labels;

/// A dashboard.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Dashboard {
    pub(super) title: String,
    pub(super) panels: Vec<Panel>,
}

/// A panel.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Panel {
    pub(super) title: String,
    #[serde(rename = "type")]
    pub(super) kind: Kind,
    pub(super) grid_pos: Place,
    pub(super) field_config: FieldConfig,
    pub(super) targets: Vec<Target>,
}

/// The kinds of panels that are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// The last value, large.
    Stat,
    /// Lines.
    Timeseries,
}

/// Where a panel is, in a grid of 24 columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct Place {
    pub(super) x: u16,
    pub(super) y: u16,
    pub(super) w: u16,
    pub(super) h: u16,
}

/// How values look.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct FieldConfig {
    pub(super) defaults: Defaults,
}

/// How values look where nothing else is said.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Defaults {
    pub(super) unit: Unit,
    #[serde(default)]
    pub(super) thresholds: Option<Thresholds>,
}

/// The units that are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Unit {
    /// A count.
    #[serde(rename = "short")]
    Short,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
}

/// From which value on which colour.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Thresholds {
    pub(super) steps: Vec<Step>,
}

/// One of them; the first has no value.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Step {
    pub(super) color: String,
    pub(super) value: Option<f64>,
}

/// A query.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Target {
    pub(super) expr: String,
    #[serde(default)]
    pub(super) legend_format: String,
}

/// What Grafana puts in the place of its variables, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Between two scrapes.
    pub(super) scrape: u32,
    /// Between two points of a line.
    pub(super) step: u32,
    /// From the left to the right.
    pub(super) range: u32,
}

impl Times {
    /// The value of a variable, if it is one that needs no template.
    fn of(self, variable: &str) -> Option<String> {
        let Self { scrape, step, range } = self;
        let seconds = match variable {
            "__interval" => step,
            // Wide enough for four scrapes, so that a rate has points.
            "__rate_interval" => (step + scrape).max(4 * scrape),
            "__range" => range,
            "__interval_ms" => return Some((step * 1000).to_string()),
            "__range_s" => return Some(range.to_string()),
            _ => return None,
        };
        Some(format!("{seconds}s"))
    }
}

impl Target {
    /// The query as Prometheus gets it.
    ///
    /// # Errors
    /// It has a variable that nothing gives a value.
    pub(super) fn resolved(&self, times: Times) -> Result<String> {
        let mut text = String::new();
        let mut rest = self.expr.as_str();
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            let inner = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            let (name, behind) = inner.unwrap_or_else(|| after.split_at(end));
            if name.is_empty() {
                // The end of a regular expression.
                text.push('$');
            } else {
                text.push_str(
                    &times.of(name).with_context(|| format!("no variable {name} in {}", self.expr))?,
                );
            }
            rest = behind;
        }
        Ok(text + rest)
    }

    /// The name of a series: `{{label}}` is a label's value; without a format all of its labels.
    pub(super) fn name(&self, labels: &Labels) -> String {
        if self.legend_format.is_empty() {
            let all: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            return all.join(", ");
        }
        let mut name = String::new();
        let mut rest = self.legend_format.as_str();
        while let Some((before, (label, after))) =
            rest.split_once("{{").and_then(|(before, inner)| Some((before, inner.split_once("}}")?)))
        {
            name.push_str(before);
            name.push_str(labels.get(label.trim()).map_or("", String::as_str));
            rest = after;
        }
        name + rest
    }
}

impl Dashboard {
    /// Reads a dashboard's JSON.
    ///
    /// # Errors
    /// It has a form, a kind of panel or a unit that is not known here, or panels that lie over each other.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let dashboard: Self = serde_json::from_str(text)?;
        for (number, panel) in dashboard.panels.iter().enumerate() {
            let Place { x, w, h, .. } = panel.grid_pos;
            if w == 0 || h == 0 || x + w > 24 {
                bail!("the panel {:?} lies outside of the 24 columns", panel.title);
            }
            let over = |other: &&Panel| other.grid_pos.meets(panel.grid_pos);
            if let Some(other) = dashboard.panels.iter().skip(number + 1).find(over) {
                bail!("the panels {:?} and {:?} lie over each other", panel.title, other.title);
            }
        }
        Ok(dashboard)
    }
}

impl Place {
    fn meets(self, other: Self) -> bool {
        let meet = |(a, a_len): (u16, u16), (b, b_len): (u16, u16)| a < b + b_len && b < a + a_len;
        meet((self.x, self.w), (other.x, other.w)) && meet((self.y, self.h), (other.y, other.h))
    }
}

impl Defaults {
    /// The colour of a value, as the thresholds say.
    pub(super) fn colour(&self, value: f64) -> Option<&str> {
        let steps = self.thresholds.iter().flat_map(|thresholds| &thresholds.steps);
        let mut reached = steps.filter(|step| step.value.is_none_or(|least| value >= least));
        reached.next_back().map(|step| step.color.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times { scrape: 15, step: 20, range: 3600 };

    fn target(expr: &str, legend_format: &str) -> Target {
        Target { expr: expr.to_owned(), legend_format: legend_format.to_owned() }
    }

    #[test]
    fn variables_become_what_grafana_makes_of_them() {
        let resolved = |expr: &str| target(expr, "").resolved(TIMES);
        assert_eq!(resolved("rate(x[$__rate_interval])").unwrap(), "rate(x[60s])");
        assert_eq!(resolved("rate(x[${__interval}]) + $__range_s").unwrap(), "rate(x[20s]) + 3600");
        assert_eq!(resolved("x{a=~\"b$\"}").unwrap(), "x{a=~\"b$\"}");
        assert_eq!(resolved("sum(x)").unwrap(), "sum(x)");
        assert_eq!(
            resolved("x{rack=\"$rack\"}").unwrap_err().to_string(),
            "no variable rack in x{rack=\"$rack\"}"
        );
        let seldom = Times { step: 300, ..TIMES };
        assert_eq!(target("[$__rate_interval]", "").resolved(seldom).unwrap(), "[315s]");
    }

    #[test]
    fn a_legend_has_the_values_of_its_labels() {
        let labels: Labels = [("hook", "prolog"), ("outcome", "ready")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        assert_eq!(target("x", "{{hook}}: {{ outcome }}!").name(&labels), "prolog: ready!");
        assert_eq!(target("x", "{{rack}}").name(&labels), "");
        assert_eq!(target("x", "").name(&labels), "hook=prolog, outcome=ready");
    }

    fn dashboard(places: &[(u16, u16, u16, u16)]) -> Result<Dashboard> {
        let panel = |&(x, y, w, h): &(u16, u16, u16, u16)| {
            format!(
                r#"{{"title":"p{x}-{y}","type":"stat","gridPos":{{"x":{x},"y":{y},"w":{w},"h":{h}}},
                "fieldConfig":{{"defaults":{{"unit":"s"}}}},"targets":[{{"expr":"x"}}]}}"#
            )
        };
        let panels: Vec<String> = places.iter().map(panel).collect();
        Dashboard::parse(&format!(r#"{{"title":"t","panels":[{}]}}"#, panels.join(",")))
    }

    #[test]
    fn panels_lie_beside_each_other() {
        assert!(dashboard(&[(0, 0, 12, 8), (12, 0, 12, 8), (0, 8, 24, 4)]).is_ok());
        let over = dashboard(&[(0, 0, 12, 8), (11, 7, 2, 2)]).unwrap_err();
        assert_eq!(over.to_string(), "the panels \"p0-0\" and \"p11-7\" lie over each other");
        assert!(dashboard(&[(20, 0, 5, 1)]).is_err() && dashboard(&[(0, 0, 0, 1)]).is_err());
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(Dashboard::parse(r#"{"title":"t","panels":[{"title":"p","type":"pie"}]}"#).is_err());
    }

    #[test]
    fn a_colour_begins_at_its_value() {
        let steps = [("green", None), ("red", Some(1.0))];
        let steps = steps.map(|(color, value)| Step { color: color.to_owned(), value });
        let defaults = Defaults { unit: Unit::Short, thresholds: Some(Thresholds { steps: steps.to_vec() }) };
        assert_eq!(
            [0.0, 0.9, 1.0, 7.0].map(|value| defaults.colour(value).unwrap()),
            ["green", "green", "red", "red"]
        );
        assert_eq!(Defaults { unit: Unit::Short, thresholds: None }.colour(1.0), None);
    }
}
