//! The installed Slurm in this process: its library, its own topology plugins, and a cluster of a few nodes that exist in
//! memory only.
//!
//! Names and types are those of Slurm 26.05.3 `src/common/{job_record,log,node_conf,read_config,xmalloc,xstring}.h` and
//! `src/plugins/topology/common/eval_nodes.h`. That the installed files are of the release of this program's headers is
//! checked before anything of them is called.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use topology_block::abi::confirmation::release;
use topology_block::abi::{SLURM_VERSION_NUMBER, topology_ctx_t, topology_eval_t};
use topology_block::host::{api, process};

use crate::log_options::{LogInit, LogOptions};
use crate::memory;

/// Nodes of the cluster, in blocks of four.
pub(crate) const NODES: usize = 16;
/// Nodes of each block, the first in the file having the first nodes.
pub(crate) const BLOCK: usize = 4;

/// `State=` of each node in slurm.conf, with the number that `slurm/slurm.h` gives to it.
pub(crate) const STATES: [(&str, u32); NODES] = {
    const IDLE: u32 = 2;
    const DRAIN: u32 = 1 << 9;
    const FAIL: u32 = 1 << 13;
    let mut states = [("UNKNOWN", 0); NODES];
    states[1] = ("DOWN", 1);
    states[3] = ("DRAIN", DRAIN);
    states[6] = ("FAIL", IDLE | FAIL);
    states[10] = ("DOWN", 1);
    states[11] = ("DRAIN", DRAIN);
    states
};

/// `TopologyParam=` of slurm.conf: any word will do that is nowhere else.
pub(crate) const TOPOLOGY_PARAM: &str = "nvlink_confirm_looks_for_this";

/// What is missing or does not work in the installed Slurm.
#[derive(Debug)]
pub(crate) enum SlurmError {
    /// A library cannot be opened.
    Open { file: PathBuf, reason: String },
    /// A function or variable is not there.
    Symbol { name: String },
    /// A file is of another release than this program.
    Release { file: PathBuf, found: u32 },
    /// The configuration for the cluster in memory cannot be written.
    Configuration(std::io::Error),
    /// A step of Slurm's start failed.
    Refused(&'static str),
}

impl fmt::Display for SlurmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { file, reason } => write!(f, "{} cannot be opened: {reason}", file.display()),
            Self::Symbol { name } => write!(f, "this Slurm has no {name}"),
            Self::Release { file, found } => write!(
                f,
                "{} is of Slurm {}, this program of {}: build both against the headers of the installed Slurm",
                file.display(),
                release(*found),
                release(SLURM_VERSION_NUMBER)
            ),
            Self::Configuration(source) => write!(f, "a temporary slurm.conf cannot be written: {source}"),
            Self::Refused(what) => write!(f, "Slurm's own code fails: {what}"),
        }
    }
}

impl std::error::Error for SlurmError {}

type Evaluator = unsafe extern "C" fn(*mut topology_eval_t) -> c_int;

/// Slurm's functions, and where its records are.
pub(crate) struct Slurm {
    /// `topology_p_eval_nodes` of topology/block.
    block: Evaluator,
    /// `topology_p_eval_nodes` of topology/flat.
    flat: Evaluator,
    /// `eval_nodes` of topology/flat: the part that all topology plugins share.
    common: Evaluator,
    remaining_cpus: unsafe extern "C" fn(*mut c_void, c_int) -> i64,
    tasks: unsafe extern "C" fn(*mut c_void, u64, u32) -> u64,
    index_of: unsafe extern "C" fn(*const c_char) -> c_int,
    log: unsafe extern "C" fn(c_int, *const c_char, ...),
    scratch: Scratch,
    size: unsafe extern "C" fn(*mut c_void) -> usize,
    job_create: unsafe extern "C" fn() -> *mut c_void,
    /// Addresses of the node records.
    pub(crate) nodes: Vec<usize>,
    /// Address of Slurm's configuration.
    pub(crate) configuration: usize,
    /// A block topology of the nodes, with stock's model.
    pub(crate) context: usize,
}

