//! `topology-gen`: reads which compute trays share an NVLink partition and writes Slurm's `topology.yaml`.
//!
//! ```text
//! source (NVML, Slurm, file, nvidia-smi) -> Inventory -> reconcile -> plan (with the previous file) -> emit -> write
//! a file -> check (against nodes and slurm.conf), diff (against a file or the controller), apply (or all as before)
//! ```
//!
//! Sources never emit and emitters never discover. One bad tray never ends a run: it is listed with its reason. A tray that
//! says nothing stays in its last block. The file is replaced as a whole or not at all.
#![forbid(unsafe_code)]

pub mod apply;
pub mod assign;
pub mod check;
pub mod cli;
pub mod command;
pub mod conf;
pub mod controller;
pub mod convert;
pub mod diff;
pub mod emit;
pub mod failure;
#[cfg(test)]
mod fixture;
pub mod gpu_hours;
pub mod natural;
pub mod plan;
pub mod reconcile;
pub mod site;
pub mod site_map;
pub mod source;
pub mod time;
pub mod version;
pub mod watch;
pub mod why;
pub mod write;

use std::io::IsTerminal;
use std::process::ExitCode;

use emit::screen::{Paint, Screen};

/// Runs the program with the arguments, standard output and standard error of this process.
pub fn main() -> ExitCode {
    let screen = screen();
    cli::run(std::env::args_os(), &mut std::io::stdout().lock(), &mut std::io::stderr().lock(), screen)
}

/// The terminal behind standard output. Without one, `COLUMNS` tells the width; `NO_COLOR` and `TERM=dumb` keep colours away.
fn screen() -> Screen {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let stdout = std::io::stdout();
    let columns = set("COLUMNS").and_then(|columns| columns.to_str()?.parse().ok());
    let size = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
    let width = size.filter(|width| *width > 0).or(columns).unwrap_or(Screen::default().width);
    let plain = set("NO_COLOR").is_some() || set("TERM").is_none_or(|term| term == "dumb");
    let paint = if stdout.is_terminal() && !plain { Paint::Colour } else { Paint::Plain };
    Screen { width, paint }
}
