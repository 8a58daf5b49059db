//! What changes the IMEX manager's part: channels made by Slurm, nodes that are shared, trays without a fabric that leaves
//! them, and the health check that keeps jobs away from a tray.
//!
//! slurmd, its switch plugin, prolog and epilog are real; the IMEX daemon, its control tool and the trays' hardware are
//! simulated.
#![forbid(unsafe_code)]

use crate::domain::{Running, exactly, finish, log_lines, settled, start, submit, traces};
use crate::harness::{Body, Case, Setup, explained};
use crate::imex::SMALL;
use anyhow::{Context as _, ensure};
use fabric::JobId;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use tests::cluster::Target;
use tests::documents::{self, Form};
use tests::fault::{Fault, FaultKind};
use tests::limits::SOON;
use tests::soak::Plant;
use tests::{Cluster, wait_for};

pub(crate) const CASES: &[Case] = &[
    Case { name: "imex_modes::slurm_makes_the_channels", body: Body::Own(SMALL, slurms_channels) },
    Case { name: "imex_modes::jobs_that_share_trays_are_guests", body: Body::Own(SMALL, guests) },
    Case {
        name: "imex_modes::a_fabric_that_leaves_no_tray_needs_no_domain",
        body: Body::On(NVL8, no_fabric),
    },
    Case {
        name: "imex_modes::the_health_check_drains_a_tray_at_fault_and_tells_of_leftovers",
        body: Body::Own(SMALL, health),
    },
];

/// Four trays whose fabric does not leave them.
const NVL8: Setup = Setup { profile: "nvl8", stock: false, imex: true };
const SETTINGS: &str = "/etc/slurm-nvlink/imex.toml";
const CHANNELS: &str = "dev/nvidia-caps-imex-channels";

/// A case on a cluster of its own, with what its logs say on failure.
fn on(cluster: &Cluster, name: &str, case: fn(&Cluster) -> anyhow::Result<()>) -> anyhow::Result<()> {
    case(cluster).map_err(|error| explained(error, cluster, name))
}

/// What a tray's `imex-prolog status --json` says.
fn status(cluster: &Cluster, tray: &str) -> anyhow::Result<Value> {
    let text = cluster.tray(tray, &["imex-prolog", "status", "--json"])?;
    serde_json::from_str(&text).with_context(|| text)
}

fn slurms_channels(setup: &Setup) -> anyhow::Result<()> {
    let cluster = setup.builder("switch").set("SwitchType", "switch/nvidia_imex").start()?;
    on(&cluster, "imex_modes::slurm_makes_the_channels", with_switch_plugin)
}

fn with_switch_plugin(cluster: &Cluster) -> anyhow::Result<()> {
    let script = "ls /dev/nvidia-caps-imex-channels > /tmp/seen; until [ -e /tmp/end-$SLURM_JOB_ID ]; do sleep 0.05; done";
    let options = ["-N2", "-wr01n[01-02]", "--exclusive", "--output=/dev/null"];
    let job = settled(cluster, cluster.submit(&options, script)?)?;
    for tray in &job.nodes {
        let said = status(cluster, tray)?;
        let domain = said.pointer("/jobs/0/domain").context("no domain")?;
        ensure!(domain["state"] == "ready" && domain["channel"].is_null(), "{tray}: {said}");
        ensure!(
            domain["daemon"]["alive"] == true && domain["members"].as_array().map(Vec::len) == Some(2),
            "{said}"
        );
        let ours = traces(cluster, tray)?.into_iter().filter(|trace| trace.starts_with("channel")).count();
        ensure!(ours == 0, "{tray}: a channel beside Slurm's own");
    }
    let seen = cluster.root_of("r01n01")?.join("tmp/seen");
    wait_for("the job has looked at its channels", SOON, || {
        let text = fs::read_to_string(&seen).unwrap_or_default();
        Ok(if text == "channel1\n" { Ok(()) } else { Err(format!("{text:?}")) })
    })?;
    finish(cluster, &job)?;
    cluster.wait_idle(&cluster.nodes())?;
    exactly(cluster, &[])
}

fn guests(setup: &Setup) -> anyhow::Result<()> {
    let text = "[channel]\npolicy = \"by-job\"\n[partitions]\ntrays = \"per-partition\"\n";
    let cluster = setup.builder("guests").file(SETTINGS, text).start()?;
    on(&cluster, "imex_modes::jobs_that_share_trays_are_guests", share)
}

