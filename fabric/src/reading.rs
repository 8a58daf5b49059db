//! What NVML says about the fabric of one tray, and the verdict on it.
//!
//! A tray belongs to an NVLink partition when all its GPUs agree on one pair of ids and every one of them says completed
//! and success with a UUID that is not zero. Health never decides membership; it is a warning.
#![forbid(unsafe_code)]

use std::fmt;

use crate::identity::{DomainId, FabricId, PartitionId};

/// NVML's status "success".
const STATUS_SUCCESS: u32 = 0;

/// Registration of a GPU at its NVLink fabric (NVML 13: `nvmlGpuFabricState_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(from = "u8", into = "u8"))]
pub enum FabricState {
    /// No fabric on this GPU.
    NotSupported,
    /// Registration has not begun.
    NotStarted,
    /// Registration runs; ids are not valid yet.
    InProgress,
    /// Registration ended; the status says how.
    Completed,
    /// A value this program does not know.
    Other(u8),
}

impl From<u8> for FabricState {
    fn from(value: u8) -> Self {
        match value {
            0 => Self::NotSupported,
            1 => Self::NotStarted,
            2 => Self::InProgress,
            3 => Self::Completed,
            other => Self::Other(other),
        }
    }
}

impl From<FabricState> for u8 {
    fn from(state: FabricState) -> u8 {
        match state {
            FabricState::NotSupported => 0,
            FabricState::NotStarted => 1,
            FabricState::InProgress => 2,
            FabricState::Completed => 3,
            FabricState::Other(other) => other,
        }
    }
}

impl fmt::Display for FabricState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSupported => f.write_str("not supported"),
            Self::NotStarted => f.write_str("not started"),
            Self::InProgress => f.write_str("in progress"),
            Self::Completed => f.write_str("completed"),
            Self::Other(value) => write!(f, "unknown state {value}"),
        }
    }
}

/// Health of a GPU's fabric attachment (NVML 13: health mask and health summary).
///
/// The mask is made of small fields, most of two bits (0 unsupported, 1 true, 2 false), so a healthy mask is not zero.
/// Drivers that offer only version 1 of the query give 0 for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FabricHealth {
    /// The mask as NVML gives it.
    pub mask: u32,
    /// 0 unsupported, 1 healthy, 2 unhealthy, 3 limited capacity.
    pub summary: u8,
}

/// Two-bit fields: shift, words when true, words when false, whether "true" is the fault.
const FLAGS: [(u32, &str, &str); 4] = [
    (0, "bandwidth degraded", "bandwidth full"),
    (2, "route recovery in progress", "no route recovery"),
    (4, "route unhealthy", "route healthy"),
    (6, "access timeout recovery in progress", "no access timeout recovery"),
];

impl FabricHealth {
    /// Everything the mask and the summary say, in words; empty when the driver reports no health.
    pub fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = self.summary_words().map(str::to_owned).into_iter().collect();
        for (shift, yes, no) in FLAGS {
            match self.mask >> shift & 3 {
                1 => words.push(yes.to_owned()),
                2 => words.push(no.to_owned()),
                3 => words.push(format!("{yes}: unknown value 3")),
                _ => {}
            }
        }
        words.extend(self.configuration_words());
        match self.mask >> 12 & 3 {
            1 => words.push("partition assigned".to_owned()),
            2 => words.push("no partition assigned".to_owned()),
            _ => {}
        }
        words
    }

    /// Only the faults, in words.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if matches!(self.summary, 2..) {
            faults.extend(self.summary_words().map(str::to_owned));
        }
        faults.extend(
            FLAGS
                .iter()
                .filter(|(shift, ..)| self.mask >> shift & 3 == 1)
                .map(|(_, yes, _)| (*yes).to_owned()),
        );
        if self.configuration() >= 2 {
            faults.extend(self.configuration_words());
        }
        faults
    }

    /// Whether any field tells of a fault.
    pub fn is_degraded(&self) -> bool {
        !self.faults().is_empty()
    }

    fn summary_words(&self) -> Option<&'static str> {
        match self.summary {
            0 => None,
            1 => Some("healthy"),
            2 => Some("unhealthy"),
            3 => Some("limited capacity"),
            _ => Some("unknown health"),
        }
    }

    fn configuration(&self) -> u32 {
        self.mask >> 8 & 0xf
    }

    /// Values up to 5 are in NVML 13.0's header, 6 to 8 in newer ones.
    fn configuration_words(&self) -> Option<String> {
        Some(match self.configuration() {
            0 => return None,
            1 => "configuration correct".to_owned(),
            2 => "wrong configuration: system GUID".to_owned(),
            3 => "wrong configuration: chassis serial number".to_owned(),
            4 => "wrong configuration: no partition".to_owned(),
            5 => "wrong configuration: too few NVLinks".to_owned(),
            6 => "wrong configuration: incompatible GPU firmware".to_owned(),
            7 => "wrong configuration: invalid location".to_owned(),
            8 => "wrong configuration: GPU state invalid".to_owned(),
            other => format!("wrong configuration: unknown value {other}"),
        })
    }
}

