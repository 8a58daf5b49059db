//! Settings: `/etc/slurm-nvlink/imex.toml`, optional, every key optional.
//!
//! All faults of a file are collected, each with its key, so that one look at `imex-prolog check-config` shows them
//! all. The file names programs that root runs: it must belong to root and be closed to writing by others.
#![forbid(unsafe_code)]

mod faults;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
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

/// The standing domain. Its ports are not those of jobs: on other trays of the NVLink partition a job may have a domain of its
/// own, and daemons of two domains that meet refuse each other until they are restarted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Standing {
    /// Port for peers.
    pub server_port: u16,
    /// Port of the command service.
    pub command_port: u16,
    /// For a running standing daemon to be READY, in seconds; after that it is started again.
    pub verify_seconds: u64,
}

/// The roll call: a prolog ends well only when those of all members have said that their trays are complete. The first member listens
/// on one of these ports while its prolog waits, which depends on the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RollCall {
    /// First port, by default not one that the kernel gives to outgoing connections; 0: no roll call, and a batch script may start before a tray other than its own has failed.
    pub port: u16,
    /// How many ports: jobs that share their first tray and begin at the same time need one each.
    pub ports: u16,
}

/// Slurm's commands. They are used only when a peer is missing and Slurm itself does not end the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Slurm {
    /// Whether a job whose domain cannot form is requeued and held (or cancelled); if not, it runs without a channel.
    pub end_half_formed_jobs: bool,
    /// `scontrol`.
    pub scontrol: PathBuf,
    /// `scancel`.
    pub scancel: PathBuf,
}

/// Metrics in the text form of Prometheus.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Directory of a node exporter's textfile collector; absent: none are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
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

/// Bounds, all in whole seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Deadlines {
    /// From the start of the prolog until the whole domain is ready. Cut to stay below slurmd's own timeout.
    pub ready_seconds: u64,
    /// For the own daemon to be READY for the first time. Alone it takes seconds; after an unclean end it may wait for earlier
    /// importers.
    pub own_ready_seconds: u64,
    /// For an NVML reading that is still in progress.
    pub fabric_seconds: u64,
    /// For the names of all members.
    pub resolve_seconds: u64,
    /// After a peer that had been connected is lost, until the domain is given up.
    pub peer_lost_seconds: u64,
    /// For a peer on which no daemon listens, until the domain is given up. A peer may rightly be busy for `stop_seconds`
    /// with what an earlier job left.
    pub peer_absent_seconds: u64,
    /// After a domain was given up for a peer's sake, until Slurm has ended the job. Within `ready_seconds`.
    pub job_end_seconds: u64,
    /// For one call of the control tool.
    pub control_call_seconds: u64,
    /// From SIGTERM to the daemon until SIGKILL.
    pub stop_seconds: u64,
    /// For the tray lock, on top of what its holder may need.
    pub lock_seconds: u64,
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
            slurm: Slurm::default(),
            metrics: Metrics::default(),
            partitions: BTreeMap::new(),
        }
    }
}

impl Default for Standing {
    fn default() -> Self {
        Self { server_port: 50_010, command_port: 50_015, verify_seconds: 15 }
    }
}

impl Default for RollCall {
    fn default() -> Self {
        Self { port: 21_020, ports: 16 }
    }
}

impl RollCall {
    /// The port of a job's roll call; `None`: there is none.
    #[must_use]
    pub fn port_for(&self, job: u32) -> Option<u16> {
        let offset = u16::try_from(job % u32::from(self.ports.max(1))).unwrap_or(0);
        // Within the range: `Settings::parse`.
        (self.port != 0).then(|| self.port.saturating_add(offset))
    }
}

impl Default for Slurm {
    fn default() -> Self {
        Self {
            end_half_formed_jobs: true,
            scontrol: PathBuf::from("/usr/bin/scontrol"),
            scancel: PathBuf::from("/usr/bin/scancel"),
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

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            ready_seconds: 150,
            own_ready_seconds: 60,
            fabric_seconds: 10,
            resolve_seconds: 15,
            peer_lost_seconds: 15,
            peer_absent_seconds: 45,
            job_end_seconds: 20,
            control_call_seconds: 6,
            stop_seconds: 30,
            lock_seconds: 60,
        }
    }
}

impl Deadlines {
    /// [`Deadlines::ready_seconds`] as a span.
    #[must_use]
    pub fn ready(&self) -> Duration {
        Duration::from_secs(self.ready_seconds)
    }

    /// The longest that another prolog or epilog may rightly hold the tray lock, and a margin.
    #[must_use]
    pub fn epilog_lock(&self) -> Duration {
        Duration::from_secs(self.lock_seconds.saturating_add(self.stop_seconds))
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
