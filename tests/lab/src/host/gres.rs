//! GPUs as slurmctld keeps them, by Slurm's own code: a registration for each node, the job's list, and for each
//! evaluation what every node can give to the job.
//!
//! Names and types are those of Slurm 26.05.3 `src/interfaces/gres.h` and
//! `src/plugins/select/cons_tres/gres_{sock_list,select_filter}.h`; the caller has checked that the library is of the
//! known build, and [`Gres::start`] checks what Slurm made of the registrations.

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::{null, null_mut};

use anyhow::{Context as _, ensure};
use lab::layout::{
    BITMAP_MAGIC, Member, NO_VAL, NO_VAL16, NO_VAL64, eval, gres, gres_job, node, sock_filter, sock_list,
};
use lab::protocol::{Gpus, JobQuestion};

use crate::slurm::{open, symbol};
use crate::words::Words;

/// `GRES_MAGIC`, and flags of a device with files.
const MAGIC: u32 = 0x438a_34d4;
const HAS_FILE: u32 = 1 << 1;
/// `SLURM_26_05_PROTOCOL_VERSION`.
const PROTOCOL: u16 = 45 << 8;

/// Declares the functions that are used, and a constructor that finds them.
macro_rules! functions {
    ($( $field:ident = $library:ident $name:literal : fn($($arg:ty),*) $(-> $ret:ty)? ; )*) => {
        struct Functions { $( $field: unsafe extern "C" fn($($arg),*) $(-> $ret)?, )* }

        impl Functions {
            fn find(full: *mut c_void, select: *mut c_void) -> anyhow::Result<Self> {
                let library = Libraries { full, select };
                Ok(Self { $(
                    // SAFETY: the function has this type in the known build.
                    $field: unsafe {
                        std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($arg),*) $(-> $ret)?>(
                            symbol(library.$library, $name)?,
                        )
                    },
                )* })
            }
        }
    };
}

struct Libraries {
    full: *mut c_void,
    select: *mut c_void,
}

functions! {
    build_id = full c"gres_build_id": fn(*const c_char) -> u32;
    create_buf = full c"create_buf": fn(*mut c_char, u32) -> *mut c_void;
    free_buf = full c"free_buf": fn(*mut c_void);
    init_node_config = full c"gres_init_node_config": fn(*const c_char, *mut *mut c_void);
    job_validate = full c"gres_job_state_validate": fn(*mut c_void) -> c_int;
    list_destroy = full c"list_destroy": fn(*mut c_void);
    list_peek = full c"list_peek": fn(*mut c_void) -> *mut u8;
    node_unpack = full c"gres_node_config_unpack": fn(*mut c_void, *const c_char) -> c_int;
    node_validate = full c"gres_node_config_validate":
        fn(*mut c_void, c_int, c_int, c_int, bool, *mut *mut c_char) -> c_int;
    remove_unusable = select c"gres_select_filter_remove_unusable": fn(*mut c_void, *mut c_void) -> c_int;
    sock_list_create = select c"gres_sock_list_create": fn(*mut c_void);
    xcalloc = full c"slurm_xcalloc":
        fn(usize, usize, bool, bool, *const c_char, c_int, *const c_char) -> *mut c_void;
    xfree = full c"slurm_xfree": fn(*mut *mut c_void);
}

/// Nodes with GPUs.
pub(crate) struct Gres {
    functions: Functions,
    nodes: Vec<GpuNode>,
    gpus: u16,
    pub(crate) sockets: u16,
    pub(crate) cores: u16,
}

/// One node's GPUs.
struct GpuNode {
    list: *mut c_void,
    name: *mut c_void,
    state: *mut u8,
}

/// What a node can give to the job.
pub(crate) struct OnNode {
    pub(crate) sock_list: u64,
    pub(crate) gpus: u16,
    pub(crate) near: u16,
}

/// Reads a member of a record of Slurm.
fn get(record: *const u8, (offset, size): Member) -> u64 {
    let mut bytes = [0; 8];
    // SAFETY: callers pass live records of the known layout, of which this is a member.
    unsafe { std::ptr::copy_nonoverlapping(record.wrapping_add(offset), bytes.as_mut_ptr(), size) };
    u64::from_le_bytes(bytes)
}

/// Writes a member of a record of Slurm.
fn put(record: *mut u8, (offset, size): Member, value: u64) {
    let bytes = value.to_le_bytes();
    // SAFETY: callers pass live records of the known layout, of which this is a member.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), record.wrapping_add(offset), size) };
}