impl Slurm {
    /// Starts Slurm's common code as slurmctld does.
    pub(crate) fn start(folder: &Path) -> Result<Self, SlurmError> {
        let library = open(&folder.join("libslurmfull.so"), libc::RTLD_LAZY | libc::RTLD_GLOBAL)?;
        api::load().map_err(|missing| SlurmError::Symbol { name: missing.to_string() })?;
        let block = open_plugin(&folder.join("topology_block.so"))?;
        let flat = open_plugin(&folder.join("topology_flat.so"))?;
        let scratch = Scratch::new().map_err(SlurmError::Configuration)?;
        start_log(library, &scratch)?;
        read_configuration(library, folder, &scratch)?;
        make_nodes(library)?;
        let slurm = Self {
            // SAFETY: the type of this function in every release that has it (the release was checked).
            block: unsafe { function(block, c"topology_p_eval_nodes")? },
            // SAFETY: as above.
            flat: unsafe { function(flat, c"topology_p_eval_nodes")? },
            // SAFETY: as above.
            common: unsafe { function(flat, c"eval_nodes")? },
            // SAFETY: as above.
            remaining_cpus: unsafe { function(flat, c"eval_nodes_get_rem_max_cpus")? },
            // SAFETY: as above.
            tasks: unsafe { function(flat, c"eval_nodes_set_max_tasks")? },
            // SAFETY: as above.
            index_of: unsafe { function(library, c"node_name_get_inx")? },
            // SAFETY: as above.
            log: unsafe { function(library, c"slurm_log_var")? },
            scratch,
            // SAFETY: as above.
            size: unsafe { function(library, c"slurm_xsize")? },
            // SAFETY: as above.
            job_create: unsafe { function(library, c"job_record_create")? },
            nodes: node_records()?,
            configuration: memory::address(symbol(libc::RTLD_DEFAULT, c"slurm_conf")?),
            context: make_context(block)?,
        };
        Ok(slurm)
    }

    /// The GNU build id of the library, found as the plugin finds it.
    pub(crate) fn build_id(&self) -> Option<Vec<u8>> {
        process::slurm_build_id()
    }

    /// A job record with details, as Slurm makes it.
    pub(crate) fn new_job(&self) -> usize {
        // SAFETY: no precondition.
        memory::address(unsafe { (self.job_create)() })
    }

    /// Bytes of a record that Slurm has allocated.
    pub(crate) fn size_of(&self, record: usize) -> usize {
        // SAFETY: the callers pass records that Slurm has allocated.
        unsafe { (self.size)(memory::pointer(record)) }
    }

    /// What Slurm's log says of a job, `JobId=...`; nothing when it says something else.
    pub(crate) fn describe(&self, job: usize) -> String {
        let log = self.scratch.log();
        // What was there before does not matter; a log that cannot be read says nothing.
        let _ = fs::write(&log, "");
        // SAFETY: a format with the one job that it asks for.
        unsafe { (self.log)(LOUDEST, c"%pJ".as_ptr(), memory::pointer::<c_void>(job)) };
        let said = fs::read_to_string(&log).unwrap_or_default();
        said.trim_end().find("JobId=").map_or_else(String::new, |start| said.trim_end()[start..].to_owned())
    }

    /// Slurm's index of a node by name; -1 for none.
    pub(crate) fn index_of(&self, name: &CStr) -> c_int {
        // SAFETY: a C string.
        unsafe { (self.index_of)(name.as_ptr()) }
    }

    /// `eval_nodes_get_rem_max_cpus`: the CPUs that a job with these details may still get on so many nodes.
    pub(crate) fn remaining_cpus(&self, details: usize, nodes: c_int) -> i64 {
        // SAFETY: the function reads numbers of the details, and the callers pass memory as long as details are.
        unsafe { (self.remaining_cpus)(memory::pointer(details), nodes) }
    }

    /// `eval_nodes_set_max_tasks`: tasks that a job can have with so many CPUs on one node.
    pub(crate) fn tasks(&self, job: usize, cpus: u64) -> u64 {
        // SAFETY: the function reads numbers of the job's details, and the callers pass a job of Slurm's.
        unsafe { (self.tasks)(memory::pointer(job), cpus, 1) }
    }

    /// Has one of Slurm's evaluators answer.
    ///
    /// # Safety
    /// May crash; the evaluation is as far as known what Slurm itself passes.
    pub(crate) unsafe fn evaluate(&self, evaluator: By, eval: *mut topology_eval_t) -> c_int {
        let function = match evaluator {
            By::Block => self.block,
            By::Flat => self.flat,
            By::Common => self.common,
        };
        // SAFETY: by the caller's word.
        unsafe { function(eval) }
    }
}

/// Which of Slurm's evaluators answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// topology/block.
    Block,
    /// topology/flat.
    Flat,
    /// What both share, which calls a plugin's own function.
    Common,
}