/// One GPU's answer to the fabric query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GpuFabric {
    /// NVML's cluster UUID.
    pub domain: DomainId,
    /// NVML's clique ID.
    pub partition: PartitionId,
    /// Registration state.
    pub state: FabricState,
    /// NVML return code of the registration; valid only when completed, 0 is success.
    pub status: u32,
    /// Health as reported.
    #[cfg_attr(feature = "serde", serde(default))]
    pub health: FabricHealth,
}

impl GpuFabric {
    /// The pair of ids, whatever state they are in.
    pub fn id(&self) -> FabricId {
        FabricId { domain: self.domain, partition: self.partition }
    }
}

/// One GPU of a tray.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GpuReading {
    /// NVML index.
    pub index: u32,
    /// GPU UUID (`GPU-...`).
    pub uuid: String,
    /// Product name.
    pub name: String,
    /// The fabric query's answer; `None` when the GPU or the driver has no such query.
    pub fabric: Option<GpuFabric>,
}

/// All GPUs of a tray, read at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TrayReading {
    /// Driver version as text.
    pub driver_version: String,
    /// The GPUs in NVML order.
    pub gpus: Vec<GpuReading>,
}

/// What a tray's reading means.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(tag = "verdict", rename_all = "kebab-case"))]
pub enum Verdict {
    /// The tray belongs to this NVLink partition.
    Member {
        /// Domain and partition.
        id: FabricId,
        /// GPUs that agree on it: all of the tray.
        gpus: u32,
        /// Health faults and oddities, each naming its GPU.
        warnings: Vec<String>,
    },
    /// The tray has no multi-node NVLink, which is no fault.
    NoFabric {
        /// In words.
        why: String,
    },
    /// The reading cannot be trusted or the fabric is not ready.
    Rejected {
        /// In words, naming the GPUs.
        why: String,
    },
}

