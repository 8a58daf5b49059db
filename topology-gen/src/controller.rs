//! The running controller: what it reports, and how it is told to read its files again. Everything goes through scontrol.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fabric::slurm_yaml::YamlError;
use fabric::{HostList, HostListError, Topology};

use crate::command::{self, CommandError, Done};
use crate::emit::Job;
use crate::site::{self, Site};
use crate::source::slurm::SlurmError;

/// Why the controller cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// scontrol cannot be run or does not end.
    #[error("cannot ask the controller")]
    Run(#[from] CommandError),
    /// scontrol ended with an error.
    #[error("{program} {args} fails ({status}): {words}")]
    Failed {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        args: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The last line that it said.
        words: String,
    },
    /// scontrol prints nothing and calls that success, as it does when no slurmctld answers (Slurm 26.05.5).
    #[error("slurmctld does not answer")]
    Silent,
    /// What it says of the topologies cannot be read.
    #[error("cannot read what `scontrol show topoconf` prints")]
    Topologies(#[source] YamlError),
    /// What it says of the blocks cannot be read.
    #[error("cannot read the nodes of block {block} in `scontrol show topology`")]
    Blocks {
        /// The block.
        block: String,
        /// Why.
        source: HostListError,
    },
    /// What it says of the nodes cannot be read.
    #[error("cannot read Slurm's node list")]
    Nodes(#[source] SlurmError),
}

/// A block as `scontrol show topology` reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveBlock {
    /// Its name.
    pub name: String,
    /// Its nodes.
    pub nodes: HostList,
}

/// A job that holds nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveJob {
    /// Its id as Slurm prints it.
    pub id: String,
    /// Who started it.
    pub user: String,
    /// Its nodes.
    pub nodes: HostList,
}

/// The controller behind a `scontrol` (and the `squeue` beside it).
#[derive(Debug, Clone)]
pub struct Controller {
    /// The scontrol to run.
    pub scontrol: PathBuf,
    /// Longest time for one call.
    pub deadline: Duration,
}

impl Controller {
    fn run(&self, program: &Path, args: &[&str]) -> Result<String, ControllerError> {
        let Done { status, stdout, .. } = match command::run(Command::new(program).args(args), self.deadline)?
        {
            done if !done.status.success() => {
                let (status, words) = (done.status, done.last_words());
                let (program, args) = (program.to_owned(), args.join(" "));
                return Err(ControllerError::Failed { program, args, status, words });
            }
            done => done,
        };
        debug_assert!(status.success());
        Ok(stdout)
    }

    fn scontrol(&self, args: &[&str]) -> Result<String, ControllerError> {
        self.run(&self.scontrol, args)
    }

    /// The topologies in force. Nodes that were moved by `scontrol update` stand where they are now.
    ///
    /// # Errors
    /// [`ControllerError`].
    pub fn topologies(&self) -> Result<Vec<Topology>, ControllerError> {
        let text = self.scontrol(&["show", "topoconf"])?;
        if text.trim().is_empty() {
            return Err(ControllerError::Silent);
        }
        parse_topoconf(&text).map_err(ControllerError::Topologies)
    }

    /// The base blocks of a topology in force.
    ///
    /// # Errors
    /// [`ControllerError`]; also when there is no such topology.
    pub fn blocks(&self, topology: &str) -> Result<Vec<LiveBlock>, ControllerError> {
        let mut args = vec!["show", "topology"];
        if !topology.is_empty() {
            args.push(topology);
        }
        parse_blocks(&self.scontrol(&args)?)
    }

    /// Slurm's nodes.
    ///
    /// # Errors
    /// [`ControllerError`].
    pub fn site(&self) -> Result<Site, ControllerError> {
        site::parse(&self.scontrol(&["show", "nodes", "--json"])?).map_err(ControllerError::Nodes)
    }

    /// The jobs that hold nodes: running, suspended, completing, being configured.
    ///
    /// # Errors
    /// [`ControllerError`].
    pub fn jobs(&self) -> Result<Vec<LiveJob>, ControllerError> {
        let squeue = self.scontrol.with_file_name("squeue");
        // A bare name is looked up in PATH; with_file_name keeps it bare.
        let text =
            self.run(&squeue, &["--all", "--noheader", "--states=R,S,CG,CF,SO", "--format=%i|%u|%N"])?;
        Ok(parse_jobs(&text))
    }

