//! What Slurm says about nodes and blocks.
#![forbid(unsafe_code)]

use super::Cluster;
use crate::control::DaemonState;
use crate::limits;
use crate::wait_for;
use anyhow::{Context as _, bail};
use fabric::HostList;
use std::collections::BTreeSet;

/// A base block as `scontrol show topology` reports it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockLine {
    /// Name of the block.
    pub name: String,
    /// Its nodes in Slurm's order.
    pub nodes: Vec<String>,
}

impl Cluster {
    /// The base blocks that slurmctld knows in the fabric's topology; none while it is flat.
    ///
    /// # Errors
    /// `scontrol` fails, or prints a host list that cannot be read.
    pub fn blocks(&self) -> anyhow::Result<Vec<BlockLine>> {
        parse_blocks(&self.ctl(&["scontrol", "show", "topology"])?)
    }

    /// The topology plugins that the Slurm daemon of a node has loaded, as paths inside the node. An empty directory
    /// in front of Slurm's own, or a plugin that refuses to load, shows here and nowhere else.
    ///
    /// # Errors
    /// There is no such node, or its daemon does not run.
    pub fn topology_plugins(&self, node: &str) -> anyhow::Result<BTreeSet<String>> {
        let status = self.status()?.into_iter().find(|status| status.node == node);
        let Some(DaemonState::Running(pid)) = status.as_ref().map(|status| status.daemon.clone()) else {
            bail!("{node}: no daemon runs: {status:?}");
        };
        let maps = self.tray(node, &["cat", &format!("/proc/{pid}/maps")])?;
        let paths = maps.lines().filter_map(|line| Some(&line[line.find('/')?..]));
        Ok(paths.filter(|path| path.contains("/topology_")).map(str::to_owned).collect())
    }

    /// State of each node in short words, as `sinfo` shows them.
    ///
    /// # Errors
    /// `sinfo` fails.
    pub fn node_states(&self) -> anyhow::Result<Vec<(String, String)>> {
        let text = self.ctl(&["sinfo", "--noheader", "--Node", "--format=%N %t"])?;
        let lines: BTreeSet<(String, String)> = text
            .lines()
            .filter_map(|line| line.trim().split_once(' '))
            .map(|(node, state)| (node.to_owned(), state.to_owned()))
            .collect();
        Ok(lines.into_iter().collect())
    }

    /// Waits until the named nodes are idle.
    ///
    /// # Errors
    /// They are not within [`limits::ALL_IDLE`].
    pub fn wait_idle<S: AsRef<str>>(&self, nodes: &[S]) -> anyhow::Result<()> {
        let wanted: BTreeSet<&str> = nodes.iter().map(AsRef::as_ref).collect();
        wait_for("nodes idle", limits::ALL_IDLE, || {
            let states = match self.node_states() {
                Ok(states) => states,
                Err(error) => return Ok(Err(format!("{error:#}"))),
            };
            let idle = |state: &str| state == "idle";
            let (ready, late): (Vec<_>, Vec<_>) = states
                .iter()
                .filter(|(node, _)| wanted.contains(node.as_str()))
                .partition(|(_, state)| idle(state));
            if ready.len() == wanted.len() {
                return Ok(Ok(()));
            }
            let late: Vec<String> =
                late.iter().take(8).map(|(node, state)| format!("{node} {state}")).collect();
            Ok(Err(format!("{} of {} idle; not: {}", ready.len(), wanted.len(), late.join(", "))))
        })
    }
}

/// Reads the `BlockName=` lines of `scontrol show topology`.
pub(crate) fn parse_blocks(text: &str) -> anyhow::Result<Vec<BlockLine>> {
    let mut blocks = Vec::new();
    for line in text.lines() {
        let value = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
        let Some(name) = value("BlockName=") else { continue };
        let nodes = value("Nodes=").unwrap_or_default();
        let list = HostList::parse(nodes).with_context(|| format!("block {name}"))?;
        blocks
            .push(BlockLine { name: name.to_owned(), nodes: list.iter().map(ToString::to_string).collect() });
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_blocks_are_read_and_aggregates_are_not() {
        let text = "BlockName=b1 BlockIndex=0 Nodes=r01n[01-02] BlockSize=2\n\
                    BlockName=b2 BlockIndex=1 Nodes=r02n01 BlockSize=2\n\
                    AggregatedBlock=b[1-2] BlockIndex=2 Nodes=r01n[01-02],r02n01 BlockSize=4\n";
        let blocks = parse_blocks(text).unwrap();
        assert_eq!(blocks.len(), 2);
        assert_eq!(blocks[0].nodes, ["r01n01", "r01n02"]);
        assert!(parse_blocks("").unwrap().is_empty());
    }
}
