//! The daemon's two files for one job: its complete configuration and the nodes file.
//!
//! Keys after the IMEX guide, page "config". The file sets every key whose default could be changed by a site or differs
//! between builds, so that a job's domain depends on nothing in `/etc/nvidia-imex`.
#![forbid(unsafe_code)]

use crate::config::{Daemon, Ports, Quorum};
use crate::record::Member;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// File name of the configuration in the job's directory.
pub const CONFIG_FILE: &str = "config.cfg";
/// File name of the nodes file in the job's directory.
pub const NODES_FILE: &str = "nodes.cfg";

/// Text of the nodes file: one address a line; the line's position is the member's id.
#[must_use]
pub fn nodes_text(members: &[Member]) -> String {
    members.iter().fold(String::new(), |mut text, member| {
        text.push_str(&member.address.to_string());
        text.push('\n');
        text
    })
}

/// Text of the configuration.
///
/// The daemon's persistence file (`/var/run/nvidia-imex/persist.dat`) is left to the daemon: it drops the file by itself when
/// the node list differs, and with the same list after an unclean end it waits under `RECOVERY` for members that are just
/// starting as well. Whether processes on *other* trays still import memory cannot be known here.
///
/// The command service listens on the tray's own address: on the loopback address alone `-q` works but the peers'
/// `-N` does not (DRA driver PR 538), and on all interfaces it would be open to networks that need it not.
#[must_use]
pub fn config_text(
    daemon: &Daemon,
    ports: Ports,
    own: IpAddr,
    nodes_file: &Path,
    log_file: &Path,
    tls: Option<&Tls<'_>>,
) -> String {
    let quorum = match daemon.quorum {
        Quorum::None => "NONE",
        Quorum::Recovery => "RECOVERY",
    };
    let pairs: [(&str, String); 18] = [
        ("LOG_LEVEL", daemon.log_level.to_string()),
        ("LOG_FILE_NAME", log_file.display().to_string()),
        ("STATS_FILE_NAME", log_file.display().to_string()),
        ("LOG_APPEND_TO_LOG", "1".to_owned()),
        ("LOG_FILE_MAX_SIZE", "64".to_owned()),
        ("LOG_MAX_ROTATE_COUNT", "1".to_owned()),
        ("LOG_USE_SYSLOG", "0".to_owned()),
        ("DAEMONIZE", "0".to_owned()),
        ("BIND_INTERFACE_IP", own.to_string()),
        ("SERVER_PORT", ports.server.to_string()),
        ("IMEX_NODE_CONFIG_FILE", nodes_file.display().to_string()),
        ("IMEX_WAIT_FOR_QUORUM", quorum.to_owned()),
        ("IMEX_CMD_ENABLED", "1".to_owned()),
        ("IMEX_CMD_BIND_INTERFACE_IP", own.to_string()),
        ("IMEX_CMD_PORT", ports.command.to_string()),
        ("IMEX_CMD_UNIX_DOMAIN_PATH", String::new()),
        ("IMEX_NODE_DISCONNECTED_GRACE_TIME", daemon.disconnect_grace_seconds.to_string()),
        ("NETWORK_INTERFACE", String::new()),
    ];
    let mut text = String::from("# Written by imex-prolog, which also removes it.\n");
    for (key, value) in pairs.into_iter().chain(encryption(tls)) {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{key}={value}");
    }
    text
}

/// What TLS between daemons needs.
#[derive(Debug, Clone, Copy)]
pub struct Tls<'a> {
    /// Keys of the configuration with their files.
    pub files: &'a [(&'static str, PathBuf)],
    /// Name that peers' certificates must have; empty: their addresses.
    pub target_name: &'a str,
}

fn encryption(tls: Option<&Tls<'_>>) -> Vec<(&'static str, String)> {
    let key = "IMEX_ENABLE_AUTH_ENCRYPTION";
    let Some(tls) = tls else { return vec![(key, "0".to_owned())] };
    let mut pairs = vec![(key, "1".to_owned())];
    pairs.push(("IMEX_AUTH_ENCRYPTION_MODE", "SSL_TLS".to_owned()));
    pairs.push(("IMEX_AUTH_SOURCE", "FILE".to_owned()));
    pairs.extend(tls.files.iter().map(|(key, path)| (*key, path.display().to_string())));
    pairs.push(("IMEX_SECURITY_TARGET_OVERRIDE", tls.target_name.to_owned()));
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use fabric::names::NodeName;

    #[test]
    fn the_nodes_file_has_one_address_a_line_in_member_order() {
        let member = |node, address: &str| Member {
            node: NodeName::new(node).unwrap(),
            address: address.parse().unwrap(),
        };
        assert_eq!(nodes_text(&[member("b", "10.0.0.2"), member("a", "fd00::1")]), "10.0.0.2\nfd00::1\n");
    }

    #[test]
    fn the_configuration_is_complete() {
        let text = config_text(
            &Daemon::default(),
            Daemon::default().ports_for(7),
            "10.75.1.2".parse().unwrap(),
            Path::new("/run/x/nodes.cfg"),
            Path::new("/var/log/x.log"),
            None,
        );
        assert_eq!(
            text,
            "# Written by imex-prolog, which also removes it.\n\
             LOG_LEVEL=4\nLOG_FILE_NAME=/var/log/x.log\nSTATS_FILE_NAME=/var/log/x.log\nLOG_APPEND_TO_LOG=1\n\
             LOG_FILE_MAX_SIZE=64\nLOG_MAX_ROTATE_COUNT=1\nLOG_USE_SYSLOG=0\nDAEMONIZE=0\nBIND_INTERFACE_IP=10.75.1.2\n\
             SERVER_PORT=50000\nIMEX_NODE_CONFIG_FILE=/run/x/nodes.cfg\nIMEX_WAIT_FOR_QUORUM=RECOVERY\n\
             IMEX_CMD_ENABLED=1\nIMEX_CMD_BIND_INTERFACE_IP=10.75.1.2\nIMEX_CMD_PORT=50005\n\
             IMEX_CMD_UNIX_DOMAIN_PATH=\nIMEX_NODE_DISCONNECTED_GRACE_TIME=-1\nNETWORK_INTERFACE=\n\
             IMEX_ENABLE_AUTH_ENCRYPTION=0\n"
        );
    }

    #[test]
    fn with_tls_the_daemon_gets_every_file_and_the_name() {
        let files = [("IMEX_SERVER_KEY", PathBuf::from("/k")), ("IMEX_CLIENT_CERT", PathBuf::from("/c"))];
        let pairs = encryption(Some(&Tls { files: &files, target_name: "imex" }));
        let lines: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            lines,
            [
                "IMEX_ENABLE_AUTH_ENCRYPTION=1",
                "IMEX_AUTH_ENCRYPTION_MODE=SSL_TLS",
                "IMEX_AUTH_SOURCE=FILE",
                "IMEX_SERVER_KEY=/k",
                "IMEX_CLIENT_CERT=/c",
                "IMEX_SECURITY_TARGET_OVERRIDE=imex",
            ]
        );
    }
}
