//! Simulated `libnvidia-ml.so.1`: the few NVML 13 calls that slurm-nvlink's programs make, answered from
//! `nvml.json` (see [`sim::nvml`]) instead of a GPU.
//!
//! The file is read again at every call, so a test can change a tray's fabric under a running program. [`api`] and
//! `versioned` hold the C functions and the only unsafe code; [`tray`] is the state behind them. No panic crosses into
//! C: each function runs behind [`wall::guard`].

pub mod api;
pub mod code;
pub mod layout;
pub mod tray;
#[cfg(not(feature = "without-fabric-v"))]
pub mod versioned;
pub mod wall;
