#![forbid(unsafe_code)]
//! The lab: Slurm's own code in a process of its own, with a synthetic cluster in it.
//!
//! **Slurm is real, the cluster is synthetic.** The host program loads the real `libslurmfull.so` and, through Slurm's
//! own loader, either Slurm's topology/block or ours, fills the node table, and asks `topology_g_eval_nodes`. No daemon
//! runs, so that thousands of situations are asked in seconds.
//!
//! ```text
//! scene ──question──> host with stock ──answer──┐
//!       └─question──> host with ours  ──answer──┴──> check: same jobs, whole partitions, never more of them
//! ```
//!
//! GPUs are counts: Slurm's own code keeps them for nodes and jobs, from a registration like that of a tray.
//!
//! What it cannot see: everything around the evaluation (queues, reservations, preemption), for which there are the cases
//! on the test cluster.

pub mod bench;
pub mod check;
pub mod cli;
pub mod diff;
pub mod entries;
pub mod host;
pub mod layout;
pub mod memcheck;
pub mod plot;
pub mod protocol;
pub mod random;
pub mod replay;
pub mod report;
pub mod rules;
pub mod scene;
pub mod scene_file;
pub mod soak;
