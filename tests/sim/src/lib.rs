//! Simulated vendor software of a compute tray: `nvidia-imex`, `nvidia-imex-ctl`, and the settings
//! that steer every simulated part.
//!
//! **Nothing here talks to hardware.** The daemon copies the observable behaviour of NVIDIA's IMEX
//! daemon (options, config file, node list, log lines, start sequence, connection states, the answers
//! of the control tool), over a private line protocol between simulated daemons. Each program says
//! "simulated" in its `--version`.
//!
//! Three files in [`dir`] steer it, both JSON, both read afresh at each use:
//!
//! | file | schema | read by |
//! |---|---|---|
//! | `nvml.json` | [`nvml::Settings`] | the simulated `libnvidia-ml.so.1`, and the daemon in INIT_GPU |
//! | `imex.json` | [`imex::Settings`] | `nvidia-imex` (at start and while it runs), `nvidia-imex-ctl` |
//! | `hooks.json` | [`hook::Settings`] | `sim-hook`, which stands in front of prolog and epilog where a test wants it to |
//!
//! An absent file means a healthy tray. Production crates must not depend on this crate.
//!
//! Layout: [`config`], [`nodes`], [`state`] and [`wire`] are shared; [`daemon`] is `nvidia-imex`, [`ctl`] is
//! `nvidia-imex-ctl`, [`hook`] is `sim-hook`. Unsafe code exists in [`daemon::fork`] and in the tracer of [`hook`] alone.
#![deny(unsafe_code)]

pub mod clock;
pub mod config;
pub mod ctl;
pub mod daemon;
pub mod hook;
pub mod imex;
pub mod nodes;
pub mod nvml;
pub mod state;
pub mod store;
pub mod wire;

pub use store::{DEFAULT_DIR, DIR_VARIABLE, dir};

/// The driver, library and IMEX version that a simulated tray has unless its settings say otherwise.
pub const DEFAULT_VERSION: &str = "580.95.05";
