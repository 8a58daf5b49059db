//! Settings: `/etc/slurm-nvlink/imex.toml`, optional, every key optional.
//!
//! All faults of a file are collected, each with its key, so that one look at `imex-prolog check-config` shows them
//! all. The file names programs that root runs: it must belong to root and be closed to writing by others.
#![forbid(unsafe_code)]

mod faults;
mod tables;

pub(crate) use tables::JOB;
pub use tables::{Deadlines, Encryption, Metrics, RollCall, Slurm, Standing};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Largest settings file that is read, in bytes.
const LEN_MAX: usize = 64 << 10;

/// The settings cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read, or not safely.
    #[error("cannot use the settings file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: crate::secure_fs::FsError,
    },
    /// Every fault that was found in it.
    #[error("{path} has {} fault(s): {}", faults.len(), faults.join("; "))]
    Faults {
        /// The file.
        path: PathBuf,
        /// One line each, beginning with the key where there is one.
        faults: Vec<String>,
    },
}

/// What is done for jobs at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// One IMEX domain for each whole-node job and NVLink partition.
    PerJob,
    /// One standing IMEX domain of all trays of the NVLink partition, in which jobs are guests; for shared nodes.
    PerPartition,
    /// Nothing is begun; what was begun before is still ended.
    Off,
}

/// What is done for a job that has only one tray in an NVLink partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SingleTray {
    /// A domain of one: fabric memory handles work inside the tray, the channel exists.
    Start,
    /// No daemon and no channel.
    Skip,
}

/// IMEX_WAIT_FOR_QUORUM of the daemon (IMEX guide: config).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quorum {
    /// Never waits.
    None,
    /// After an unclean end waits for the earlier importers; the vendor's default.
    Recovery,
}

/// Who owns the daemon's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// systemd where it is the system's first process, else nobody.
    Auto,
    /// systemd, as a transient unit.
    Systemd,
    /// Nobody: a detached process, in slurmd's control group.
    Direct,
}

/// How a job's IMEX channel number is chosen. It must be the same on all trays of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelPolicy {
    /// `number` for every job.
    Fixed,
    /// `1 + job id modulo (count - 1)`.
    ByJob,
}

/// All settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What is done for jobs at all, unless `partitions` says otherwise.
    pub mode: Mode,
    /// What is done for a domain of one tray.
    pub single_tray: SingleTray,
    /// GPUs that a tray must have; 0 takes whatever NVML counts.
    pub gpus_per_tray: u32,
    /// The IMEX daemon.
    pub daemon: Daemon,
    /// The IMEX channel.
    pub channel: ChannelSettings,
    /// Bounds of every wait.
    pub deadlines: Deadlines,
    /// The standing domain of mode `per-partition`.
    pub standing: Standing,
    /// How the prologs of a job agree that all its trays are complete.
    pub roll_call: RollCall,
    /// Encryption between daemons.
    pub encryption: Encryption,
    /// Slurm's commands.
    pub slurm: Slurm,
    /// Metrics for node exporters.
    pub metrics: Metrics,
    /// What is done for jobs of a Slurm partition, by its name.
    pub partitions: BTreeMap<String, Mode>,
}

/// The IMEX daemon and its control tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Daemon {
    /// `nvidia-imex`.
    pub program: PathBuf,
    /// `nvidia-imex-ctl`.
    pub control: PathBuf,
    /// Who owns its process.
    pub owner: Owner,
    /// Port for peers.
    pub server_port: u16,
    /// Port of the command service; peers must reach it too.
    pub command_port: u16,
    /// With N above 1 the job id modulo N is added to both ports, so that a tray whose daemon is still ending does not
    /// meet the next job's; 0 and 1 leave them as they are.
    pub port_rotation: u16,
    /// Wait for earlier importers.
    pub quorum: Quorum,
    /// IMEX_NODE_DISCONNECTED_GRACE_TIME in seconds; -1 waits for ever.
    pub disconnect_grace_seconds: i64,
    /// LOG_LEVEL, 0 (off) to 4 (info).
    pub log_level: u8,
    /// Daemon log files of ended jobs that are kept.
    pub log_files_kept: u32,
}

