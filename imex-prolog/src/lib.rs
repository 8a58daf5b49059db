//! One IMEX domain for each job and NVLink partition, begun by slurmd's prolog and ended by its epilog.
pub mod config;
pub mod ctl;
pub mod daemon;
pub mod deadline;
pub mod imexd_config;
pub mod job;
pub mod lock;
pub mod mark;
pub mod members;
pub mod paths;
pub mod procfs;
pub mod record;
pub mod resolve;
pub mod secure_fs;
pub mod slurm_conf;
pub mod sys;
pub mod wait;
