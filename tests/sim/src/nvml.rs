//! Settings of the simulated NVML library: the GPUs of one tray and what their fabric query answers.
#![forbid(unsafe_code)]

use crate::{DEFAULT_VERSION, store};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// Name of the settings file inside the settings directory.
pub const FILE: &str = "nvml.json";

/// Fabric states as NVML 13 numbers them.
pub mod state {
    /// No fabric on this GPU.
    pub const NOT_SUPPORTED: u8 = 0;
    /// The fabric probe has not begun.
    pub const NOT_STARTED: u8 = 1;
    /// Waiting for the switch side to assign the partition.
    pub const IN_PROGRESS: u8 = 2;
    /// The probe ended; the status says how.
    pub const COMPLETED: u8 = 3;
}

/// What a healthy Blackwell GPU shows in its health mask: four times "false", configuration "none".
pub const HEALTHY_MASK: u32 = 0x1aa;

/// Clique id that NVSwitch firmware gives the default partition of a GB200 or GB300 rack.
pub const DEFAULT_CLIQUE: u32 = 32766;

/// Cluster UUID of a tray without a settings file.
pub const DEFAULT_CLUSTER_UUID: &str = "51a7ed00-0000-4000-8000-000000000001";

/// One simulated tray as NVML shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Driver version, also the version the IMEX daemon compares its own with.
    pub driver_version: String,
    /// Milliseconds that `nvmlInit_v2` takes (a driver that loads, or hangs).
    pub init_delay_ms: u64,
    /// `nvmlInit_v2` fails with this `nvmlReturn_t`, for example 9 (driver not loaded) or 999 (unknown).
    pub init_error: Option<u32>,
    /// Forms of the fabric query that this driver answers. Others give an argument-version error (25);
    /// without v2 and v3 the versioned call is "function not found" (13), and so is v1 when not listed.
    pub fabric_api: Vec<FabricApi>,
    /// The GPUs, in index order.
    pub gpus: Vec<Gpu>,
    /// Where the tray sits; absent: the platform query is not supported.
    pub platform: Option<Platform>,
}

/// A form of NVML's fabric query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FabricApi {
    /// `nvmlDeviceGetGpuFabricInfo`.
    V1,
    /// `nvmlDeviceGetGpuFabricInfoV` with version 0x02000024.
    V2,
    /// `nvmlDeviceGetGpuFabricInfoV` with version 0x03000028.
    V3,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gpu {
    /// Product name, under 96 bytes.
    pub name: String,
    /// `GPU-` and a dashed UUID, under 96 bytes.
    pub uuid: String,
    /// The answer of the fabric query.
    pub fabric: Fabric,
    /// The fabric query fails with this `nvmlReturn_t` instead, for example 3 (not supported) or 15 (lost).
    pub fabric_error: Option<u32>,
}

/// Answer of the fabric query for one GPU; every field goes out as it stands here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fabric {
    /// NVLink domain, 32 hexadecimal digits with or without dashes. Anything else is shown as all zero.
    pub cluster_uuid: String,
    /// NVLink partition inside the domain; the whole range of u32 is legal.
    pub clique_id: u32,
    /// One of [`state`].
    pub state: u8,
    /// `nvmlReturn_t` of the fabric probe; 0 is success.
    pub status: u32,
    /// Two-bit health fields (v2 and v3).
    pub health_mask: u32,
    /// 0 unsupported, 1 healthy, 2 unhealthy, 3 limited capacity (v3).
    pub health_summary: u8,
}

/// Answer of `nvmlDeviceGetPlatformInfo` (v2) for every GPU of the tray.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Platform {
    /// Serial number of the rack's chassis, at most 15 characters.
    pub chassis_serial: String,
    /// Physical slot of the tray.
    pub slot_number: u8,
    /// Index of the tray among the compute trays.
    pub tray_index: u8,
    /// Index of the OS instance in the tray.
    pub host_id: u8,
}