/// Opens a plugin of Slurm's and checks its release.
fn open_plugin(file: &Path) -> Result<*mut c_void, SlurmError> {
    let plugin = open(file, libc::RTLD_LAZY | libc::RTLD_LOCAL)?;
    let version = symbol(plugin, c"plugin_version")?.cast::<u32>();
    // SAFETY: every plugin of Slurm exports its version as a u32.
    let found = unsafe { *version };
    if found == SLURM_VERSION_NUMBER {
        Ok(plugin)
    } else {
        Err(SlurmError::Release { file: file.into(), found })
    }
}

/// Errors only (`LOG_LEVEL_ERROR`): the trials make Slurm say much that is not so.
const LOUDEST: c_int = 2;

/// Slurm's log goes into a file of ours.
fn start_log(library: *mut c_void, scratch: &Scratch) -> Result<(), SlurmError> {
    let options = LogOptions { logfile_level: LOUDEST, ..LogOptions::QUIET };
    // SAFETY: the type of this function.
    let init: LogInit = unsafe { function(library, c"slurm_log_init")? };
    let file = c_path(&scratch.log())?;
    // SAFETY: two C strings, and the options by value.
    unsafe { init(c"slurm-nvlink-confirm".as_ptr(), options, libc::LOG_DAEMON, file.as_ptr()) };
    Ok(())
}

