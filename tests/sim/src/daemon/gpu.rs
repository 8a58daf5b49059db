//! What the daemon asks of the (simulated) driver: the version, and GPUs whose fabric is up.
#![forbid(unsafe_code)]

use crate::nvml::{self, Settings};

/// Why the driver does not fit this daemon; `None` when it does. The daemon refuses to start over it.
pub fn driver_fault(driver: &Settings, version: &str) -> Option<String> {
    if let Some(code) = driver.init_error {
        return Some(format!("NvGpu Library initialization failed with rc: {code} (simulated driver)"));
    }
    (driver.driver_version != version).then(|| {
        format!(
            "NvGpu Library version {version} is not matching with current GPU driver version {}",
            driver.driver_version
        )
    })
}

/// Why the GPUs cannot serve yet; `None` when all of them can. The daemon waits in INIT_GPU over it.
pub fn fabric_fault(driver: &Settings) -> Option<String> {
    if driver.gpus.is_empty() {
        return Some("no GPU found (simulated driver)".to_owned());
    }
    driver.gpus.iter().enumerate().find_map(|(index, gpu)| {
        let (state, status) = (gpu.fabric.state, gpu.fabric.status);
        if let Some(code) = gpu.fabric_error {
            return Some(format!(
                "fabric query of GPU {index} ({}) failed with rc: {code} (simulated driver)",
                gpu.uuid
            ));
        }
        (state != nvml::state::COMPLETED || status != 0).then(|| {
            format!(
                "fabric of GPU {index} ({}) is not ready: state {state}, status {status} (simulated driver)",
                gpu.uuid
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gpu_in_progress_holds_the_tray() {
        let mut driver = Settings::default();
        assert_eq!(fabric_fault(&driver), None);
        driver.gpus[2].fabric.state = nvml::state::IN_PROGRESS;
        assert!(fabric_fault(&driver).is_some_and(|text| text.contains("GPU 2") && text.contains("state 2")));
        driver.gpus.clear();
        assert!(fabric_fault(&driver).is_some());
    }

    #[test]
    fn another_driver_version_is_a_fault() {
        let driver = Settings::default();
        assert_eq!(driver_fault(&driver, "580.95.05"), None);
        let text = driver_fault(&driver, "570.1").unwrap();
        assert!(text.contains("570.1 is not matching with current GPU driver version 580.95.05"), "{text}");
    }
}
