//! The test cluster to play with, from `up` to `down`, as CONTRIBUTING.md types it.
#![forbid(unsafe_code)]

use super::step::{HERE, HostStep, prints, succeeds};
use crate::harness::{Setup, cluster_name};
use anyhow::ensure;
use std::collections::BTreeSet;
use tests::Cluster;

pub(super) const STEPS: &[HostStep] = &[
    HostStep { typed: "cargo xtask build", then: |said| prints(said, &["staged in "]), ..HERE },
    HostStep {
        typed: "cargo xtask cluster up",
        then: |said| {
            prints(said, &[": 36 nodes idle after ", "block nvl-a45f0d97-32766: r02n[01-18]", "plugin: ours"])
        },
        ..HERE
    },
    HostStep {
        typed: "cargo xtask cluster exec -- sinfo",
        then: |said| prints(said, &["trays*", " 36 "]),
        ..HERE
    },
    HostStep {
        typed: "cargo xtask cluster exec --user -- srun -N16 --exclusive hostname",
        then: |said| {
            succeeds(said)?;
            let trays: BTreeSet<&str> = said.stdout.lines().collect();
            let racks: BTreeSet<&str> = trays.iter().filter_map(|tray| tray.get(..3)).collect();
            ensure!(trays.len() == 16 && racks.len() == 1, "not 16 trays of a rack");
            Ok(())
        },
        ..HERE
    },
    HostStep {
        typed: "cargo xtask cluster tray r01n03 -- topology-gen probe",
        then: |said| prints(said, &["\"partition\": 32766"]),
        ..HERE
    },
    HostStep {
        typed: "cargo xtask cluster fault r01n03 --help",
        then: |said| prints(said, &["imex-die ", "gpu-disagrees ", "unreachable ", "heal "]),
        ..HERE
    },
    HostStep { typed: "cargo xtask cluster reboot r01n03", ..HERE },
    HostStep { typed: "cargo xtask cluster logs", then: |said| prints(said, &["slurmctld.log <=="]), ..HERE },
    HostStep { typed: "cargo xtask cluster down", ..HERE },
];

/// The cluster; ends with the value, whatever became of the steps.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        if let Err(error) = Cluster::end(&self.0) {
            eprintln!("{error:#}");
        }
    }
}

pub(super) fn case(_: &Setup) -> anyhow::Result<()> {
    let cluster = Named(cluster_name("documents"));
    let mut boots = BTreeSet::new();
    for step in STEPS {
        step.play(&[("SLURM_NVLINK_CLUSTER", &cluster.0)])?;
        if let Ok(running) = Cluster::attach(&cluster.0) {
            boots.insert(running.tray("r01n03", &["cat", "/proc/sys/kernel/random/boot_id"])?);
        }
    }
    ensure!(boots.len() == 2, "the tray has booted {} times", boots.len());
    ensure!(Cluster::attach(&cluster.0).is_err(), "the cluster runs on");
    Ok(())
}
