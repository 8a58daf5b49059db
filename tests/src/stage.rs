//! The staged artifacts: what `cargo xtask build` made, and where each goes inside a node.
#![forbid(unsafe_code)]

use crate::paths;
use crate::spec::Entry;
use anyhow::Context as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Where the simulated NVML library lies inside a tray; in every architecture's loader path.
pub(crate) const NVML_LIBRARY: &str = "/usr/lib/libnvidia-ml.so.1";
/// Where the prolog lies.
pub(crate) const PROLOG: &str = "/usr/sbin/imex-prolog";
/// Where the epilog lies.
pub(crate) const EPILOG: &str = "/usr/sbin/imex-epilog";
/// Where hooks lie that stand in the place of ours, or in front of them.
pub(crate) const HOOKS: &str = "/etc/slurm-nvlink/hooks";
/// Where topology-gen lies.
pub(crate) const TOPOLOGY_GEN: &str = "/usr/bin/topology-gen";

/// An artifact that may be staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Artifact {
    /// Our topology/block plugin.
    Plugin,
    /// The same plugin with faults planted in it, for tests.
    Planted,
    /// The program that confirms the layout of a build of Slurm to it.
    Confirm,
    /// `imex-prolog`.
    Prolog,
    /// `imex-epilog`.
    Epilog,
    /// `topology-gen`.
    TopologyGen,
    /// The simulated IMEX daemon.
    Imex,
    /// The simulated IMEX control tool.
    ImexCtl,
    /// The simulated NVML library.
    Nvml,
    /// What can stand in front of prolog and epilog.
    Hook,
}

/// Puts staged programs and libraries below the root of a machine, each at its place there.
///
/// # Errors
/// One is not staged, or cannot be put there.
pub fn put(root: &Path, places: &[(Artifact, &str)]) -> anyhow::Result<()> {
    for (artifact, place) in places {
        let target = root.join(place);
        let put = || -> std::io::Result<()> {
            fs::create_dir_all(target.parent().unwrap_or(root))?;
            fs::copy(artifact.need().map_err(std::io::Error::other)?, &target)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o755))
        };
        put().with_context(|| format!("cannot put {} to {}", artifact.file_name(), target.display()))?;
    }
    Ok(())
}

impl Artifact {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Plugin,
        Self::Planted,
        Self::Confirm,
        Self::Prolog,
        Self::Epilog,
        Self::TopologyGen,
        Self::Imex,
        Self::ImexCtl,
        Self::Nvml,
        Self::Hook,
    ];

    /// File name in the staging directory.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Plugin => "topology_block.so",
            Self::Planted => "topology_block-planted-faults.so",
            Self::Confirm => "slurm-nvlink-confirm",
            Self::Prolog => "imex-prolog",
            Self::Epilog => "imex-epilog",
            Self::TopologyGen => "topology-gen",
            Self::Imex => "nvidia-imex",
            Self::ImexCtl => "nvidia-imex-ctl",
            Self::Nvml => "libnvidia-ml.so.1",
            Self::Hook => "sim-hook",
        }
    }

    /// The staged file, if it is there.
    pub fn find(self) -> Option<PathBuf> {
        Some(paths::stage().join(self.file_name())).filter(|path| path.is_file())
    }

    /// The staged file.
    ///
    /// # Errors
    /// It is not there; the text says what to do.
    pub fn need(self) -> anyhow::Result<PathBuf> {
        let hint = "make it with `cargo xtask build`";
        self.find()
            .with_context(|| format!("no {} in {}; {hint}", self.file_name(), paths::stage().display()))
    }

    /// Path inside a node.
    fn place(self) -> PathBuf {
        match self {
            Self::Plugin | Self::Planted => Path::new(paths::PLUGIN_DIR).join(Self::Plugin.file_name()),
            Self::Prolog => PROLOG.into(),
            Self::Epilog => EPILOG.into(),
            Self::TopologyGen => TOPOLOGY_GEN.into(),
            Self::Confirm => Path::new("/usr/sbin").join(self.file_name()),
            Self::Imex | Self::ImexCtl => Path::new("/usr/bin").join(self.file_name()),
            Self::Nvml => NVML_LIBRARY.into(),
            Self::Hook => Path::new(HOOKS).join(self.file_name()),
        }
    }

    /// The artifact at its place, taken from `file`.
    pub(crate) fn entry(self, file: PathBuf) -> Entry {
        Entry::program(self.place(), file)
    }
}