/// Two jobs of two GPUs on the same two trays, one after the other and then together.
fn share(cluster: &Cluster) -> anyhow::Result<()> {
    let options = ["-N2", "-wr01n[01-02]", "--gres=gpu:2"];
    let one = settled(cluster, submit(cluster, &options)?)?;
    let two = settled(cluster, submit(cluster, &options)?)?;
    let tray = "r01n02";
    let daemon = standing(cluster, tray)?;
    ensure!(channels(cluster, tray)? == numbers(&[one.id, two.id]), "{:?}", channels(cluster, tray)?);
    finish(cluster, &one)?;
    wait_for("only the other job's channel is left", SOON, || {
        let left = channels(cluster, tray)?;
        Ok(if left == numbers(&[two.id]) { Ok(()) } else { Err(format!("{left:?}")) })
    })?;
    finish(cluster, &two)?;
    cluster.wait_idle(&cluster.nodes())?;
    ensure!(channels(cluster, tray)?.is_empty());
    ensure!(standing(cluster, tray)? == daemon, "the standing daemon did not outlive its guests");
    let health = cluster.tray(tray, &["imex-prolog", "health"])?;
    ensure!(health.starts_with("ok: ") && health.contains("standing domain READY"), "{health}");
    // A third job finds it as it is, and a tray that dies is replaced.
    let three = settled(cluster, submit(cluster, &options)?)?;
    ensure!(standing(cluster, tray)? == daemon);
    said(cluster, &three, "all 2 members connected")?;
    finish(cluster, &three)?;
    cluster.wait_idle(&cluster.nodes())?;
    cluster.tray(tray, &["sh", "-c", &format!("kill -9 {daemon}")])?;
    let four = settled(cluster, submit(cluster, &options)?)?;
    said(cluster, &four, "all 2 members connected")?;
    ensure!(standing(cluster, tray)? != daemon);
    finish(cluster, &four)?;
    cluster.wait_idle(&cluster.nodes())
}

/// Process id of the standing daemon, which has all four trays of the rack as members.
fn standing(cluster: &Cluster, tray: &str) -> anyhow::Result<i64> {
    let said = status(cluster, tray)?;
    let domain = said.pointer("/standing/domain").with_context(|| format!("no standing domain: {said}"))?;
    let members = domain["members"].as_array().map_or(0, Vec::len);
    ensure!(domain["state"] == "ready" && domain["daemon"]["alive"] == true && members == 4, "{said}");
    domain["daemon"]["pid"].as_i64().context("no process id")
}