    /// The jobs that hold nodes, with what people call them. In squeue's JSON a job has a line for each core of each node, which
    /// are hundreds of megabytes on a large cluster.
    ///
    /// # Errors
    /// [`ControllerError`].
    pub fn queue(&self) -> Result<Vec<Job>, ControllerError> {
        let squeue = self.scontrol.with_file_name("squeue");
        // Nobody who named a job can have known this.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mark = format!("{}.{now}", std::process::id());
        let format = format!("--format={mark}|%i|%u|%N|%j");
        let text = self.run(&squeue, &["--all", "--noheader", "--states=R,S,CG,CF,SO", &format])?;
        Ok(parse_queue(&text, &mark))
    }

    /// Settings as `scontrol show config` prints them; `None` for one that is not set.
    ///
    /// # Errors
    /// [`ControllerError`].
    pub fn settings(&self) -> Result<Settings, ControllerError> {
        Ok(Settings(self.scontrol(&["show", "config"])?))
    }

    /// Puts nodes into these places, `topology:unit,topology:unit`, and out of all others, at once and until the next reload.
    ///
    /// # Errors
    /// [`ControllerError`]; a place that is not there leaves all as it was.
    pub fn place(&self, nodes: &HostList, places: &str) -> Result<(), ControllerError> {
        self.scontrol(&["update", &format!("nodename={nodes}"), &format!("topology={places}")]).map(drop)
    }

    /// Makes Slurm read its files again.
    ///
    /// # Errors
    /// [`ControllerError`]; a controller that refuses says no more than "Unspecified error" here, the reason is in its log.
    pub fn reconfigure(&self) -> Result<(), ControllerError> {
        self.scontrol(&["reconfigure"]).map(drop)
    }
}

/// The output of `scontrol show config`.
#[derive(Debug, Clone)]
pub struct Settings(String);

impl Settings {
    /// A value; `None` when it is not there or `(null)`.
    pub fn get(&self, key: &str) -> Option<&str> {
        let value = self.0.lines().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            (name.trim().eq_ignore_ascii_case(key)).then(|| value.trim())
        })?;
        (value != "(null)" && !value.is_empty()).then_some(value)
    }
}

/// Reads `scontrol show topoconf`. It prints an empty mapping for each kind that a topology is not of, which Slurm itself
/// refuses to read; these lines are left out. Without a topology.yaml all kinds are empty: that has no blocks, and is called
/// flat here.
fn parse_topoconf(text: &str) -> Result<Vec<Topology>, YamlError> {
    const KINDS: [&str; 5] = ["block", "flat", "ring", "torus3d", "tree"];
    let is_empty_kind = |line: &str| KINDS.iter().any(|kind| line.trim() == format!("{kind}: {{}}"));
    let is_kind = |line: &str| {
        let key = line.strip_prefix("  ").and_then(|line| line.split_once(':'));
        key.is_some_and(|(key, _)| KINDS.contains(&key))
    };
    let (mut kept, mut has_kind) = (String::new(), true);
    let begins = |line: &str| line.starts_with("- ") || line == "...";
    for line in text.lines().chain(["..."]) {
        if begins(line) && !has_kind {
            kept.push_str("  flat: true\n");
        }
        if begins(line) {
            has_kind = line == "...";
        }
        if !is_empty_kind(line) {
            has_kind |= is_kind(line);
            kept.push_str(line);
            kept.push('\n');
        }
    }
    // The end is written once, whether it was there or not.
    fabric::slurm_yaml::parse(kept.trim_end_matches("...\n"))
}

/// Reads the `BlockName=` lines; aggregated blocks follow from them.
fn parse_blocks(text: &str) -> Result<Vec<LiveBlock>, ControllerError> {
    let mut blocks = Vec::new();
    for line in text.lines() {
        let value = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
        let Some(name) = value("BlockName=") else { continue };
        let nodes = HostList::parse(value("Nodes=").unwrap_or_default())
            .map_err(|source| ControllerError::Blocks { block: name.to_owned(), source })?;
        blocks.push(LiveBlock { name: name.to_owned(), nodes });
    }
    Ok(blocks)
}

/// Reads `id|user|nodes` lines; one that cannot be read holds no node that we know.
fn parse_jobs(text: &str) -> Vec<LiveJob> {
    let job = |line: &str| {
        let mut fields = line.trim().split('|');
        let (id, user) = (fields.next()?.to_owned(), fields.next()?.to_owned());
        let nodes = HostList::parse(fields.next()?).ok().filter(|nodes| !nodes.is_empty())?;
        Some(LiveJob { id, user, nodes })
    };
    text.lines().filter_map(job).collect()
}

