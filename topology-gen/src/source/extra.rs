//! The one-line form of a reading that travels in a node's `Extra` field: `slurmd --extra "$(topology-gen probe --extra)"`.
//!
//! It carries the facts and not the verdict, so that the controller's side judges all trays by the same rules. GPUs
//! that say the same are written once:
//! `{"nvlink":{"v":1,"driver":"580.95.05","gpus":[{"i":[0,1,2,3],"id":"<uuid>.<clique>","state":3,"status":0,"mask":426,"health":1}]}}`
//! A GPU without a fabric query has only `i`. Other keys beside `nvlink` belong to the site and are left alone.
//!
//! Slurm takes the field over at the first registration of a node and after a reboot of it, not when only slurmd starts anew
//! (Slurm 26.05.3 src/slurmctld/node_mgr.c). When a partition changes without a reboot, tell Slurm on the controller:
//! `scontrol update nodename=TRAY extra="$(ssh TRAY topology-gen probe --extra)"`.
#![forbid(unsafe_code)]

use fabric::{FabricHealth, FabricId, GpuFabric, GpuReading, TrayReading};
use serde::{Deserialize, Serialize};

/// Version of the form; a reader refuses versions it does not know.
const VERSION: u32 = 1;
/// Most GPUs in one field.
const GPUS_MAX: usize = 1024;

/// Why an `Extra` field gives no reading.
#[derive(Debug, thiserror::Error)]
pub enum ExtraError {
    /// Not JSON.
    #[error("the field Extra is not JSON")]
    Json {
        /// The parser's words.
        source: serde_json::Error,
    },
    /// JSON, but not of this form.
    #[error("the field Extra has no readable NVLink reading")]
    Form {
        /// The parser's words.
        source: serde_json::Error,
    },
    /// Written by a newer program.
    #[error(
        "the NVLink reading in the field Extra has version {found}, this program reads version {VERSION}"
    )]
    Version {
        /// The version found.
        found: u32,
    },
    /// A GPU index comes twice, or there are too many.
    #[error("the NVLink reading in the field Extra names a GPU twice or more than {GPUS_MAX} GPUs")]
    Gpus,
}

#[derive(Serialize)]
struct Field {
    nvlink: Form,
}

#[derive(Serialize, Deserialize)]
struct Form {
    v: u32,
    #[serde(default)]
    driver: String,
    #[serde(default)]
    gpus: Vec<Group>,
}

/// GPUs with the same answer. Two strict forms, so that a damaged answer is never taken for "no fabric query".
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Group {
    Answering(Answering),
    WithoutQuery(WithoutQuery),
}

#[derive(Serialize, Deserialize)]
struct Answering {
    i: Vec<u32>,
    #[serde(flatten)]
    answer: Answer,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WithoutQuery {
    i: Vec<u32>,
}

#[derive(Serialize, Deserialize, PartialEq, Clone, Copy)]
struct Answer {
    id: FabricId,
    state: u8,
    status: u32,
    mask: u32,
    health: u8,
}

impl Group {
    fn new(index: u32, answer: Option<Answer>) -> Self {
        match answer {
            Some(answer) => Self::Answering(Answering { i: vec![index], answer }),
            None => Self::WithoutQuery(WithoutQuery { i: vec![index] }),
        }
    }

