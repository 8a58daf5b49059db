//! What the demonstration asks the cluster.

#![forbid(unsafe_code)]

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tests::Cluster;
use tests::cluster::Target;

use super::check::{Part, Partitions, Seen, Traces, split};
use super::imex::{self, Domain};
use super::plan::Wish;

const TOPOLOGY: &str = "/etc/slurm/topology.yaml";

/// A job starts when all of its trays have formed their IMEX domains, and ends with their removal.
const JOB: Duration = Duration::from_secs(120);

/// Asks the job's own daemon: its config file is the one that the running daemon was started with.
const ASK_DOMAIN: &str = r#"set -- $(ps -C nvidia-imex -o args=)
while [ $# -gt 0 ] && [ "$1" != -c ]; do shift; done
[ $# -ge 2 ] || { echo "no nvidia-imex daemon runs here" >&2; exit 1; }
exec nvidia-imex-ctl -c "$2" -N -j -H"#;

/// Prints everything that a job's IMEX domain consists of, nothing where there is none. The lock of the tray is not part
/// of any job, and the note that a job is over stays for an hour on purpose: it stops a prolog that comes late.
const TRACES: &str = r#"ps -C nvidia-imex -o args= | sed 's/^/daemon: /'
find /dev/nvidia-caps-imex-channels -mindepth 1 2>/dev/null | sed 's/^/channel: /'
find /run/slurm-nvlink/imex -mindepth 1 ! -name tray.lock ! -name 'job-*.ended' 2>/dev/null | sed 's/^/file: /'"#;

/// What `topology-gen` finds, as a table.
pub(super) fn discovery(cluster: &Cluster) -> Result<String> {
    cluster.ctl(&["topology-gen", "generate", "--format", "table"])
}

/// The file that it generated.
pub(super) fn topology_yaml(cluster: &Cluster) -> Result<String> {
    cluster.ctl(&["cat", TOPOLOGY])
}

/// The topology that slurmctld has in force.
pub(super) fn topology_in_force(cluster: &Cluster) -> Result<String> {
    cluster.ctl(&["scontrol", "show", "topology"])
}

/// The blocks that slurmctld has in force.
pub(super) fn partitions(cluster: &Cluster) -> Result<Partitions> {
    Ok(cluster.blocks()?.into_iter().map(|block| (block.name, block.nodes.into_iter().collect())).collect())
}

/// The lines of slurmctld's log in which the plugin tells that it runs, or refuses to.
pub(super) fn plugin_lines(cluster: &Cluster) -> Result<Vec<String>> {
    let log = cluster.logs("ctl")?.join("slurm").join("slurmctld.log");
    let text = fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
    Ok(text.lines().filter(|line| line.contains("slurm-nvlink ")).map(str::to_owned).collect())
}

/// Submits a job and looks at it when it runs on all of its trays.
pub(super) fn start(cluster: &Cluster, wish: Wish, partitions: &Partitions) -> Result<Seen> {
    let submitted = Instant::now();
    let id = cluster.submit(&wish.options(), "exec sleep 3600")?;
    let job = cluster.wait_running(id, JOB)?;
    // The batch script starts on the first tray before the others have ended their prologs.
    let steps = format!("srun --jobid={id} --overlap true");
    cluster.succeed(&Target::controller().as_user().within(JOB), &["sh", "-c", &steps])?;
    let ready = submitted.elapsed();
    let trays: Vec<String> = job.nodes.iter().map(ToString::to_string).collect();
    let part = |(partition, trays): (String, std::collections::BTreeSet<String>)| {
        let asked = trays.first().cloned().unwrap_or_default();
        let domain = domain_of(cluster, &asked).map_err(|error| format!("{error:#}"));
        Part { partition, trays, domain: (asked, domain) }
    };
    let parts = split(&trays, partitions).into_iter().map(part).collect();
    Ok(Seen { wish, id: id.to_string(), ready, parts })
}

/// Ends jobs and waits until their trays are free again.
pub(super) fn end(cluster: &Cluster, jobs: &[Seen]) -> Result<()> {
    for job in jobs {
        cluster.cancel(job.id.parse().context("the job's number")?)?;
    }
    for job in jobs {
        cluster.wait_ended(job.id.parse().context("the job's number")?, JOB)?;
    }
    Ok(())
}

/// What there is of any job's IMEX domain on each tray.
pub(super) fn traces(cluster: &Cluster) -> Result<Traces> {
    let mut traces = Traces::new();
    for tray in cluster.nodes() {
        let text = cluster.tray(&tray, &["sh", "-c", TRACES])?;
        if !text.is_empty() {
            traces.insert(tray, text.lines().map(str::to_owned).collect());
        }
    }
    Ok(traces)
}

/// A picture of the racks with the jobs in them, as SVG.
pub(super) fn picture(cluster: &Cluster, jobs: &[Seen], title: &str) -> Result<String> {
    let jobs: Vec<_> = jobs.iter().map(|job| {
        let trays: Vec<&str> = job.parts.iter().flat_map(|part| &part.trays).map(String::as_str).collect();
        serde_json::json!({"id": job.id.parse::<u32>().unwrap_or(0), "name": format!("--nodes={}", job.wish.trays), "nodes": trays.join(",")})
    }).collect();
    let placement = serde_json::json!({ "jobs": jobs }).to_string();
    let script = r#"topology-gen show "$1" --jobs - --title "$2" --svg /tmp/racks.svg >/dev/null && cat /tmp/racks.svg"#;
    cluster.feed(&Target::controller(), &["sh", "-c", script, "picture", TOPOLOGY, title], &placement)
}

fn domain_of(cluster: &Cluster, tray: &str) -> Result<Domain> {
    imex::parse(&cluster.tray(tray, &["sh", "-c", ASK_DOMAIN])?)
}
