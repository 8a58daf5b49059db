//! The entry points that are not the choice of nodes: every answer of the loaded plugin as text.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt::Write as _;
use std::ptr::null_mut;

use anyhow::ensure;
use lab::layout::BITMAP_MAGIC;
use lab::protocol::EntryQuestion;
use lab::random::Random;

use crate::slurm::Slurm;
use crate::words::Words;

/// The topology's place in Slurm's array.
const INDEX: c_int = 0;
/// 25.05, 25.11 and 26.05, all that 26.05 speaks.
const PROTOCOLS: [u16; 3] = [43 << 8, 44 << 8, 45 << 8];
/// `enum topology_data`.
const TOPOLOGY_PTR: c_int = 0;
const REC_CNT: c_int = 1;

/// `buf_t` as far as it is used (Slurm 26.05.3 `src/common/pack.h`).
#[repr(C)]
struct Buffer {
    magic: u32,
    head: *mut u8,
    size: u32,
    processed: u32,
}

const BUFFER_MAGIC: u32 = 0x4255_4545;

type GetRank = unsafe extern "C" fn(*mut c_void, *mut *mut u32, *mut u32, c_int) -> c_int;
type GetFragmentation = unsafe extern "C" fn(*mut c_void) -> u32;
type WholeTopo = unsafe extern "C" fn(*mut c_void, c_int) -> c_int;
type GetBitmap = unsafe extern "C" fn(*mut c_char) -> *const u64;
type GetNodeAddr = unsafe extern "C" fn(*mut c_char, *mut *mut c_char, *mut *mut c_char) -> c_int;
type GetTopologyStr = unsafe extern "C" fn(*mut c_void) -> *mut c_char;
type Get = unsafe extern "C" fn(c_int, *mut c_char, *mut c_void) -> c_int;
type InfoPrint = unsafe extern "C" fn(*mut c_void, *mut c_char, *mut c_char, *mut *mut c_char) -> c_int;
type InfoPack = unsafe extern "C" fn(*mut c_void, *mut Buffer, u16) -> c_int;
type InfoUnpack = unsafe extern "C" fn(*mut *mut c_void, *mut Buffer, u16) -> c_int;
type InfoFree = unsafe extern "C" fn(*mut c_void) -> c_int;
type InitBuffer = unsafe extern "C" fn(u32) -> *mut Buffer;

/// Slurm's function of this name and type.
macro_rules! function {
    ($slurm:expr, $name:literal, $type:ty) => {
        // SAFETY: the type of the function in Slurm 26.05.3 `src/interfaces/topology.h` and `src/common/pack.h`.
        unsafe { std::mem::transmute::<*mut c_void, $type>($slurm.function($name)?) }
    };
}

/// Asks each entry point; one line for each answer. What Slurm allocates for answers is left to the end of the process.
pub(crate) fn answers(slurm: &Slurm, question: &EntryQuestion) -> anyhow::Result<String> {
    let mut text = String::new();
    about_sets(slurm, question, &mut text)?;
    about_names(slurm, question, &mut text)?;
    about_messages(slurm, question, &mut text)?;
    Ok(text)
}

/// Ranks, fragmentation and whole blocks of random sets of nodes.
fn about_sets(slurm: &Slurm, question: &EntryQuestion, text: &mut String) -> anyhow::Result<()> {
    let get_rank = function!(slurm, c"topology_g_get_rank", GetRank);
    let get_fragmentation = function!(slurm, c"topology_g_get_fragmentation", GetFragmentation);
    let whole_topo = function!(slurm, c"topology_g_whole_topo", WholeTopo);
    let mut random = Random::new(question.seed);
    for percent in [0, 1, 10, 50, 50, 90, 100] {
        let set = Words::bitmap(slurm.node_count());
        (0..slurm.node_count()).filter(|_| random.percent(percent)).for_each(|index| set.set_bit(index));
        // SAFETY: a bitmap of all nodes.
        let fragmentation = unsafe { get_fragmentation(set.pointer()) };
        let (mut ranks, mut count) = (null_mut::<u32>(), 0);
        // SAFETY: as above, and two places for the answer.
        let rc = unsafe { get_rank(set.pointer(), &raw mut ranks, &raw mut count, INDEX) };
        let ranks: Vec<u32> = (0..if ranks.is_null() { 0 } else { count as usize })
            // SAFETY: the answer has so many ranks.
            .map(|index| unsafe { ranks.wrapping_add(index).read() })
            .collect();
        // SAFETY: as above; the plugin adds nodes to the set.
        let whole = unsafe { whole_topo(set.pointer(), INDEX) };
        let nodes: Vec<usize> = set.ones().collect();
        writeln!(
            text,
            "set: fragmentation {fragmentation}, ranks {rc} {count} {ranks:?}, whole {whole} {nodes:?}"
        )?;
    }
    Ok(())
}

