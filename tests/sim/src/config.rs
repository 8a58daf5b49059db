//! The daemon's `config.cfg`: `KEY=VALUE` lines, `#` comments, unknown keys ignored (IMEX guide: config).
//!
//! Keys that the simulation accepts and does nothing with (statistics, log rotation, syslog, certificates,
//! GSS) are among the ignored ones.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where both programs look without `-c`.
pub const DEFAULT_PATH: &str = "/etc/nvidia-imex/config.cfg";

/// Keys of the files that mutual TLS needs (IMEX guide: config).
pub const TLS_FILES: [&str; 6] = [
    "IMEX_SERVER_KEY",
    "IMEX_SERVER_CERT",
    "IMEX_SERVER_CERT_AUTH",
    "IMEX_CLIENT_KEY",
    "IMEX_CLIENT_CERT",
    "IMEX_CLIENT_CERT_AUTH",
];

/// What a config file says, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// LOG_LEVEL: 0 off to 4 info.
    pub log_level: u8,
    /// LOG_FILE_NAME; `None` is stderr.
    pub log_file: Option<PathBuf>,
    /// LOG_APPEND_TO_LOG.
    pub log_append: bool,
    /// DAEMONIZE.
    pub daemonize: bool,
    /// BIND_INTERFACE_IP.
    pub bind_ip: Option<IpAddr>,
    /// SERVER_PORT.
    pub server_port: u16,
    /// IMEX_NODE_CONFIG_FILE.
    pub nodes_file: PathBuf,
    /// IMEX_WAIT_FOR_QUORUM=RECOVERY: after an unclean end, wait for the earlier importers.
    pub wait_for_recovery: bool,
    /// IMEX_AUTH_ENCRYPTION_MODE where encryption is enabled. The simulation checks it and encrypts nothing.
    pub encryption: Option<String>,
    /// The files of TLS, where keys come from files.
    pub tls_files: Vec<PathBuf>,
    /// IMEX_CMD_BIND_INTERFACE_IP; `None` is every interface.
    pub cmd_ip: Option<IpAddr>,
    /// IMEX_CMD_PORT, unless the command service is off or has no port.
    pub cmd_port: Option<u16>,
    /// IMEX_CMD_UNIX_DOMAIN_PATH, unless the command service is off.
    pub cmd_socket: Option<PathBuf>,
    /// IMEX_NODE_DISCONNECTED_GRACE_TIME; `None` waits for ever.
    pub grace: Option<Duration>,
}

/// A config file that the daemon does not start with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value outside the key's range.
    #[error("{key} has the value '{value}'; expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What the file says.
        value: String,
        /// What the key takes.
        expected: &'static str,
    },
    /// Encryption is on without a source of keys.
    #[error("IMEX_AUTH_ENCRYPTION_MODE=SSL_TLS needs IMEX_AUTH_SOURCE (FILE, ENV_PATH or ENV_VAL)")]
    NoKeySource,
    /// Keys come from files, and one of them is not named.
    #[error("IMEX_AUTH_SOURCE=FILE needs {0}")]
    NoKeyFile(&'static str),
}

