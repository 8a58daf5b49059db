//! Readings collected by other means: one JSON object, node name to what `topology-gen probe` printed there, or `null`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use fabric::{NodeName, TrayReading};

use super::{Inventory, Observation, Seen};

/// Why a file of readings cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[error("readings are not a JSON object of node names")]
pub struct ReadingsError {
    source: serde_json::Error,
}

/// Takes the readings. A node whose value is not a reading is silent; the others go on.
///
/// # Errors
/// [`ReadingsError`] when the text is not a JSON object.
pub fn parse(text: &str) -> Result<Inventory, ReadingsError> {
    let nodes: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|source| ReadingsError { source })?;
    let mut inventory = Inventory::default();
    for (name, value) in nodes {
        let node = match NodeName::new(name) {
            Ok(node) => node,
            Err(error) => {
                inventory.notes.push(format!("readings: {error}"));
                continue;
            }
        };
        let seen = if value.is_null() {
            Seen::Silent("no reading".into())
        } else {
            match serde_json::from_value::<TrayReading>(value) {
                Ok(reading) => Seen::Reading(reading),
                Err(error) => Seen::Silent(format!("not a reading: {error}")),
            }
        };
        inventory.observations.push(Observation::now(node, seen));
    }
    Ok(inventory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_entry_does_not_stop_the_others() {
        let text = r#"{"n1": null, "n2": {"driver_version": "1", "gpus": []}, "n3": "NVIDIA-SMI has failed", "a b": null}"#;
        let inventory = parse(text).unwrap();
        assert!(!inventory.complete);
        let seen: Vec<&Seen> = inventory.observations.iter().map(|o| &o.seen).collect();
        assert!(matches!(seen.as_slice(), [Seen::Silent(_), Seen::Reading(_), Seen::Silent(_)]), "{seen:?}");
        assert_eq!(inventory.notes.len(), 1);
        assert_eq!(parse("[]").unwrap_err().to_string(), "readings are not a JSON object of node names");
    }
}
