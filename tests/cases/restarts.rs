//! Slurm's daemons are killed, restarted and reconfigured under jobs with IMEX domains, and neither the jobs nor their
//! domains notice.
#![forbid(unsafe_code)]

use crate::domain::{
    Running, all_up, exactly, finish, finish_all, log_lines, records, settled, start, submit, traces,
};
use crate::harness::{Body, Case, Setup, explained};
use crate::imex::{SETTINGS, SMALL};
use anyhow::ensure;
use fabric::JobId;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant, SystemTime};
use tests::control::DaemonState;
use tests::fault::{Fault, FaultKind};
use tests::limits::SOON;
use tests::soak::Plant;
use tests::{Cluster, wait_for};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "restarts::slurmctld_is_killed",
        body: Body::On(SMALL, |cluster| jobs_go_on(cluster, kill_controller)),
    },
    Case {
        name: "restarts::slurmd_is_killed",
        body: Body::On(SMALL, |cluster| jobs_go_on(cluster, kill_trays)),
    },
    Case {
        name: "restarts::slurm_is_reconfigured",
        body: Body::On(SMALL, |cluster| jobs_go_on(cluster, reconfigure)),
    },
    Case {
        name: "restarts::slurmd_is_killed_during_a_prolog",
        body: Body::On(SMALL, |cluster| killed_during_prolog(cluster, 3_500, job_goes_on)),
    },
    Case {
        name: "restarts::slurmd_is_killed_during_a_prolog_and_the_job_cancelled",
        body: Body::Own(SMALL, killed_and_cancelled),
    },
    Case {
        name: "restarts::slurm_is_reconfigured_while_prologs_wait_for_a_member_that_never_comes",
        body: Body::Own(SMALL, |setup| reconfigured_while_waiting(setup, SILENT)),
    },
    Case {
        name: "restarts::slurmds_go_on_serving_while_they_wait_for_prologs",
        body: Body::Own(SMALL, |setup| reconfigured_while_waiting(setup, SERVING)),
    },
];

/// slurmctld writes its state every 5 s when it has changed (Slurm 26.05 src/slurmctld/state_save.c).
const SAVED: Duration = Duration::from_secs(20);
/// How long the daemon of a cancelled job would take, in milliseconds. That all trays notice the end before half of it shows that
/// nobody waits for it.
const HANGS_MS: u64 = 20_000;
/// The tray whose slurmd is killed during a prolog; not the batch host.
const TRAY: &str = "r01n02";

/// Two jobs run, something happens to Slurm, and all is as before.
fn jobs_go_on(cluster: &Cluster, disturb: fn(&Cluster) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let jobs = [start(cluster, &["-N4", "-wr01n[01-04]"])?, start(cluster, &["-N2", "-wr02n[01-02]"])?];
    let both: Vec<&Running> = jobs.iter().collect();
    let look = || -> anyhow::Result<_> {
        let records: Vec<_> = both.iter().map(|job| records(cluster, job)).collect::<anyhow::Result<_>>()?;
        let domains: Vec<_> = both.iter().map(|job| all_up(cluster, job)).collect::<anyhow::Result<_>>()?;
        Ok((cluster.blocks()?, records, domains))
    };
    let before = look()?;
    disturb(cluster)?;
    nodes_are_back(cluster, &jobs)?;
    for job in &jobs {
        let now = settled(cluster, job.id)?;
        ensure!(now.nodes == job.nodes, "job {}: {:?} became {:?}", job.id, job.nodes, now.nodes);
    }
    let after = look()?;
    ensure!(after == before, "{before:?} became {after:?}");
    exactly(cluster, &both)?;
    // This also says that the jobs were never requeued.
    finish_all(cluster, &both)
}

/// Waits until every node is in service: those of jobs allocated, the others idle.
fn nodes_are_back(cluster: &Cluster, jobs: &[Running]) -> anyhow::Result<()> {
    let busy: BTreeSet<&String> = jobs.iter().flat_map(|job| &job.nodes).collect();
    wait_for("all nodes are in service", SOON, || {
        let states = match cluster.node_states() {
            Ok(states) => states,
            Err(error) => return Ok(Err(format!("{error:#}"))),
        };
        let wanted = |node: &String| if busy.contains(node) { "alloc" } else { "idle" };
        let good = states.iter().all(|(node, state)| state == wanted(node));
        Ok(if good && !states.is_empty() { Ok(()) } else { Err(format!("{states:?}")) })
    })
}

