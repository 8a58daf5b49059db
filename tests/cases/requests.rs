//! What a job with our prolog and epilog on 18 trays asks of slurmctld, counted by slurmctld itself, beside the same
//! job with hooks that do nothing and without hooks.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case};
use crate::imex::RACKS;
use anyhow::{Context as _, ensure};
use std::collections::BTreeMap;
use tests::cluster::Target;
use tests::limits::SOON;
use tests::{Cluster, wait_for};

pub(crate) const CASES: &[Case] =
    &[Case { name: "requests::prologs_and_epilogs_ask_slurmctld_nothing", body: Body::On(RACKS, nothing) }];

const TRAYS: u64 = 18;
/// What sdiag itself asks, and what nodes say in their own time. slurmd tells that a job is over after any epilog, whatever it
/// did, and without one where a step ends late.
const OWN: [&str; 4] = [
    "REQUEST_STATS_INFO",
    "REQUEST_STATS_RESET",
    "MESSAGE_NODE_REGISTRATION_STATUS",
    "MESSAGE_EPILOG_COMPLETE",
];
/// All of root's requests together.
const OF_ROOT: &str = "of root in all";
/// What the user's sinfo asks.
const USERS: [&str; 2] = ["REQUEST_NODE_INFO", "REQUEST_PARTITION_INFO"];
/// A prolog that asks Slurm for its job, as many do.
const ASKING: &str = "#!/bin/sh\nPATH=/usr/bin:/bin squeue --job $SLURM_JOB_ID > /dev/null\n";
const ASKING_PATH: &str = "/usr/local/sbin/asking-prolog";

/// Requests by type.
type Requests = BTreeMap<String, u64>;

fn nothing(cluster: &Cluster) -> anyhow::Result<()> {
    let hooks = cluster.hooks()?;
    ensure!(hooks.iter().all(Option::is_some), "no hooks: {hooks:?}");
    let compared = compare(cluster);
    cluster.set_hooks(&hooks)?;
    let Compared { ours, idle, none, asking } = compared?;
    println!(
        "requests of a job of {TRAYS} trays:\n  ours          {ours:?}\n  /bin/true     {idle:?}\n  no hooks      {none:?}\n  one that asks {asking:?}"
    );
    ensure!(ours == idle, "with our hooks {ours:?}, with some that do nothing {idle:?}");
    ensure!(idle == none, "without hooks {none:?}, with some that do nothing {idle:?}");
    // The count would see it.
    let more: u64 = asking.values().sum::<u64>().saturating_sub(none.values().sum());
    ensure!(more >= TRAYS, "a prolog that asks makes no difference: {asking:?}");
    Ok(())
}

/// The same job with each of these hooks.
struct Compared {
    ours: Requests,
    /// `/bin/true`
    idle: Requests,
    none: Requests,
    asking: Requests,
}

fn compare(cluster: &Cluster) -> anyhow::Result<Compared> {
    let ours = of_a_job(cluster)?;
    let idle = || Some("/bin/true".to_owned());
    cluster.set_hooks(&[idle(), idle()])?;
    let idle = of_a_job(cluster)?;
    cluster.set_hooks(&[None, None])?;
    let none = of_a_job(cluster)?;
    for node in cluster.nodes() {
        cluster.write_file(&Target::node(&node), ASKING_PATH, ASKING)?;
        cluster.tray(&node, &["chmod", "755", ASKING_PATH])?;
    }
    cluster.set_hooks(&[Some(ASKING_PATH.to_owned()), None])?;
    Ok(Compared { ours, idle, none, asking: of_a_job(cluster)? })
}

/// The requests that reach slurmctld from the submission of a job until its last epilog, without those of this case's own.
fn of_a_job(cluster: &Cluster) -> anyhow::Result<Requests> {
    cluster.ctl(&["sdiag", "--reset"])?;
    let job = tests::domain::submit(cluster, &["-N18", "-wr01n[01-18]", "--exclusive"])?;
    // Nobody but sdiag is asked meanwhile: what it says of itself is left out.
    let until = |what: &str, wanted: &[(&str, u64)]| {
        wait_for(what, SOON, || {
            let seen = requests(&cluster.ctl(&["sdiag"])?)?;
            let late = wanted.iter().find(|(kind, count)| seen.get(*kind).is_none_or(|seen| seen < count));
            Ok(if late.is_none() { Ok(seen) } else { Err(format!("{seen:?}")) })
        })
    };
    until("all prologs are over", &[("REQUEST_COMPLETE_PROLOG", TRAYS)])?;
    std::fs::write(cluster.root_of("r01n01")?.join(format!("tmp/end-{job}")), "")?;
    until("the script is over", &[("REQUEST_COMPLETE_BATCH_SCRIPT", 1)])?;
    // Epilogs are not among what sdiag counts. The user asks for them, so that what root asks stays apart.
    wait_for("all epilogs are over", SOON, || {
        let states =
            cluster.succeed(&Target::controller().as_user(), &["sinfo", "--noheader", "--format=%t"])?;
        Ok(if states.trim() == "idle" { Ok(()) } else { Err(states) })
    })?;
    requests(&cluster.ctl(&["sdiag"])?)
}

/// Requests by type as sdiag counts them, and beside them all of root's, who runs prologs and epilogs; without those that are not
/// about the job.
fn requests(text: &str) -> anyhow::Result<Requests> {
    let mut all = section(text, "by message type")?;
    let mut root = section(text, "by user")?.remove("root").unwrap_or(0);
    for kind in OWN {
        root = root.saturating_sub(all.remove(kind).unwrap_or(0));
    }
    all.retain(|kind, _| !USERS.contains(&kind.as_str()));
    all.insert(OF_ROOT.to_owned(), root);
    Ok(all)
}

/// One section of sdiag's counts.
fn section(text: &str, by: &str) -> anyhow::Result<Requests> {
    let heading = format!("Remote Procedure Call statistics {by}");
    let (_, rest) = text.split_once(&heading).with_context(|| format!("sdiag said {text}"))?;
    let mut found = Requests::new();
    for line in rest.lines().skip(1).take_while(|line| line.starts_with('\t')) {
        let name = line.split_whitespace().next().unwrap_or_default();
        let count = line.split_once("count:").and_then(|(_, rest)| rest.split_whitespace().next());
        let count =
            count.and_then(|count| count.parse().ok()).with_context(|| format!("sdiag said {line:?}"))?;
        found.insert(name.to_owned(), count);
    }
    Ok(found)
}