/// The IMEX channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChannelSettings {
    /// How the number is chosen.
    pub policy: ChannelPolicy,
    /// The number under the policy `fixed`.
    pub number: u32,
    /// The driver's NVreg_ImexChannelCount.
    pub count: u32,
}

/// The two ports of one daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// For peers.
    pub server: u16,
    /// For the control tool.
    pub command: u16,
}

impl Daemon {
    /// The ports of a job's daemon, the same on all its trays.
    #[must_use]
    pub fn ports_for(&self, job: u32) -> Ports {
        let offset = u16::try_from(job % u32::from(self.port_rotation.max(1))).unwrap_or(0);
        // Within the range: `Settings::parse`.
        Ports {
            server: self.server_port.saturating_add(offset),
            command: self.command_port.saturating_add(offset),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::PerJob,
            single_tray: SingleTray::Start,
            gpus_per_tray: 0,
            daemon: Daemon::default(),
            channel: ChannelSettings::default(),
            deadlines: Deadlines::default(),
            standing: Standing::default(),
            roll_call: RollCall::default(),
            encryption: Encryption::default(),
            slurm: Slurm::default(),
            metrics: Metrics::default(),
            partitions: BTreeMap::new(),
        }
    }
}

impl Default for Daemon {
    fn default() -> Self {
        Self {
            program: PathBuf::from("/usr/bin/nvidia-imex"),
            control: PathBuf::from("/usr/bin/nvidia-imex-ctl"),
            owner: Owner::Auto,
            server_port: 50_000,
            command_port: 50_005,
            port_rotation: 0,
            quorum: Quorum::Recovery,
            disconnect_grace_seconds: -1,
            log_level: 4,
            log_files_kept: 32,
        }
    }
}

impl Default for ChannelSettings {
    fn default() -> Self {
        Self { policy: ChannelPolicy::Fixed, number: 0, count: 2048 }
    }
}

impl ChannelSettings {
    /// The channel number of a job.
    #[must_use]
    pub fn number_for(&self, job: u32) -> u32 {
        match self.policy {
            ChannelPolicy::Fixed => self.number,
            // `count` is at least 2 under this policy: `Settings::faults`.
            ChannelPolicy::ByJob => 1 + job % self.count.saturating_sub(1).max(1),
        }
    }
}