impl Gres {
    /// Gives each node its GPUs, as its registration does. Slurm's GRES code was started before the node table was made.
    pub(crate) fn start(
        library: *mut c_void,
        folder: &Path,
        records: &[*mut u8],
        gpus: u16,
    ) -> anyhow::Result<Self> {
        let select = open(&folder.join("select_cons_tres.so"), libc::RTLD_LAZY | libc::RTLD_LOCAL)?;
        let functions = Functions::find(library, select)?;
        let first = *records.first().context("there are no nodes")?;
        let sockets = get(first, node::TOT_SOCKETS) as u16;
        let cores = get(first, node::CORES) as u16 * sockets;
        let mut this = Self { functions, nodes: Vec::new(), gpus, sockets, cores };
        for &record in records {
            let node = this.register(record)?;
            this.nodes.push(node);
        }
        Ok(this)
    }

    fn register(&self, record: *mut u8) -> anyhow::Result<GpuNode> {
        let configured = CString::new(format!("gpu:{}", self.gpus))?;
        let list = record.wrapping_add(node::GRES_LIST.0).cast::<*mut c_void>();
        // SAFETY: a C string, and the place of the node's list.
        unsafe { (self.functions.init_node_config)(configured.as_ptr(), list) };
        let name = get(record, node::NAME) as *const c_char;
        let packet = self.registration();
        // SAFETY: Slurm's allocator; it ends the process when memory is gone.
        let data = unsafe { (self.functions.xcalloc)(1, packet.len(), true, false, null(), 0, null()) };
        // SAFETY: just made, of this length.
        unsafe { std::ptr::copy_nonoverlapping(packet.as_ptr(), data.cast(), packet.len()) };
        // SAFETY: memory of Slurm's allocator, which the buffer takes over.
        let buffer = unsafe { (self.functions.create_buf)(data.cast(), packet.len() as u32) };
        // SAFETY: a buffer with a registration, and the node's name.
        let unpacked = unsafe { (self.functions.node_unpack)(buffer, name) };
        // SAFETY: made above, and not used any more.
        unsafe { (self.functions.free_buf)(buffer) };
        ensure!(unpacked == 0, "Slurm cannot read a registration with GPUs");
        let mut reason = null_mut();
        let (cores, sockets) = (c_int::from(self.cores / self.sockets), c_int::from(self.sockets));
        // SAFETY: a live node record, and a place for the reason.
        let rc =
            unsafe { (self.functions.node_validate)(record.cast(), 1, cores, sockets, false, &mut reason) };
        ensure!(rc == 0, "Slurm does not accept a registration with GPUs ({rc})");
        let list = get(record, node::GRES_LIST) as *mut c_void;
        // SAFETY: the node's list.
        let found = unsafe { (self.functions.list_peek)(list) };
        ensure!(!found.is_null(), "a node has no GRES");
        let state = get(found, gres::GRES_DATA) as *mut u8;
        let bits = get(state, gres::BIT_ALLOC) as *const u8;
        let kept = (get(state, gres::CNT_AVAIL), get(state, gres::TOPO_CNT), !bits.is_null());
        let gpus = u64::from(self.gpus);
        ensure!(kept == (gpus, gpus, true), "a node's {gpus} GPUs are not kept as expected: {kept:?}");
        let header = (get(bits, (0, 8)), get(bits, (8, 8)));
        ensure!(header == (BITMAP_MAGIC, gpus), "a node's GPUs are kept in no bitmap: {header:?}");
        Ok(GpuNode { list, name: name.cast_mut().cast(), state })
    }

    /// What slurmd sends: one record for each GPU, with the cores near it.
    fn registration(&self) -> Vec<u8> {
        let mut packet = Vec::new();
        packet.extend(PROTOCOL.to_be_bytes());
        packet.extend(self.gpus.to_be_bytes());
        let text = |packet: &mut Vec<u8>, text: &str| {
            if text.is_empty() {
                packet.extend(0u32.to_be_bytes());
            } else {
                packet.extend((text.len() as u32 + 1).to_be_bytes());
                packet.extend(text.as_bytes());
                packet.push(0);
            }
        };
        // SAFETY: a C string.
        let plugin = unsafe { (self.functions.build_id)(c"gpu".as_ptr()) };
        let of_socket = self.cores / self.sockets;
        for gpu in 0..self.gpus {
            packet.extend(MAGIC.to_be_bytes());
            packet.extend(1u64.to_be_bytes());
            packet.extend(u32::from(self.cores).to_be_bytes());
            packet.extend(HAS_FILE.to_be_bytes());
            packet.extend(plugin.to_be_bytes());
            let first = gpu * self.sockets / self.gpus * of_socket;
            let cores = format!("{first}-{}", first + of_socket - 1);
            for words in [cores.as_str(), "", "gpu", "", ""] {
                text(&mut packet, words);
            }
        }
        packet
    }

