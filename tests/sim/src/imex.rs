//! Settings of the simulated IMEX daemon and control tool: version, timing, and the fault to show.
#![forbid(unsafe_code)]

use crate::{DEFAULT_VERSION, store};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// Name of the settings file inside the settings directory.
pub const FILE: &str = "imex.json";

/// Behaviour of the daemon and the control tool of one tray.
///
/// The daemon looks at the file again several times a second, so a change strikes a running daemon; `version`
/// counts at start only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What `--version` prints and peers compare. The daemon refuses to start when the NVML settings name
    /// another driver version, as the real one does.
    pub version: String,
    /// The fault to show; absent: healthy.
    pub fault: Option<Fault>,
    /// Attempts at `quick_ms` distance after start or after a lost connection, before `backoff_ms` begins.
    pub quick_attempts: u32,
    /// Milliseconds between the quick attempts.
    pub quick_ms: u64,
    /// Milliseconds to wait after each further failed attempt; the last one repeats. An empty list means `quick_ms`.
    pub backoff_ms: Vec<u64>,
    /// Milliseconds between two probes of each connection in service.
    pub heartbeat_ms: u64,
    /// Milliseconds without an answer after which an attempt has failed, or a probed connection is INVALID.
    pub answer_timeout_ms: u64,
    /// Milliseconds that a graceful end takes.
    pub shutdown_delay_ms: u64,
    /// Node ids that import memory of this tray: written to the persistence file, waited for after an unclean end.
    pub importers: Vec<u32>,
    /// Addresses whose traffic on the peer port is dropped (a one-way block).
    pub block_peers_from: Vec<String>,
    /// Addresses whose requests on the command port are dropped.
    pub block_commands_from: Vec<String>,
    /// Milliseconds that the control tool waits for one daemon.
    pub ctl_timeout_ms: u64,
    /// Layout of the control tool's JSON.
    pub json: JsonStyle,
    /// Seed of the key order in that JSON; absent: another order each time.
    pub json_seed: Option<u64>,
}

/// Layout of the control tool's JSON; builds of the real tool differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JsonStyle {
    /// One line.
    #[default]
    Compact,
    /// Indented, one key a line.
    Pretty,
}

/// A fault of one tray.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// The daemon dies as if by SIGKILL, this long after it first sees the fault.
    Die {
        /// Milliseconds.
        #[serde(default)]
        after_ms: u64,
    },
    /// The daemon answers peers and queries and never becomes READY; one that is READY falls back to INIT_GPU.
    Hang {},
    /// The daemon accepts connections and answers nobody.
    Freeze {},
    /// The daemon does not start: message on stderr, exit 1.
    Refuse {
        /// The message; empty: a general one.
        #[serde(default)]
        message: String,
    },
    /// The daemon stays INITIALIZING this long, without opening its ports.
    SlowStart {
        /// Milliseconds.
        delay_ms: u64,
    },
    /// Something else holds SERVER_PORT. The daemon itself does nothing for it; whoever sets it must bind the port.
    PortTaken {},
    /// The control tool never returns.
    CtlHang {},
    /// The control tool prints text that is neither a state nor JSON, and exits 0.
    CtlGarbage {},
    /// The daemon does not react to SIGTERM, SIGINT and SIGQUIT.
    IgnoreSigterm {},
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            version: DEFAULT_VERSION.to_owned(),
            fault: None,
            quick_attempts: 25,
            quick_ms: 200,
            backoff_ms: vec![15_000, 31_000, 62_000, 125_000],
            heartbeat_ms: 30_000,
            answer_timeout_ms: 5_000,
            shutdown_delay_ms: 0,
            importers: Vec::new(),
            block_peers_from: Vec::new(),
            block_commands_from: Vec::new(),
            ctl_timeout_ms: 2_000,
            json: JsonStyle::Compact,
            json_seed: None,
        }
    }
}

impl Settings {
    /// Reads `imex.json` in `dir`; an absent file gives healthy defaults.
    ///
    /// # Errors
    /// The file exists and cannot be read or understood.
    pub fn load(dir: &Path) -> io::Result<Self> {
        store::load(dir, FILE)
    }

    /// Replaces `imex.json` in `dir` in one step.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, dir: &Path) -> io::Result<()> {
        store::save(self, dir, FILE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_the_documented_json_form() {
        let settings = |fault| Settings { fault: Some(fault), ..Settings::default() };
        let json = |fault| serde_json::to_value(settings(fault)).unwrap()["fault"].to_string();
        assert_eq!(json(Fault::Die { after_ms: 500 }), r#"{"after_ms":500,"kind":"die"}"#);
        assert_eq!(json(Fault::SlowStart { delay_ms: 2 }), r#"{"delay_ms":2,"kind":"slow-start"}"#);
        assert_eq!(json(Fault::IgnoreSigterm {}), r#"{"kind":"ignore-sigterm"}"#);
        assert_eq!(json(Fault::CtlGarbage {}), r#"{"kind":"ctl-garbage"}"#);
    }

    #[test]
    fn a_fault_needs_only_its_kind_where_the_rest_has_a_default() {
        let read = |text: &str| serde_json::from_str::<Settings>(text).map(|settings| settings.fault);
        assert_eq!(read(r#"{"fault":{"kind":"die"}}"#).unwrap(), Some(Fault::Die { after_ms: 0 }));
        assert_eq!(read(r#"{"fault":{"kind":"hang"}}"#).unwrap(), Some(Fault::Hang {}));
        assert_eq!(read("{}").unwrap(), None);
        assert!(read(r#"{"fault":{"kind":"explode"}}"#).is_err());
    }

    #[test]
    fn what_was_saved_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { fault: Some(Fault::Freeze {}), json_seed: Some(3), ..Settings::default() };
        settings.save(dir.path()).unwrap();
        assert_eq!(Settings::load(dir.path()).unwrap(), settings);
    }
}
