//! The real Slurm in this process: `libslurmfull.so`, opened at run time, and the few of its functions that are needed.
//!
//! Names and types are those of Slurm 26.05.3 `src/common/{log,node_conf,read_config}.h` and
//! `src/interfaces/topology.h`; the caller has checked that the library is of the known build.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use lab::layout::{Member, node};

use crate::gres::Gres;
use crate::log_options::{LogInit, LogOptions};
use crate::words::Words;

/// `IS_SLURMCTLD`: what a process is for `running_in_slurmctld()`.
const IS_SLURMCTLD: u32 = 1 << 3;

type Evaluator = unsafe extern "C" fn(*mut c_void) -> c_int;

/// A running Slurm with a node table and a topology.
pub(crate) struct Slurm {
    evaluate: Evaluator,
    evaluate_flat: Evaluator,
    add_rm_node: Evaluator,
    library: *mut c_void,
    nodes: Vec<*mut u8>,
    /// GPUs, where nodes have them.
    pub(crate) gres: Option<Gres>,
    /// How long the plugin took for its model.
    pub(crate) build_time: Duration,
}

impl Slurm {
    /// Starts Slurm's common code as slurmctld does.
    pub(crate) fn start(
        folder: &Path,
        configuration: &Path,
        log_level: c_int,
        gpus: u16,
    ) -> anyhow::Result<Self> {
        let library = open(&folder.join("libslurmfull.so"), libc::RTLD_LAZY | libc::RTLD_GLOBAL)?;
        let options = LogOptions { stderr_level: log_level, prefix_level: true, ..LogOptions::QUIET };
        // SAFETY: the type of log_init.
        let log_init: LogInit = unsafe { std::mem::transmute(symbol(library, c"log_init")?) };
        // SAFETY: a C string, the options by value, and no log file.
        unsafe { log_init(c"lab-host".as_ptr(), options, libc::LOG_DAEMON, std::ptr::null()) };

        let file = CString::new(configuration.as_os_str().as_bytes())?;
        type ConfInit = unsafe extern "C" fn(*const c_char) -> c_int;
        // SAFETY: the type of slurm_conf_init.
        let conf_init: ConfInit = unsafe { std::mem::transmute(symbol(library, c"slurm_conf_init")?) };
        // SAFETY: a C string; called once, before anything else reads the configuration.
        ensure!(unsafe { conf_init(file.as_ptr()) } == 0, "Slurm does not accept its configuration");

        if gpus > 0 {
            // Before the node table: it takes only the GRES that Slurm knows.
            ensure!(call_int(library, c"gres_init")? == 0, "Slurm cannot start its GRES code");
        }
        call(library, c"init_node_conf")?;
        type BuildNodes = unsafe extern "C" fn(bool, c_int) -> c_int;
        // SAFETY: the type of build_all_nodeline_info.
        let build: BuildNodes = unsafe { std::mem::transmute(symbol(library, c"build_all_nodeline_info")?) };
        // Only slurmctld and slurmd keep the nodes' GRES.
        let daemon = symbol(library, c"slurm_daemon")?.cast::<u32>();
        // SAFETY: the library's variable; there is one thread.
        unsafe { daemon.write(IS_SLURMCTLD) };
        // SAFETY: the configuration is read and the node table empty.
        let built = unsafe { build(false, 0) };
        // SAFETY: as above. Later code would look for the whole of slurmctld.
        unsafe { daemon.write(0) };
        ensure!(built == 0, "Slurm cannot build the node table");
        call(library, c"rehash_node")?;
        ensure!(call_int(library, c"topology_g_init")? == 0, "no topology plugin was loaded");
        let begin = Instant::now();
        ensure!(call_int(library, c"topology_g_build_config")? == 0, "the plugin built no model");
        let build_time = begin.elapsed();

        let flat = open(&folder.join("topology_flat.so"), libc::RTLD_LAZY | libc::RTLD_LOCAL)?;
        let nodes = node_table()?;
        let gres = (gpus > 0).then(|| Gres::start(library, folder, &nodes, gpus)).transpose()?;
        Ok(Self {
            library,
            gres,
            // SAFETY: the type of topology_g_add_rm_node.
            add_rm_node: unsafe {
                std::mem::transmute::<*mut c_void, Evaluator>(symbol(library, c"topology_g_add_rm_node")?)
            },
            // SAFETY: the type of topology_g_eval_nodes.
            evaluate: unsafe {
                std::mem::transmute::<*mut c_void, Evaluator>(symbol(library, c"topology_g_eval_nodes")?)
            },
            // SAFETY: the type of topology_p_eval_nodes.
            evaluate_flat: unsafe {
                std::mem::transmute::<*mut c_void, Evaluator>(symbol(flat, c"topology_p_eval_nodes")?)
            },
            nodes,
            build_time,
        })
    }

