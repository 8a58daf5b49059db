//! The few facts that are read from the node's own `slurm.conf`.
//!
//! In a configless cluster `$SLURM_CONF` names slurmd's cached copy, fresh on every node within seconds of a reconfigure.
//! Syntax after slurm.conf(5) and Slurm 26.05.3 src/common/parse_config.c: `Key=Value` pairs, several on a line for
//! node lines, keys in any case, `#` begins a comment, a backslash at the end continues a line, `Include` names further files.
#![forbid(unsafe_code)]

use fabric::hostlist::HostList;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// Nesting of `Include` that is followed.
const INCLUDE_DEPTH_MAX: u32 = 4;

/// A configuration file that cannot be read.
#[derive(Debug, Error)]
#[error("cannot read {path}")]
pub struct SlurmConfError {
    /// The file.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlurmConf {
    /// `SwitchType`, lower case.
    pub switch_type: Option<String>,
    /// `GresTypes`, lower case; empty when not set.
    pub gres_types: Vec<String>,
    prolog_timeout: Option<u64>,
    epilog_timeout: Option<u64>,
    both_timeout: Option<u64>,
    spool_dir: Option<String>,
    addresses: BTreeMap<String, String>,
}

impl SlurmConf {
    /// Reads `path` and what it includes. Keys that are not understood are passed over: Slurm itself has accepted
    /// the file.
    ///
    /// # Errors
    /// [`SlurmConfError`] when the file or an included one cannot be read.
    pub fn load(path: &Path) -> Result<Self, SlurmConfError> {
        let mut conf = Self::default();
        conf.load_into(path, INCLUDE_DEPTH_MAX)?;
        Ok(conf)
    }

    fn load_into(&mut self, path: &Path, depth: u32) -> Result<(), SlurmConfError> {
        let text = std::fs::read(path).map_err(|source| SlurmConfError { path: path.to_owned(), source })?;
        for include in self.take_text(&String::from_utf8_lossy(&text)) {
            let beside = path.parent().unwrap_or(Path::new("/")).join(&include);
            if depth > 0 {
                self.load_into(&beside, depth - 1)?;
            }
        }
        Ok(())
    }

    /// Takes the facts of one file; returns the files that it includes.
    fn take_text(&mut self, text: &str) -> Vec<String> {
        let mut includes = Vec::new();
        for line in logical_lines(text) {
            let mut words = line.split_whitespace();
            if words.next().is_some_and(|word| word.eq_ignore_ascii_case("include")) {
                includes.extend(words.next().map(str::to_owned));
                continue;
            }
            let pairs = key_values(&line);
            let value = |key: &str| pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
            if let Some(nodes) = value("nodename") {
                self.take_nodes(nodes, value("nodeaddr").or(value("nodehostname")));
                continue;
            }
            for (key, value) in &pairs {
                self.take_key(key, value);
            }
        }
        includes
    }

    fn take_key(&mut self, key: &str, value: &str) {
        match key {
            "switchtype" => self.switch_type = Some(value.to_ascii_lowercase()),
            "grestypes" => {
                self.gres_types = value.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
            }
            "prologtimeout" => self.prolog_timeout = value.parse().ok(),
            "epilogtimeout" => self.epilog_timeout = value.parse().ok(),
            "prologepilogtimeout" => self.both_timeout = value.parse().ok(),
            "slurmdspooldir" => self.spool_dir = Some(value.to_owned()),
            _ => {}
        }
    }

    fn take_nodes(&mut self, nodes: &str, addresses: Option<&str>) {
        let Some(addresses) = addresses else { return };
        let (Ok(nodes), Ok(addresses)) = (HostList::parse(nodes), HostList::parse(addresses)) else { return };
        if nodes.len() == addresses.len() {
            let pairs = nodes.iter().zip(addresses.iter());
            self.addresses.extend(pairs.map(|(node, address)| (node.to_string(), address.to_string())));
        }
    }

    /// True when Slurm makes the IMEX channels itself.
    #[must_use]
    pub fn slurm_makes_channels(&self) -> bool {
        self.switch_type.as_deref() == Some("switch/nvidia_imex")
    }

    /// True when Slurm hands out GPUs, so that a job without any has none.
    #[must_use]
    pub fn slurm_manages_gpus(&self) -> bool {
        self.gres_types.iter().any(|name| name == "gpu")
    }

