//! The `block:` part of topology.yaml as Slurm's parser left it.

use std::ffi::{CStr, CString, c_int};
use std::ptr;
use std::slice;

use super::api::api;
use super::bitmap::Bitmap;
use super::record::{Record, Records};
use super::{list, memory, node, peek};
use crate::abi::{slurm_conf_block_t, topology_block_config_t};
use crate::bits;
use crate::config::{RawBlock, RawConfig};

/// Copies the configuration.
///
/// # Safety
/// `config` is a block configuration of Slurm that nobody changes during the call.
pub(crate) unsafe fn read(config: *const topology_block_config_t) -> RawConfig {
    // SAFETY: valid by the caller's word.
    let config = unsafe { ptr::read(config) };
    let count = usize::try_from(config.config_cnt).unwrap_or(0);
    let blocks: &[slurm_conf_block_t] = if config.block_configs.is_null() {
        &[]
    } else {
        // SAFETY: Slurm's parser allocates as many entries as it counts.
        unsafe { slice::from_raw_parts(config.block_configs, count) }
    };
    let owned = |text: *mut std::ffi::c_char| -> Option<CString> {
        // SAFETY: the parser leaves NULL or C strings that live with the configuration.
        unsafe { memory::text(text) }.map(CStr::to_owned)
    };
    RawConfig {
        // SAFETY: the parser makes this a list of int*.
        sizes: unsafe { list::integers(config.block_sizes) },
        blocks: blocks
            .iter()
            .map(|b| RawBlock { name: owned(b.block_name), nodes: owned(b.nodes) })
            .collect(),
    }
}

/// `TopologyParam` of slurm.conf; empty when it is not set, None when Slurm's configuration is not as the layout says.
pub(crate) fn topology_param(records: &Records) -> Option<String> {
    let layout = records.layout().conf;
    match Record::unproven(api().slurm_conf, layout.extent()).pointer(layout.topology_param)? {
        0 => Some(String::new()),
        address => peek::text(address).map(|text| String::from_utf8_lossy(&text).into_owned()),
    }
}

/// A configuration in the place of Slurm's, for stock to build its model from and to keep up to date.
pub(crate) struct Substitute {
    config: Box<topology_block_config_t>,
    /// What `config` points to; the strings are of Slurm's allocator, because stock replaces them.
    blocks: Box<[slurm_conf_block_t]>,
}

impl Substitute {
    /// The given configuration, which has the block sizes of Slurm's or none.
    ///
    /// # Safety
    /// `original` is Slurm's configuration of the same topology, and lives as long as the result; it may be NULL when
    /// `config` has no sizes.
    pub(crate) unsafe fn new(original: *const topology_block_config_t, config: &RawConfig) -> Self {
        let copy = |text: &Option<CString>| match text {
            None => ptr::null_mut(),
            // SAFETY: a C string; the copy is ours.
            Some(text) => unsafe { (api().xstrdup)(text.as_ptr()) },
        };
        let block = |block: &RawBlock| slurm_conf_block_t {
            block_name: copy(&block.name),
            nodes: copy(&block.nodes),
        };
        let mut blocks: Box<[slurm_conf_block_t]> = config.blocks.iter().map(block).collect();
        let sizes = if config.sizes.is_empty() {
            ptr::null_mut()
        } else {
            // SAFETY: Slurm's configuration, by the caller's word; the list lives as long as it.
            unsafe { (*original).block_sizes }
        };
        let config = topology_block_config_t {
            config_cnt: c_int::try_from(blocks.len()).unwrap_or(0),
            block_configs: blocks.as_mut_ptr(),
            block_sizes: sizes,
        };
        Self { config: Box::new(config), blocks }
    }

    /// All nodes in one block. None when Slurm cannot read its own names of them again.
    pub(crate) fn one_block() -> Option<Self> {
        let mut all = Bitmap::new(node::count());
        for index in 0..node::count() {
            bits::put(all.words_mut(), index, true);
        }
        let names = all.node_names()?.as_c_str().to_owned();
        nodes(&names).ok()?;
        let block = RawBlock { name: Some(c"all".to_owned()), nodes: Some(names) };
        // SAFETY: without sizes the original is not kept.
        Some(unsafe { Self::new(ptr::null(), &RawConfig { sizes: Vec::new(), blocks: vec![block] }) })
    }

    /// What stock gets to see.
    pub(crate) fn as_ptr(&mut self) -> *mut topology_block_config_t {
        &raw mut *self.config
    }
}

impl Drop for Substitute {
    fn drop(&mut self) {
        for block in &self.blocks {
            for text in [block.block_name, block.nodes] {
                // SAFETY: NULL or a string of Slurm's allocator that nobody uses any more: stock's model is gone.
                unsafe { memory::free(text) };
            }
        }
    }
}

/// Whether Slurm can read the text as a host list.
pub(crate) fn is_host_list(text: &CStr) -> bool {
    // SAFETY: a C string; the list is made for us.
    let list = unsafe { (api().hostlist_create)(text.as_ptr()) };
    if list.is_null() {
        return false;
    }
    // SAFETY: made above, destroyed once.
    unsafe { (api().hostlist_destroy)(list) };
    true
}

/// The nodes that a host list names. Unknown names are left out, as stock does (it warns of them when its own model
/// is built from the same text).
///
/// # Errors
/// Slurm's error number when the host list cannot be read.
pub(crate) fn nodes(hosts: &CStr) -> Result<Bitmap, c_int> {
    let mut nodes = ptr::null_mut();
    let mut unknown = ptr::null_mut();
    // SAFETY: the text is only read; both results are written before the call returns.
    let rc = unsafe {
        (api().node_name2bitmap)(
            hosts.as_ptr().cast_mut(),
            true,
            ptr::addr_of_mut!(nodes),
            ptr::addr_of_mut!(unknown),
        )
    };
    if !unknown.is_null() {
        // SAFETY: the list was made for us by the call.
        unsafe { (api().hostlist_destroy)(unknown) };
    }
    // SAFETY: the bitmap was made for us by the call, also when it failed.
    let nodes = unsafe { Bitmap::take(nodes) };
    match nodes {
        Some(nodes) if rc == 0 => Ok(nodes),
        _ => Err(rc),
    }
}
