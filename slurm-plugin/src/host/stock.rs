//! Slurm's own topology plugins, to which every doubt is delegated.
//!
//! `topology_block.so` answers whatever we do not answer ourselves; `topology_flat.so` chooses cores and GRES on the
//! nodes that we have chosen. Both are opened with RTLD_LAZY as Slurm itself opens plugins: outside slurmctld some of
//! their functions cannot be bound, and are never called.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::abi::confirmation::release;
use crate::abi::{
    SLURM_VERSION_NUMBER, bitstr_t, buf_t, hostlist_t, node_record_t, topology_ctx_t, topology_data,
    topology_eval_t,
};

/// Why Slurm's own plugins cannot be used.
#[derive(Debug)]
pub enum StockError {
    /// The folder of Slurm's plugins is not known.
    NoFolder,
    /// The file could not be opened as a library.
    Open {
        /// The plugin's file.
        file: PathBuf,
        /// The loader's words.
        reason: String,
    },
    /// The library lacks a function.
    Symbol {
        /// The plugin's file.
        file: PathBuf,
        /// What it lacks.
        name: &'static CStr,
    },
    /// The library belongs to another release than this plugin was built for.
    Version {
        /// The plugin's file.
        file: PathBuf,
        /// Its `plugin_version`.
        version: u32,
    },
}

impl fmt::Display for StockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFolder => write!(f, "the folder of Slurm's own plugins cannot be found"),
            Self::Open { file, reason } => write!(f, "{} cannot be opened: {reason}", file.display()),
            Self::Symbol { file, name } => write!(f, "{} has no {}", file.display(), name.to_string_lossy()),
            Self::Version { file, version } => write!(
                f,
                "{} is of Slurm {}, this plugin of {}",
                file.display(),
                release(*version),
                release(SLURM_VERSION_NUMBER)
            ),
        }
    }
}

impl std::error::Error for StockError {}

/// An open library. It stays open for the life of the process, as Slurm's own plugins do in the daemons.
struct Library {
    handle: *mut c_void,
    file: PathBuf,
}

impl Library {
    fn open(folder: &Path, name: &str) -> Result<Self, StockError> {
        let file = folder.join(name);
        let unreadable = |reason: String| StockError::Open { file: file.clone(), reason };
        let path =
            CString::new(file.as_os_str().as_bytes()).map_err(|error| unreadable(error.to_string()))?;
        // SAFETY: the path is NUL terminated; the constructors of Slurm's plugins do nothing.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_LOCAL) };
        if handle.is_null() {
            return Err(unreadable(last_error()));
        }
        let library = Self { handle, file };
        let version = library.symbol(c"plugin_version")?.cast::<u32>();
        // SAFETY: every Slurm plugin exports its version as a u32 constant.
        let version = unsafe { *version };
        if version != SLURM_VERSION_NUMBER {
            return Err(StockError::Version { file: library.file, version });
        }
        Ok(library)
    }

    fn symbol(&self, name: &'static CStr) -> Result<*mut c_void, StockError> {
        // SAFETY: the handle is open and the name NUL terminated.
        let address = unsafe { libc::dlsym(self.handle, name.as_ptr()) };
        if address.is_null() {
            return Err(StockError::Symbol { file: self.file.clone(), name });
        }
        Ok(address)
    }
}

fn last_error() -> String {
    // SAFETY: dlerror has no precondition.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "no reason given".to_owned();
    }
    // SAFETY: a non-NULL answer is a C string that lives until the next dl call of this thread.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

macro_rules! stock {
    ($( $field:ident = $name:literal : fn($($arg:ty),*) $(-> $ret:ty)? ; )*) => {
        /// The functions of Slurm's own `topology_block.so`, and the evaluator of its `topology_flat.so`.
        pub(crate) struct Stock {
            $( pub(crate) $field: unsafe extern "C" fn($($arg),*) $(-> $ret)?, )*
            pub(crate) flat_eval_nodes: unsafe extern "C" fn(*mut topology_eval_t) -> c_int,
        }

        impl Stock {
            fn open(folder: &Path) -> Result<Self, StockError> {
                let block = Library::open(folder, "topology_block.so")?;
                let flat = Library::open(folder, "topology_flat.so")?;
                $( let $field = block.symbol($name)?; )*
                let flat_eval_nodes = flat.symbol(c"topology_p_eval_nodes")?;
                Ok(Self {
                    // SAFETY: the release was checked, and in it the function has this type
                    // (Slurm 26.05.3 src/interfaces/topology.c, slurm_topo_ops_t).
                    $( $field: unsafe {
                        std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($arg),*) $(-> $ret)?>($field)
                    }, )*
                    // SAFETY: as above.
                    flat_eval_nodes: unsafe {
                        std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut topology_eval_t) -> c_int>(
                            flat_eval_nodes,
                        )
                    },
                })
            }
        }
    };
}