impl Config {
    /// Reads the text of a config file.
    ///
    /// # Errors
    /// A value that the key does not take. Unknown keys and lines without `=` are ignored.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let values = Values::of(text);
        let command = values.flag("IMEX_CMD_ENABLED", true)?;
        let config = Self {
            log_level: values.number("LOG_LEVEL", 4, "0 to 4", |level| level <= 4)?,
            log_file: values.path("LOG_FILE_NAME", "/var/log/nvidia-imex.log"),
            log_append: values.flag("LOG_APPEND_TO_LOG", true)?,
            daemonize: values.flag("DAEMONIZE", true)?,
            bind_ip: values.address("BIND_INTERFACE_IP")?,
            server_port: values.number("SERVER_PORT", 50_000, "a port, 0 to 65535", |_| true)?,
            nodes_file: values
                .path("IMEX_NODE_CONFIG_FILE", "/etc/nvidia-imex/nodes_config.cfg")
                .unwrap_or_default(),
            wait_for_recovery: match values.get("IMEX_WAIT_FOR_QUORUM").unwrap_or("RECOVERY") {
                "NONE" => false,
                "RECOVERY" => true,
                other => return Err(bad("IMEX_WAIT_FOR_QUORUM", other, "NONE or RECOVERY")),
            },
            encryption: values.encryption()?,
            tls_files: values.tls_files(),
            cmd_ip: values.address("IMEX_CMD_BIND_INTERFACE_IP")?,
            cmd_port: values.command_port()?.filter(|_| command),
            cmd_socket: values.path("IMEX_CMD_UNIX_DOMAIN_PATH", "").filter(|_| command),
            grace: values.grace()?,
        };
        Ok(config)
    }
}

fn bad(key: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError::Value { key, value: value.to_owned(), expected }
}

/// The lines of a config file; of a repeated key the last line counts.
struct Values<'a>(HashMap<&'a str, &'a str>);

impl<'a> Values<'a> {
    fn of(text: &'a str) -> Self {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        Self(lines.filter_map(|line| line.split_once('=')).map(|(k, v)| (k.trim(), v.trim())).collect())
    }

