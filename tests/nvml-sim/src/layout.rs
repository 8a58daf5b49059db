//! The structures that callers of NVML 13 hand in, byte for byte.
#![forbid(unsafe_code)]

/// `version` of a version 2 fabric query: number in the top byte, size below.
pub const FABRIC_V2: u32 = 0x0200_0024;
/// `version` of a version 3 fabric query.
pub const FABRIC_V3: u32 = 0x0300_0028;
/// `version` of a version 2 platform query.
pub const PLATFORM_V2: u32 = 0x0200_002c;

/// `nvmlGpuFabricInfo_t`, deprecated in NVML 13.0.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct FabricInfoV1 {
    /// NVLink domain.
    pub cluster_uuid: [u8; 16],
    /// `nvmlReturn_t` of the fabric probe.
    pub status: u32,
    /// NVLink partition.
    pub clique_id: u32,
    /// Fabric state.
    pub state: u8,
}

/// `nvmlGpuFabricInfo_v2_t`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct FabricInfoV2 {
    /// [`FABRIC_V2`].
    pub version: u32,
    /// NVLink domain.
    pub cluster_uuid: [u8; 16],
    /// `nvmlReturn_t` of the fabric probe.
    pub status: u32,
    /// NVLink partition.
    pub clique_id: u32,
    /// Fabric state.
    pub state: u8,
    /// Two-bit health fields.
    pub health_mask: u32,
}

/// `nvmlGpuFabricInfo_v3_t`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct FabricInfoV3 {
    /// [`FABRIC_V3`].
    pub version: u32,
    /// NVLink domain.
    pub cluster_uuid: [u8; 16],
    /// `nvmlReturn_t` of the fabric probe.
    pub status: u32,
    /// NVLink partition.
    pub clique_id: u32,
    /// Fabric state.
    pub state: u8,
    /// Two-bit health fields.
    pub health_mask: u32,
    /// Health in one word.
    pub health_summary: u8,
}

/// `nvmlPlatformInfo_v2_t`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct PlatformInfoV2 {
    /// [`PLATFORM_V2`].
    pub version: u32,
    /// InfiniBand GUID, zero here.
    pub ib_guid: [u8; 16],
    /// Serial number of the chassis, NUL padded.
    pub chassis_serial_number: [u8; 16],
    /// Physical slot.
    pub slot_number: u8,
    /// Index of the tray.
    pub tray_index: u8,
    /// Index of the OS instance in the tray.
    pub host_id: u8,
    /// 1: reached over a switch.
    pub peer_type: u8,
    /// Index of the GPU's module in the tray.
    pub module_id: u8,
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvml_wrapper_sys::bindings as nvml;
    use std::mem::{offset_of, size_of};

    #[test]
    fn sizes_and_offsets_are_those_of_nvml_13() {
        assert_eq!(size_of::<FabricInfoV1>(), 28);
        assert_eq!(size_of::<FabricInfoV2>(), 36);
        assert_eq!(size_of::<FabricInfoV3>(), 40);
        assert_eq!(size_of::<PlatformInfoV2>(), 44);
        assert_eq!(offset_of!(FabricInfoV3, cluster_uuid), 4);
        assert_eq!(offset_of!(FabricInfoV3, status), 20);
        assert_eq!(offset_of!(FabricInfoV3, clique_id), 24);
        assert_eq!(offset_of!(FabricInfoV3, state), 28);
        assert_eq!(offset_of!(FabricInfoV3, health_mask), 32);
        assert_eq!(offset_of!(FabricInfoV3, health_summary), 36);
    }

    #[test]
    fn sizes_agree_with_the_bindings_that_programs_use() {
        assert_eq!(size_of::<FabricInfoV1>(), size_of::<nvml::nvmlGpuFabricInfo_t>());
        assert_eq!(size_of::<FabricInfoV2>(), size_of::<nvml::nvmlGpuFabricInfo_v2_t>());
        assert_eq!(size_of::<FabricInfoV3>(), size_of::<nvml::nvmlGpuFabricInfo_v3_t>());
        assert_eq!(size_of::<PlatformInfoV2>(), size_of::<nvml::nvmlPlatformInfo_v2_t>());
        assert_eq!(
            offset_of!(FabricInfoV2, health_mask),
            offset_of!(nvml::nvmlGpuFabricInfo_v2_t, healthMask)
        );
        assert_eq!(offset_of!(PlatformInfoV2, module_id), offset_of!(nvml::nvmlPlatformInfo_v2_t, moduleId));
    }

    #[test]
    fn version_words_carry_the_sizes() {
        let word = |number: usize, size: usize| u32::try_from(number << 24 | size).unwrap();
        assert_eq!(FABRIC_V2, word(2, size_of::<FabricInfoV2>()));
        assert_eq!(FABRIC_V3, word(3, size_of::<FabricInfoV3>()));
        assert_eq!(PLATFORM_V2, word(2, size_of::<PlatformInfoV2>()));
    }
}
