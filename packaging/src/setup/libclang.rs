//! Is there a libclang that bindgen will find, with the compiler's own headers?
//!
//! The places are those that bindgen's loader (clang-sys 1.8) searches: `LIBCLANG_PATH` alone if it is set, else
//! `llvm-config --prefix`, `LD_LIBRARY_PATH`, and the usual library folders.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library that bindgen will load, or nothing if that or `stddef.h` of the same compiler is missing.
pub(super) fn find() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("LIBCLANG_PATH").map(PathBuf::from) {
        // A file or a folder; who sets it also cares for the headers.
        return if given.is_file() { Some(given) } else { library_in(&given) };
    }
    let library = candidates().iter().find_map(|folder| library_in(folder))?;
    has_builtin_headers(Path::new("/usr/lib")).then_some(library)
}

fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Ok(output) = Command::new("llvm-config").arg("--prefix").output() {
        let prefix = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        folders.push(prefix.join("lib"));
    }
    if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
        folders.extend(std::env::split_paths(&path));
    }
    // /usr/lib*, /usr/lib*/* and /usr/lib*/*/*, the same under /usr/local.
    for base in ["/usr/local", "/usr"] {
        for library_folder in folders_in(Path::new(base)).filter(|path| starts_with(path, "lib")) {
            for below in folders_in(&library_folder) {
                folders.extend(folders_in(&below));
                folders.push(below);
            }
            folders.push(library_folder);
        }
    }
    folders
}

/// The first file in `folder` named as a libclang (and not as libclang-cpp, which has another interface).
fn library_in(folder: &Path) -> Option<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.into_iter().find(|file| {
        file.file_name().and_then(|name| name.to_str()).is_some_and(is_libclang) && file.exists()
    })
}

/// `libclang.so`, `libclang-14.so`, `libclang.so.1`, `libclang-14.so.13`.
fn is_libclang(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("libclang") else { return false };
    let version = rest.split_once(".so").map(|(version, _)| version);
    let numbered =
        |text: &str| text.strip_prefix('-').is_some_and(|v| v.starts_with(|c: char| c.is_ascii_digit()));
    version.is_some_and(|version| version.is_empty() || numbered(version))
}

/// `<lib>/llvm-N/lib/clang/V/include/stddef.h` or `<lib>/clang/V/include/stddef.h`.
fn has_builtin_headers(lib: &Path) -> bool {
    let llvms = folders_in(lib).filter(|path| starts_with(path, "llvm")).map(|path| path.join("lib/clang"));
    let mut versions =
        llvms.chain([lib.join("clang")]).flat_map(|clang| folders_in(&clang).collect::<Vec<_>>());
    versions.any(|version| version.join("include/stddef.h").exists())
}

fn folders_in(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir())
}

fn starts_with(path: &Path, prefix: &str) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::is_libclang;

    #[test]
    fn only_the_c_interface_counts() {
        for name in
            ["libclang.so", "libclang-14.so", "libclang.so.1", "libclang-14.so.13", "libclang-21.so.21"]
        {
            assert!(is_libclang(name), "{name}");
        }
        for name in [
            "libclang-cpp.so.14",
            "libclangAST.a",
            "libclang.a",
            "libclang-x.so",
            "liblang.so",
            "libclang_rt.so",
        ] {
            assert!(!is_libclang(name), "{name}");
        }
    }
}