fn channels(cluster: &Cluster, tray: &str) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(cluster.root_of(tray)?.join(CHANNELS))? {
        names.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// The channels that the policy gives to jobs.
fn numbers(jobs: &[JobId]) -> BTreeSet<String> {
    jobs.iter().map(|job| format!("channel{}", 1 + job.get() % 2047)).collect()
}

/// Every tray of the job has this in its log about it.
fn said(cluster: &Cluster, job: &Running, text: &str) -> anyhow::Result<()> {
    job.nodes.iter().try_for_each(|tray| {
        let lines = log_lines(cluster, tray, job.id)?;
        ensure!(lines.iter().any(|line| line.contains(text)), "{tray} does not say {text:?}: {lines:?}");
        Ok(())
    })
}

fn no_fabric(cluster: &Cluster) -> anyhow::Result<()> {
    let job = start(cluster, &["-N2", "--gres=gpu:8"])?;
    exactly(cluster, &[])?;
    said(cluster, &job, "this node is in no block of topology.yaml")?;
    let health = cluster.tray(&job.nodes[0], &["imex-prolog", "health"])?;
    ensure!(health.starts_with("ok: "), "{health}");
    finish(cluster, &job)?;
    cluster.wait_idle(&cluster.nodes())?;
    exactly(cluster, &[])
}

const CHECK: &str = "/etc/slurm-nvlink/health-check";
/// Tells a case that a check has found nothing.
const FINDS_NOTHING: &str = "/usr/sbin/imex-prolog health >/dev/null 2>&1 && /usr/bin/touch /tmp/healthy\n";

/// The script that the operator's guide gives, as it stands there.
fn script_of_the_guide() -> anyhow::Result<String> {
    let code = documents::named("docs/operating.md")?.code();
    let lines = code.iter().filter(|code| code.heading == "Health checks" && code.form == Form::Line);
    let lines: Vec<&str> =
        lines.map(|code| code.text.as_str()).skip_while(|line| *line != "#!/bin/sh").collect();
    ensure!(lines.len() == 2, "the guide has another script: {lines:?}");
    Ok(lines.join("\n") + "\n")
}

fn health(setup: &Setup) -> anyhow::Result<()> {
    let script = script_of_the_guide()? + FINDS_NOTHING;
    let builder = setup.builder("health").with_orders().file(CHECK, &script);
    let cluster = builder.set("HealthCheckProgram", CHECK).set("HealthCheckInterval", "2").start()?;
    on(&cluster, "imex_modes::the_health_check_drains_a_tray_at_fault_and_tells_of_leftovers", drains)
}

fn drains(cluster: &Cluster) -> anyhow::Result<()> {
    const SICK: &str = "r02n03";
    for node in cluster.nodes() {
        let file = cluster.root_of(&node)?.join(CHECK.trim_start_matches('/'));
        fs::set_permissions(file, fs::Permissions::from_mode(0o755))?;
    }
    cluster.fault(SICK, Fault::new(FaultKind::WrongClique), None)?;
    let answer = cluster.capture(&Target::node(SICK), &["imex-prolog", "health"])?;
    ensure!(answer.status.code() == Some(1) && answer.stdout.lines().count() == 1, "{answer:?}");
    wait_for("slurmd's health check drains the tray", SOON, || {
        let list = ["sinfo", "--noheader", "--Node", "--states=drain", "--format=%N|%E"];
        let text = cluster.ctl(&list)?;
        let reason = text.trim().strip_prefix(&format!("{SICK}|")).unwrap_or_default();
        let right = reason.starts_with("imex: this node is in block nvl-") && text.lines().count() == 1;
        Ok(if right { Ok(()) } else { Err(text) })
    })?;
    cluster.heal(Some(SICK))?;
    let healthy = cluster.tray(SICK, &["imex-prolog", "health"])?;
    ensure!(healthy.starts_with(&format!("ok: {SICK} in block nvl-")), "{healthy}");
    // A check that began before the fault ended may drain the tray once more.
    cluster.tray(SICK, &["rm", "-f", "/tmp/healthy"])?;
    let healthy = cluster.root_of(SICK)?.join("tmp/healthy");
    wait_for("slurmd's health check finds nothing", SOON, || {
        Ok(if healthy.exists() { Ok(()) } else { Err("not yet".to_owned()) })
    })?;
    cluster.ctl(&["scontrol", "update", &format!("nodename={SICK}"), "state=resume"])?;
    cluster.wait_idle(&cluster.nodes())?;
    without_epilog(cluster, SICK)
}

/// A tray whose epilog never ran may take jobs, since the next prolog removes what the last job left; the operator is told.
fn without_epilog(cluster: &Cluster, tray: &str) -> anyhow::Result<()> {
    let one = format!("-w{tray}");
    Plant::NoEpilog.on(cluster, tray)?;
    let job = start(cluster, &["-N1", &one])?;
    finish(cluster, &job)?;
    cluster.order(tray, &sim::hook::Settings::default())?;
    cluster.wait_idle(&cluster.nodes())?;
    ensure!(!traces(cluster, tray)?.is_empty(), "nothing is left to be found");
    let health = cluster.capture(&Target::node(tray), &["imex-prolog", "health"])?;
    let said = format!("Slurm has ended job {}, and no epilog has removed its IMEX domain yet", job.id);
    ensure!(health.status.success() && health.stderr.contains(&said), "{health:?}");
    let next = start(cluster, &["-N1", &one])?;
    only(cluster, &[&next])?;
    finish(cluster, &next)?;
    cluster.wait_idle(&cluster.nodes())?;
    only(cluster, &[])
}

/// As [`exactly`]; slurmd's health check, which is a program of ours as well, comes and goes on each tray.
fn only(cluster: &Cluster, jobs: &[&Running]) -> anyhow::Result<()> {
    wait_for("nothing but the jobs' domains is there", SOON, || {
        Ok(exactly(cluster, jobs).map_err(|why| format!("{why:#}")))
    })
}
