//! Opens the built library the way slurm-nvlink's programs do: through nvml-wrapper, by its file.
//!
//! One test function, because the settings directory is named by an environment variable of the process; the
//! parent runs itself again with that variable set.

#![cfg(not(feature = "without-fabric-v"))]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test: a failed step ends it")]

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper_sys::bindings::{nvmlGpuFabricInfo_t, nvmlGpuFabricInfo_v3_t, nvmlGpuFabricInfoV_t};
use sim::nvml::{Fabric, FabricApi, Settings};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where cargo put the shared object: beside the directory of the test programs.
fn library() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let profile = program.parent().unwrap().parent().unwrap();
    let library = [profile.join("libnvidia_ml.so"), profile.join("deps/libnvidia_ml.so")];
    library.into_iter().find(|path| path.exists()).expect("cargo builds the cdylib before the tests")
}

fn fabric_v3(nvml: &Nvml, index: u32) -> (u32, nvmlGpuFabricInfo_v3_t) {
    let device = nvml.device_by_index(index).unwrap();
    let query = *nvml.lib().nvmlDeviceGetGpuFabricInfoV.as_ref().unwrap();
    // SAFETY: the structure is plain numbers, for which all zero is a value.
    let mut info: nvmlGpuFabricInfoV_t = unsafe { std::mem::zeroed() };
    info.version = 0x0300_0028;
    // SAFETY: the handle is only passed on to the library that made it.
    let handle = unsafe { device.handle() };
    // SAFETY: `info` is a version 3 structure that says so.
    let code = unsafe { query(handle, &mut info) };
    (code, info)
}

fn fabric_v1(nvml: &Nvml, index: u32) -> (u32, nvmlGpuFabricInfo_t) {
    let device = nvml.device_by_index(index).unwrap();
    let query = *nvml.lib().nvmlDeviceGetGpuFabricInfo.as_ref().unwrap();
    // SAFETY: the structure is plain numbers, for which all zero is a value.
    let mut info: nvmlGpuFabricInfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the handle is only passed on to the library that made it.
    let handle = unsafe { device.handle() };
    // SAFETY: `info` is the structure of this call.
    let code = unsafe { query(handle, &mut info) };
    (code, info)
}

fn walk(dir: &Path) {
    let open = || Nvml::builder().lib_path(library().as_os_str()).init();
    let mut settings = Settings::tray(5, 4, &Fabric { clique_id: 4_000_000_000, ..Fabric::default() });
    settings.gpus[2].fabric.status = 999;
    settings.save(dir).unwrap();

    let nvml = open().unwrap();
    assert_eq!(nvml.device_count().unwrap(), 4);
    assert_eq!(nvml.sys_driver_version().unwrap(), "580.95.05");
    assert!(nvml.sys_nvml_version().unwrap().ends_with("-simulated"));
    let device = nvml.device_by_index(3).unwrap();
    assert_eq!(device.uuid().unwrap(), settings.gpus[3].uuid);
    assert_eq!(device.name().unwrap(), "NVIDIA GB200");
    assert_eq!(device.index().unwrap(), 3);
    assert!(matches!(nvml.device_by_index(4), Err(NvmlError::InvalidArg)));

    let (code, info) = fabric_v3(&nvml, 2);
    assert_eq!((code, info.state, info.status, info.cliqueId), (0, 3, 999, 4_000_000_000));
    assert_eq!(info.clusterUuid, settings.gpus[2].fabric.cluster_uuid_bytes());
    assert_eq!((info.healthMask, info.healthSummary), (0x1aa, 1));

    settings.fabric_api = vec![FabricApi::V1, FabricApi::V2];
    settings.save(dir).unwrap();
    assert_eq!(fabric_v3(&nvml, 0).0, 25, "the file counts at once, also for an open library");
    assert_eq!(fabric_v1(&nvml, 0).1.cliqueId, 4_000_000_000);
    nvml.shutdown().unwrap();

    settings.init_error = Some(9);
    settings.save(dir).unwrap();
    assert!(matches!(open(), Err(NvmlError::DriverNotLoaded)));
}

#[test]
fn programs_read_the_simulated_tray() {
    if std::env::var_os("NVML_SIM_TEST_CHILD").is_some() {
        return walk(&sim::dir());
    }
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "programs_read_the_simulated_tray", "--nocapture"])
        .env("NVML_SIM_TEST_CHILD", "1")
        .env(sim::DIR_VARIABLE, dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
