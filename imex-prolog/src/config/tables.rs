//! The tables of the settings beside the daemon's and the channel's.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// What stands for the job's id in the path of a key.
pub(crate) const JOB: &str = "%j";

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

/// The roll call: a prolog ends well only when those of all members have said that their trays are complete. The first
/// member listens on one of these ports while its prolog waits, which depends on the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RollCall {
    /// First port, by default not one that the kernel gives to outgoing connections; 0: no roll call, and a batch
    /// script may start before a tray other than its own has failed.
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

/// Mutual TLS between daemons (IMEX guide: IMEX_ENABLE_AUTH_ENCRYPTION with SSL_TLS and keys from files).
///
/// Each path may hold `%j`, which becomes the job's id: keys for each job, which the site delivers before the prolog.
/// Without it they are the site's. The daemon reads them; they are never copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Encryption {
    /// Whether daemons speak TLS to each other. It must be the same on all trays.
    pub enabled: bool,
    /// Private key for connections from peers; mode 0600 or 0400.
    pub server_key: PathBuf,
    /// Its certificate.
    pub server_cert: PathBuf,
    /// Certificates that peers' client certificates must descend from.
    pub server_ca: PathBuf,
    /// Private key for connections to peers; mode 0600 or 0400.
    pub client_key: PathBuf,
    /// Its certificate.
    pub client_cert: PathBuf,
    /// Certificates that peers' server certificates must descend from.
    pub client_ca: PathBuf,
    /// Name that a peer's certificate must have in the place of its address; empty: its address.
    pub target_name: String,
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

impl Default for Encryption {
    fn default() -> Self {
        let file = |name: &str| PathBuf::from("/etc/slurm-nvlink/tls").join(name);
        Self {
            enabled: false,
            server_key: file("server.key"),
            server_cert: file("server.crt"),
            server_ca: file("ca.crt"),
            client_key: file("client.key"),
            client_cert: file("client.crt"),
            client_ca: file("ca.crt"),
            target_name: String::new(),
        }
    }
}

impl Encryption {
    /// Setting, the daemon's key for it, its value, and whether it is secret.
    pub(crate) fn files(&self) -> [(&'static str, &'static str, &PathBuf, bool); 6] {
        [
            ("server_key", "IMEX_SERVER_KEY", &self.server_key, true),
            ("server_cert", "IMEX_SERVER_CERT", &self.server_cert, false),
            ("server_ca", "IMEX_SERVER_CERT_AUTH", &self.server_ca, false),
            ("client_key", "IMEX_CLIENT_KEY", &self.client_key, true),
            ("client_cert", "IMEX_CLIENT_CERT", &self.client_cert, false),
            ("client_ca", "IMEX_CLIENT_CERT_AUTH", &self.client_ca, false),
        ]
    }

    /// Whether there are other keys for each job.
    #[must_use]
    pub fn is_by_job(&self) -> bool {
        self.files().iter().any(|(.., path, _)| path.as_os_str().to_string_lossy().contains(JOB))
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