/// A folder of our own that goes away with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let template = std::env::temp_dir().join("slurm-nvlink-confirm-XXXXXX");
        let mut template = CString::new(template.into_os_string().into_vec())?.into_bytes_with_nul();
        // SAFETY: a C string that ends in six X, which the call replaces.
        let made = unsafe { libc::mkdtemp(template.as_mut_ptr().cast()) };
        if made.is_null() {
            return Err(std::io::Error::last_os_error());
        }
        template.pop();
        Ok(Self(PathBuf::from(std::ffi::OsString::from_vec(template))))
    }

    fn log(&self) -> PathBuf {
        self.0.join("log")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is a small file in a temporary folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn read_configuration(library: *mut c_void, plugins: &Path, scratch: &Scratch) -> Result<(), SlurmError> {
    let file = scratch.0.join("slurm.conf");
    fs::write(&file, configuration(plugins)).map_err(SlurmError::Configuration)?;
    let file =
        CString::new(file.as_os_str().as_bytes()).map_err(|error| SlurmError::Configuration(error.into()))?;
    // SAFETY: the type of this function.
    let init: unsafe extern "C" fn(*const c_char) -> c_int =
        unsafe { function(library, c"slurm_conf_init")? };
    // SAFETY: a C string; called once, before anything else reads the configuration.
    let rc = unsafe { init(file.as_ptr()) };
    if rc == 0 { Ok(()) } else { Err(SlurmError::Refused("slurm_conf_init")) }
}

fn configuration(plugins: &Path) -> String {
    let mut text = format!(
        "ClusterName=confirm\nSlurmctldHost=localhost\nSlurmUser=root\nAuthType=auth/none\nCredType=cred/none\n\
         PluginDir={}\nTopologyPlugin=topology/block\nTopologyParam={TOPOLOGY_PARAM}\nSelectType=select/cons_tres\nSelectTypeParameters=CR_Core\n",
        plugins.display()
    );
    for (number, (state, _)) in (1..).zip(STATES) {
        text.push_str(&format!("NodeName=n{number} CPUs=4 State={state}\n"));
    }
    text + "PartitionName=all Nodes=ALL Default=YES\n"
}

fn make_nodes(library: *mut c_void) -> Result<(), SlurmError> {
    type Nothing = unsafe extern "C" fn();
    // SAFETY: the type of this function.
    let init: Nothing = unsafe { function(library, c"init_node_conf")? };
    // SAFETY: the configuration is read.
    unsafe { init() };
    type Build = unsafe extern "C" fn(bool, c_int) -> c_int;
    // SAFETY: the type of this function.
    let build: Build = unsafe { function(library, c"build_all_nodeline_info")? };
    // SAFETY: the configuration is read and the node table empty.
    let rc = unsafe { build(false, 0) };
    if rc != 0 {
        return Err(SlurmError::Refused("build_all_nodeline_info"));
    }
    // SAFETY: the type of this function.
    let rehash: Nothing = unsafe { function(library, c"rehash_node")? };
    // SAFETY: the node table is complete.
    unsafe { rehash() };
    Ok(())
}

/// The node table: this program has no copies of these variables, so all of Slurm's code uses the library's own.
fn node_records() -> Result<Vec<usize>, SlurmError> {
    let count = symbol(libc::RTLD_DEFAULT, c"node_record_count")?.cast::<c_int>();
    // SAFETY: the library's variable.
    let count = unsafe { *count };
    let table = symbol(libc::RTLD_DEFAULT, c"node_record_table_ptr")?.cast::<*mut *mut c_void>();
    // SAFETY: the library's variable.
    let table = unsafe { *table };
    if table.is_null() || usize::try_from(count) != Ok(NODES) {
        return Err(SlurmError::Refused("the node table is not that of its configuration"));
    }
    // SAFETY: the table has as many places as it counts.
    let records =
        (0..NODES).map(|index| memory::address(unsafe { *table.wrapping_add(index) })).collect::<Vec<_>>();
    if records.contains(&0) { Err(SlurmError::Refused("a node has no record")) } else { Ok(records) }
}

/// A block topology of the nodes, as Slurm would make it from a topology.yaml, with stock's model of it.
fn make_context(block: *mut c_void) -> Result<usize, SlurmError> {
    use topology_block::abi::{slurm_conf_block_t, topology_block_config_t};
    let blocks: Vec<slurm_conf_block_t> = (0..NODES / BLOCK)
        .map(|block| slurm_conf_block_t {
            block_name: memory::pointer(memory::text(&format!("b{block}"))),
            nodes: memory::pointer(memory::text(&format!(
                "n[{}-{}]",
                BLOCK * block + 1,
                BLOCK * (block + 1)
            ))),
        })
        .collect();
    let config = Box::leak(Box::new(topology_block_config_t {
        config_cnt: c_int::try_from(blocks.len()).unwrap_or(0),
        block_configs: blocks.leak().as_mut_ptr(),
        block_sizes: std::ptr::null_mut(),
    }));
    let context = Box::leak(Box::new(topology_ctx_t {
        cluster_default: true,
        config: (&raw mut *config).cast(),
        idx: 0,
        name: memory::pointer(memory::text("confirm")),
        plugin: memory::pointer(memory::text("topology/block")),
        topo_conf: std::ptr::null_mut(),
        plugin_ctx: std::ptr::null_mut(),
    }));
    type Build = unsafe extern "C" fn(*mut topology_ctx_t) -> c_int;
    // SAFETY: the type of this function.
    let build: Build = unsafe { function(block, c"topology_p_build_config")? };
    // SAFETY: a context without a model, which lives on; its nodes exist.
    let rc = unsafe { build(context) };
    if rc == 0 { Ok(memory::address(context)) } else { Err(SlurmError::Refused("topology_p_build_config")) }
}

fn c_path(file: &Path) -> Result<CString, SlurmError> {
    CString::new(file.as_os_str().as_bytes()).map_err(|error| SlurmError::Configuration(error.into()))
}

fn open(file: &Path, flags: c_int) -> Result<*mut c_void, SlurmError> {
    let failed = |reason: String| SlurmError::Open { file: file.to_path_buf(), reason };
    let path = CString::new(file.as_os_str().as_bytes()).map_err(|error| failed(error.to_string()))?;
    // SAFETY: a C string; the constructors of Slurm's libraries ask for nothing.
    let handle = unsafe { libc::dlopen(path.as_ptr(), flags) };
    if handle.is_null() {
        // SAFETY: no precondition.
        let reason = unsafe { libc::dlerror() };
        // SAFETY: after a failure this is a C string.
        let reason = unsafe { CStr::from_ptr(reason) };
        return Err(failed(reason.to_string_lossy().into_owned()));
    }
    Ok(handle)
}

fn symbol(library: *mut c_void, name: &CStr) -> Result<*mut c_void, SlurmError> {
    // SAFETY: an open library and a C string.
    let address = unsafe { libc::dlsym(library, name.as_ptr()) };
    if address.is_null() {
        return Err(SlurmError::Symbol { name: name.to_string_lossy().into_owned() });
    }
    Ok(address)
}

/// A function by name.
///
/// # Safety
/// `F` is the type of the function of this name.
unsafe fn function<F: Copy>(library: *mut c_void, name: &CStr) -> Result<F, SlurmError> {
    assert_eq!(size_of::<F>(), size_of::<*mut c_void>(), "a function's address");
    let address = symbol(library, name)?;
    // SAFETY: function pointers are as large as addresses, and the caller vouches for the type.
    Ok(unsafe { std::mem::transmute_copy::<*mut c_void, F>(&address) })
}