fn kill_controller(cluster: &Cluster) -> anyhow::Result<()> {
    // Slurm would forget a job that is not yet in its saved state. It saves what has changed, so something changes.
    let now = SystemTime::now();
    let jobs = cluster.ctl(&["squeue", "--noheader", "--format=%i"])?;
    for job in jobs.lines() {
        cluster.ctl(&["scontrol", "update", &format!("jobid={}", job.trim()), "comment=to be saved"])?;
    }
    let file = cluster.root_of("ctl")?.join("var/spool/slurmctld/job_state");
    wait_for("slurmctld has saved the jobs", SAVED, || {
        let saved = fs::metadata(&file).and_then(|metadata| metadata.modified());
        Ok(match saved {
            Ok(saved) if saved > now => Ok(()),
            saved => Err(format!("{saved:?}, asked for since {now:?}")),
        })
    })?;
    cluster.stop_daemon("ctl", Signal::SIGKILL)?;
    cluster.start_daemon("ctl")
}

/// The batch host of one job, and a tray that is none of the other.
fn kill_trays(cluster: &Cluster) -> anyhow::Result<()> {
    for tray in ["r01n01", "r02n02"] {
        cluster.stop_daemon(tray, Signal::SIGKILL)?;
        cluster.start_daemon(tray)?;
    }
    Ok(())
}

fn reconfigure(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.reload_topology(&cluster.nodes())
}

/// A tray's prolog becomes an orphan while it waits for its daemon, which takes `start_ms`; `then` says what becomes of the job.
fn killed_during_prolog(
    cluster: &Cluster,
    start_ms: u64,
    then: fn(&Cluster, JobId) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    cluster.fault(TRAY, Fault { kind: FaultKind::ImexSlowStart, ms: Some(start_ms) }, None)?;
    let job = submit(cluster, &["-N4", "-wr01n[01-04]", "--exclusive"])?;
    wait_for("the prolog waits for its daemon", SOON, || {
        let seen = traces(cluster, TRAY)?;
        Ok(if is_waiting(&seen, job) { Ok(()) } else { Err(format!("{seen:?}")) })
    })?;
    cluster.stop_daemon(TRAY, Signal::SIGKILL)?;
    let orphan = traces(cluster, TRAY)?;
    ensure!(is_waiting(&orphan, job), "the prolog did not survive slurmd: {orphan:?}");
    cluster.start_daemon(TRAY)?;
    then(cluster, job)?;
    cluster.wait_idle(&cluster.nodes())?;
    // An orphan that the epilog has overtaken ends within its next look.
    wait_for("nothing of the job is left", SOON, || {
        Ok(exactly(cluster, &[]).map_err(|error| format!("{error:#}")))
    })?;
    cluster.heal(Some(TRAY))?;
    let next = start(cluster, &["-N4", "-wr01n[01-04]"])?;
    all_up(cluster, &next)?;
    finish_all(cluster, &[&next])
}

/// The orphan completes its part of the domain, and the job ends as if nothing had been. Slurm never hears of the
/// orphan's end and goes on saying that a prolog runs.
fn job_goes_on(cluster: &Cluster, id: JobId) -> anyhow::Result<()> {
    let nodes = cluster.wait_running(id, SOON)?.nodes;
    let job = Running { id, nodes: nodes.iter().map(ToString::to_string).collect() };
    wait_for("the orphan has made its tray's channel", SOON, || {
        Ok(exactly(cluster, &[&job]).map_err(|error| format!("{error:#}")))
    })?;
    all_up(cluster, &job)?;
    finish(cluster, &job)
}

