//! Where things lie on a tray, in one movable table.
//!
//! The binaries use [`Paths::system`]; tests move every path. No environment variable moves any of them: the
//! programs run as root with an environment that comes from outside.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

/// Every path that the programs read or write by themselves. Programs of the vendor are in the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Settings file, may be absent.
    pub settings: PathBuf,
    /// Records, lock, per-job directories. Cleared at boot.
    pub run_dir: PathBuf,
    /// Own log and the daemons' logs.
    pub log_dir: PathBuf,
    /// Mounted process file system.
    pub proc_dir: PathBuf,
    /// Table of device majors, normally `/proc/devices`.
    pub devices: PathBuf,
    /// Directory of the IMEX channel files.
    pub channel_dir: PathBuf,
    /// Socket of the system's journal, may be absent.
    pub journal: PathBuf,
}

impl Paths {
    /// The installed layout.
    #[must_use]
    pub fn system() -> Self {
        Self {
            settings: PathBuf::from("/etc/slurm-nvlink/imex.toml"),
            run_dir: PathBuf::from("/run/slurm-nvlink/imex"),
            log_dir: PathBuf::from("/var/log/slurm-nvlink"),
            proc_dir: PathBuf::from("/proc"),
            devices: PathBuf::from("/proc/devices"),
            channel_dir: PathBuf::from("/dev/nvidia-caps-imex-channels"),
            journal: PathBuf::from("/run/systemd/journal/socket"),
        }
    }

    /// The same layout below `root`, except the process file system; for tests.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        let system = Self::system();
        let moved = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        Self {
            settings: moved(&system.settings),
            run_dir: moved(&system.run_dir),
            log_dir: moved(&system.log_dir),
            proc_dir: system.proc_dir,
            devices: moved(&system.devices),
            channel_dir: moved(&system.channel_dir),
            journal: moved(&system.journal),
        }
    }

    /// Log file of the two programs.
    #[must_use]
    pub fn own_log(&self) -> PathBuf {
        self.log_dir.join("imex.log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moved_paths_stay_below_their_root_but_proc_does_not_move() {
        let paths = Paths::below(Path::new("/tmp/x"));
        assert_eq!(paths.run_dir, Path::new("/tmp/x/run/slurm-nvlink/imex"));
        assert_eq!(paths.devices, Path::new("/tmp/x/proc/devices"));
        assert_eq!(paths.proc_dir, Path::new("/proc"));
    }
}
