//! Jobs with faults on a real cluster, many at a time, judged by five rules that must never be broken: no job starts on a
//! half-formed domain, no healthy tray drains, no faulty one stays in service, nothing is left, no daemon has wrong members.
//!
//! ```text
//!   table, random ─▶ plan ─▶ runner ─▶ play ─▶ Seen ─▶ judge ─▶ violations
//!                                       │ deeds    (what happens)
//!                                       │ tray     (files on the trays)
//!                                       └ watch    (what Slurm says)
//! ```
//! Plans and rules are pure; [`run`](Options::run) is the command.
#![forbid(unsafe_code)]

mod cli;
mod deeds;
pub mod judge;
pub mod plan;
mod plant;
mod play;
pub mod random;
pub mod runner;
pub mod table;
pub(crate) mod tray;
mod watch;

pub use cli::Options;
pub use plant::Plant;
pub use runner::{SETTINGS, SETTINGS_FILE, Soak};
