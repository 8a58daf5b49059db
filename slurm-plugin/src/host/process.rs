//! What process this is, and which build of Slurm it runs.

use std::ffi::{CStr, OsStr, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::slice;

use super::api::api;

const NOTE_GNU_BUILD_ID: u32 = 3;

/// Whether the plugin sits in slurmctld, the only process that places jobs. It alone defines this function.
pub(crate) fn is_slurmctld() -> bool {
    // SAFETY: the name is NUL terminated; RTLD_DEFAULT is valid in every process.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"lock_slurmctld".as_ptr()) };
    !address.is_null()
}

/// Whether another slurmctld waits for this one to take over, and goes on itself when this one ends: so it is after
/// `scontrol reconfigure`, but not at a start and not in the foreground (Slurm 26.05.3 `src/slurmctld/controller.c`).
pub(crate) fn is_on_trial() -> bool {
    is_slurmctld() && std::env::var_os("SLURMCTLD_RECONF_PARENT_FD").is_some()
}

/// The folder of Slurm's own plugins: `libslurmfull.so` lies in it.
pub(crate) fn stock_plugin_folder() -> Option<PathBuf> {
    let mut found = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: dladdr takes any address and fills the structure on success.
    let rc = unsafe { libc::dladdr(address_in_libslurmfull(), found.as_mut_ptr()) };
    if rc == 0 {
        return None;
    }
    // SAFETY: zeroed is valid for the structure, and dladdr filled it.
    let found = unsafe { found.assume_init() };
    if found.dli_fname.is_null() {
        return None;
    }
    // SAFETY: dladdr gives a C string that lives as long as the library is loaded.
    let file = unsafe { CStr::from_ptr(found.dli_fname) };
    Path::new(OsStr::from_bytes(file.to_bytes())).parent().map(Path::to_path_buf)
}

/// The GNU build id of the `libslurmfull.so` that this process runs.
pub fn slurm_build_id() -> Option<Vec<u8>> {
    let mut search = Search { address: address_in_libslurmfull() as usize, build_id: None };
    // SAFETY: `visit` matches the callback's type and gets `search`, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
    search.build_id
}

fn address_in_libslurmfull() -> *const c_void {
    api().xcalloc as *const c_void
}

struct Search {
    address: usize,
    build_id: Option<Vec<u8>>,
}

/// Called for each loaded object: takes the build id of the one that holds the address.
unsafe extern "C" fn visit(object: *mut libc::dl_phdr_info, _size: usize, search: *mut c_void) -> c_int {
    // SAFETY: the pointer is the `search` of `slurm_build_id`, used by this call alone.
    let search = unsafe { &mut *search.cast::<Search>() };
    // SAFETY: the loader passes a valid description for the length of the call.
    let object = unsafe { &*object };
    // SAFETY: the description says how many headers there are.
    let headers = unsafe { slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };

    let start_of =
        |header: &libc::Elf64_Phdr| (object.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
    let holds_address = |header: &&libc::Elf64_Phdr| {
        let start = start_of(header);
        header.p_type == libc::PT_LOAD
            && (start..start.saturating_add(header.p_memsz as usize)).contains(&search.address)
    };
    if !headers.iter().any(|header| holds_address(&header)) {
        return 0;
    }
    for header in headers.iter().filter(|header| header.p_type == libc::PT_NOTE) {
        let start = start_of(header) as *const u8;
        // SAFETY: a note segment of a loaded object is mapped and readable in its whole length.
        let notes = unsafe { slice::from_raw_parts(start, header.p_memsz as usize) };
        if let Some(build_id) = build_id_in(notes) {
            search.build_id = Some(build_id.to_vec());
        }
    }
    1
}

/// Finds the GNU build id among ELF notes: each has the lengths of name and description, a type, and both texts
/// padded to four bytes.
fn build_id_in(mut notes: &[u8]) -> Option<&[u8]> {
    loop {
        let (header, rest) = notes.split_at_checked(12)?;
        let word = |i: usize| header[i..i + 4].try_into().map(u32::from_ne_bytes).unwrap_or(0);
        let (name_length, length, kind) = (word(0) as usize, word(4) as usize, word(8));
        let (name, rest) = rest.split_at_checked(name_length.checked_next_multiple_of(4)?)?;
        let description = rest.get(..length)?;
        if kind == NOTE_GNU_BUILD_ID && name.starts_with(b"GNU\0") {
            return Some(description);
        }
        notes = rest.get(length.checked_next_multiple_of(4)?..)?;
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &[u8], kind: u32, description: &[u8]) -> Vec<u8> {
        let padded = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let mut bytes = Vec::new();
        for word in [name.len() as u32, description.len() as u32, kind] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(padded(name));
        bytes.extend(padded(description));
        bytes
    }

    #[test]
    fn the_build_id_is_found_behind_other_notes() {
        let mut notes = note(b"GNU\0", 1, b"abi tag of no interest");
        notes.extend(note(b"FDO\0", NOTE_GNU_BUILD_ID, b"other"));
        notes.extend(note(b"GNU\0", NOTE_GNU_BUILD_ID, &[7; 20]));
        assert_eq!(build_id_in(&notes), Some(&[7u8; 20][..]));
    }

    #[test]
    fn damaged_notes_have_no_build_id() {
        let whole = note(b"GNU\0", NOTE_GNU_BUILD_ID, &[7; 20]);
        for end in 0..whole.len() {
            assert_eq!(build_id_in(&whole[..end]), None, "cut at {end}");
        }
        let mut huge = whole;
        huge[..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(build_id_in(&huge), None);
    }
}
