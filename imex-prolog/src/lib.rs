//! One IMEX domain for each job and NVLink partition, begun by slurmd's prolog and ended by its epilog.
//!
//! [`run`] is one run of either program. [`job`], [`slurm_conf`] and [`members`] say who is in the domain, [`fit`]
//! whether this tray is where its block says, [`resolve`] and [`imexd_config`] put it into the daemon's files.
//! [`lifecycle`] orders the steps of a job's own domain, [`standing`] those of a job that is a guest in the standing
//! one, both over [`tray`], which holds [`daemon`], [`readiness`] and [`channel`]; [`record`], [`mark`] and [`lock`]
//! make every step safe against a kill and against the other program; [`watch`] goes with each run and with its daemon, a [`helper`] of its own;
//! [`verdict`] decides what slurmd is told.
//!
//! For operators: [`status`], [`health`], [`log`] with [`journal`], and [`metrics`].
#![deny(unsafe_code)]

pub mod call;
pub mod channel;
pub mod cli;
pub mod config;
pub mod cred_state;
pub mod ctl;
pub mod daemon;
pub mod deadline;
pub mod fit;
pub mod giving_up;
pub mod health;
pub mod helper;
pub mod imexd_config;
pub mod job;
pub mod job_end;
pub mod journal;
pub mod lifecycle;
pub mod lock;
pub mod log;
pub mod mark;
pub mod members;
pub mod metrics;
pub mod network;
pub mod paths;
pub mod ports;
pub mod procfs;
pub mod readiness;
pub mod record;
pub mod resolve;
pub mod roll_call;
pub mod run;
pub mod secure_fs;
pub mod slurm_conf;
pub mod standing;
pub mod status;
#[expect(unsafe_code, reason = "a hook between fork and exec, and a system call without a safe interface")]
pub mod sys;
pub mod tls;
pub mod tray;
pub mod verdict;
pub mod version;
pub mod wait;
pub mod watch;
