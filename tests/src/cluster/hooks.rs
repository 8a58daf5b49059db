//! Other hooks for a cluster that runs.
#![forbid(unsafe_code)]

use super::{Cluster, Target};
use crate::limits;
use crate::spec::CONTROLLER;
use crate::wait_for;
use anyhow::Context as _;
use std::fs;

const SLURM_CONF: &str = "/etc/slurm/slurm.conf";
/// Where slurmd keeps what slurmctld sends it, below the node's root.
const CACHED_SLURM_CONF: &str = "var/spool/slurmd/conf-cache/slurm.conf";

impl Cluster {
    /// Prolog and Epilog of slurm.conf, as paths inside the nodes.
    ///
    /// # Errors
    /// slurm.conf cannot be read.
    pub fn hooks(&self) -> anyhow::Result<[Option<String>; 2]> {
        let text = self.slurm_conf()?;
        let value = |key: &str| text.lines().find_map(|line| Some(line.strip_prefix(key)?.to_owned()));
        Ok([value("Prolog="), value("Epilog=")])
    }

    fn slurm_conf(&self) -> anyhow::Result<String> {
        let path = self.root_of(CONTROLLER)?.join(SLURM_CONF.trim_start_matches('/'));
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Sets Prolog and Epilog, or takes them out, and waits until every node has that.
    ///
    /// # Errors
    /// Slurm refuses, or does not send it to the nodes in time.
    pub fn set_hooks(&self, hooks: &[Option<String>; 2]) -> anyhow::Result<()> {
        let old = self.slurm_conf()?;
        let is_hook = |line: &&str| line.starts_with("Prolog=") || line.starts_with("Epilog=");
        let mut lines: Vec<String> = old.lines().filter(|line| !is_hook(line)).map(str::to_owned).collect();
        for (key, hook) in ["Prolog", "Epilog"].into_iter().zip(hooks) {
            // After the first line, which says whose file it is.
            lines.splice(1..1, hook.iter().map(|path| format!("{key}={path}")));
        }
        let text = lines.join("\n") + "\n";
        self.write_file(&Target::controller(), SLURM_CONF, &text)?;
        self.ctl(&["scontrol", "reconfigure"])?;
        wait_for("all nodes have the new slurm.conf", limits::TOPOLOGY, || {
            let late = self.nodes().into_iter().find(|node| {
                let cached = self.root_of(node).map(|root| root.join(CACHED_SLURM_CONF));
                cached.ok().and_then(|path| fs::read_to_string(path).ok()).as_deref() != Some(&text)
            });
            Ok(late.map_or(Ok(()), |node| Err(format!("{node} has another one"))))
        })?;
        self.wait_idle(&self.nodes())
    }
}