    /// Marks so many GPUs of a node as another job's.
    pub(crate) fn take(&self, index: usize, taken: u16) {
        let state = self.nodes[index].state;
        let taken = u64::from(taken.min(self.gpus));
        put(state, gres::CNT_ALLOC, taken);
        let bits = get(state, gres::BIT_ALLOC) as *mut u8;
        put(bits, (16, 8), (1u64 << taken) - 1);
        let of_each = get(state, gres::TOPO_CNT_ALLOC) as *mut u8;
        for gpu in 0..usize::from(self.gpus) {
            put(of_each, (8 * gpu, 8), u64::from((gpu as u64) < taken));
        }
    }

    /// The job's list of GRES. Slurm corrects the numbers that follow from it.
    ///
    /// Gives Slurm's return code and the list, which the caller frees.
    pub(crate) fn job_list(&self, asked: &JobQuestion, numbers: &mut Numbers) -> (c_int, u64) {
        let Some(gpus) = asked.gpus else { return (0, 0) };
        let (member, count) = match gpus {
            Gpus::PerNode(count) => (gres_job::TRES_PER_NODE, u32::from(count)),
            Gpus::PerJob(count) => (gres_job::TRES_PER_JOB, count),
            Gpus::PerTask(count) => (gres_job::TRES_PER_TASK, u32::from(count)),
        };
        let text = CString::new(format!("gres/gpu:{count}")).unwrap_or_default();
        let text = text.into_raw();
        let unset = [Words::bytes(8), Words::bytes(8), Words::bytes(8)];
        unset.iter().for_each(|place| place.set(0, NO_VAL16));
        let list = Words::bytes(8);
        let arguments = Words::bytes(gres_job::SIZE);
        for (member, place) in [
            (gres_job::CPUS_PER_TASK, numbers.cpus_per_task.address()),
            (gres_job::MAX_NODES, numbers.max_nodes.address()),
            (gres_job::MIN_CPUS, numbers.min_cpus.address()),
            (gres_job::MIN_NODES, numbers.min_nodes.address()),
            (gres_job::NTASKS_PER_NODE, numbers.ntasks_per_node.address()),
            (gres_job::NTASKS_PER_SOCKET, unset[0].address()),
            (gres_job::NTASKS_PER_TRES, unset[1].address()),
            (gres_job::NUM_TASKS, numbers.num_tasks.address()),
            (gres_job::SOCKETS_PER_NODE, unset[2].address()),
            (gres_job::GRES_LIST, list.address()),
            (member, text.expose_provenance() as u64),
        ] {
            arguments.put(member, place);
        }
        // SAFETY: all members that Slurm reads are set, and live until it returns.
        let rc = unsafe { (self.functions.job_validate)(arguments.pointer()) };
        // SAFETY: made by into_raw above; Slurm only reads it, or writes within it.
        drop(unsafe { CString::from_raw(text) });
        (rc, list.get(0))
    }

