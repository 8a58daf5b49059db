//! Jobs with an IMEX domain, and everything that belongs to one on the trays: daemon, channel, files.
//!
//! What the simulated control tool says is asked on trays; the rest is read in the trays' own file systems, from outside.
#![forbid(unsafe_code)]

use crate::job::Job;
use crate::limits::SOON;
use crate::{Cluster, wait_for};
use anyhow::{Context as _, ensure};
use fabric::JobId;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirEntry, Metadata};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

/// State of the IMEX manager on a tray.
const STATE: &str = "run/slurm-nvlink/imex";
const CHANNELS: &str = "dev/nvidia-caps-imex-channels";
const LOGS: &str = "var/log/slurm-nvlink";
/// Programs of which none runs on a tray without a job, as the kernel calls them.
const PROGRAMS: [&str; 4] = ["nvidia-imex", "nvidia-imex-ctl", "imex-prolog", "imex-epilog"];
/// The test user of the cluster, who owns the channels of his jobs.
const USER_ID: u32 = 1000;
/// Major of the IMEX channels in the simulated `/proc/devices`.
const CHANNEL_MAJOR: u64 = 234;

/// Nodes of a job in one NVLink partition, in Slurm's order.
pub type Group = Vec<String>;

/// A job whose prologs are all over.
#[derive(Debug, Clone)]
pub struct Running {
    /// Slurm's number of it.
    pub id: JobId,
    /// Its nodes in Slurm's order.
    pub nodes: Vec<String>,
}

/// Submits a whole-node job and waits until Slurm says that all of its prologs have ended. It runs until [`finish`].
///
/// # Errors
/// It does not start.
pub fn start(cluster: &Cluster, options: &[&str]) -> anyhow::Result<Running> {
    let id = submit(cluster, &[&["--exclusive"], options].concat())?;
    settled(cluster, id)
}

/// Submits a job that runs until [`finish`].
///
/// # Errors
/// sbatch refuses.
pub fn submit(cluster: &Cluster, options: &[&str]) -> anyhow::Result<JobId> {
    let script = "until [ -e /tmp/end-$SLURM_JOB_ID ]; do sleep 0.05; done";
    cluster.submit(&[&["--output=/dev/null"], options].concat(), script)
}

/// Waits until a job runs and all of its prologs have ended.
///
/// # Errors
/// It does not run, or its prologs do not end in time.
pub fn settled(cluster: &Cluster, id: JobId) -> anyhow::Result<Running> {
    let over = |job: &Job| job.state == "RUNNING" && job.reason == "None";
    let job = cluster.wait_job(id, "runs, all prologs over", SOON, over)?;
    Ok(Running { id, nodes: job.nodes.iter().map(ToString::to_string).collect() })
}

/// Lets a job's script end, and waits until Slurm says that the job is complete. Its trays may still be busy.
///
/// # Errors
/// It does not end well in time.
pub fn finish(cluster: &Cluster, job: &Running) -> anyhow::Result<()> {
    let batch_host = job.nodes.first().context("the job has no nodes")?;
    fs::write(cluster.root_of(batch_host)?.join(format!("tmp/end-{}", job.id)), "")?;
    let ended = cluster.wait_ended(job.id, SOON)?;
    ensure!(ended.state == "COMPLETED" && ended.exit_code == 0 && ended.restarts == 0, "{ended:?}");
    Ok(())
}

/// Lets jobs end, and waits until nothing of them is on any tray.
///
/// # Errors
/// One does not end well, or something is left.
pub fn finish_all(cluster: &Cluster, jobs: &[&Running]) -> anyhow::Result<()> {
    jobs.iter().try_for_each(|job| finish(cluster, job))?;
    cluster.wait_idle(&cluster.nodes())?;
    exactly(cluster, &[])
}

/// A job's nodes by NVLink partition.
///
/// # Errors
/// Slurm does not tell its blocks.
pub fn groups(cluster: &Cluster, job: &Running) -> anyhow::Result<Vec<Group>> {
    let of_job = |nodes: Vec<String>| -> Group {
        job.nodes.iter().filter(|node| nodes.contains(node)).cloned().collect()
    };
    let groups: Vec<Group> = cluster.blocks()?.into_iter().map(|block| of_job(block.nodes)).collect();
    Ok(groups.into_iter().filter(|group| !group.is_empty()).collect())
}

