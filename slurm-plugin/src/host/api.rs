//! The table of Slurm's functions and data that the plugin uses.
//!
//! Names are those that `libslurmfull.so` exports in every release from 25.05 on; signatures from Slurm 26.05.3
//! (`src/common/{bitstring,hostlist,list,log,node_conf,xmalloc,xstring}.h`). What is slurmctld's alone is there in slurmctld
//! only (`src/slurmctld/slurmctld.h`, the same in these releases).

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::sync::OnceLock;

use crate::abi::{bitstr_t, hostlist_t, job_record_t, list_t, node_record_t};

/// What is called for each member of a Slurm list, with an argument; negative to stop.
type ListFunction = unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int;

/// A name that the running Slurm does not offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingSymbol(&'static CStr);

impl fmt::Display for MissingSymbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this Slurm has no symbol {}", self.0.to_string_lossy())
    }
}

impl std::error::Error for MissingSymbol {}

/// Address of a symbol in the global scope of the process: the executable's copy wins over the library's, as it must
/// for the data that slurmctld holds copies of.
fn address_of(name: &'static CStr) -> Result<*mut c_void, MissingSymbol> {
    // SAFETY: `name` is NUL terminated; RTLD_DEFAULT is valid in every process.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if address.is_null() { Err(MissingSymbol(name)) } else { Ok(address) }
}

macro_rules! api {
    (
        functions { $( $field:ident = $name:literal : fn($($arg:ty),* $(, @$dots:tt)?) $(-> $ret:ty)? ; )* }
        data { $( $data:ident = $data_name:literal : $data_type:ty ; )* }
        functions of slurmctld {
            $( $call:ident = $call_name:literal : fn($($call_arg:ty),*) -> $call_ret:ty ; )*
        }
        data of slurmctld { $( $theirs:ident = $theirs_name:literal : $theirs_type:ty ; )* }
    ) => {
        /// Slurm's functions and data, by address.
        pub(crate) struct Api {
            $( pub(crate) $field: unsafe extern "C" fn($($arg),* $(, $dots)?) $(-> $ret)?, )*
            $( pub(crate) $data: *mut $data_type, )*
            $( pub(crate) $call: Option<unsafe extern "C" fn($($call_arg),*) -> $call_ret>, )*
            $( pub(crate) $theirs: Option<*mut $theirs_type>, )*
        }

        impl Api {
            fn resolve() -> Result<Self, MissingSymbol> {
                $( let $field = address_of($name)?; )*
                $( let $data = address_of($data_name)?; )*
                Ok(Self {
                    // SAFETY: libslurmfull exports a function of this name and type (see the module's note).
                    $( $field: unsafe {
                        std::mem::transmute::<
                            *mut c_void,
                            unsafe extern "C" fn($($arg),* $(, $dots)?) $(-> $ret)?,
                        >($field)
                    }, )*
                    $( $data: $data.cast(), )*
                    // SAFETY: slurmctld exports a function of this name and type (see the module's note).
                    $( $call: address_of($call_name).ok().map(|call| unsafe {
                        std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($call_arg),*) -> $call_ret>(call)
                    }), )*
                    $( $theirs: address_of($theirs_name).ok().map(|place| place.cast()), )*
                })
            }
        }
    };
}

api! {
    functions {
        log_var = c"slurm_log_var": fn(c_int, *const c_char, @...);
        get_log_level = c"slurm_get_log_level": fn() -> c_int;

        xcalloc = c"slurm_xcalloc":
            fn(usize, usize, bool, bool, *const c_char, c_int, *const c_char) -> *mut c_void;
        xfree = c"slurm_xfree": fn(*mut *mut c_void);

        xstrdup = c"slurm_xstrdup": fn(*const c_char) -> *mut c_char;

        bit_alloc = c"slurm_bit_alloc": fn(i64) -> *mut bitstr_t;
        bit_free = c"slurm_bit_free": fn(*mut *mut bitstr_t);

        list_for_each_ro = c"slurm_list_for_each_ro": fn(*mut list_t, ListFunction, *mut c_void) -> c_int;

        hostlist_create = c"slurm_hostlist_create": fn(*const c_char) -> *mut hostlist_t;
        hostlist_destroy = c"slurm_hostlist_destroy": fn(*mut hostlist_t);

        node_name2bitmap = c"slurm_node_name2bitmap":
            fn(*mut c_char, bool, *mut *mut bitstr_t, *mut *mut hostlist_t) -> c_int;
        bitmap2node_name = c"slurm_bitmap2node_name": fn(*mut bitstr_t) -> *mut c_char;
    }
    data {
        node_record_table = c"node_record_table_ptr": *mut *mut node_record_t;
        node_record_count = c"node_record_count": c_int;
        slurm_conf = c"slurm_conf": c_void;
    }
    functions of slurmctld {
        find_job_record = c"find_job_record": fn(u32) -> *mut job_record_t;
    }
    data of slurmctld {
        avail_node_bitmap = c"avail_node_bitmap": *const bitstr_t;
        idle_node_bitmap = c"idle_node_bitmap": *const bitstr_t;
        job_list = c"job_list": *mut list_t;
    }
}

// SAFETY: the table holds addresses only; what is behind them is guarded by Slurm's own locks, which Slurm holds while
// it calls a topology plugin.
unsafe impl Send for Api {}
// SAFETY: as above; the table itself never changes after it was made.
unsafe impl Sync for Api {}

static API: OnceLock<Api> = OnceLock::new();

/// Looks up every symbol. Called first of all by `init()`.
///
/// # Errors
/// The first name that this process does not have.
pub fn load() -> Result<(), MissingSymbol> {
    if API.get().is_none() {
        let api = Api::resolve()?;
        // A second thread that came first resolved the same addresses.
        let _ = API.set(api);
    }
    Ok(())
}

/// The table, once [`load`] succeeded.
pub(crate) fn get() -> Option<&'static Api> {
    API.get()
}

/// The table. Slurm calls no entry point of a plugin whose `init()` failed, so there always is one behind the wall;
/// the wall turns the panic into a delegated call should that ever be wrong.
pub(crate) fn api() -> &'static Api {
    match API.get() {
        Some(api) => api,
        None => panic!("an entry point was called before init()"),
    }
}
