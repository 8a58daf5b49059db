//! The versioned fabric query, in a module of its own: the library of an old driver does not have this symbol, and
//! with the feature `without-fabric-v` neither has this one.

use crate::api::{Device, get_version, position, put};
use crate::layout::FabricInfoV3;
use crate::tray::{self, FabricAnswer};
use crate::wall::guard;
use std::ffi::c_uint;

/// Fabric query, versions 2 and 3.
///
/// # Safety
/// `info` is null, or points to a structure whose first member `version` is set and which is as long as that
/// version says (36 or 40 bytes). `device` is not followed.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVML's name")]
pub unsafe extern "C" fn nvmlDeviceGetGpuFabricInfoV(device: Device, info: *mut FabricInfoV3) -> c_uint {
    guard(|| {
        // SAFETY: every form of the structure begins with `version`, which the caller has set.
        let version = unsafe { get_version(info.cast()) }?;
        match tray::fabric_v(&tray::settings()?, position(device)?, version)? {
            // SAFETY: `version` said 2, so the caller's structure has the 36 bytes of that form.
            FabricAnswer::V2(answer) => unsafe { put(info.cast(), answer) },
            // SAFETY: `version` said 3, so the caller's structure has all 40 bytes.
            FabricAnswer::V3(answer) => unsafe { put(info, answer) },
        }
    })
}