/// Checks that on all trays there are exactly the IMEX domains of these jobs: for each tray of a job one daemon, one
/// channel of the job's user, and one set of files, the nodes file being the same in a partition; on all other trays
/// nothing. Without jobs this says that nothing is left.
///
/// Left on purpose, and not counted: the tray's lock, marks that say which jobs are over, logs.
///
/// # Errors
/// Something else is there; the text says what and where.
pub fn exactly(cluster: &Cluster, jobs: &[&Running]) -> anyhow::Result<()> {
    for node in cluster.nodes() {
        let here: Vec<&&Running> = jobs.iter().filter(|job| job.nodes.contains(&node)).collect();
        let wanted = here.iter().flat_map(|job| expected(job.id)).collect();
        let seen = traces(cluster, &node)?;
        ensure!(
            seen == wanted,
            "{node}: there is {:?}, there should be {:?}",
            seen.difference(&wanted).collect::<Vec<_>>(),
            wanted.difference(&seen).collect::<Vec<_>>()
        );
    }
    for job in jobs {
        for group in groups(cluster, job)? {
            let file = format!("{STATE}/job-{}/nodes.cfg", job.id);
            let text = |node: &String| -> anyhow::Result<String> {
                Ok(fs::read_to_string(cluster.root_of(node)?.join(&file))?)
            };
            let texts = group.iter().map(text).collect::<anyhow::Result<BTreeSet<_>>>()?;
            let lines = texts.first().map_or(0, |text| text.lines().count());
            ensure!(texts.len() == 1 && lines == group.len(), "nodes files of job {}: {texts:?}", job.id);
        }
    }
    Ok(())
}

/// Checks that a job's domains are UP, one in each partition, each with exactly the job's trays of it, as the first and
/// the last of these trays see it. Gives the trays by partition.
///
/// # Errors
/// One is not UP; the text says what its tray sees.
pub fn all_up(cluster: &Cluster, job: &Running) -> anyhow::Result<Vec<Group>> {
    let groups = groups(cluster, job)?;
    for group in &groups {
        for tray in group.iter().take(1).chain(group.last()) {
            let status = cluster.tray(tray, &["imex-prolog", "status"])?;
            let ready = format!("job {}: ready;", job.id);
            ensure!(status.lines().any(|line| line.starts_with(&ready)), "{tray}: {status}");
            // A prolog ends when its own tray is connected to all others, which may be a moment before all answers agree.
            wait_for(&format!("{tray}: the domain of job {} is UP", job.id), SOON, || {
                let view = view(cluster, tray, job.id)?;
                Ok(view.shows_up(group).map_err(|why| format!("{why}; {view:?}, trays {group:?}")))
            })?;
        }
    }
    Ok(groups)
}

/// What belongs to a job on one of its trays.
fn expected(job: JobId) -> Vec<String> {
    let channel = format!("channel0: device {CHANNEL_MAJOR},0 mode 600 owner {USER_ID}");
    let daemon = format!("nvidia-imex: /usr/bin/nvidia-imex -c /{STATE}/job-{job}/config.cfg");
    let files = ["", "/config.cfg", "/nodes.cfg", ".record"].map(|end| format!("file: job-{job}{end}"));
    files.into_iter().chain([channel, daemon]).collect()
}

/// Everything on a tray that belongs to an IMEX domain, in words.
///
/// A process that has ended holds nothing any more, and is there until the first process of its tray collects it, a
/// moment later: it does not count. Its command line is empty, as its memory is gone (proc(5)).
///
/// # Errors
/// The tray's files cannot be read.
pub fn traces(cluster: &Cluster, node: &str) -> anyhow::Result<BTreeSet<String>> {
    let root = cluster.root_of(node)?;
    let mut found = BTreeSet::new();
    for entry in entries(&root.join("proc"))? {
        // Processes come and go while we look.
        let Ok(name) = fs::read_to_string(entry.path().join("comm")) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if PROGRAMS.contains(&name.trim()) && !line.is_empty() {
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            found.insert(format!("{}: {}", name.trim(), line.trim()));
        }
    }
    for entry in entries(&root.join(CHANNELS))? {
        let name = entry.file_name().to_string_lossy().into_owned();
        found.insert(format!("{name}: {}", in_words(&entry.metadata()?)));
    }
    files(&root.join(STATE), "", &mut found)?;
    for entry in entries(&root.join("run/slurm-nvlink"))? {
        if entry.file_name() != "imex" {
            found.insert(format!("unknown: {}", entry.path().display()));
        }
    }
    for entry in entries(&root.join(LOGS))? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "imex.log" && !(name.starts_with("imexd-job-") && name.ends_with(".log")) {
            found.insert(format!("unknown log: {name}"));
        }
    }
    Ok(found)
}

