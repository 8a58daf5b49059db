//! Prometheus' HTTP API, asked from inside the cluster: nothing of it can be reached from outside.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use ::tests::Cluster;
use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Where Prometheus listens, in the controller's node.
pub(super) const LISTEN: &str = "127.0.0.1:9090";

/// Names and values of labels.
pub(super) type Labels = BTreeMap<String, String>;

/// A series over time. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    pub(super) labels: Labels,
    pub(super) points: Vec<(f64, f64)>,
}

/// A stretch of time and the distance of its points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    pub(super) begin: f64,
    pub(super) end: f64,
    pub(super) step: f64,
}

/// An alert that is pending or firing now.
#[derive(Debug, Deserialize)]
pub(super) struct Alert {
    pub(super) labels: Labels,
    pub(super) state: String,
}

/// What is scraped, and how that goes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Target {
    scrape_url: String,
    health: String,
    last_error: String,
}

impl Target {
    /// Whether it answers.
    ///
    /// # Errors
    /// It does not; in words.
    pub(super) fn is_up(&self) -> Result<(), String> {
        let Self { scrape_url, health, last_error } = self;
        if health == "up" { Ok(()) } else { Err(format!("{scrape_url} is {health}: {last_error}")) }
    }
}

/// A running Prometheus.
#[derive(Debug, Clone, Copy)]
pub(super) struct Api<'a>(pub(super) &'a Cluster);

#[derive(Deserialize)]
struct Answer<T> {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<T>,
}

#[derive(Deserialize)]
struct Found {
    result: Vec<FoundSeries>,
}

#[derive(Deserialize)]
struct FoundSeries {
    metric: Labels,
    value: Option<(f64, String)>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

#[derive(Deserialize)]
struct Alerts {
    alerts: Vec<Alert>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Targets {
    active_targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

/// An alert's rule and how its evaluation goes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) health: String,
    #[serde(default)]
    pub(super) last_error: String,
}

impl Api<'_> {
    /// The series of a query, now.
    ///
    /// # Errors
    /// Prometheus does not answer, or refuses the query.
    pub(super) fn now(&self, query: &str) -> Result<Vec<Series>> {
        self.series("query", &[("query", query)])
    }

    /// The series of a query over time.
    ///
    /// # Errors
    /// As [`Api::now`].
    pub(super) fn over(&self, query: &str, window: Window) -> Result<Vec<Series>> {
        let [begin, end, step] = [window.begin, window.end, window.step].map(|number| number.to_string());
        self.series("query_range", &[("query", query), ("start", &begin), ("end", &end), ("step", &step)])
    }

    /// Alerts that are pending or firing.
    ///
    /// # Errors
    /// Prometheus does not answer.
    pub(super) fn alerts(&self) -> Result<Vec<Alert>> {
        Ok(self.get::<Alerts>("alerts", &[])?.alerts)
    }

    /// What is scraped.
    ///
    /// # Errors
    /// Prometheus does not answer.
    pub(super) fn targets(&self) -> Result<Vec<Target>> {
        Ok(self.get::<Targets>("targets", &[("state", "active")])?.active_targets)
    }

    /// The rules in force.
    ///
    /// # Errors
    /// Prometheus does not answer.
    pub(super) fn rules(&self) -> Result<Vec<Rule>> {
        let groups = self.get::<Groups>("rules", &[])?.groups;
        Ok(groups.into_iter().flat_map(|group| group.rules).collect())
    }

    fn series(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Vec<Series>> {
        let found: Found = self.get(path, parameters)?;
        found.result.into_iter().map(FoundSeries::read).collect()
    }

    fn get<T: DeserializeOwned>(&self, path: &str, parameters: &[(&str, &str)]) -> Result<T> {
        let address = format!("http://{LISTEN}/api/v1/{path}");
        let mut argv =
            ["curl", "--silent", "--show-error", "--get", "--max-time", "20"].map(str::to_owned).to_vec();
        for (name, value) in parameters {
            argv.extend(["--data-urlencode".to_owned(), format!("{name}={value}")]);
        }
        argv.push(address);
        read(&self.0.ctl(&argv)?).with_context(|| format!("{path} {parameters:?}"))
    }
}

impl FoundSeries {
    fn read(self) -> Result<Series> {
        let number = |(at, value): (f64, String)| -> Result<(f64, f64)> {
            // "NaN", "+Inf" and "-Inf" are numbers to both.
            Ok((at, value.parse().with_context(|| format!("a value is {value:?}"))?))
        };
        let points = self.values.into_iter().chain(self.value).map(number).collect::<Result<_>>()?;
        Ok(Series { labels: self.metric, points })
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T> {
    let answer: Answer<T> =
        serde_json::from_str(text).with_context(|| format!("Prometheus answered {text:.300}"))?;
    ensure!(answer.status == "success", "Prometheus says: {}", answer.error);
    answer.data.context("Prometheus answered without data")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(text: &str) -> Result<Vec<Series>> {
        read::<Found>(text)?.result.into_iter().map(FoundSeries::read).collect()
    }

    #[test]
    fn vectors_and_matrices_are_read_alike() {
        let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"state":"member"},"values":[[1.5,"8"],[4.5,"NaN"],[7.5,"+Inf"]]}]}}"#;
        let found = series(matrix).unwrap();
        assert_eq!(found[0].labels, Labels::from([("state".to_owned(), "member".to_owned())]));
        assert_eq!(found[0].points[0], (1.5, 8.0));
        assert!(found[0].points[1].1.is_nan() && found[0].points[2].1.is_infinite());
        let vector = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[9,"0.5"]}]}}"#;
        assert_eq!(series(vector).unwrap()[0].points, [(9.0, 0.5)]);
    }

    #[test]
    fn a_refusal_is_an_error_with_its_words() {
        let refused = r#"{"status":"error","errorType":"bad_data","error":"unexpected end of input"}"#;
        assert_eq!(series(refused).unwrap_err().to_string(), "Prometheus says: unexpected end of input");
        assert!(series("curl: (7) refused").is_err());
        assert!(series(r#"{"status":"success","data":{"result":[{"metric":{},"value":[9,"x"]}]}}"#).is_err());
    }
}