impl Default for Fabric {
    fn default() -> Self {
        Self {
            cluster_uuid: DEFAULT_CLUSTER_UUID.to_owned(),
            clique_id: DEFAULT_CLIQUE,
            state: state::COMPLETED,
            status: 0,
            health_mask: HEALTHY_MASK,
            health_summary: 1,
        }
    }
}

impl Default for Gpu {
    fn default() -> Self {
        Self {
            name: "NVIDIA GB200".to_owned(),
            uuid: "GPU-51a7ed00-0000-4000-8000-000000000000".to_owned(),
            fabric: Fabric::default(),
            fabric_error: None,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::tray(0, 4, &Fabric::default())
    }
}

impl Settings {
    /// A healthy tray: `gpus` GPUs that all show `fabric`. `tray` makes their UUIDs differ from other trays'.
    pub fn tray(tray: u32, gpus: u32, fabric: &Fabric) -> Self {
        let gpu = |index: u32| Gpu {
            uuid: format!("GPU-51a7ed00-0000-4000-8000-{tray:08x}{index:04x}"),
            fabric: fabric.clone(),
            ..Gpu::default()
        };
        Self {
            driver_version: DEFAULT_VERSION.to_owned(),
            init_delay_ms: 0,
            init_error: None,
            fabric_api: vec![FabricApi::V1, FabricApi::V2, FabricApi::V3],
            gpus: (0..gpus).map(gpu).collect(),
            platform: None,
        }
    }

    /// Reads `nvml.json` in `dir`; an absent file gives the default tray.
    ///
    /// # Errors
    /// The file exists and cannot be read or understood.
    pub fn load(dir: &Path) -> io::Result<Self> {
        store::load(dir, FILE)
    }

    /// Replaces `nvml.json` in `dir` in one step.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, dir: &Path) -> io::Result<()> {
        store::save(self, dir, FILE)
    }
}

impl Fabric {
    /// The cluster UUID as the 16 bytes that NVML hands out; all zero when the text is no UUID.
    pub fn cluster_uuid_bytes(&self) -> [u8; 16] {
        let digits: String = self.cluster_uuid.chars().filter(|c| *c != '-').collect();
        match u128::from_str_radix(&digits, 16) {
            Ok(value) if digits.len() == 32 => value.to_be_bytes(),
            _ => [0; 16],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_file_is_a_healthy_tray_of_four() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::load(dir.path()).unwrap();
        assert_eq!(settings.gpus.len(), 4);
        assert!(settings.gpus.iter().all(|gpu| gpu.fabric.state == state::COMPLETED));
        assert_ne!(settings.gpus[0].uuid, settings.gpus[3].uuid);
    }

    #[test]
    fn what_was_saved_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::tray(7, 2, &Fabric { clique_id: u32::MAX, ..Fabric::default() });
        settings.init_error = Some(9);
        settings.fabric_api = vec![FabricApi::V2];
        settings.save(dir.path()).unwrap();
        assert_eq!(Settings::load(dir.path()).unwrap(), settings);
    }

    #[test]
    fn a_misspelt_key_is_an_error_and_not_a_healthy_tray() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), r#"{"init_eror": 9}"#).unwrap();
        let text = Settings::load(dir.path()).unwrap_err().to_string();
        assert!(text.contains("nvml.json") && text.contains("init_eror"), "{text}");
    }

    #[test]
    fn cluster_uuid_is_big_endian_and_nonsense_is_zero() {
        let with = |text: &str| Fabric { cluster_uuid: text.to_owned(), ..Fabric::default() };
        let bytes = with("00112233-4455-6677-8899-aabbccddeeff").cluster_uuid_bytes();
        assert_eq!(bytes[..4], [0x00, 0x11, 0x22, 0x33]);
        assert_eq!(bytes[15], 0xff);
        assert_eq!(with("N/A").cluster_uuid_bytes(), [0; 16]);
        assert_eq!(with("1234").cluster_uuid_bytes(), [0; 16]);
    }
}
