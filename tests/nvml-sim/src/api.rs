//! The C functions of the simulated library.
//!
//! Names and signatures are those of NVML 13; a device handle is the GPU's index plus one, never a pointer
//! to anything. Common contract of every function here, as in NVML: each pointer argument is null (answered
//! with "invalid argument") or points to writable memory of the documented type that nobody else uses during
//! the call.

use crate::code::Code;
use crate::layout::{FabricInfoV1, PlatformInfoV2};
use crate::tray;
use crate::wall::guard;
use std::ffi::{c_char, c_uint, c_void};

/// An `nvmlDevice_t`.
pub type Device = *mut c_void;

/// Starts the library, with the delay and the error that the settings name.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVML's name")]
pub extern "C" fn nvmlInit_v2() -> c_uint {
    guard(tray::init)
}

/// As [`nvmlInit_v2`]; the flags make no difference here.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVML's name")]
pub extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> c_uint {
    guard(tray::init)
}

/// Ends one use of the library.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVML's name")]
pub extern "C" fn nvmlShutdown() -> c_uint {
    guard(tray::shutdown)
}

/// The text of a return code; static, never null.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVML's name")]
pub extern "C" fn nvmlErrorString(code: c_uint) -> *const c_char {
    Code(code).text().as_ptr()
}

/// Driver version of the settings.
///
/// # Safety
/// `version` is null or writable for `length` bytes.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVML's name")]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> c_uint {
    guard(|| {
        let settings = tray::settings()?;
        // SAFETY: the caller's promise about `version` and `length` is the one `put_text` asks for.
        unsafe { put_text(version, length, &settings.driver_version) }
    })
}

/// Library version: "13.", the driver version, "-simulated".
///
/// # Safety
/// `version` is null or writable for `length` bytes.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVML's name")]
pub unsafe extern "C" fn nvmlSystemGetNVMLVersion(version: *mut c_char, length: c_uint) -> c_uint {
    guard(|| {
        let text = tray::library_version(&tray::read()?);
        // SAFETY: the caller's promise about `version` and `length` is the one `put_text` asks for.
        unsafe { put_text(version, length, &text) }
    })
}

/// Number of GPUs.
///
/// # Safety
/// `count` is null or writable.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVML's name")]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> c_uint {
    guard(|| {
        let gpus = tray::settings()?.gpus.len();
        // SAFETY: the caller's promise about `count` is the one `put` asks for.
        unsafe { put(count, c_uint::try_from(gpus).map_err(|_| Code::UNKNOWN)?) }
    })
}

/// Handle of the GPU with this index.
///
/// # Safety
/// `device` is null or writable.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVML's name")]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut Device) -> c_uint {
    guard(|| {
        let index = usize::try_from(index).map_err(|_| Code::INVALID_ARGUMENT)?;
        tray::gpu(&tray::settings()?, index)?;
        // SAFETY: the caller's promise about `device` is the one `put` asks for.
        unsafe { put(device, std::ptr::without_provenance_mut(index + 1)) }
    })
}

/// Index of a GPU.
///
/// # Safety
/// `index` is null or writable. `device` is not followed, so any value is safe.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVML's name")]
pub unsafe extern "C" fn nvmlDeviceGetIndex(device: Device, index: *mut c_uint) -> c_uint {
    guard(|| {
        let found = position(device)?;
        tray::gpu(&tray::settings()?, found)?;
        // SAFETY: the caller's promise about `index` is the one `put` asks for.
        unsafe { put(index, c_uint::try_from(found).map_err(|_| Code::UNKNOWN)?) }
    })
}

/// Product name of a GPU.
///
/// # Safety
/// `name` is null or writable for `length` bytes. `device` is not followed.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVML's name")]
pub unsafe extern "C" fn nvmlDeviceGetName(device: Device, name: *mut c_char, length: c_uint) -> c_uint {
    guard(|| {
        let settings = tray::settings()?;
        let gpu = tray::gpu(&settings, position(device)?)?;
        // SAFETY: the caller's promise about `name` and `length` is the one `put_text` asks for.
        unsafe { put_text(name, length, &gpu.name) }
    })
}

/// UUID of a GPU as text.
///
/// # Safety
/// `uuid` is null or writable for `length` bytes. `device` is not followed.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVML's name")]
pub unsafe extern "C" fn nvmlDeviceGetUUID(device: Device, uuid: *mut c_char, length: c_uint) -> c_uint {
    guard(|| {
        let settings = tray::settings()?;
        let gpu = tray::gpu(&settings, position(device)?)?;
        // SAFETY: the caller's promise about `uuid` and `length` is the one `put_text` asks for.
        unsafe { put_text(uuid, length, &gpu.uuid) }
    })
}

/// Fabric query, version 1.
///
/// # Safety
/// `info` is null or writable. `device` is not followed.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVML's name")]
pub unsafe extern "C" fn nvmlDeviceGetGpuFabricInfo(device: Device, info: *mut FabricInfoV1) -> c_uint {
    guard(|| {
        let answer = tray::fabric_v1(&tray::settings()?, position(device)?)?;
        // SAFETY: the caller's promise about `info` is the one `put` asks for.
        unsafe { put(info, answer) }
    })
}

/// Platform query, version 2.
///
/// # Safety
/// `info` is null, or points to a structure whose first member `version` is set and which is as long as that
/// version says. `device` is not followed.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVML's name")]
pub unsafe extern "C" fn nvmlDeviceGetPlatformInfo(device: Device, info: *mut PlatformInfoV2) -> c_uint {
    guard(|| {
        // SAFETY: every form of the structure begins with `version`, which the caller has set.
        let version = unsafe { get_version(info.cast()) }?;
        let answer = tray::platform(&tray::settings()?, position(device)?, version)?;
        // SAFETY: `version` was checked to be 2, so the caller's structure has the 44 bytes of that form.
        unsafe { put(info, answer) }
    })
}

/// Index behind a handle.
pub(crate) fn position(device: Device) -> Result<usize, Code> {
    device.addr().checked_sub(1).ok_or(Code::INVALID_ARGUMENT)
}

/// Reads the version word at the head of a structure.
///
/// # Safety
/// `version` is null or readable and aligned.
pub(crate) unsafe fn get_version(version: *const u32) -> Result<u32, Code> {
    if version.is_null() {
        return Err(Code::INVALID_ARGUMENT);
    }
    // SAFETY: not null, and readable by this function's contract.
    Ok(unsafe { version.read() })
}

/// Writes one value where the caller wants it.
///
/// # Safety
/// `to` is null or writable and aligned.
pub(crate) unsafe fn put<T>(to: *mut T, value: T) -> Result<(), Code> {
    if to.is_null() {
        return Err(Code::INVALID_ARGUMENT);
    }
    // SAFETY: not null, and writable by this function's contract; `T` here has no destructor to skip.
    unsafe { to.write(value) };
    Ok(())
}

/// Writes `text` and a NUL.
///
/// # Safety
/// `to` is null or writable for `length` bytes.
unsafe fn put_text(to: *mut c_char, length: c_uint, text: &str) -> Result<(), Code> {
    if to.is_null() {
        return Err(Code::INVALID_ARGUMENT);
    }
    let length = usize::try_from(length).map_err(|_| Code::INVALID_ARGUMENT)?;
    if text.len() >= length {
        return Err(Code::INSUFFICIENT_SIZE);
    }
    // SAFETY: `to` is writable for `length` bytes and `text` is shorter than that.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), to.cast(), text.len()) };
    // SAFETY: `text.len() < length`, so the byte after the text is still the caller's buffer.
    unsafe { put(to.wrapping_add(text.len()), 0) }
}