/// Blocks by name, and what each node is called by its block.
fn about_names(slurm: &Slurm, question: &EntryQuestion, text: &mut String) -> anyhow::Result<()> {
    let get_bitmap = function!(slurm, c"topology_g_get_bitmap", GetBitmap);
    let get_node_addr = function!(slurm, c"topology_g_get_node_addr", GetNodeAddr);
    let get_topology_str = function!(slurm, c"topology_g_get_topology_str", GetTopologyStr);
    for name in &question.blocks {
        let c_name = CString::new(name.as_str())?;
        // SAFETY: a C string that is only read.
        let bitmap = unsafe { get_bitmap(c_name.as_ptr().cast_mut()) };
        writeln!(text, "block {name}: {:?}", set_bits(bitmap)?)?;
    }
    for index in 0..slurm.node_count() {
        let name = CString::new(format!("n{}", index + 1))?;
        let (mut address, mut pattern) = (null_mut(), null_mut());
        // SAFETY: a C string that is only read, and two places for the answer.
        let rc = unsafe { get_node_addr(name.as_ptr().cast_mut(), &raw mut address, &raw mut pattern) };
        // SAFETY: a node's record.
        let topology = unsafe { get_topology_str(slurm.record(index)) };
        writeln!(text, "n{}: {rc} {} {} {}", index + 1, words(address), words(pattern), words(topology))?;
    }
    Ok(())
}

/// What `scontrol show topology` gets and prints, also over the wire in each version of the protocol.
fn about_messages(slurm: &Slurm, question: &EntryQuestion, text: &mut String) -> anyhow::Result<()> {
    let get = function!(slurm, c"topology_g_get", Get);
    let pack = function!(slurm, c"topology_g_topoinfo_pack", InfoPack);
    let unpack = function!(slurm, c"topology_g_topoinfo_unpack", InfoUnpack);
    let free = function!(slurm, c"topology_g_topoinfo_free", InfoFree);
    let init_buffer = function!(slurm, c"init_buf", InitBuffer);
    let mut records: c_int = -1;
    // SAFETY: for this question the answer is an int.
    let rc = unsafe { get(REC_CNT, null_mut(), (&raw mut records).cast()) };
    writeln!(text, "records: {rc} {records}")?;
    let mut info = null_mut::<c_void>();
    // SAFETY: for this question the answer is a pointer.
    let rc = unsafe { get(TOPOLOGY_PTR, null_mut(), (&raw mut info).cast()) };
    ensure!(rc == 0 && !info.is_null(), "no topology to show: {rc}");
    print(slurm, question, info, text)?;
    for protocol in PROTOCOLS {
        // SAFETY: no precondition.
        let buffer = unsafe { init_buffer(1 << 16) };
        // SAFETY: a topology and an empty buffer.
        let packed = unsafe { pack(info, buffer, protocol) };
        // SAFETY: a live buffer.
        let Buffer { magic, head, processed, .. } = unsafe { buffer.read() };
        ensure!(magic == BUFFER_MAGIC, "Slurm's buffer has another layout");
        let bytes: String = (0..processed as usize)
            // SAFETY: so many bytes were packed.
            .map(|index| format!("{:02x}", unsafe { head.wrapping_add(index).read() }))
            .collect();
        // SAFETY: a live buffer, read from its beginning now.
        unsafe { (*buffer).processed = 0 };
        let mut again = null_mut();
        // SAFETY: a place for the answer, and a buffer.
        let unpacked = unsafe { unpack(&raw mut again, buffer, protocol) };
        writeln!(text, "protocol {protocol:#x}: {packed} {bytes}, back {unpacked}")?;
        if unpacked == 0 {
            print(slurm, question, again, text)?;
            // SAFETY: just unpacked.
            unsafe { free(again) };
        }
    }
    // SAFETY: made by the question above.
    unsafe { free(info) };
    Ok(())
}

/// The topology as printed: whole, of a node, of each block.
fn print(
    slurm: &Slurm,
    question: &EntryQuestion,
    info: *mut c_void,
    text: &mut String,
) -> anyhow::Result<()> {
    let print = function!(slurm, c"topology_g_topoinfo_print", InfoPrint);
    let mut one = |nodes: Option<&str>, unit: Option<&str>| -> anyhow::Result<()> {
        let nodes = nodes.map(CString::new).transpose()?;
        let unit = unit.map(CString::new).transpose()?;
        let given =
            |text: &Option<CString>| text.as_ref().map_or(null_mut(), |text| text.as_ptr().cast_mut());
        let mut out = null_mut();
        // SAFETY: a topology, NULL or C strings that are only read, and a place for the answer.
        let rc = unsafe { print(info, given(&nodes), given(&unit), &raw mut out) };
        writeln!(text, "shown {nodes:?} {unit:?}: {rc} {}", words(out))?;
        Ok(())
    };
    one(None, None)?;
    one(Some("n1"), None)?;
    question.blocks.iter().try_for_each(|block| one(None, Some(block)))
}

fn words(text: *const c_char) -> String {
    if text.is_null() {
        return "NULL".to_owned();
    }
    // SAFETY: Slurm's answers are C strings.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The bits of one of Slurm's bitmaps; None for NULL.
fn set_bits(bitmap: *const u64) -> anyhow::Result<Option<Vec<u64>>> {
    if bitmap.is_null() {
        return Ok(None);
    }
    // SAFETY: a bitmap begins with its magic number.
    let magic = unsafe { bitmap.read() };
    ensure!(magic == BITMAP_MAGIC, "not a bitmap");
    // SAFETY: then comes its size.
    let bits = unsafe { bitmap.wrapping_add(1).read() };
    // SAFETY: then its bits.
    let word = |index: u64| unsafe { bitmap.wrapping_add(2 + (index / 64) as usize).read() };
    Ok(Some((0..bits).filter(|&index| word(index) >> (index % 64) & 1 == 1).collect()))
}
