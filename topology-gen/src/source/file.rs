//! Readings collected by other means: one JSON object, node name to what `topology-gen probe` printed there, or `null`.
#![forbid(unsafe_code)]

use std::fmt;

use fabric::{NodeName, TrayReading};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Inventory, Observation, Seen, typed};

/// Why a file of readings cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[error("readings are not a JSON object of node names")]
pub struct ReadingsError {
    source: serde_json::Error,
}

/// The entries in their order, each still text; a name that comes twice is there twice.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Takes the readings. A node whose value is not a reading is silent; the others go on. A node with several readings is
/// observed as often.
///
/// # Errors
/// [`ReadingsError`] when the text is not a JSON object.
pub fn parse(text: &str) -> Result<Inventory, ReadingsError> {
    let Entries(nodes) = serde_json::from_str(text).map_err(|source| ReadingsError { source })?;
    let mut inventory = Inventory::default();
    for (name, value) in nodes {
        let node = match NodeName::new(name) {
            Ok(node) => node,
            Err(error) => {
                inventory.notes.push(format!("readings: {error}"));
                continue;
            }
        };
        let seen = if value.get() == "null" {
            Seen::Silent("no reading".into())
        } else {
            match typed::<TrayReading>(value) {
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
        let twice = parse(r#"{"n1": {"driver_version": "1", "gpus": []}, "n2": null, "n1": null}"#).unwrap();
        assert_eq!(twice.observations.len(), 3);
        assert_eq!(parse("[]").unwrap_err().to_string(), "readings are not a JSON object of node names");
    }
}
