//! What the trays say of their fabric, taken from each and put together for topology-gen.
#![forbid(unsafe_code)]

use crate::cluster::{Cluster, Target};
use anyhow::Context as _;

impl Cluster {
    /// What a tray says now.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn reading(&self, node: &str) -> anyhow::Result<serde_json::Value> {
        let captured = self.capture(&Target::node(node), &["topology-gen", "probe"])?;
        serde_json::from_str(&captured.stdout).with_context(|| format!("probe on {node}"))
    }

    /// Puts what all trays say into a file on the controller as topology-gen reads it; None is a tray that says nothing.
    ///
    /// # Errors
    /// Those of `says`, or the file cannot be written.
    pub fn write_readings(
        &self,
        path: &str,
        mut says: impl FnMut(&str) -> anyhow::Result<Option<serde_json::Value>>,
    ) -> anyhow::Result<()> {
        let mut readings = serde_json::Map::new();
        for node in self.nodes() {
            let reading = says(&node)?;
            readings.insert(node, reading.unwrap_or(serde_json::Value::Null));
        }
        self.write_file(&Target::controller(), path, &serde_json::Value::Object(readings).to_string())
    }
}
