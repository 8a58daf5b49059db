//! Safe views of Slurm's objects: the only place that calls into Slurm.
//!
//! Every function of Slurm is looked up by name when the plugin is loaded ([`api`]). The plugin therefore has no
//! undefined symbols: a Slurm that lacks one of them makes [`crate::init`] refuse, and Slurm takes its own plugin.

pub mod api;
pub mod bitmap;
pub mod config;
pub mod confirmed;
pub mod eval;
pub mod job;
pub mod list;
pub mod log;
pub mod memory;
pub mod node;
pub mod peek;
pub mod process;
pub(crate) mod queue;
pub mod record;
pub(crate) mod run_folder;
pub(crate) mod running;
pub mod shadow;
pub mod stock;