    pub(crate) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// A node's record.
    pub(crate) fn record(&self, index: usize) -> *mut c_void {
        self.nodes[index].cast()
    }

    /// The address of a function of Slurm's library.
    pub(crate) fn function(&self, name: &CStr) -> anyhow::Result<*mut c_void> {
        symbol(self.library, name)
    }

    /// Writes a member of a node's record.
    pub(crate) fn put(&self, index: usize, (offset, size): Member, value: u64) {
        let place = self.nodes[index].wrapping_add(offset);
        let bytes = value.to_le_bytes();
        // SAFETY: the record is live, of the known layout (its magic was checked), and used by this thread alone.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, size) };
    }

    /// Puts a node where its `topology_str` says, as an update of the node does.
    pub(crate) fn move_node(&self, index: usize) -> c_int {
        // SAFETY: a live node record.
        unsafe { (self.add_rm_node)(self.nodes[index].cast()) }
    }

    /// Destroys the plugin's model and builds it again.
    pub(crate) fn rebuild(&self) -> anyhow::Result<c_int> {
        let destroyed = call_int(self.library, c"topology_g_destroy_config")?;
        let built = call_int(self.library, c"topology_g_build_config")?;
        Ok(if destroyed == 0 { built } else { destroyed })
    }

    /// Slurm's `topology_g_eval_nodes`.
    pub(crate) fn evaluate(&self, eval: &Words) -> c_int {
        // SAFETY: the evaluation and all behind it live in words that `Question` keeps, in the known layout.
        unsafe { (self.evaluate)(eval.pointer()) }
    }

    /// Slurm's flat evaluator.
    pub(crate) fn evaluate_flat(&self, eval: &Words) -> c_int {
        // SAFETY: as above; the flat evaluator needs no topology context.
        unsafe { (self.evaluate_flat)(eval.pointer()) }
    }
}

/// The node table, each record checked by its magic.
fn node_table() -> anyhow::Result<Vec<*mut u8>> {
    // This program has no copies of these variables, so Slurm's library and plugins all use the library's own.
    let count = symbol(libc::RTLD_DEFAULT, c"node_record_count")?.cast::<c_int>();
    // SAFETY: the library's variable.
    let count = usize::try_from(unsafe { count.read() })?;
    let table = symbol(libc::RTLD_DEFAULT, c"node_record_table_ptr")?.cast::<*mut *mut u8>();
    // SAFETY: the library's variable.
    let table = unsafe { table.read() };
    ensure!(!table.is_null(), "Slurm has no node table");
    let mut nodes = Vec::with_capacity(count);
    for index in 0..count {
        // SAFETY: the table has `count` places.
        let record = unsafe { table.wrapping_add(index).read() };
        ensure!(!record.is_null(), "node {index} has no record");
        // SAFETY: a record is far longer than the offset of its magic.
        let magic = unsafe { record.wrapping_add(node::MAGIC.0).cast::<u32>().read() };
        ensure!(u64::from(magic) == node::MAGIC_VALUE, "node {index} has a record of another layout");
        nodes.push(record);
    }
    Ok(nodes)
}

pub(crate) fn open(file: &Path, flags: c_int) -> anyhow::Result<*mut c_void> {
    let path = CString::new(file.as_os_str().as_bytes())?;
    // SAFETY: a C string; the constructors of Slurm's libraries ask for nothing.
    let handle = unsafe { libc::dlopen(path.as_ptr(), flags) };
    if handle.is_null() {
        // SAFETY: no precondition.
        let reason = unsafe { libc::dlerror() };
        // SAFETY: after a failure this is a C string.
        let reason = unsafe { CStr::from_ptr(reason) }.to_string_lossy().into_owned();
        bail!("cannot open {}: {reason}", file.display());
    }
    Ok(handle)
}

pub(crate) fn symbol(library: *mut c_void, name: &CStr) -> anyhow::Result<*mut c_void> {
    // SAFETY: an open library and a C string.
    let address = unsafe { libc::dlsym(library, name.as_ptr()) };
    (!address.is_null()).then_some(address).with_context(|| format!("no {}", name.to_string_lossy()))
}

/// Calls a function that takes and gives nothing.
fn call(library: *mut c_void, name: &CStr) -> anyhow::Result<()> {
    let address = symbol(library, name)?;
    // SAFETY: the callers name functions of this type.
    let function = unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn()>(address) };
    // SAFETY: called in the order of slurmctld's start.
    unsafe { function() };
    Ok(())
}

/// Calls a function that takes nothing and gives a return code.
pub(crate) fn call_int(library: *mut c_void, name: &CStr) -> anyhow::Result<c_int> {
    let address = symbol(library, name)?;
    // SAFETY: the callers name functions of this type.
    let function = unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(address) };
    // SAFETY: called in the order of slurmctld's start.
    Ok(unsafe { function() })
}