stock! {
    add_rm_node = c"topology_p_add_rm_node": fn(*mut node_record_t, *mut c_char, *mut topology_ctx_t) -> c_int;
    allow_one_node = c"topology_p_allow_one_node": fn(*mut c_void) -> bool;
    build_config = c"topology_p_build_config": fn(*mut topology_ctx_t) -> c_int;
    destroy_config = c"topology_p_destroy_config": fn(*mut topology_ctx_t) -> c_int;
    eval_node = c"topology_p_eval_node": fn(*mut topology_eval_t, c_int) -> c_int;
    eval_nodes = c"topology_p_eval_nodes": fn(*mut topology_eval_t) -> c_int;
    whole_topo = c"topology_p_whole_topo": fn(*mut bitstr_t, *mut c_void) -> c_int;
    get_bitmap = c"topology_p_get_bitmap": fn(*mut c_char, *mut c_void) -> *mut bitstr_t;
    generate_node_ranking = c"topology_p_generate_node_ranking": fn(*mut topology_ctx_t) -> bool;
    get_node_addr = c"topology_p_get_node_addr":
        fn(*mut c_char, *mut *mut c_char, *mut *mut c_char, *mut c_void) -> c_int;
    split_hostlist = c"topology_p_split_hostlist":
        fn(*mut hostlist_t, *mut *mut *mut hostlist_t, *mut c_int, u16, *mut c_void) -> c_int;
    get = c"topology_p_get": fn(topology_data, *mut c_void, *mut c_void) -> c_int;
    topoinfo_free = c"topology_p_topoinfo_free": fn(*mut c_void) -> c_int;
    topoinfo_pack = c"topology_p_topoinfo_pack": fn(*mut c_void, *mut buf_t, u16) -> c_int;
    topoinfo_print = c"topology_p_topoinfo_print":
        fn(*mut c_void, *mut c_char, *mut c_char, *mut *mut c_char) -> c_int;
    topoinfo_unpack = c"topology_p_topoinfo_unpack": fn(*mut *mut c_void, *mut buf_t, u16) -> c_int;
    jobinfo_free = c"topology_p_jobinfo_free": fn(*mut c_void);
    jobinfo_pack = c"topology_p_jobinfo_pack": fn(*mut c_void, *mut buf_t, u16);
    jobinfo_unpack = c"topology_p_jobinfo_unpack": fn(*mut *mut c_void, *mut buf_t, u16) -> c_int;
    jobinfo_get = c"topology_p_jobinfo_get": fn(u32, *mut c_void, *mut c_void) -> c_int;
    get_fragmentation = c"topology_p_get_fragmentation": fn(*mut bitstr_t, *mut c_void) -> u32;
    get_topology_str = c"topology_p_get_topology_str": fn(*mut node_record_t, *mut *mut c_char, *mut topology_ctx_t);
    get_rank = c"topology_p_get_rank": fn(*mut bitstr_t, *mut *mut u32, *mut u32, *mut c_void) -> c_int;
}

static STOCK: OnceLock<Stock> = OnceLock::new();

/// Opens Slurm's own plugins. Called by `init()`.
///
/// # Errors
/// What is missing or does not fit; the plugin must then refuse.
pub fn load(folder: &Path) -> Result<(), StockError> {
    if STOCK.get().is_none() {
        let stock = Stock::open(folder)?;
        // A second thread that came first opened the same files.
        let _ = STOCK.set(stock);
    }
    Ok(())
}

/// Slurm's own functions. As for [`super::api::api`], `init()` made sure of them.
pub(crate) fn stock() -> &'static Stock {
    match STOCK.get() {
        Some(stock) => stock,
        None => panic!("an entry point was called before init()"),
    }
}
