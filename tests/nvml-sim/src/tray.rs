//! What the simulated library knows: whether it is initialised, and the settings file.
#![forbid(unsafe_code)]

use crate::code::Code;
use crate::layout::{
    FABRIC_V2, FABRIC_V3, FabricInfoV1, FabricInfoV2, FabricInfoV3, PLATFORM_V2, PlatformInfoV2,
};
use sim::nvml::{FabricApi, Gpu, Settings};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How often `nvmlInit_v2` worked without `nvmlShutdown`; NVML counts the same way.
static INITIALISED: AtomicU32 = AtomicU32::new(0);

/// A fabric answer in the form that was asked for.
#[derive(Debug, Clone, Copy)]
pub enum FabricAnswer {
    /// Version word 0x02000024.
    V2(FabricInfoV2),
    /// Version word 0x03000028.
    V3(FabricInfoV3),
}

/// Starts the library: waits and fails as the settings say.
///
/// # Errors
/// The configured error, or "unknown" for an unreadable settings file.
pub fn init() -> Result<(), Code> {
    let settings = read()?;
    #[expect(
        clippy::disallowed_methods,
        reason = "the configured time that a slow driver takes, not a wait"
    )]
    std::thread::sleep(Duration::from_millis(settings.init_delay_ms));
    if let Some(code) = settings.init_error {
        return Err(Code(code));
    }
    INITIALISED.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

/// Ends one use of the library.
///
/// # Errors
/// It was not initialised.
pub fn shutdown() -> Result<(), Code> {
    INITIALISED
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1))
        .map(|_| ())
        .map_err(|_| Code::UNINITIALIZED)
}

/// The settings, for a call that needs the library initialised.
///
/// # Errors
/// Not initialised, or the settings file is unreadable (the reason goes to stderr).
pub fn settings() -> Result<Settings, Code> {
    if INITIALISED.load(Ordering::SeqCst) == 0 {
        return Err(Code::UNINITIALIZED);
    }
    read()
}

/// The settings, whether initialised or not.
///
/// # Errors
/// The settings file is unreadable.
pub fn read() -> Result<Settings, Code> {
    Settings::load(&sim::dir()).map_err(|error| {
        eprintln!("libnvidia-ml (simulated): {error}");
        Code::UNKNOWN
    })
}

/// The version of the library itself.
pub fn library_version(settings: &Settings) -> String {
    format!("13.{}-simulated", settings.driver_version)
}

/// The GPU with this index.
///
/// # Errors
/// There is none.
pub fn gpu(settings: &Settings, index: usize) -> Result<&Gpu, Code> {
    settings.gpus.get(index).ok_or(Code::INVALID_ARGUMENT)
}

/// Answer of the unversioned fabric query.
///
/// # Errors
/// The form is not offered, or the GPU is set to fail.
pub fn fabric_v1(settings: &Settings, index: usize) -> Result<FabricInfoV1, Code> {
    let gpu = gpu(settings, index)?;
    if !settings.fabric_api.contains(&FabricApi::V1) {
        return Err(Code::FUNCTION_NOT_FOUND);
    }
    if let Some(code) = gpu.fabric_error {
        return Err(Code(code));
    }
    let fabric = &gpu.fabric;
    Ok(FabricInfoV1 {
        cluster_uuid: fabric.cluster_uuid_bytes(),
        status: fabric.status,
        clique_id: fabric.clique_id,
        state: fabric.state,
    })
}

/// Answer of the versioned fabric query.
///
/// # Errors
/// The version is not offered (25, or 13 when no version is), or the GPU is set to fail.
pub fn fabric_v(settings: &Settings, index: usize, version: u32) -> Result<FabricAnswer, Code> {
    let gpu = gpu(settings, index)?;
    let offers = |api| settings.fabric_api.contains(&api);
    if !offers(FabricApi::V2) && !offers(FabricApi::V3) {
        return Err(Code::FUNCTION_NOT_FOUND);
    }
    let fabric = &gpu.fabric;
    let answer = match version {
        FABRIC_V2 if offers(FabricApi::V2) => FabricAnswer::V2(FabricInfoV2 {
            version,
            cluster_uuid: fabric.cluster_uuid_bytes(),
            status: fabric.status,
            clique_id: fabric.clique_id,
            state: fabric.state,
            health_mask: fabric.health_mask,
        }),
        FABRIC_V3 if offers(FabricApi::V3) => FabricAnswer::V3(FabricInfoV3 {
            version,
            cluster_uuid: fabric.cluster_uuid_bytes(),
            status: fabric.status,
            clique_id: fabric.clique_id,
            state: fabric.state,
            health_mask: fabric.health_mask,
            health_summary: fabric.health_summary,
        }),
        _ => return Err(Code::ARGUMENT_VERSION_MISMATCH),
    };
    match gpu.fabric_error {
        Some(code) => Err(Code(code)),
        None => Ok(answer),
    }
}

