//! Return codes (`nvmlReturn_t`, NVML 13) that the simulated library gives, and their texts.
#![forbid(unsafe_code)]

use std::ffi::CStr;

/// An `nvmlReturn_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Code(pub u32);

impl Code {
    /// The call worked.
    pub const SUCCESS: Code = Code(0);
    /// `nvmlInit_v2` was not called, or failed.
    pub const UNINITIALIZED: Code = Code(1);
    /// A null pointer or a handle that is none.
    pub const INVALID_ARGUMENT: Code = Code(2);
    /// The GPU cannot do this.
    pub const NOT_SUPPORTED: Code = Code(3);
    /// The caller's buffer is too short.
    pub const INSUFFICIENT_SIZE: Code = Code(7);
    /// The driver has no such function.
    pub const FUNCTION_NOT_FOUND: Code = Code(13);
    /// The structure's version is not one that the driver knows.
    pub const ARGUMENT_VERSION_MISMATCH: Code = Code(25);
    /// Anything else, here also a caught panic or an unreadable settings file.
    pub const UNKNOWN: Code = Code(999);

    /// The text that `nvmlErrorString` gives; every text says that the library is simulated.
    pub fn text(self) -> &'static CStr {
        match self.0 {
            0 => c"success (simulated NVML)",
            1 => c"not initialized (simulated NVML)",
            2 => c"invalid argument (simulated NVML)",
            3 => c"not supported (simulated NVML)",
            4 => c"no permission (simulated NVML)",
            6 => c"not found (simulated NVML)",
            7 => c"buffer too short (simulated NVML)",
            9 => c"driver not loaded (simulated NVML)",
            10 => c"timeout (simulated NVML)",
            12 => c"library not found (simulated NVML)",
            13 => c"function not found (simulated NVML)",
            15 => c"GPU is lost (simulated NVML)",
            18 => c"driver and library version differ (simulated NVML)",
            25 => c"argument version mismatch (simulated NVML)",
            _ => c"unknown error (simulated NVML)",
        }
    }
}