    /// After this slurmd kills a prolog; `None`: never.
    #[must_use]
    pub fn prolog_timeout(&self) -> Option<Duration> {
        self.prolog_timeout
            .or(self.both_timeout)
            .filter(|seconds| *seconds < u64::from(u16::MAX) - 1)
            .map(Duration::from_secs)
    }

    /// After this slurmd kills an epilog; `None`: never.
    #[must_use]
    pub fn epilog_timeout(&self) -> Option<Duration> {
        self.epilog_timeout
            .or(self.both_timeout)
            .filter(|seconds| *seconds < u64::from(u16::MAX) - 1)
            .map(Duration::from_secs)
    }

    /// slurmd's directory on the node `own` (slurm.conf(5), SlurmdSpoolDir: `%n` is the node's name, `%h` its host's).
    #[must_use]
    pub fn spool_dir(&self, own: &str) -> PathBuf {
        let text = self.spool_dir.as_deref().unwrap_or("/var/spool/slurmd");
        // Where the two names differ only slurmd knows; the node's name is the usual one for both.
        PathBuf::from(text.replace("%n", own).replace("%h", own))
    }

    /// The name or address under which the node is reached: `NodeAddr`, else `NodeHostname`, else its own name.
    #[must_use]
    pub fn address_of<'a>(&'a self, node: &'a str) -> &'a str {
        self.addresses.get(node).map_or(node, String::as_str)
    }
}

/// Lines without comments, continued ones joined.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim_end();
        match line.strip_suffix('\\') {
            Some(part) => {
                open.push_str(part);
                open.push(' ');
            }
            None => {
                open.push_str(line);
                lines.push(std::mem::take(&mut open));
            }
        }
    }
    lines.push(open);
    lines.retain(|line| !line.trim().is_empty());
    lines
}

/// `Key=Value` pairs of a line, keys in lower case; a value may be quoted.
fn key_values(line: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = line.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let (value, tail) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
        };
        pairs.push((key.trim().trim_end_matches('+').to_ascii_lowercase(), value.to_owned()));
        rest = tail.trim_start();
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> SlurmConf {
        let mut conf = SlurmConf::default();
        conf.take_text(text);
        conf
    }

    #[test]
    fn keys_are_read_in_any_case_without_comments() {
        let conf = conf("switchtype = switch/nvidia_imex # x\n#SwitchType=none\nGresTypes=gpu,Craynetwork\n");
        assert!(conf.slurm_makes_channels());
        assert!(conf.slurm_manages_gpus());
        assert_eq!(conf.gres_types, ["gpu", "craynetwork"]);
    }

    #[test]
    fn the_own_timeout_goes_before_the_common_one_and_infinite_is_none() {
        let both = conf("PrologEpilogTimeout=65534\nPrologTimeout=90\n");
        assert_eq!(both.prolog_timeout(), Some(Duration::from_secs(90)));
        assert_eq!(both.epilog_timeout(), None);
        assert_eq!(conf("").prolog_timeout(), None);
    }

    #[test]
    fn the_spool_directory_may_hold_the_nodes_name() {
        assert_eq!(conf("").spool_dir("n1"), Path::new("/var/spool/slurmd"));
        assert_eq!(conf("SlurmdSpoolDir=/var/spool/%n/d\n").spool_dir("n1"), Path::new("/var/spool/n1/d"));
    }

    #[test]
    fn node_addresses_follow_their_host_lists() {
        let conf = conf(
            "NodeName=n[01-03] NodeAddr=10.0.0.[1-3] \\\n  CPUs=8\nNodeName=m1 NodeHostname=host1\nNodeName=DEFAULT CPUs=4\n",
        );
        assert_eq!(conf.address_of("n02"), "10.0.0.2");
        assert_eq!(conf.address_of("m1"), "host1");
        assert_eq!(conf.address_of("other"), "other");
    }

    #[test]
    fn quoted_values_and_blanks_around_the_sign_do_not_confuse_the_next_key() {
        assert_eq!(
            key_values(r#"  A = "x y=z"  B=1 "#),
            [("a".to_owned(), "x y=z".to_owned()), ("b".to_owned(), "1".to_owned())]
        );
    }

    #[test]
    fn included_files_are_followed() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("slurm.conf"), "Include more.conf\nGresTypes=gpu\n").unwrap();
        std::fs::write(temp.path().join("more.conf"), "SwitchType=switch/nvidia_imex\nInclude slurm.conf\n")
            .unwrap();
        assert!(SlurmConf::load(&temp.path().join("slurm.conf")).unwrap().slurm_makes_channels());
        assert!(SlurmConf::load(&temp.path().join("none.conf")).is_err());
    }
}
