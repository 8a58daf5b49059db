//! Slurm's own log, with the level tested before anything is formatted.

use std::ffi::{CString, c_int};

use super::api;

/// Slurm's log levels (`log_level_t`, Slurm 26.05.3 `src/common/log.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
#[expect(missing_docs, reason = "the names are Slurm's")]
pub enum Level {
    Error = 2,
    Info = 3,
    Verbose = 4,
    Debug = 5,
}

/// Whether a line of this level would be written by any of Slurm's sinks.
pub fn enabled(level: Level) -> bool {
    let Some(api) = api::get() else { return false };
    // SAFETY: the function reads one integer and has no precondition.
    let highest = unsafe { (api.get_log_level)() };
    highest >= level as c_int
}

/// Writes one line. Before `load()` there is no log, and the line is dropped.
pub fn write(level: Level, line: &str) {
    let Some(api) = api::get() else { return };
    let Ok(line) = CString::new(line.replace('\0', " ")) else { return };
    // SAFETY: the format is a constant with one string, and one string is given.
    unsafe { (api.log_var)(level as c_int, c"topology_block: %s".as_ptr(), line.as_ptr()) }
}

/// Formats and writes a line of the given level when Slurm wants it.
#[macro_export]
macro_rules! slurm_log {
    ($level:ident, $($words:tt)+) => {
        if $crate::host::log::enabled($crate::host::log::Level::$level) {
            $crate::host::log::write($crate::host::log::Level::$level, &format!($($words)+));
        }
    };
}
