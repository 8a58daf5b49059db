#![forbid(unsafe_code)]
//! Faults planted by tests: a panic in each entry point that a file names. Built into a plugin for tests only, which is a
//! package of its own; what is installed does not have this.

use std::fs;

/// Names of entry points, a line each, or `all` for those that are called after `init`.
const FILE: &str = "/run/slurm-nvlink/planted-faults";

/// Panics when the file names this entry point.
pub(super) fn strike(entry: &str) {
    let names = fs::read_to_string(FILE).unwrap_or_default();
    let struck = |name: &str| name == entry || name == "all" && entry != "init";
    assert!(!names.lines().any(struck), "planted fault");
}
