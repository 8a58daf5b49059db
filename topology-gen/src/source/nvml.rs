//! This tray's own reading, with a deadline around the driver.
#![forbid(unsafe_code)]

use std::sync::mpsc;
use std::time::Duration;

use fabric::TrayReading;
use fabric::nvml::NvmlError;

/// Why this tray could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadTrayError {
    /// NVML said so.
    #[error("cannot read this tray's GPUs")]
    Nvml(#[source] NvmlError),
    /// NVML did not come back.
    #[error("NVML does not answer within {seconds} s")]
    Deadline {
        /// The deadline.
        seconds: u64,
    },
}

impl ReadTrayError {
    /// What an operator can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Nvml(error) => error.hint(),
            Self::Deadline { .. } => {
                "a driver that hangs often waits for the fabric: see nvidia-smi -q, the kernel log and the fabric manager; \
                 run nvidia-persistenced so that the driver stays loaded"
            }
        }
    }
}

/// Reads the tray. On a missed deadline the thread that waits for the driver is left behind; the caller ends the process.
///
/// # Errors
/// [`ReadTrayError`].
pub fn read_tray(deadline: Duration) -> Result<TrayReading, ReadTrayError> {
    let (answer, wait) = mpsc::channel();
    std::thread::spawn(move || {
        // The receiver is gone after the deadline; then nobody wants the answer.
        let _ = answer.send(fabric::nvml::read_tray());
    });
    match wait.recv_timeout(deadline) {
        Ok(reading) => reading.map_err(ReadTrayError::Nvml),
        Err(_) => Err(ReadTrayError::Deadline { seconds: deadline.as_secs() }),
    }
}