fn in_words(metadata: &Metadata) -> String {
    let kind = match metadata.file_type().is_char_device() {
        true => {
            let (major, minor) =
                (nix::sys::stat::major(metadata.rdev()), nix::sys::stat::minor(metadata.rdev()));
            format!("device {major},{minor}")
        }
        false => format!("{:?}", metadata.file_type()),
    };
    format!("{kind} mode {:o} owner {}", metadata.mode() & 0o7777, metadata.uid())
}

/// The files of jobs below the state directory.
fn files(directory: &Path, prefix: &str, found: &mut BTreeSet<String>) -> anyhow::Result<()> {
    for entry in entries(directory)? {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let stays = name == "tray.lock" || (name.starts_with("job-") && name.ends_with(".ended"));
        if entry.file_type()?.is_dir() {
            files(&entry.path(), &format!("{name}/"), found)?;
        }
        if !stays {
            found.insert(format!("file: {name}"));
        }
    }
    Ok(())
}

/// What a directory holds; nothing where there is none.
fn entries(directory: &Path) -> anyhow::Result<Vec<DirEntry>> {
    match fs::read_dir(directory) {
        Ok(entries) => Ok(entries.collect::<Result<_, _>>()?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", directory.display())),
    }
}

/// A domain as the (simulated) control tool shows it on one tray.
#[derive(Debug, Deserialize)]
pub struct View {
    status: String,
    nodes: BTreeMap<usize, Member>,
}

#[derive(Debug, Deserialize)]
struct Member {
    status: String,
    #[serde(rename = "hostName")]
    name: String,
    connections: BTreeMap<usize, Connection>,
}

#[derive(Debug, Deserialize)]
struct Connection {
    status: String,
}

/// Asks a tray for the domain of a job.
///
/// # Errors
/// The control tool does not answer.
pub fn view(cluster: &Cluster, tray: &str, job: JobId) -> anyhow::Result<View> {
    let config = format!("/{STATE}/job-{job}/config.cfg");
    let text = cluster.tray(tray, &["nvidia-imex-ctl", "-N", "-j", "-H", "-c", &config])?;
    serde_json::from_str(&text).with_context(|| format!("nvidia-imex-ctl said {text}"))
}

impl View {
    /// Whether the domain is UP with exactly these trays, all READY and connected to each other.
    ///
    /// # Errors
    /// It is not; in words.
    pub fn shows_up(&self, trays: &[String]) -> Result<(), String> {
        let names: BTreeSet<&str> = self.nodes.values().map(|member| member.name.as_str()).collect();
        if self.nodes.len() != trays.len() || names != trays.iter().map(String::as_str).collect() {
            return Err(format!("the members are {names:?}"));
        }
        let whole = |member: &Member| {
            let connected = member.connections.values().filter(|to| to.status == "CONNECTED").count();
            member.status == "READY" && connected == trays.len()
        };
        match (self.status.as_str(), self.nodes.values().find(|member| !whole(member))) {
            ("UP", None) => Ok(()),
            (status, None) => Err(format!("the domain is {status}")),
            (status, Some(member)) => Err(format!("the domain is {status}, {} is not whole", member.name)),
        }
    }

    /// The domain's word, and the trays that are READY.
    pub fn ready(&self) -> (&str, Vec<&str>) {
        let ready = self.nodes.values().filter(|member| member.status == "READY");
        (&self.status, ready.map(|member| member.name.as_str()).collect())
    }
}

/// The records of a job on its trays: they stay as they are for as long as nobody touches its domains.
///
/// # Errors
/// A record is missing.
pub fn records(cluster: &Cluster, job: &Running) -> anyhow::Result<Vec<String>> {
    let file = format!("{STATE}/job-{}.record", job.id);
    job.nodes.iter().map(|node| Ok(fs::read_to_string(cluster.root_of(node)?.join(&file))?)).collect()
}

/// A tray's `imex.log`.
///
/// # Errors
/// There is none.
pub fn log(cluster: &Cluster, tray: &str) -> anyhow::Result<String> {
    let log = cluster.logs(tray)?.join("slurm-nvlink/imex.log");
    fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))
}

/// Its lines about a job.
///
/// # Errors
/// There is no log.
pub fn log_lines(cluster: &Cluster, tray: &str, job: JobId) -> anyhow::Result<Vec<String>> {
    let text = log(cluster, tray)?;
    let word = format!("job={job}");
    let of_job = |line: &&str| line.split_whitespace().any(|found| found == word);
    Ok(text.lines().filter(of_job).map(str::to_owned).collect())
}