    /// What a node can give to a job with GPUs; None when that is not enough. `cores` is the bitmap of its free cores.
    pub(crate) fn on_node(
        &self,
        index: usize,
        asked: &JobQuestion,
        job_list: u64,
        cores: u64,
    ) -> Option<OnNode> {
        let node = &self.nodes[index];
        let per_socket = u64::from(self.cores / self.sockets);
        let arguments = Words::bytes(sock_list::SIZE);
        for (member, value) in [
            (sock_list::CORES_PER_SOCK, per_socket),
            (sock_list::CORE_BITMAP, cores),
            (sock_list::CR_TYPE, eval::CR_CORE),
            (sock_list::JOB_GRES_LIST, job_list),
            (sock_list::NODE_GRES_LIST, node.list.expose_provenance() as u64),
            (sock_list::NODE_INX, index as u64),
            (sock_list::NODE_NAME, node.name.expose_provenance() as u64),
            (sock_list::SOCKETS, self.sockets.into()),
        ] {
            arguments.put(member, value);
        }
        // SAFETY: all members that Slurm reads are set, and live until it returns.
        unsafe { (self.functions.sock_list_create)(arguments.pointer()) };
        self.free(arguments.member(sock_list::REQ_SOCK_MAP));
        let list = arguments.member(sock_list::SOCK_GRES_LIST);
        if list == 0 {
            return None;
        }
        let (gpus, near) = (Words::bytes(8), Words::bytes(8));
        let filter = Words::bytes(sock_filter::SIZE);
        for (member, value) in [
            (sock_filter::AVAIL_GPUS, gpus.address()),
            (sock_filter::AVAIL_MEM, NO_VAL64),
            (sock_filter::CORES_PER_SOCK, per_socket),
            (sock_filter::CORE_BITMAP, cores),
            (sock_filter::CPUS_PER_CORE, 1),
            (sock_filter::CPUS_PER_TASK, asked.cpus_per_task.into()),
            (sock_filter::MAX_CPUS, self.cores.into()),
            (sock_filter::NEAR_GPUS, near.address()),
            (sock_filter::SOCKETS, self.sockets.into()),
            (sock_filter::SOCK_PER_NODE, NO_VAL),
            (sock_filter::TASK_PER_NODE, asked.ntasks_per_node.into()),
            (sock_filter::WHOLE_NODE, asked.exclusive.into()),
        ] {
            filter.put(member, value);
        }
        let pointer = std::ptr::with_exposed_provenance_mut(list as usize);
        // SAFETY: the list made above, and arguments of which all members that Slurm reads are set.
        let rc = unsafe { (self.functions.remove_unusable)(pointer, filter.pointer()) };
        if rc != 0 {
            self.free_list(list);
            return None;
        }
        Some(OnNode { sock_list: list, gpus: gpus.get(0) as u16, near: near.get(0) as u16 })
    }

    /// Memory of Slurm's allocator for so many 16-bit numbers.
    pub(crate) fn numbers(&self, numbers: &[u16]) -> u64 {
        // SAFETY: Slurm's allocator; it ends the process when memory is gone.
        let place = unsafe { (self.functions.xcalloc)(numbers.len(), 2, true, false, null(), 0, null()) };
        // SAFETY: just made, of this length.
        unsafe { std::ptr::copy_nonoverlapping(numbers.as_ptr(), place.cast(), numbers.len()) };
        place.expose_provenance() as u64
    }

    /// Frees memory of Slurm's allocator.
    pub(crate) fn free(&self, address: u64) {
        let mut pointer = std::ptr::with_exposed_provenance_mut(address as usize);
        // SAFETY: NULL, or memory that this desk got from Slurm and gives back once.
        unsafe { (self.functions.xfree)(&raw mut pointer) };
    }

    /// Frees a list.
    pub(crate) fn free_list(&self, address: u64) {
        if address != 0 {
            // SAFETY: a list that this desk got from Slurm and gives back once.
            unsafe { (self.functions.list_destroy)(std::ptr::with_exposed_provenance_mut(address as usize)) };
        }
    }
}

/// Numbers of a job that Slurm corrects when it reads the job's GRES, each at the begin of a word.
pub(crate) struct Numbers {
    cpus_per_task: Words,
    max_nodes: Words,
    min_cpus: Words,
    min_nodes: Words,
    ntasks_per_node: Words,
    num_tasks: Words,
}

impl Numbers {
    pub(crate) fn new(asked: &JobQuestion) -> Self {
        let word = |value: u64| {
            let words = Words::bytes(8);
            words.set(0, value);
            words
        };
        let set = |value: u64, unset: u64| if value == 0 { unset } else { value };
        Self {
            cpus_per_task: word(asked.cpus_per_task.into()),
            max_nodes: word(asked.max_nodes.into()),
            min_cpus: word(asked.min_cpus.into()),
            min_nodes: word(asked.min_nodes.into()),
            ntasks_per_node: word(set(asked.ntasks_per_node.into(), NO_VAL16)),
            num_tasks: word(set(asked.num_tasks.into(), NO_VAL)),
        }
    }

    /// CPUs of the job, after Slurm's correction.
    pub(crate) fn min_cpus(&self) -> u64 {
        self.min_cpus.member((0, 4))
    }
}
