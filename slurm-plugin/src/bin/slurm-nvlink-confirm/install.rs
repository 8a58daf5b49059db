#![forbid(unsafe_code)]
//! Where Slurm is installed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const LIBRARY: &str = "libslurmfull.so";
/// Programs of Slurm that are linked to its library; at least one is on every host that needs the plugin.
const PROGRAMS: &[&str] = &["slurmctld", "slurmd", "scontrol"];
const FOLDERS: &[&str] = &["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];

/// No program of Slurm is installed, or none says where its library is.
#[derive(Debug)]
pub(crate) struct NotFound;

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "none of {} is installed with a {LIBRARY} of its own; --plugins DIR names the folder of that library",
            PROGRAMS.join(", ")
        )
    }
}

/// The folder of `libslurmfull.so` and of Slurm's own plugins: where the dynamic loader finds it for Slurm's programs.
pub(crate) fn plugin_folder() -> Result<PathBuf, NotFound> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        std::env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from)).collect();
    let programs = PROGRAMS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    programs
        .filter(|program| program.is_file())
        .find_map(|program| folder_of_library(&program))
        .ok_or(NotFound)
}

/// Asks the dynamic loader, which prints a program's libraries in the place of running it.
fn folder_of_library(program: &Path) -> Option<PathBuf> {
    let mut command = Command::new(program);
    command.env("LD_TRACE_LOADED_OBJECTS", "1").stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok()?;
    folder_in(&String::from_utf8_lossy(&output.stdout))
}

/// Finds the library in the loader's list: `name => path (address)`, a line each.
fn folder_in(list: &str) -> Option<PathBuf> {
    let line = list.lines().find_map(|line| line.trim().strip_prefix(LIBRARY))?;
    let path = line.trim_start().strip_prefix("=> ")?;
    let path = path.rsplit_once(" (").map_or(path, |(path, _)| path);
    Path::new(path).parent().filter(|folder| folder.is_absolute()).map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_list_names_the_folder() {
        let list = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibslurmfull.so => /usr/lib/x y/slurm/libslurmfull.so (0x0000)\n";
        assert_eq!(folder_in(list).as_deref(), Some(Path::new("/usr/lib/x y/slurm")));
        for list in
            ["", "libslurmfull.so => not found", "libslurmfull.so", "libm.so => /usr/lib/libm.so (0x0)"]
        {
            assert_eq!(folder_in(list), None, "{list}");
        }
    }
}
