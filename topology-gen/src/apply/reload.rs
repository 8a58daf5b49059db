//! One reconfiguration: told, waited for, explained.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fabric::{HostList, NodeName, Topology};

use crate::command::pause;
use crate::controller::{Controller, LiveBlock};
use crate::diff::{Change, diff};
use crate::natural;
use crate::site::Site;

/// Between two looks at the controller.
const BLOCKS_POLL: Duration = Duration::from_millis(100);
/// Between two looks at the nodes, whose list is long on a large cluster.
const NODES_POLL: Duration = Duration::from_millis(300);
/// Shortest time that one call is given.
const CALL_MIN: Duration = Duration::from_secs(2);
/// Most bytes of the log that are looked through.
const LOG_MAX: u64 = 256 * 1024;
/// Most lines of the log that are shown.
const LOG_LINES: usize = 8;

pub(super) struct Reload {
    controller: Controller,
    deadline: Duration,
    /// When each slurmd had started before.
    starts: BTreeMap<NodeName, u64>,
    /// The controller's log and its length before.
    log: Option<(PathBuf, u64)>,
}

impl Reload {
    /// Remembers how things are before.
    pub(super) fn begin(controller: &Controller, site: &Site, deadline: Duration) -> Self {
        // A controller that is gone makes each call last; no call shall last longer than all is allowed to.
        let call = controller.deadline.min(deadline.max(CALL_MIN));
        let controller = Controller { deadline: call, ..controller.clone() };
        let settings = controller.settings().ok();
        // The list may be old by now: another reload may lie between.
        let fresh = settings.as_ref().and_then(|_| controller.site().ok());
        let nodes = &fresh.as_ref().unwrap_or(site).nodes;
        let starts = nodes.iter().map(|(name, node)| (name.clone(), node.slurmd_start)).collect();
        let path = settings.and_then(|s| s.get("SlurmctldLogFile").map(PathBuf::from));
        let log = path.map(|path| {
            let len = std::fs::metadata(&path).map_or(0, |meta| meta.len());
            (path, len)
        });
        Self { controller, deadline, starts, log }
    }

    /// Tells the controller.
    pub(super) fn tell(&self) -> Result<(), String> {
        self.leave_the_second();
        self.controller.reconfigure().map_err(|error| format!("the controller refuses: {error}"))
    }

    /// Slurm tells the start of a slurmd in whole seconds: one that starts twice in a second seems to have started once.
    fn leave_the_second(&self) {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let began = now().as_secs();
        if self.starts.values().any(|start| *start == began) {
            pause(Duration::from_secs(began + 1).saturating_sub(now()));
        }
    }

    /// Waits until the controller reports exactly these topologies.
    pub(super) fn wait_for(&self, wanted: &[Topology]) -> Result<(), String> {
        let end = Instant::now() + self.deadline;
        loop {
            let status = match self.difference(wanted) {
                None => return Ok(()),
                Some(status) => status,
            };
            if Instant::now() >= end {
                let seconds = self.deadline.as_secs();
                return Err(format!(
                    "the controller does not report this topology within {seconds} s: {status}"
                ));
            }
            pause(BLOCKS_POLL);
        }
    }

    /// How the controller's report differs, in words.
    fn difference(&self, wanted: &[Topology]) -> Option<String> {
        let found = match self.controller.topologies() {
            Ok(found) => found,
            Err(error) => return Some(words(&error)),
        };
        // What Slurm makes of other kinds than block and flat is not ours to judge.
        let is_ours = |change: &&Change| !matches!(change, Change::ContentChanged { .. });
        if let Some(change) = diff(wanted, &found).iter().find(is_ours) {
            return Some(format!("compared with the file, {change}"));
        }
        for topology in wanted {
            let Some(block) = topology.block() else { continue };
            let found = match self.controller.blocks(&topology.name) {
                Ok(found) => found,
                Err(error) => return Some(words(&error)),
            };
            let wanted: Vec<LiveBlock> = block
                .blocks
                .iter()
                .map(|b| LiveBlock { name: b.name.to_string(), nodes: b.nodes.clone() })
                .collect();
            if !same(&found, &wanted) {
                return Some(format!("scontrol show topology lists other blocks for {:?}", topology.name));
            }
        }
        None
    }

    /// Waits until each slurmd that answers has started anew, as it does when it takes new files. Gives those that have not.
    pub(super) fn wait_for_nodes(&self) -> HostList {
        let end = Instant::now() + self.deadline;
        loop {
            let mut late: Vec<NodeName> = match self.controller.site() {
                Ok(site) => self.late(&site),
                Err(_) => self.starts.keys().cloned().collect(),
            };
            if late.is_empty() || Instant::now() >= end {
                late.sort_by(|a, b| natural::compare(a.as_str(), b.as_str()));
                return late.into_iter().collect();
            }
            pause(NODES_POLL);
        }
    }

    fn late(&self, site: &Site) -> Vec<NodeName> {
        let has_not = |(name, before): (&NodeName, &u64)| {
            let node = site.nodes.get(name)?;
            (*before > 0 && node.answers() && node.slurmd_start == *before).then(|| name.clone())
        };
        self.starts.iter().filter_map(has_not).collect()
    }

    /// The errors in the controller's log since the beginning, or where to look for them.
    pub(super) fn log(&self) -> Vec<String> {
        let Some((path, len)) = &self.log else {
            return vec!["the controller has no log file of its own; see journalctl -u slurmctld".to_owned()];
        };
        let read = || -> std::io::Result<String> {
            let mut file = File::open(path)?;
            let now = file.metadata()?.len();
            // A shorter log was rotated.
            let from = if now < *len { 0 } else { *len };
            file.seek(SeekFrom::Start(from.max(now.saturating_sub(LOG_MAX))))?;
            let mut bytes = Vec::new();
            file.take(LOG_MAX).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        match read() {
            Ok(text) => {
                let bad = |line: &&str| line.contains("fatal:") || line.contains("error:");
                let mut lines: Vec<String> = text.lines().filter(bad).map(str::to_owned).collect();
                lines.drain(..lines.len().saturating_sub(LOG_LINES));
                lines
            }
            Err(error) => vec![format!("the controller's log {} cannot be read: {error}", path.display())],
        }
    }
}

fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// Same names in the same order with the same nodes.
fn same(a: &[LiveBlock], b: &[LiveBlock]) -> bool {
    let nodes = |block: &LiveBlock| block.nodes.iter().cloned().collect::<BTreeSet<NodeName>>();
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.name == b.name && nodes(a) == nodes(b))
}
