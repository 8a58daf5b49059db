//! The words of the field, shared by the plugin, the IMEX manager and the topology generator.
//!
//! Host lists as Slurm reads them, fabric identity as NVML gives it, topologies of blocks, block sizes, the choice of a
//! placement, and reports to operators. Nothing here reads or writes files; only [`nvml`] (a feature) touches a device
//! library, and only it holds unsafe code. What is loaded into slurmctld enables neither `nvml` nor `yaml`.
#![deny(unsafe_code)]

pub mod hostlist;
pub mod identity;
pub mod names;
#[cfg(feature = "nvml")]
#[expect(unsafe_code, reason = "calls the NVML library's fabric query, which no safe layer wraps")]
pub mod nvml;
pub mod placement;
pub mod reading;
pub mod report;
pub mod sizes;
#[cfg(feature = "yaml")]
pub mod slurm_yaml;
pub mod topology;

pub use hostlist::{HostList, HostListError};
pub use identity::{DomainId, FabricId, IdentityError, PartitionId};
pub use names::{BlockName, JobId, NameError, NamedFabrics, NodeName};
pub use reading::{FabricHealth, FabricState, GpuFabric, GpuReading, TrayReading, Verdict};
pub use report::{Blame, Report};
pub use sizes::{BlockSizes, BlockSizesError};
pub use topology::{Block, BlockTopology, Topology, TopologyKind};
