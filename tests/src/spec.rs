//! What a supervisor is told to build: the whole cluster, worked out beforehand.
#![forbid(unsafe_code)]

use crate::fault::Fault;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Name of the controller's node.
pub const CONTROLLER: &str = "ctl";

/// A cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// Name of the cluster.
    pub name: String,
    /// Its state directory on the host.
    pub state_dir: PathBuf,
    /// Root tree that all nodes share.
    pub tree: PathBuf,
    /// What the cluster was made from, for people: profile, plugin.
    pub about: About,
    /// Files that every node has over the tree.
    pub shared: Vec<Entry>,
    /// Files that only the controller has.
    pub controller: Vec<Entry>,
    /// The controller first.
    pub nodes: Vec<NodeSpec>,
}

/// What a cluster was made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct About {
    /// Name of the profile.
    pub profile: String,
    /// Which topology/block plugin runs.
    pub plugin: String,
    /// Slurm's version.
    pub slurm: String,
}

/// A file of a layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// Path inside the node, absolute.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// What is in it.
    pub content: Content,
}

/// Content of a layer's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Content {
    /// This text.
    Text(String),
    /// A copy of this file on the host.
    CopyOf(PathBuf),
    /// This many random bytes, the same on every node.
    Random(u32),
    /// A directory.
    Directory,
}

impl Entry {
    /// A text file that everybody may read.
    pub fn text(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self { path: path.into(), mode: 0o644, content: Content::Text(text.into()) }
    }

    /// A program: a copy of a file on the host.
    pub fn program(path: impl Into<PathBuf>, from: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), mode: 0o755, content: Content::CopyOf(from.into()) }
    }

    /// A directory.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), mode: 0o755, content: Content::Directory }
    }
}

/// A node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Node name and host name.
    pub name: String,
    /// Its address; the network is 10.75.0.0/16.
    pub ip: Ipv4Addr,
    /// The Slurm daemon.
    pub daemon: DaemonSpec,
    /// What it is made of where it is of another architecture than the others.
    pub foreign: Option<Foreign>,
    /// The simulated hardware; absent on the controller and on plain nodes.
    pub hardware: Option<sim::nvml::Settings>,
    /// Faults from the beginning.
    pub faults: Vec<Fault>,
}

/// A node of another architecture, whose programs run under emulation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Foreign {
    /// Its root tree.
    pub tree: PathBuf,
    /// Files that it has over those that all nodes share.
    pub files: Vec<Entry>,
}

/// The Slurm daemon of a node. It is started as systemd would (`--systemd`), so its restarts and reloads are those of
/// a production system.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DaemonSpec {
    /// Short name: `slurmctld` or `slurmd`.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// A command whose output, if any, is given to the daemon as `--extra`.
    pub extra: Option<Vec<String>>,
}
