//! How Slurm's log is started. The lab's host (`tests/lab`) has it from this file, too.
//!
//! Names and types are those of Slurm 26.05.3 `src/common/log.h`.

use std::ffi::{c_char, c_int};

/// `log_options_t`.
#[repr(C)]
pub(crate) struct LogOptions {
    pub(crate) stderr_level: c_int,
    pub(crate) syslog_level: c_int,
    pub(crate) logfile_level: c_int,
    pub(crate) prefix_level: bool,
    pub(crate) buffered: bool,
    pub(crate) raw: bool,
    pub(crate) logfile_format: c_int,
}

impl LogOptions {
    /// Nothing is logged anywhere.
    pub(crate) const QUIET: Self = Self {
        stderr_level: 0,
        syslog_level: 0,
        logfile_level: 0,
        prefix_level: false,
        buffered: false,
        raw: false,
        logfile_format: 0,
    };
}

/// `log_init`: name of the program, options, syslog's facility, log file or NULL.
pub(crate) type LogInit = unsafe extern "C" fn(*const c_char, LogOptions, c_int, *const c_char) -> c_int;
