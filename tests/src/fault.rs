//! Faults of simulated trays: what can go wrong, and how each shows in the simulators' settings.
//!
//! Several faults may act on a node at once. The settings are made afresh from the healthy ones and all acting
//! faults each time, so that ending one never leaves a trace and never ends another.
#![forbid(unsafe_code)]

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sim::{imex, nvml};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// the IMEX daemon dies (after --ms, default 0)
    ImexDie,
    /// the IMEX daemon runs and never becomes READY
    ImexHang,
    /// the IMEX daemon accepts connections and answers nobody
    ImexFreeze,
    /// the IMEX daemon does not start
    ImexRefuse,
    /// the IMEX daemon needs --ms to start (default 5000)
    ImexSlowStart,
    /// the IMEX daemon needs --ms to end (default 2000)
    ImexSlowStop,
    /// the IMEX daemon does not react to SIGTERM
    ImexIgnoreSigterm,
    /// nvidia-imex-ctl never returns
    CtlHang,
    /// nvidia-imex-ctl prints nonsense
    CtlGarbage,
    /// something else holds the IMEX daemon's port
    PortTaken,
    /// NVML: the fabric probe has not begun
    FabricNotStarted,
    /// NVML: the fabric side has not yet assigned the NVLink partition
    FabricInProgress,
    /// NVML: the tray shows another NVLink partition than before
    WrongClique,
    /// NVML: the last GPU shows another NVLink partition than the others
    GpuDisagrees,
    /// NVML: member of its NVLink partition with degraded bandwidth
    Degraded,
    /// the NVML library is not there
    NvmlMissing,
    /// the node's network is cut
    Unreachable,
    /// slurmd is killed (SIGKILL); healing starts it
    SlurmdKill,
}

/// A fault with its numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// Milliseconds, where the kind takes them; absent: the kind's default.
    pub ms: Option<u64>,
}

/// Port of the IMEX daemon's peer service (IMEX guide: SERVER_PORT).
pub const IMEX_PORT: u16 = 50000;

/// Added to the clique of a tray or GPU that shows the wrong one.
const CLIQUE_OFFSET: u32 = 7;
/// Health mask with "degraded bandwidth" true, the other fields as on a healthy GPU (NVML 13: bits 0-1, 1 = true).
const DEGRADED_MASK: u32 = (nvml::HEALTHY_MASK & !0b11) | 0b01;
/// Health summary "unhealthy" (NVML 13).
const UNHEALTHY: u8 = 2;

