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
mod metrics;
mod model;
mod place;
mod wall;

use std::ffi::{c_char, c_int};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use abi::confirmation::{self, hex, release};
use abi::layout;
use host::api::MissingSymbol;
use host::confirmed::{self, Unconfirmed};
use host::record::Records;
use host::stock::StockError;
use host::{api, peek, process, stock};

/// The user whose confirmations count.
const ROOT: u32 = 0;

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

/// What is known of the running build, once [`init`] accepted it.
static RUNNING: OnceLock<Running> = OnceLock::new();

/// The running build of Slurm.
#[derive(Debug)]
struct Running {
    build_id: Vec<u8>,
    proof: Proof,
    records: Records,
}

/// By what the layout of its records is known.
#[derive(Debug)]
enum Proof {
    /// It is one of the builds that this plugin knows.
    Known(&'static str),
    /// `slurm-nvlink-confirm` has measured it and written this file.
    Measured(PathBuf),
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let build_id = hex(&self.build_id);
        match &self.proof {
            Proof::Known(name) => write!(f, "{name} (build id {build_id}, a known build)"),
            Proof::Measured(file) => write!(
                f,
                "Slurm {} (build id {build_id}, confirmed by {})",
                release(abi::SLURM_VERSION_NUMBER),
                file.display()
            ),
        }
    }
}

/// The records of the running build; None before [`init`] accepted it.
pub(crate) fn records() -> Option<&'static Records> {
    RUNNING.get().map(|running| &running.records)
}

/// The build id of the running build, and how its layout is known, in one word; None before [`init`] accepted it.
pub(crate) fn build() -> Option<(String, &'static str)> {
    RUNNING.get().map(|running| {
        let layout = match running.proof {
            Proof::Known(_) => "known",
            Proof::Measured(_) => "confirmed",
        };
        (hex(&running.build_id), layout)
    })
}

/// Why the plugin refuses to be loaded.
#[derive(Debug)]
enum Refusal {
    Symbol(MissingSymbol),
    Stock(StockError),
    NoBuildId,
    UnknownBuild { build_id: Vec<u8>, why: Unconfirmed },
    Sandbox,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol(missing) => write!(f, "{missing}"),
            Self::Stock(error) => write!(f, "{error}"),
            Self::NoBuildId => write!(f, "libslurmfull.so has no build id"),
            Self::UnknownBuild { build_id, why } => write!(
                f,
                "the layout of this build of Slurm is not confirmed (libslurmfull.so has build id {}): {why}; \
                 slurm-nvlink-confirm, run as root on this host, measures it",
                hex(build_id)
            ),
            Self::Sandbox => write!(
                f,
                "this process can look at its own memory neither by process_vm_readv nor through a pipe"
            ),
        }
    }
}

/// Called by Slurm once per topology and process. A refusal makes Slurm load its own plugin; it is logged as an error
/// by slurmctld, and quietly by commands, whose output people read.
#[unsafe(no_mangle)]
pub extern "C" fn init() -> c_int {
    wall::raise();
    // Without it there is no log to say anything in; what is missing is said by the refusal.
    let _ = wall::again(api::load);
    wall::guard("init", accept).unwrap_or(abi::TOPO_RC_ERROR)
}

fn accept() -> c_int {
    if RUNNING.get().is_some() {
        return abi::TOPO_RC_SUCCESS;
    }
    match recognise() {
        Ok(running) => {
            let running = RUNNING.get_or_init(|| running);
            let line = format!("slurm-nvlink {} loaded; running {running}", env!("CARGO_PKG_VERSION"));
            if process::is_slurmctld() {
                slurm_log!(Info, "{line}; it steers jobs");
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

/// Finds out everything that the plugin relies on.
fn recognise() -> Result<Running, Refusal> {
    api::load().map_err(Refusal::Symbol)?;
    let build_id = process::slurm_build_id().ok_or(Refusal::NoBuildId)?;
    let (proof, records) = match layout::of_build(&build_id) {
        Some(known) => (Proof::Known(known.name), Records::with_times(known.layout, known.times)),
        None => match confirmed::load(Path::new(confirmation::FOLDER), ROOT, &build_id) {
            Ok((file, layout)) => (Proof::Measured(file), Records::new(layout)),
            Err(why) => return Err(Refusal::UnknownBuild { build_id, why }),
        },
    };
    if !peek::works() {
        return Err(Refusal::Sandbox);
    }
    let folder = process::stock_plugin_folder().ok_or(Refusal::Stock(StockError::NoFolder))?;
    stock::load(&folder).map_err(Refusal::Stock)?;
    Ok(Running { build_id, proof, records })
}

/// Called by Slurm before it unloads the plugin. Everything that is kept lives with a topology.
#[unsafe(no_mangle)]
pub extern "C" fn fini() {}
