//! The cross tree: Debian's Rust with the library for aarch64, a cross linker, user-mode emulation, and arm64 Slurm.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use anyhow::{Result, ensure};
use tests::tree::{self, Recipe};

/// Names a ready cross tree (a directory), which is then taken as it is.
const GIVEN: &str = "SLURM_NVLINK_CROSS_TREE";

/// Compilers and the emulator run on this machine; what is built and what runs under emulation is arm64.
const PACKAGES: &str = "rustc,cargo,gcc,gcc-aarch64-linux-gnu,libc6-dev-arm64-cross,libstd-rust-dev:arm64,libclang-dev,\
    libslurm-dev,qemu-user,iproute2,mount,slurmctld:arm64,slurmd:arm64,slurm-client:arm64,slurm-wlm-basic-plugins:arm64";

/// Half of what these packages hold is of no use here: other emulators, static libraries, the compiler itself once more
/// for arm64.
const PATHS: &[&str] = &[
    "path-exclude=/usr/bin/qemu-*",
    "path-include=/usr/bin/qemu-aarch64",
    "path-exclude=/usr/bin/*-lto-dump*",
    "path-exclude=/usr/bin/rustdoc*",
    "path-exclude=/usr/libexec/*/lto1",
    "path-exclude=/usr/lib/aarch64-linux-gnu/libLLVM*",
    "path-exclude=/usr/lib/aarch64-linux-gnu/librustc_driver*",
    "path-exclude=/usr/lib/aarch64-linux-gnu/libz3*",
    "path-exclude=/usr/lib/*/gconv/*",
    "path-exclude=/usr/lib/llvm-*/lib/*.a",
    "path-exclude=/usr/lib/llvm-*/include/*",
    "path-include=/usr/lib/llvm-*/lib/clang/*",
    "path-exclude=/usr/lib/gcc*/lib*san*",
    "path-exclude=/usr/include/c++/*",
];

/// The cross tree, made if it is not there yet (about a minute and 1.2 GB).
///
/// # Errors
/// When it cannot be made, or what is given is no such tree.
pub(super) fn ensure() -> Result<PathBuf> {
    let Some(given) = std::env::var_os(GIVEN).map(PathBuf::from) else {
        return tree::made(&Recipe::named("cross", "amd64,arm64", PACKAGES, PATHS));
    };
    let emulator = given.join("usr/bin/qemu-aarch64");
    ensure!(emulator.is_file(), "{GIVEN}: {} is missing", emulator.display());
    Ok(given)
}
