//! Reads a tray's fabric ids through NVML. The only unsafe code of this crate.
//!
//! The library is loaded when asked for, so a machine without a driver can run the program and gets a clear error.
//! The fabric query has three versions (NVML 13, `nvmlDeviceGetGpuFabricInfo` and `...InfoV`); the newest one that the
//! driver knows is used.

use std::error::Error;

use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings as sys;

use crate::identity::{DomainId, PartitionId};
use crate::reading::{FabricHealth, GpuFabric, GpuReading, TrayReading};

/// What of the NVML conversation failed. Sources are NVML's own words.
#[derive(Debug, thiserror::Error)]
pub enum NvmlError {
    /// `libnvidia-ml.so.1` is not there or cannot be loaded.
    #[error("cannot load libnvidia-ml.so.1")]
    Load {
        /// The loader's words.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The library is there but does not start.
    #[error("NVML does not start")]
    Init {
        /// NVML's words.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A question about the whole machine failed.
    #[error("NVML does not tell the {what}")]
    Ask {
        /// What was asked for.
        what: &'static str,
        /// NVML's words.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A question about one GPU failed.
    #[error("NVML does not tell the {what} of GPU {index}")]
    AskGpu {
        /// What was asked for.
        what: &'static str,
        /// NVML index.
        index: u32,
        /// NVML's words.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The fabric query of one GPU failed for another reason than "not supported".
    #[error("fabric query of GPU {index} ({uuid}) fails with NVML error {code}")]
    Fabric {
        /// NVML index.
        index: u32,
        /// GPU UUID.
        uuid: String,
        /// NVML return code.
        code: u32,
    },
}

impl NvmlError {
    /// What an operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Load { .. } => {
                "install the NVIDIA driver's NVML library on this node, or add its folder to the loader's path; on a \
                 node without GPUs there is nothing to read"
            }
            Self::Init { .. } => "check that the NVIDIA kernel driver is loaded: run nvidia-smi on this node",
            Self::Ask { .. } | Self::AskGpu { .. } => {
                "look for a lost GPU: run nvidia-smi and see the kernel log for Xid"
            }
            Self::Fabric { .. } => {
                "look at the Fabric section of nvidia-smi -q on this node and reset the GPU if it is lost"
            }
        }
    }
}

const SUCCESS: u32 = sys::nvmlReturn_enum_NVML_SUCCESS;
const INVALID_ARGUMENT: u32 = sys::nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT;
const NOT_SUPPORTED: u32 = sys::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED;
const FUNCTION_NOT_FOUND: u32 = sys::nvmlReturn_enum_NVML_ERROR_FUNCTION_NOT_FOUND;
const ARGUMENT_VERSION_MISMATCH: u32 = sys::nvmlReturn_enum_NVML_ERROR_ARGUMENT_VERSION_MISMATCH;

/// Version words of the query's structures: size in bytes, version in the top byte (NVML 13, nvml.h).
const VERSION_2: u32 = 0x0200_0024;
const VERSION_3: u32 = 0x0300_0028;

const _: () = {
    assert!(size_of::<sys::nvmlGpuFabricInfo_t>() == 28);
    assert!(size_of::<sys::nvmlGpuFabricInfo_v2_t>() == (VERSION_2 & 0xff_ffff) as usize);
    assert!(size_of::<sys::nvmlGpuFabricInfo_v3_t>() == (VERSION_3 & 0xff_ffff) as usize);
};

/// Reads all GPUs of this machine, once. Loading the driver can take seconds where it is not kept loaded.
///
/// # Errors
/// [`NvmlError`]; a GPU without a fabric query is not an error but a reading without fabric.
pub fn read_tray() -> Result<TrayReading, NvmlError> {
    let nvml = Nvml::init().map_err(|error| match error {
        nvml_wrapper::error::NvmlError::LibloadingError(_) => NvmlError::Load { source: error.into() },
        _ => NvmlError::Init { source: error.into() },
    })?;
    let ask =
        |what| move |error: nvml_wrapper::error::NvmlError| NvmlError::Ask { what, source: error.into() };
    let driver_version = nvml.sys_driver_version().map_err(ask("driver version"))?;
    let count = nvml.device_count().map_err(ask("number of GPUs"))?;
    let gpus = (0..count).map(|index| read_gpu(&nvml, index)).collect::<Result<_, _>>()?;
    Ok(TrayReading { driver_version, gpus })
}

fn read_gpu(nvml: &Nvml, index: u32) -> Result<GpuReading, NvmlError> {
    let ask = |what| {
        move |error: nvml_wrapper::error::NvmlError| NvmlError::AskGpu { what, index, source: error.into() }
    };
    let device = nvml.device_by_index(index).map_err(ask("handle"))?;
    let uuid = device.uuid().map_err(ask("UUID"))?;
    let name = device.name().map_err(ask("name"))?;
    let fabric =
        read_fabric(nvml, &device).map_err(|code| NvmlError::Fabric { index, uuid: uuid.clone(), code })?;
    Ok(GpuReading { index, uuid, name, fabric })
}

/// What one version of the query gave.
enum Answer {
    Fabric(GpuFabric),
    /// The driver does not have this version: try the one before. Holds the return code, if it was asked.
    OlderDriver(Option<u32>),
    /// The GPU has no fabric.
    NoFabric,
}

/// Asks with version 3, then 2, then 1. An error is NVML's return code.
fn read_fabric(nvml: &Nvml, device: &Device<'_>) -> Result<Option<GpuFabric>, u32> {
    let mut refusal = None;
    for query in [query_v3, query_v2, query_v1] {
        match query(nvml, device)? {
            Answer::Fabric(fabric) => return Ok(Some(fabric)),
            Answer::NoFabric => return Ok(None),
            Answer::OlderDriver(code) => refusal = code.or(refusal),
        }
    }
    // A driver that has the query but takes none of its versions is a fault, not a tray without fabric.
    refusal.map_or(Ok(None), Err)
}

/// Sorts a return code; the query's structure is filled in only with `Ok(None)`.
fn sort(code: u32) -> Result<Option<Answer>, u32> {
    match code {
        SUCCESS => Ok(None),
        NOT_SUPPORTED => Ok(Some(Answer::NoFabric)),
        // Drivers older than a structure's version say mismatch, some say invalid argument.
        ARGUMENT_VERSION_MISMATCH | INVALID_ARGUMENT => Ok(Some(Answer::OlderDriver(Some(code)))),
        FUNCTION_NOT_FOUND => Ok(Some(Answer::OlderDriver(None))),
        other => Err(other),
    }
}

fn query_v3(nvml: &Nvml, device: &Device<'_>) -> Result<Answer, u32> {
    let Ok(query) = nvml.lib().nvmlDeviceGetGpuFabricInfoV.as_ref() else {
        return Ok(Answer::OlderDriver(None));
    };
    let mut info = sys::nvmlGpuFabricInfo_v3_t {
        version: VERSION_3,
        clusterUuid: [0; 16],
        status: 0,
        cliqueId: 0,
        state: 0,
        healthMask: 0,
        healthSummary: 0,
    };
    // SAFETY: the handle is only passed back to the library that gave it, while `device` borrows the initialised `Nvml`.
    let handle = unsafe { device.handle() };
    // SAFETY: the symbol comes from the loaded library and has this signature since NVML 12.4; `info` is alive, writable
    // and as large as its version word says (asserted above), so the library writes inside it.
    let code = unsafe { query(handle, &raw mut info) };
    Ok(sort(code)?.unwrap_or_else(|| {
        Answer::Fabric(GpuFabric {
            domain: DomainId(info.clusterUuid),
            partition: PartitionId(info.cliqueId),
            state: info.state.into(),
            status: info.status,
            health: FabricHealth { mask: info.healthMask, summary: info.healthSummary },
        })
    }))
}

fn query_v2(nvml: &Nvml, device: &Device<'_>) -> Result<Answer, u32> {
    let Ok(query) = nvml.lib().nvmlDeviceGetGpuFabricInfoV.as_ref() else {
        return Ok(Answer::OlderDriver(None));
    };
    let mut info = sys::nvmlGpuFabricInfo_v2_t {
        version: VERSION_2,
        clusterUuid: [0; 16],
        status: 0,
        cliqueId: 0,
        state: 0,
        healthMask: 0,
    };
    // SAFETY: the handle is only passed back to the library that gave it, while `device` borrows the initialised `Nvml`.
    let handle = unsafe { device.handle() };
    // SAFETY: the symbol comes from the loaded library; the version word tells it that `info` is the 36-byte structure of
    // version 2 (asserted above), so it writes no further. The binding's type names version 3 only because C has one
    // prototype for all versions.
    let code = unsafe { query(handle, (&raw mut info).cast()) };
    Ok(sort(code)?.unwrap_or_else(|| {
        Answer::Fabric(GpuFabric {
            domain: DomainId(info.clusterUuid),
            partition: PartitionId(info.cliqueId),
            state: info.state.into(),
            status: info.status,
            health: FabricHealth { mask: info.healthMask, summary: 0 },
        })
    }))
}

fn query_v1(nvml: &Nvml, device: &Device<'_>) -> Result<Answer, u32> {
    let Ok(query) = nvml.lib().nvmlDeviceGetGpuFabricInfo.as_ref() else {
        return Ok(Answer::OlderDriver(None));
    };
    let mut info = sys::nvmlGpuFabricInfo_t { clusterUuid: [0; 16], status: 0, cliqueId: 0, state: 0 };
    // SAFETY: the handle is only passed back to the library that gave it, while `device` borrows the initialised `Nvml`.
    let handle = unsafe { device.handle() };
    // SAFETY: the symbol comes from the loaded library and has this signature since NVML 12.0; `info` is alive, writable
    // and has the 28 bytes of version 1 (asserted above).
    let code = unsafe { query(handle, &raw mut info) };
    Ok(sort(code)?.unwrap_or_else(|| {
        Answer::Fabric(GpuFabric {
            domain: DomainId(info.clusterUuid),
            partition: PartitionId(info.cliqueId),
            state: info.state.into(),
            status: info.status,
            health: FabricHealth::default(),
        })
    }))
}