/// Reads `MARK|id|user|nodes|name` records. A name is anybody's text and may hold line breaks and bars; what follows a break
/// without the mark is still the name.
fn parse_queue(text: &str, mark: &str) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    for line in text.lines() {
        let fields = line.strip_prefix(mark).and_then(|rest| rest.strip_prefix('|'));
        let Some(fields) = fields else { continue };
        let mut fields = fields.splitn(4, '|').map(str::to_owned);
        let (Some(id), Some(user), Some(nodes)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let Ok(nodes) = HostList::parse(&nodes) else { continue };
        if !nodes.is_empty() {
            jobs.push(Job { id, user, nodes, name: fields.next().unwrap_or_default() });
        }
    }
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Slurm 26.05.5 printed it.
    const TOPOCONF: &str = "%YAML 1.1\n---\n- topology: nvlink\n  cluster_default: true\n  block:\n    block_sizes:\n    - 3\n    - 6\n    blocks:\n    - block: a\n      nodes: r01n[01-04]\n    - block: gone\n      nodes:\n  flat: {}\n  ring: {}\n  torus3d: {}\n  tree: {}\n- topology: flat\n  cluster_default: false\n  block: {}\n  flat: true\n  ring: {}\n  torus3d: {}\n  tree: {}\n...\n";

    #[test]
    fn the_controllers_own_dump_is_read() {
        let topologies = parse_topoconf(TOPOCONF).unwrap();
        let block = topologies[0].block().unwrap();
        assert_eq!((block.base_size(), block.blocks.len()), (Some(3), 2));
        assert!(topologies[0].cluster_default && topologies[1].block().is_none());
        assert!(fabric::slurm_yaml::parse(TOPOCONF).is_err(), "as it is, the dump is no topology.yaml");
    }

    #[test]
    fn a_controller_without_topology_yaml_has_a_flat_topology() {
        let kindless = "- topology: default\n  cluster_default: true\n  block: {}\n  flat: {}\n  ring: {}\n  torus3d: {}\n  tree: {}\n";
        for text in [kindless.to_owned(), format!("%YAML 1.1\n---\n{kindless}...\n")] {
            let topologies = parse_topoconf(&text).unwrap();
            assert_eq!(topologies.len(), 1);
            assert!(topologies[0].block().is_none() && topologies[0].cluster_default);
        }
    }

    #[test]
    fn blocks_with_and_without_nodes_are_read() {
        let text = "BlockName=a BlockIndex=0 Nodes=r01n[01-04] BlockSize=3\nBlockName=gone BlockIndex=1 BlockSize=3\nAggregatedBlock=a,gone BlockIndex=3 Nodes=r01n[01-04] BlockSize=6\n";
        let blocks = parse_blocks(text).unwrap();
        let shown: Vec<_> = blocks.iter().map(|b| (b.name.as_str(), b.nodes.len())).collect();
        assert_eq!(shown, [("a", 4), ("gone", 0)]);
    }

    #[test]
    fn a_jobs_name_cannot_pass_for_another_job() {
        let text = "m1|5_2|alice|r01n[13-14]|one|two\nm2|9|root|r01n01|x\n9|root|r01n01|x\nm1|6|bob||pending\nm1|7|bob|n1\n";
        let jobs = parse_queue(text, "m1");
        let told: Vec<_> =
            jobs.iter().map(|job| (job.id.as_str(), job.name.as_str(), job.nodes.len())).collect();
        assert_eq!(told, [("5_2", "one|two", 2), ("7", "", 1)]);
    }

    #[test]
    fn jobs_and_settings_are_read() {
        let jobs = parse_jobs("12|alice|n[1-2]\n13_4|bob|\nnonsense\n");
        assert_eq!(jobs.len(), 1);
        assert_eq!((jobs[0].id.as_str(), jobs[0].nodes.len()), ("12", 2));
        let settings = Settings(
            "Configuration data as of x\nSlurmctldPidFile        = /run/slurmctld.pid\nX = (null)\n".into(),
        );
        assert_eq!(settings.get("slurmctldpidfile"), Some("/run/slurmctld.pid"));
        assert_eq!((settings.get("X"), settings.get("Y")), (None, None));
    }
}