/// The job is cancelled while the orphan still waits, so that the epilog meets it. Slurm signals no prolog; each finds
/// in what its slurmd has written that the job is over.
fn killed_and_cancelled(setup: &Setup) -> anyhow::Result<()> {
    let cluster = setup.builder("orphan").start()?;
    let cancelled = |cluster: &Cluster, job: JobId| {
        cluster.cancel(job)?;
        let begin = Instant::now();
        cluster.wait_idle(&cluster.nodes())?;
        ensure!(
            begin.elapsed() < Duration::from_millis(HANGS_MS / 2),
            "COMPLETING for {:?}",
            begin.elapsed()
        );
        let ended = cluster.wait_ended(job, SOON)?;
        ensure!(ended.state == "CANCELLED", "{ended:?}");
        let lines = log_lines(cluster, TRAY, job)?;
        let backed_out = lines.iter().any(|line| line.contains(" prolog: ") && line.contains("\"ended\""));
        ensure!(backed_out, "the orphan did not see that the job was over: {lines:?}");
        Ok(())
    };
    killed_during_prolog(&cluster, HANGS_MS, cancelled)
        .map_err(|error| explained(error, &cluster, "restarts-orphan"))
}

/// A slurmd that is told to reconfigure serves nobody any more from this many seconds on, until its prologs have ended; by default
/// from twice MessageTimeout on. With it, what the log of a tray says then.
type Quiet = (&'static str, &'static [&'static str]);
const SILENT: Quiet = (
    "config_overrides,conmgr_quiesce_timeout=4",
    &["the request to end the job stands", "Slurm has heard the request to end the job"],
);
const SERVING: Quiet =
    ("config_overrides,conmgr_quiesce_timeout=300", &["Slurm has ended the job at this node's request"]);

/// The prologs give the domain up while their slurmds wait for them. The job must not run on without its domain: it is put back
/// at once where slurmd still serves, or else as soon as it is there again.
fn reconfigured_while_waiting(setup: &Setup, quiet: Quiet) -> anyhow::Result<()> {
    const WAITS: &str = "[deadlines]\nready_seconds = 20\npeer_absent_seconds = 6\njob_end_seconds = 5\n";
    let (parameters, words) = quiet;
    let cluster = setup.builder("reconfigured").set("SlurmdParameters", parameters).file(SETTINGS, WAITS);
    let cluster = cluster.with_orders().start()?;
    let played = (|| {
        // Its prolog does nothing, so that Slurm does not end the job by itself.
        Plant::BlindProlog.on(&cluster, TRAY)?;
        let job = submit(&cluster, &["-N4", "-wr01n[01-04]", "--exclusive"])?;
        wait_for("the prologs wait", SOON, || {
            let seen = [traces(&cluster, "r01n01")?, traces(&cluster, "r01n04")?];
            Ok(if seen.iter().all(|seen| is_waiting(seen, job)) { Ok(()) } else { Err(format!("{seen:?}")) })
        })?;
        cluster.ctl(&["scontrol", "reconfigure"])?;
        cluster.wait_job(job, "requeued and held", SOON + SOON, |job| {
            job.state == "PENDING" && job.restarts == 1 && job.reason == "JobHeldUser"
        })?;
        cluster.cancel(job)?;
        cluster.wait_idle(&cluster.nodes())?;
        let mut lines = Vec::new();
        for tray in ["r01n01", "r01n03", "r01n04"] {
            lines.extend(log_lines(&cluster, tray, job)?);
        }
        for wanted in words {
            ensure!(lines.iter().any(|line| line.contains(wanted)), "nobody said \"{wanted}\": {lines:?}");
        }
        wait_for("nothing of the job is left", SOON, || {
            Ok(exactly(&cluster, &[]).map_err(|error| format!("{error:#}")))
        })?;
        let harmed = |text: &str| text.contains("writev") && text.contains("sack.socket");
        for node in cluster.status()?.into_iter().filter(|node| node.node != "ctl") {
            ensure!(matches!(node.daemon, DaemonState::Running(_)), "no slurmd: {node:?}");
            let log = fs::read_to_string(cluster.root_of(&node.node)?.join("var/log/slurm/slurmd.log"))?;
            ensure!(!harmed(&log), "slurmd of {} wrote to a command that was gone: {log}", node.node);
        }
        Ok(())
    })();
    played.map_err(|error| explained(error, &cluster, "restarts-reconfigured"))
}

/// Whether a tray's prolog runs and has begun this job's daemon.
fn is_waiting(traces: &BTreeSet<String>, job: JobId) -> bool {
    let runs = |name: &str| traces.iter().any(|trace| trace.starts_with(&format!("{name}: ")));
    runs("imex-prolog") && runs("nvidia-imex") && traces.contains(&format!("file: job-{job}.record"))
}