impl Settings {
    /// Reads the file at `path`; an absent file or directory gives the defaults.
    ///
    /// # Errors
    /// [`ConfigError`] when it is there but cannot be used.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let fault = |source| ConfigError::Read { path: path.to_owned(), source };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
        else {
            return Ok(Self::default());
        };
        if !parent.exists() {
            return Ok(Self::default());
        }
        let dir = crate::secure_fs::Dir::open(parent).map_err(fault)?;
        let Some(bytes) = dir.read(name, LEN_MAX).map_err(fault)? else { return Ok(Self::default()) };
        Self::parse(&String::from_utf8_lossy(&bytes))
            .map_err(|faults| ConfigError::Faults { path: path.to_owned(), faults })
    }

    /// Reads settings from their text.
    ///
    /// # Errors
    /// Every fault of it, one line each.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        faults::parse(text)
    }

    /// What is done for jobs of this Slurm partition.
    #[must_use]
    pub fn mode_for(&self, partition: Option<&str>) -> Mode {
        partition.and_then(|name| self.partitions.get(name)).copied().unwrap_or(self.mode)
    }

    /// Whether some job may get a mode of which `wanted` says yes.
    #[must_use]
    pub fn uses(&self, wanted: impl Fn(Mode) -> bool) -> bool {
        wanted(self.mode) || self.partitions.values().any(|mode| wanted(*mode))
    }

    /// Number of GPUs that each tray must have, if that is set.
    #[must_use]
    pub fn expected_gpus(&self) -> Option<u32> {
        Some(self.gpus_per_tray).filter(|gpus| *gpus > 0)
    }

    /// Every port that some daemon may use.
    #[must_use]
    pub fn all_ports(&self) -> Vec<u16> {
        let mut ports = Vec::new();
        if self.uses(|mode| mode == Mode::PerJob) {
            for offset in 0..u32::from(self.daemon.port_rotation.max(1)) {
                let Ports { server, command } = self.daemon.ports_for(offset);
                ports.extend([server, command]);
            }
        }
        if self.roll_call.port != 0 && self.uses(|mode| mode != Mode::Off) {
            let ports_of_jobs =
                (0..u32::from(self.roll_call.ports.max(1))).filter_map(|job| self.roll_call.port_for(job));
            ports.extend(ports_of_jobs);
        }
        if self.uses(|mode| mode == Mode::PerPartition) {
            ports.extend([self.standing.server_port, self.standing.command_port]);
        }
        ports.sort_unstable();
        ports
    }

    /// The settings as a complete settings file.
    #[must_use]
    pub fn to_text(&self) -> String {
        // Every part has a TOML form; the test of the defaults would show one that lost it.
        toml::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_their_text_is_read_back() {
        let settings = Settings::default();
        assert_eq!(Settings::parse(&settings.to_text()), Ok(settings.clone()));
        assert_eq!(Settings::parse(""), Ok(settings));
    }

    #[test]
    fn the_example_has_every_setting_at_its_default() {
        let text = include_str!("../../packaging/examples/imex.toml");
        assert_eq!(Settings::parse(text), Ok(Settings::default()));
        let tables = |text: &str| -> Vec<(String, String)> {
            let mut table = String::new();
            let mut found = Vec::new();
            for line in text.lines().map(str::trim) {
                if line.starts_with('[') {
                    table = line.to_owned();
                } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
                    found.push((table.clone(), key.to_owned()));
                }
            }
            found.sort();
            found
        };
        assert_eq!(tables(text), tables(&Settings::default().to_text()));
    }

    #[test]
    fn a_file_changes_only_what_it_names() {
        let settings = Settings::parse("mode = \"off\"\n[daemon]\nserver_port = 51000\n").unwrap();
        assert_eq!((settings.mode, settings.daemon.server_port), (Mode::Off, 51_000));
        assert_eq!(settings.daemon.command_port, 50_005);
    }

    #[test]
    fn a_slurm_partition_can_have_a_mode_of_its_own() {
        let settings =
            Settings::parse("[partitions]\nshared = \"per-partition\"\ndebug = \"off\"\n").unwrap();
        let modes = [Some("shared"), Some("debug"), Some("other"), None].map(|name| settings.mode_for(name));
        assert_eq!(modes, [Mode::PerPartition, Mode::Off, Mode::PerJob, Mode::PerJob]);
        assert_eq!(settings.all_ports().len(), 16 + 4);
        let no_roll = Settings { roll_call: RollCall { port: 0, ports: 1 }, ..settings.clone() };
        assert_eq!(no_roll.all_ports(), [50_000, 50_005, 50_010, 50_015]);
        assert_eq!(Settings::parse(&settings.to_text()), Ok(settings));
    }

    #[test]
    fn rotated_ports_never_meet() {
        let settings = Settings::parse("[daemon]\nport_rotation = 5\n").unwrap();
        let ports = settings.daemon.ports_for(13);
        assert_eq!((ports.server, ports.command), (50_003, 50_008));
        let mut all = settings.all_ports();
        all.dedup();
        assert_eq!(all.len(), 10 + 16);
        let roll_call = RollCall { port: 700, ports: 4 };
        assert_eq!([7, 8].map(|job| roll_call.port_for(job)), [Some(703), Some(700)]);
        assert_eq!(RollCall { port: 0, ports: 4 }.port_for(7), None);
    }

    #[test]
    fn the_channel_by_job_is_never_0_and_below_the_count() {
        let channel = ChannelSettings { policy: ChannelPolicy::ByJob, number: 0, count: 4 };
        let numbers: Vec<u32> = (0..7).map(|job| channel.number_for(job)).collect();
        assert_eq!(numbers, [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(ChannelSettings::default().number_for(77), 0);
    }

    #[test]
    fn an_absent_file_gives_defaults_and_one_that_others_may_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("imex.toml");
        assert_eq!(Settings::load(&path).unwrap(), Settings::default());
        assert_eq!(Settings::load(&temp.path().join("no/imex.toml")).unwrap(), Settings::default());
        std::fs::write(&path, "mode = \"off\"\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(Settings::load(&path).unwrap().mode, Mode::Off);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(Settings::load(&path), Err(ConfigError::Read { .. })));
    }
}