    /// The value of a key that is there, also when it is empty.
    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).copied()
    }

    fn flag(&self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        match self.get(key) {
            None | Some("") => Ok(default),
            Some("0") => Ok(false),
            Some("1") => Ok(true),
            Some(other) => Err(bad(key, other, "0 or 1")),
        }
    }

    fn number<T: std::str::FromStr + Copy>(
        &self,
        key: &'static str,
        default: T,
        expected: &'static str,
        allowed: impl Fn(T) -> bool,
    ) -> Result<T, ConfigError> {
        match self.get(key) {
            None | Some("") => Ok(default),
            Some(text) => {
                text.parse().ok().filter(|value| allowed(*value)).ok_or_else(|| bad(key, text, expected))
            }
        }
    }

    /// A path; an empty value is `None`, an absent key the default.
    fn path(&self, key: &str, default: &'a str) -> Option<PathBuf> {
        Some(self.get(key).unwrap_or(default)).filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    fn address(&self, key: &'static str) -> Result<Option<IpAddr>, ConfigError> {
        match self.get(key) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| bad(key, text, "an IPv4 or IPv6 address")),
        }
    }

    /// 50005 unless the key is there; an empty value switches the port off.
    fn command_port(&self) -> Result<Option<u16>, ConfigError> {
        match self.get("IMEX_CMD_PORT") {
            Some("") => Ok(None),
            _ => self.number("IMEX_CMD_PORT", 50_005, "a port, 0 to 65535", |_| true).map(Some),
        }
    }

    fn grace(&self) -> Result<Option<Duration>, ConfigError> {
        let key = "IMEX_NODE_DISCONNECTED_GRACE_TIME";
        let seconds: i64 = self.number(key, -1, "-1, 0 or seconds", |seconds| seconds >= -1)?;
        Ok(u64::try_from(seconds).ok().map(Duration::from_secs))
    }

    fn tls_files(&self) -> Vec<PathBuf> {
        let enabled = self.get("IMEX_ENABLE_AUTH_ENCRYPTION") == Some("1");
        let from_files = enabled && self.get("IMEX_AUTH_SOURCE") == Some("FILE");
        let named = TLS_FILES.iter().filter_map(|key| self.path(key, ""));
        if from_files { named.collect() } else { Vec::new() }
    }

    fn encryption(&self) -> Result<Option<String>, ConfigError> {
        if !self.flag("IMEX_ENABLE_AUTH_ENCRYPTION", false)? {
            return Ok(None);
        }
        let key = "IMEX_AUTH_ENCRYPTION_MODE";
        let mode = self.get(key).unwrap_or("SSL_TLS");
        match mode {
            "SSL_TLS" => match self.get("IMEX_AUTH_SOURCE") {
                Some("FILE") => match TLS_FILES.iter().find(|key| self.get(key).is_none_or(str::is_empty)) {
                    Some(key) => Err(ConfigError::NoKeyFile(key)),
                    None => Ok(Some(mode.to_owned())),
                },
                Some("ENV_PATH" | "ENV_VAL") => Ok(Some(mode.to_owned())),
                _ => Err(ConfigError::NoKeySource),
            },
            "GSS_AUTH_ENCRYPT" | "GSS_AUTH_ONLY" => Ok(Some(mode.to_owned())),
            other => Err(bad(key, other, "SSL_TLS, GSS_AUTH_ENCRYPT or GSS_AUTH_ONLY")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_gives_the_vendor_defaults() {
        let config = Config::parse("").unwrap();
        assert_eq!(config.server_port, 50_000);
        assert_eq!(config.cmd_port, Some(50_005));
        assert_eq!(config.log_file, Some(PathBuf::from("/var/log/nvidia-imex.log")));
        assert_eq!(config.nodes_file, PathBuf::from("/etc/nvidia-imex/nodes_config.cfg"));
        assert!(config.daemonize && config.log_append && config.wait_for_recovery);
        assert_eq!((config.grace, config.bind_ip, config.cmd_ip), (None, None, None));
    }

    #[test]
    fn keys_are_read_and_unknown_ones_ignored() {
        let text = "# a comment\nSERVER_PORT = 7\n\nIMEX_CONN_WAIT_TIMEOUT=9\nno equals sign\n#DAEMONIZE=1\n\
                    DAEMONIZE=0\nLOG_FILE_NAME=\nIMEX_WAIT_FOR_QUORUM=NONE\nIMEX_CMD_PORT=\n\
                    IMEX_NODE_DISCONNECTED_GRACE_TIME=0\nBIND_INTERFACE_IP=127.0.0.9\n";
        let config = Config::parse(text).unwrap();
        assert_eq!((config.server_port, config.cmd_port), (7, None));
        assert!(!config.daemonize && !config.wait_for_recovery);
        assert_eq!(config.log_file, None);
        assert_eq!(config.grace, Some(Duration::ZERO));
        assert_eq!(config.bind_ip, Some("127.0.0.9".parse().unwrap()));
    }

    #[test]
    fn values_out_of_range_name_key_and_range() {
        let error = |text: &str| Config::parse(text).unwrap_err().to_string();
        assert_eq!(
            error("SERVER_PORT=70000"),
            "SERVER_PORT has the value '70000'; expected a port, 0 to 65535"
        );
        assert!(error("IMEX_WAIT_FOR_QUORUM=FULL").contains("NONE or RECOVERY"));
        assert!(error("LOG_LEVEL=5").contains("0 to 4"));
        assert!(error("IMEX_ENABLE_AUTH_ENCRYPTION=1").contains("IMEX_AUTH_SOURCE"));
        assert!(error("IMEX_ENABLE_AUTH_ENCRYPTION=1\nIMEX_AUTH_ENCRYPTION_MODE=").contains("SSL_TLS"));
        let mut tls = "IMEX_ENABLE_AUTH_ENCRYPTION=1\nIMEX_AUTH_SOURCE=FILE\n".to_owned();
        for key in TLS_FILES {
            assert_eq!(error(&tls), format!("IMEX_AUTH_SOURCE=FILE needs {key}"));
            tls.push_str(&format!("{key}=/{key}\n"));
        }
        assert_eq!(Config::parse(&tls).unwrap().tls_files.len(), TLS_FILES.len());
    }

    #[test]
    fn a_disabled_command_service_has_neither_port_nor_socket() {
        let config = Config::parse("IMEX_CMD_ENABLED=0\nIMEX_CMD_UNIX_DOMAIN_PATH=/x").unwrap();
        assert_eq!((config.cmd_port, config.cmd_socket), (None, None));
    }
}