    fn parts(&mut self) -> (&mut Vec<u32>, Option<Answer>) {
        match self {
            Self::Answering(group) => (&mut group.i, Some(group.answer)),
            Self::WithoutQuery(group) => (&mut group.i, None),
        }
    }
}

impl From<&GpuFabric> for Answer {
    fn from(fabric: &GpuFabric) -> Self {
        Self {
            id: fabric.id(),
            state: fabric.state.into(),
            status: fabric.status,
            mask: fabric.health.mask,
            health: fabric.health.summary,
        }
    }
}

impl From<Answer> for GpuFabric {
    fn from(answer: Answer) -> Self {
        Self {
            domain: answer.id.domain,
            partition: answer.id.partition,
            state: answer.state.into(),
            status: answer.status,
            health: FabricHealth { mask: answer.mask, summary: answer.health },
        }
    }
}

/// Writes the reading as one line without blanks, apostrophes or line breaks.
pub fn write(reading: &TrayReading) -> String {
    let mut gpus: Vec<Group> = Vec::new();
    for gpu in &reading.gpus {
        let answer = gpu.fabric.as_ref().map(Answer::from);
        match gpus.iter_mut().map(Group::parts).find(|(_, other)| *other == answer) {
            Some((indices, _)) => indices.push(gpu.index),
            None => gpus.push(Group::new(gpu.index, answer)),
        }
    }
    let driver: String = reading
        .driver_version
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        .collect();
    let field = Field { nvlink: Form { v: VERSION, driver, gpus } };
    // Numbers and texts only: there is nothing in it that cannot be written.
    serde_json::to_string(&field).unwrap_or_default()
}

/// Reads the field; `Ok(None)` when it is empty or has no `nvlink`.
///
/// # Errors
/// [`ExtraError`] when there is something that cannot be understood.
pub fn read(field: &str) -> Result<Option<TrayReading>, ExtraError> {
    if field.trim().is_empty() {
        return Ok(None);
    }
    let mut json: serde_json::Value =
        serde_json::from_str(field).map_err(|source| ExtraError::Json { source })?;
    let Some(nvlink) = json.get_mut("nvlink").map(serde_json::Value::take) else { return Ok(None) };
    if let Some(found) = nvlink.get("v").and_then(serde_json::Value::as_u64)
        && found != u64::from(VERSION)
    {
        return Err(ExtraError::Version { found: u32::try_from(found).unwrap_or(u32::MAX) });
    }
    let form: Form = serde_json::from_value(nvlink).map_err(|source| ExtraError::Form { source })?;
    let mut gpus: Vec<GpuReading> = Vec::new();
    for mut group in form.gpus {
        let (indices, answer) = group.parts();
        for index in std::mem::take(indices) {
            if gpus.len() >= GPUS_MAX || gpus.iter().any(|gpu| gpu.index == index) {
                return Err(ExtraError::Gpus);
            }
            let fabric = answer.map(GpuFabric::from);
            gpus.push(GpuReading { index, uuid: String::new(), name: String::new(), fabric });
        }
    }
    gpus.sort_by_key(|gpu| gpu.index);
    Ok(Some(TrayReading { driver_version: form.driver, gpus }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(ids: &[Option<&str>]) -> TrayReading {
        let gpus = ids.iter().zip(0u32..).map(|(id, index)| GpuReading {
            index,
            uuid: String::new(),
            name: String::new(),
            fabric: id.map(|id| {
                let id: FabricId = id.parse().unwrap();
                let health = FabricHealth { mask: 0x1aa, summary: 1 };
                GpuFabric { domain: id.domain, partition: id.partition, state: 3.into(), status: 0, health }
            }),
        });
        TrayReading { driver_version: "580.95.05".into(), gpus: gpus.collect() }
    }

    const A: Option<&str> = Some("7e1c0f5a-9d3b-4e52-8f01-2a6b5c4d3e2f.32766");
    const B: Option<&str> = Some("7e1c0f5a-9d3b-4e52-8f01-2a6b5c4d3e2f.4294967295");

    #[test]
    fn a_healthy_tray_takes_one_short_line() {
        insta::assert_snapshot!(write(&reading(&[A; 4])), @r#"{"nvlink":{"v":1,"driver":"580.95.05","gpus":[{"i":[0,1,2,3],"id":"7e1c0f5a-9d3b-4e52-8f01-2a6b5c4d3e2f.32766","state":3,"status":0,"mask":426,"health":1}]}}"#);
    }

    #[test]
    fn any_mix_of_answers_comes_back() {
        for ids in [vec![], vec![None; 4], vec![A, B, A, None], vec![A; 4]] {
            let reading = reading(&ids);
            assert_eq!(read(&write(&reading)).unwrap(), Some(reading));
        }
    }

    #[test]
    fn fields_of_others_are_no_reading() {
        for field in ["", "  ", "{}", r#"{"rack":"b7"}"#, "null", "3"] {
            assert_eq!(read(field).unwrap(), None, "{field}");
        }
    }

    #[test]
    fn what_cannot_be_understood_says_so() {
        let text = |field: &str| read(field).unwrap_err().to_string();
        assert_eq!(text("rack=b7"), "the field Extra is not JSON");
        assert_eq!(text(r#"{"nvlink":7}"#), "the field Extra has no readable NVLink reading");
        let damaged = r#"{"nvlink":{"v":1,"gpus":[{"i":[0],"state":3}]}}"#;
        assert_eq!(text(damaged), "the field Extra has no readable NVLink reading");
        assert_eq!(
            text(r#"{"nvlink":{"v":2}}"#),
            "the NVLink reading in the field Extra has version 2, this program reads version 1"
        );
        let twice = r#"{"nvlink":{"v":1,"gpus":[{"i":[0,0]}]}}"#;
        assert_eq!(
            text(twice),
            "the NVLink reading in the field Extra names a GPU twice or more than 1024 GPUs"
        );
    }
}
