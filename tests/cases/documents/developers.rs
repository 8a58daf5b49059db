//! What CONTRIBUTING.md and the README tell developers to type, in the shortest form in which it still does what it says.
#![forbid(unsafe_code)]

use super::step::{HERE, HostStep, prints};

pub(super) const STEPS: &[HostStep] = &[
    HostStep {
        typed: "cargo xtask demo",
        then: |said| prints(said, &["demo: everything is as it must be"]),
        ..HERE
    },
    HostStep {
        typed: "SLURM_NVLINK_INCLUDE=/usr/include cargo xtask build",
        // This machine has no Slurm of its own; the headers are those of the clusters' Slurm.
        with: &[("=/usr/include", "=$HEADERS")],
        then: |said| prints(said, &["staged in "]),
        ..HERE
    },
    HostStep {
        typed: "cargo xtask lab diff --seed 1 --cases 100000",
        with: &[("100000", "300")],
        then: |said| prints(said, &["seed 1, 300 situations"]),
        ..HERE
    },
    HostStep {
        typed: "cargo xtask lab diff --seed 1 --cases 10000",
        with: &[("10000", "100")],
        then: |said| prints(said, &["seed 1, 100 situations"]),
        ..HERE
    },
    HostStep {
        typed: "lab diff --with hres",
        with: &[("lab", "cargo xtask lab")],
        more: "--cases 100",
        then: |said| prints(said, &["100 situations"]),
    },
    HostStep {
        typed: "cargo xtask lab case FILE",
        with: &[("FILE", "tests/cases/documents/situation.toml")],
        then: |said| prints(said, &["stock ", "ours "]),
        ..HERE
    },
    HostStep {
        typed: "cargo xtask lab replay --seed 1,2,3",
        with: &[("1,2,3", "1")],
        more: "--racks 4 --jobs 60 --days 1 --name documents",
        then: |said| prints(said, &["stock ", "ours ", "naive "]),
    },
    HostStep {
        typed: "cargo xtask lab replay --seed 1,2,3 --drained 1 --topology-param nvlink_span=degraded",
        with: &[("1,2,3", "1")],
        more: "--racks 4 --jobs 60 --days 1 --name documents",
        then: |said| prints(said, &["stock ", "ours ", "naive "]),
    },
    HostStep { typed: "cargo xtask lab soak", more: "--evaluations 2000", ..HERE },
    HostStep {
        typed: "cargo xtask bench gen",
        more: "--nodes 1008",
        then: |said| prints(said, &["1008 nodes", "generate + check + diff"]),
        ..HERE
    },
    HostStep { typed: "cargo xtask bench eval", more: "--nodes 1152 --only 'half'", ..HERE },
    HostStep {
        typed: "cargo xtask bench prolog --prolog FILE --epilog FILE",
        with: &[("FILE", "/bin/true")],
        more: "--profile small-2x4 --trays 2 --starts 1",
        then: |said| prints(said, &["measured in "]),
    },
    HostStep {
        typed: "cargo xtask soak imex --table",
        more: "--only 'back to back' --profile small-2x4",
        then: |said| prints(said, &["0 rules broken"]),
        ..HERE
    },
    HostStep {
        typed: "cargo xtask soak imex --jobs 200 --seed 7",
        with: &[("200", "2")],
        more: "--profile small-2x4",
        then: |said| prints(said, &["0 rules broken"]),
    },
    HostStep {
        typed: "cargo xtask soak --replay FILE",
        with: &[("FILE", "tests/cases/documents/plan.json")],
        more: "--profile small-2x4",
        ..HERE
    },
];
