//! The test cluster: real Slurm daemons in Linux namespaces on one machine, with simulated NVLink trays.
//!
//! **Slurm is real, the hardware is simulated.** Each node has its own network, mount, UTS, pid and IPC namespace
//! over one shared root tree; the NVML library, the IMEX daemon, `/proc/devices` and the device nodes in it are
//! stand-ins.
//!
//! ```text
//!   cluster up ──fork──▶ supervisor (PID 1 of its own pid namespace; bridge, tmpfs and all nodes inside)
//!        │                  ├── ctl      PID 1 = our reaper ── slurmctld
//!        │  control socket  ├── r01n01   PID 1 = our reaper ── slurmd ── prolog, job, epilog
//!        └─────────────────▶└── ...
//! ```
//!
//! Nothing of it touches the host's network or mounts. The end of the supervisor, however it comes about, is the
//! end of everything in it. Outside there is only one state directory ([`paths::CLUSTERS`]).
//!
//! A program that starts clusters calls [`supervisor::take_over`] first in its `main`.

pub mod bench;
pub mod cli;
pub mod cluster;
pub mod control;
pub mod dice;
pub mod documents;
pub mod domain;
pub mod endurance;
pub mod fault;
pub mod job;
pub mod limits;
pub mod lost_packets;
pub mod machine;
pub mod paths;
pub mod profile;
pub mod soak;
pub mod spec;
pub mod supervisor;
pub mod tree;
pub mod wait;

mod boot;
mod layers;
mod network;
mod node;
mod picture;
mod process;
mod readings;
mod slurm_conf;
pub mod stage;
mod state;

pub use cluster::{Cluster, ClusterBuilder, Plugin};
pub use profile::Profile;
pub use wait::wait_for;