/// One GPU, judged alone.
enum Gpu {
    Member(FabricId),
    NoFabric(&'static str),
    NotReady(String),
    Fault(String),
}

impl GpuReading {
    fn judge(&self) -> Gpu {
        let Some(fabric) = &self.fabric else { return Gpu::NoFabric("the driver answers no fabric query") };
        match fabric.state {
            FabricState::NotSupported => Gpu::NoFabric("fabric state not supported"),
            FabricState::NotStarted | FabricState::InProgress => {
                Gpu::NotReady(format!("fabric state {}", fabric.state))
            }
            FabricState::Other(_) => Gpu::Fault(format!("fabric state: {}", fabric.state)),
            FabricState::Completed if fabric.status != STATUS_SUCCESS => {
                Gpu::Fault(format!("fabric registration ended with NVML error {}", fabric.status))
            }
            FabricState::Completed if fabric.domain.is_zero() => Gpu::NoFabric("the cluster UUID is zero"),
            FabricState::Completed => Gpu::Member(fabric.id()),
        }
    }
}

impl TrayReading {
    /// Says whether the tray belongs to an NVLink partition, and to which.
    ///
    /// With `expected_gpus`, fewer GPUs are a fault: a lost GPU must not agree by absence. Without it any number is fine.
    pub fn judge(&self, expected_gpus: Option<u32>) -> Verdict {
        let count = u32::try_from(self.gpus.len()).unwrap_or(u32::MAX);
        if let Some(expected) = expected_gpus
            && count < expected
        {
            return Verdict::Rejected { why: format!("{count} of {expected} GPUs answer") };
        }
        let judged: Vec<(u32, Gpu)> = self.gpus.iter().map(|gpu| (gpu.index, gpu.judge())).collect();
        if let Some(why) = unusable(&judged) {
            return Verdict::Rejected { why };
        }
        let mut ids = judged.iter().filter_map(|(_, gpu)| match gpu {
            Gpu::Member(id) => Some(*id),
            _ => None,
        });
        let Some(id) = ids.next() else { return Verdict::NoFabric { why: no_fabric_words(&judged) } };
        let agree = ids.filter(|other| *other == id).count() + 1;
        if agree < judged.len() {
            return Verdict::Rejected {
                why: format!("GPUs do not agree on one NVLink partition: {}", pairs(&judged)),
            };
        }
        Verdict::Member { id, gpus: count, warnings: self.warnings(expected_gpus, count) }
    }

    /// Whether some GPU's registration at the fabric has not ended, so that asking again later may help.
    pub fn is_pending(&self) -> bool {
        self.gpus.iter().any(|gpu| matches!(gpu.judge(), Gpu::NotReady(_)))
    }

    fn warnings(&self, expected: Option<u32>, count: u32) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(expected) = expected
            && count > expected
        {
            warnings.push(format!("{count} GPUs answer, {expected} were expected"));
        }
        for gpu in &self.gpus {
            let faults = gpu.fabric.map(|fabric| fabric.health.faults()).unwrap_or_default();
            if !faults.is_empty() {
                let uuid = if gpu.uuid.is_empty() { String::new() } else { format!(" ({})", gpu.uuid) };
                warnings.push(format!("GPU {}{uuid}: {}", gpu.index, faults.join(", ")));
            }
        }
        warnings
    }
}

/// The GPUs with a fault or without an answer yet, in words; `None` when there are none.
fn unusable(judged: &[(u32, Gpu)]) -> Option<String> {
    let faults: Vec<String> = judged
        .iter()
        .filter_map(|(index, gpu)| match gpu {
            Gpu::Fault(why) => Some(format!("GPU {index}: {why}")),
            _ => None,
        })
        .collect();
    if !faults.is_empty() {
        return Some(faults.join("; "));
    }
    let waiting: Vec<String> = judged
        .iter()
        .filter_map(|(index, gpu)| match gpu {
            Gpu::NotReady(why) => Some(format!("GPU {index}: {why}")),
            _ => None,
        })
        .collect();
    (!waiting.is_empty()).then(|| {
        format!(
            "fabric not ready, the fabric manager or a switch has not assigned a partition: {}",
            waiting.join("; ")
        )
    })
}

fn no_fabric_words(judged: &[(u32, Gpu)]) -> String {
    let mut reasons: Vec<&str> = Vec::new();
    for (_, gpu) in judged {
        if let Gpu::NoFabric(why) = gpu
            && !reasons.contains(why)
        {
            reasons.push(why);
        }
    }
    if reasons.is_empty() {
        "no GPU".to_owned()
    } else {
        format!("no multi-node NVLink: {}", reasons.join(", "))
    }
}

fn pairs(judged: &[(u32, Gpu)]) -> String {
    let words: Vec<String> = judged
        .iter()
        .map(|(index, gpu)| match gpu {
            Gpu::Member(id) => format!("GPU {index} -> {id}"),
            Gpu::NoFabric(why) => format!("GPU {index} -> none ({why})"),
            Gpu::NotReady(why) | Gpu::Fault(why) => format!("GPU {index} -> {why}"),
        })
        .collect();
    words.join(", ")
}

#[cfg(test)]
mod tests;
