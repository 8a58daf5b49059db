//! A drop-in for Slurm's `topology/block` plugin: jobs lie inside one NVLink partition by default.
//!
//! ```text
//! topology.yaml ──Slurm──> config ──> model            (and stock's model beside it: host::shadow)
//! job ──Slurm──> host::eval ──> place ──fabric::placement──> sets of nodes ──> Slurm's flat evaluator
//!                                  └── any doubt ──> Slurm's own topology/block, on the question as it was
//! ```
//!
//! The file is installed as `topology_block.so` in a folder of its own, named before Slurm's in `PluginDir`. When
//! [`init`] refuses, or the file is stamped for another release, Slurm takes its own plugin. Nothing in here ends the
//! process, and no panic leaves it ([`wall`]). Unsafe code is in `abi`, `host`, `context`, `entry` and this file only.

pub mod abi;
mod bits;
mod config;
mod context;
pub mod entry;
pub mod host;
mod model;
mod place;
mod wall;

use std::ffi::{c_char, c_int};
use std::fmt;
use std::sync::OnceLock;

use abi::layout::{self, Layout};
use host::api::MissingSymbol;
use host::stock::StockError;
use host::{api, process, stock};

/// Shown by Slurm when it loads the plugin.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name is Slurm's")]
pub static plugin_name: [c_char; 37] = text(b"topology block plugin (slurm-nvlink)\0");
/// The kind of plugin that this is a drop-in for.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name is Slurm's")]
pub static plugin_type: [c_char; 15] = text(b"topology/block\0");
/// The release of the headers that this was built with. Slurm loads it only when its own is exactly the same.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name is Slurm's")]
pub static plugin_version: u32 = abi::SLURM_VERSION_NUMBER;
/// The id of topology/block in messages.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name is Slurm's")]
pub static plugin_id: u32 = abi::TOPOLOGY_BLOCK_PLUGIN_ID;
/// `--exclusive=topo` works.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name is Slurm's")]
pub static supports_exclusive_topo: bool = true;

/// NUL-terminated text as Slurm's `char` array.
const fn text<const N: usize>(bytes: &[u8; N]) -> [c_char; N] {
    let mut chars = [0; N];
    let mut i = 0;
    while i < N {
        chars[i] = bytes[i] as c_char;
        i += 1;
    }
    chars
}

/// The running build and its layout, once [`init`] accepted it.
static CONFIRMED: OnceLock<(&str, Layout)> = OnceLock::new();

/// The layout of the running build; None before [`init`] accepted it.
pub(crate) fn confirmed_layout() -> Option<Layout> {
    CONFIRMED.get().map(|&(_, layout)| layout)
}

/// Why the plugin refuses to be loaded.
#[derive(Debug)]
enum Refusal {
    Symbol(MissingSymbol),
    Stock(StockError),
    UnknownBuild { build_id: Option<Vec<u8>> },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol(missing) => write!(f, "{missing}"),
            Self::Stock(error) => write!(f, "{error}"),
            Self::UnknownBuild { build_id: None } => write!(f, "libslurmfull.so has no build id"),
            Self::UnknownBuild { build_id: Some(id) } => {
                write!(
                    f,
                    "the layout of this build of Slurm is not confirmed (libslurmfull.so has build id "
                )?;
                for byte in id {
                    write!(f, "{byte:02x}")?;
                }
                write!(f, ")")
            }
        }
    }
}

/// Called by Slurm once per topology and process. A refusal makes Slurm load its own plugin; it is logged as an error
/// by slurmctld, and quietly by commands, whose output people read.
#[unsafe(no_mangle)]
pub extern "C" fn init() -> c_int {
    wall::guard("init", accept).unwrap_or(abi::TOPO_RC_ERROR)
}

fn accept() -> c_int {
    if CONFIRMED.get().is_some() {
        return abi::TOPO_RC_SUCCESS;
    }
    match confirm() {
        Ok(confirmed) => {
            wall::raise();
            let (build, _) = *CONFIRMED.get_or_init(|| confirmed);
            let line = format!("slurm-nvlink {} loaded; running {build}", env!("CARGO_PKG_VERSION"));
            if process::is_slurmctld() {
                slurm_log!(Info, "{line}");
            } else {
                slurm_log!(Debug, "{line}");
            }
            abi::TOPO_RC_SUCCESS
        }
        Err(refusal) => {
            let line = format!(
                "slurm-nvlink {} refuses to load: {refusal}; Slurm goes on with its own topology/block",
                env!("CARGO_PKG_VERSION")
            );
            if process::is_slurmctld() {
                slurm_log!(Error, "{line}");
            } else {
                slurm_log!(Debug, "{line}");
            }
            abi::TOPO_RC_ERROR
        }
    }
}

/// Checks everything that the plugin relies on.
fn confirm() -> Result<(&'static str, Layout), Refusal> {
    api::load().map_err(Refusal::Symbol)?;
    let build_id = process::slurm_build_id();
    let confirmed =
        build_id.as_deref().and_then(layout::of_build).ok_or(Refusal::UnknownBuild { build_id })?;
    let folder = process::stock_plugin_folder().ok_or(Refusal::Stock(StockError::NoFolder))?;
    stock::load(&folder).map_err(Refusal::Stock)?;
    Ok(confirmed)
}

/// Called by Slurm before it unloads the plugin. Everything that is kept lives with a topology.
#[unsafe(no_mangle)]
pub extern "C" fn fini() {}