/// Answer of the platform query.
///
/// # Errors
/// Another version than 2 was asked for, or the settings name no platform.
pub fn platform(settings: &Settings, index: usize, version: u32) -> Result<PlatformInfoV2, Code> {
    gpu(settings, index)?;
    if version != PLATFORM_V2 {
        return Err(Code::ARGUMENT_VERSION_MISMATCH);
    }
    let platform = settings.platform.as_ref().ok_or(Code::NOT_SUPPORTED)?;
    let mut serial = [0; 16];
    for (to, from) in serial.iter_mut().take(15).zip(platform.chassis_serial.bytes()) {
        *to = from;
    }
    Ok(PlatformInfoV2 {
        version,
        ib_guid: [0; 16],
        chassis_serial_number: serial,
        slot_number: platform.slot_number,
        tray_index: platform.tray_index,
        host_id: platform.host_id,
        peer_type: 1,
        module_id: u8::try_from(index + 1).unwrap_or(u8::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim::nvml::Platform;

    fn offering(fabric_api: &[FabricApi]) -> Settings {
        Settings { fabric_api: fabric_api.to_vec(), ..Settings::default() }
    }

    #[test]
    fn versions_that_are_not_offered_are_refused_as_an_old_driver_refuses_them() {
        let v2_only = offering(&[FabricApi::V1, FabricApi::V2]);
        assert_eq!(fabric_v(&v2_only, 0, FABRIC_V3).unwrap_err(), Code::ARGUMENT_VERSION_MISMATCH);
        assert!(matches!(fabric_v(&v2_only, 0, FABRIC_V2), Ok(FabricAnswer::V2(_))));
        let v1_only = offering(&[FabricApi::V1]);
        assert_eq!(fabric_v(&v1_only, 0, FABRIC_V2).unwrap_err(), Code::FUNCTION_NOT_FOUND);
        assert!(fabric_v1(&v1_only, 0).is_ok());
        let current = offering(&[FabricApi::V3]);
        assert_eq!(fabric_v1(&current, 0).unwrap_err(), Code::FUNCTION_NOT_FOUND);
        assert_eq!(fabric_v(&current, 0, 0x0400_0028).unwrap_err(), Code::ARGUMENT_VERSION_MISMATCH);
    }

    #[test]
    fn a_gpu_set_to_fail_fails_and_its_neighbour_does_not() {
        let mut settings = Settings::default();
        settings.gpus[1].fabric_error = Some(15);
        assert_eq!(fabric_v(&settings, 1, FABRIC_V3).unwrap_err(), Code(15));
        assert_eq!(fabric_v1(&settings, 1).unwrap_err(), Code(15));
        assert!(fabric_v(&settings, 0, FABRIC_V3).is_ok());
        assert_eq!(fabric_v(&settings, 4, FABRIC_V3).unwrap_err(), Code::INVALID_ARGUMENT);
    }

    #[test]
    fn platform_is_answered_only_where_it_is_set() {
        let mut settings = Settings::default();
        assert_eq!(platform(&settings, 0, PLATFORM_V2).unwrap_err(), Code::NOT_SUPPORTED);
        settings.platform = Some(Platform {
            chassis_serial: "1234567890123".to_owned(),
            tray_index: 7,
            ..Platform::default()
        });
        let info = platform(&settings, 3, PLATFORM_V2).unwrap();
        assert_eq!(&info.chassis_serial_number, b"1234567890123\0\0\0");
        assert_eq!((info.tray_index, info.module_id), (7, 4));
    }
}