impl FaultKind {
    /// The name as people type it.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

impl Fault {
    /// A fault with its default numbers.
    pub fn new(kind: FaultKind) -> Self {
        Self { kind, ms: None }
    }
}

/// What the simulated NVML library shows under these faults.
pub fn nvml_settings(healthy: &nvml::Settings, faults: &[Fault]) -> nvml::Settings {
    let mut settings = healthy.clone();
    let unassigned = |state: u8| nvml::Fabric {
        cluster_uuid: "00000000-0000-0000-0000-000000000000".to_owned(),
        clique_id: 0,
        state,
        ..nvml::Fabric::default()
    };
    for fault in faults {
        match fault.kind {
            FaultKind::FabricNotStarted => {
                settings.gpus.iter_mut().for_each(|gpu| gpu.fabric = unassigned(nvml::state::NOT_STARTED));
            }
            FaultKind::FabricInProgress => {
                settings.gpus.iter_mut().for_each(|gpu| gpu.fabric = unassigned(nvml::state::IN_PROGRESS));
            }
            FaultKind::WrongClique => settings.gpus.iter_mut().for_each(show_another_clique),
            FaultKind::GpuDisagrees => settings.gpus.last_mut().into_iter().for_each(show_another_clique),
            FaultKind::Degraded => settings.gpus.iter_mut().for_each(|gpu| {
                gpu.fabric.health_mask = DEGRADED_MASK;
                gpu.fabric.health_summary = UNHEALTHY;
            }),
            _ => {}
        }
    }
    settings
}

fn show_another_clique(gpu: &mut nvml::Gpu) {
    gpu.fabric.clique_id = gpu.fabric.clique_id.wrapping_add(CLIQUE_OFFSET);
}

/// How the simulated IMEX daemon and its control tool behave under these faults; of several that contradict each
/// other the latest counts, and a slow end goes with any of them.
pub fn imex_settings(faults: &[Fault]) -> imex::Settings {
    let of = |fault: &Fault| match fault.kind {
        FaultKind::ImexDie => Some(imex::Fault::Die { after_ms: fault.ms.unwrap_or(0) }),
        FaultKind::ImexHang => Some(imex::Fault::Hang {}),
        FaultKind::ImexFreeze => Some(imex::Fault::Freeze {}),
        FaultKind::ImexRefuse => Some(imex::Fault::Refuse { message: String::new() }),
        FaultKind::ImexSlowStart => Some(imex::Fault::SlowStart { delay_ms: fault.ms.unwrap_or(5_000) }),
        FaultKind::ImexIgnoreSigterm => Some(imex::Fault::IgnoreSigterm {}),
        FaultKind::CtlHang => Some(imex::Fault::CtlHang {}),
        FaultKind::CtlGarbage => Some(imex::Fault::CtlGarbage {}),
        FaultKind::PortTaken => Some(imex::Fault::PortTaken {}),
        _ => None,
    };
    let slow_stop =
        |fault: &Fault| (fault.kind == FaultKind::ImexSlowStop).then(|| fault.ms.unwrap_or(2_000));
    imex::Settings {
        fault: faults.iter().rev().find_map(of),
        shutdown_delay_ms: faults.iter().rev().find_map(slow_stop).unwrap_or(0),
        ..imex::Settings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> nvml::Settings {
        nvml::Settings::tray(3, 4, &nvml::Fabric::default())
    }

    #[test]
    fn no_fault_is_the_healthy_tray() {
        assert_eq!(nvml_settings(&healthy(), &[]), healthy());
        assert_eq!(imex_settings(&[]), imex::Settings::default());
    }

    #[test]
    fn two_fabric_faults_act_together() {
        let faults = [FaultKind::Degraded, FaultKind::GpuDisagrees].map(Fault::new);
        let settings = nvml_settings(&healthy(), &faults);
        assert!(settings.gpus.iter().all(|gpu| gpu.fabric.health_summary == UNHEALTHY));
        let cliques: Vec<u32> = settings.gpus.iter().map(|gpu| gpu.fabric.clique_id).collect();
        assert_eq!(cliques, [32766, 32766, 32766, 32773]);
        assert_eq!(DEGRADED_MASK, 0x1a9);
    }

    #[test]
    fn an_unassigned_fabric_shows_no_identity() {
        let settings = nvml_settings(&healthy(), &[Fault::new(FaultKind::FabricInProgress)]);
        assert!(
            settings
                .gpus
                .iter()
                .all(|gpu| gpu.fabric.state == 2 && gpu.fabric.cluster_uuid_bytes() == [0; 16])
        );
    }

    #[test]
    fn the_latest_daemon_fault_counts_and_the_earlier_one_comes_back() {
        let faults = [
            Fault::new(FaultKind::ImexHang),
            Fault { kind: FaultKind::ImexSlowStart, ms: Some(70) },
            Fault::new(FaultKind::Degraded),
        ];
        assert_eq!(imex_settings(&faults).fault, Some(imex::Fault::SlowStart { delay_ms: 70 }));
        assert_eq!(imex_settings(&faults[..1]).fault, Some(imex::Fault::Hang {}));
    }

    #[test]
    fn a_slow_end_goes_with_another_fault() {
        let slow = Fault { kind: FaultKind::ImexSlowStop, ms: Some(9) };
        let settings = imex_settings(&[slow, Fault::new(FaultKind::ImexHang)]);
        assert_eq!((settings.fault, settings.shutdown_delay_ms), (Some(imex::Fault::Hang {}), 9));
    }

    #[test]
    fn names_are_the_same_on_the_command_line_and_in_profiles() {
        for kind in FaultKind::value_variants() {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
