//! Generates the bindings of the stable part of Slurm's plugin ABI and checks its layout with a C compiler.
//!
//! Slurm's development headers come from the folder named by `SLURM_NVLINK_INCLUDE` (it holds `slurm/slurm.h`), else
//! from `/usr/include`. Their version is the one that the plugin is stamped with: Slurm loads the plugin only when
//! its own version is exactly this one.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const OWN_HEADERS: &str = "../include";

/// What slurm-nvlink-confirm shows of itself to Slurm's plugins: stand-ins for functions of slurmctld.
const STAND_INS: &[&str] = &[
    "lock_slurmctld",
    "unlock_slurmctld",
    "job_mgr_determine_cpus_per_core",
    "hres_get_capacity",
    "hres_select_check",
    "hres_select_return",
];

/// Also called by the build script of tests/planted, which builds the same source, from this folder.
#[allow(unreachable_pub, reason = "public for that script")]
pub fn main() -> ExitCode {
    println!("cargo:rerun-if-env-changed=SLURM_NVLINK_INCLUDE");
    let here = env::current_dir().unwrap_or_default();
    for file in [&format!("{OWN_HEADERS}/slurm_topology_abi.h"), "src/abi/layout_check.c"] {
        println!("cargo:rerun-if-changed={}", here.join(file).display());
    }
    if env::var_os("CARGO_PKG_NAME").is_some_and(|package| package == "slurm-plugin") {
        for name in STAND_INS {
            println!("cargo:rustc-link-arg-bin=slurm-nvlink-confirm=-Wl,--export-dynamic-symbol={name}");
        }
    }
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("slurm-plugin: {message}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let include =
        env::var_os("SLURM_NVLINK_INCLUDE").map_or_else(|| PathBuf::from("/usr/include"), PathBuf::from);
    let version_header = include.join("slurm/slurm_version.h");
    if !version_header.is_file() {
        return Err(format!(
            "Slurm's development headers are missing: no {}\n\
             hint: install libslurm-dev of the Slurm release that the plugin is for, or set SLURM_NVLINK_INCLUDE to the \
             folder that holds slurm/slurm.h (`cargo xtask build` does this by itself)",
            version_header.display()
        ));
    }
    println!("cargo:rerun-if-changed={}", version_header.display());
    bindings(&include)?;
    check_layout(&include)
}

fn bindings(include: &Path) -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join("bindings.rs");
    bindgen::Builder::default()
        .header(format!("{OWN_HEADERS}/slurm_topology_abi.h"))
        .clang_arg(format!("-I{}", include.display()))
        .allowlist_type("slurm_conf_block_t|topology_block_config_t|topology_ctx_t|topology_eval_t")
        .allowlist_type("dynamic_plugin_data_t|avail_res_head_t|topology_data|topology_rc|eval_action")
        .allowlist_type("bitstr_t|list_t|hostlist_t|buf_t|job_record_t|node_record_t")
        .allowlist_var("SLURM_VERSION_NUMBER|TOPOLOGY_BLOCK_PLUGIN_ID|.*_MAGIC_VALUE")
        .prepend_enum_name(false)
        .layout_tests(true)
        .generate_comments(false)
        .generate()
        .map_err(|error| format!("the bindings could not be generated: {error}"))?
        .write_to_file(&out)
        .map_err(|error| format!("the bindings could not be written to {}: {error}", out.display()))
}

fn check_layout(include: &Path) -> Result<(), String> {
    cc::Build::new()
        .file("src/abi/layout_check.c")
        .include(OWN_HEADERS)
        .include(include)
        .warnings(true)
        .cargo_metadata(false)
        .try_compile("layout_check")
        .map_err(|error| {
            format!("the stable structures do not have the layout that Slurm gives them: {error}")
        })
}
