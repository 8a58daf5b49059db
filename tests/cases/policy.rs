//! Aggregated blocks, the site's settings, and what the log says of jobs that wait and jobs that span.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case};
use crate::live::with_file;
use crate::placement::{PAIRS, clear, drain, note_difference, outcome, submit};
use anyhow::{Context as _, ensure};
use fabric::JobId;
use std::collections::BTreeSet;
use std::time::Duration;
use tests::cluster::Target;
use tests::limits::SOON;
use tests::{Cluster, wait_for};

const SLURM_CONF: &str = "/etc/slurm/slurm.conf";

pub(crate) const CASES: &[Case] = &[
    Case { name: "policy::aggregated_blocks_hold_larger_jobs", body: Body::OnBoth(PAIRS, aggregated_blocks) },
    Case { name: "policy::a_site_may_pack_jobs_and_let_them_span", body: Body::On(PAIRS, settings) },
    Case { name: "policy::small_jobs_leave_room_to_large_ones", body: Body::On(PAIRS, room) },
    Case { name: "policy::small_jobs_wait_behind_large_ones_for_a_time", body: Body::On(PAIRS, patience) },
    Case { name: "policy::users_read_in_the_queue_why_a_job_waits", body: Body::OnBoth(PAIRS, reasons) },
    Case { name: "policy::the_log_says_each_reason_once", body: Body::On(PAIRS, once) },
];

/// The racks in which a job runs; None when it waits.
fn racks(cluster: &Cluster, options: &[&str]) -> anyhow::Result<Option<Vec<String>>> {
    let job = submit(cluster, options)?;
    let nodes = outcome(cluster, job)?;
    cluster.cancel(job)?;
    Ok(nodes.map(|nodes| {
        let racks: BTreeSet<String> = nodes.iter().map(|node| node.as_str()[..3].to_owned()).collect();
        racks.into_iter().collect()
    }))
}

/// Runs `body` while jobs hold some trays.
fn holding<R>(
    cluster: &Cluster,
    trays: &[&str],
    body: impl FnOnce() -> anyhow::Result<R>,
) -> anyhow::Result<R> {
    for tray in trays {
        cluster.wait_running(submit(cluster, &["-N1", "-w", tray])?, SOON)?;
    }
    let done = body();
    clear(cluster, "")?;
    done
}

/// Four racks of two trays in pairs: what does not fit a rack lies in one pair.
fn aggregated_blocks(cluster: &Cluster) -> anyhow::Result<()> {
    let pairs = |text: &str| text.replace("block_sizes: [2]", "block_sizes: [2, 4]");
    with_file(cluster, pairs, || {
        cluster.reload_topology(&cluster.nodes())?;
        let shown = cluster.ctl(&["scontrol", "show", "topology"])?;
        ensure!(shown.contains("AggregatedBlock="), "{shown}");
        let second_pair = Some(vec!["r03".to_owned(), "r04".to_owned()]);
        for options in [&["-N4"][..], &["-N3"], &["-N4", "--segment=2", "--consolidate-segments"]] {
            let seen = holding(cluster, &["r01n01"], || racks(cluster, options))?;
            ensure!(seen == second_pair || options == ["-N3"] && seen.is_some(), "{options:?}: {seen:?}");
        }
        let seen = holding(cluster, &["r01n01", "r03n01"], || racks(cluster, &["-N4"]))?;
        ensure!(seen.is_none(), "neither pair is free, though two racks are: {seen:?}");
        drain(cluster, "r01n01,r03n01")?;
        let seen = racks(cluster, &["-N4"]);
        clear(cluster, "r01n01,r03n01")?;
        let seen = seen?;
        if cluster.about().plugin == "stock" {
            ensure!(seen.is_none(), "stock waits for a pair that is whole: {seen:?}");
            note_difference(
                "policy::aggregated_blocks_hold_larger_jobs: with a tray drained in each aggregated block stock waits, ours \
                 takes the next larger one: drained trays would make the job wait for ever"
                    .to_owned(),
            );
        } else {
            ensure!(seen == Some(vec!["r02".to_owned(), "r04".to_owned()]), "{seen:?}");
        }
        Ok(())
    })
}

/// slurmctld's log from a place on.
fn log(cluster: &Cluster, from: usize) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(cluster.logs("ctl")?.join("slurm/slurmctld.log"))?;
    text.get(from..).map(str::to_owned).context("the log has become shorter")
}

/// Runs `body` with another TopologyParam, then puts slurm.conf back.
pub(crate) fn with_param(
    cluster: &Cluster,
    value: &str,
    body: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let whole = cluster.ctl(&["cat", SLURM_CONF])?;
    cluster.write_file(&Target::controller(), SLURM_CONF, &format!("TopologyParam={value}\n{whole}"))?;
    cluster.ctl(&["scontrol", "reconfigure"])?;
    cluster.wait_idle(&cluster.nodes())?;
    let done = body();
    cluster.write_file(&Target::controller(), SLURM_CONF, &whole)?;
    cluster.ctl(&["scontrol", "reconfigure"])?;
    clear(cluster, "")?;
    done
}

fn settings(cluster: &Cluster) -> anyhow::Result<()> {
    let from = log(cluster, 0)?.len();
    with_param(cluster, "nvlink_split=packed,nvlink_span=degraded,nvlink_spam=1", || {
        let said = log(cluster, from)?;
        for line in [
            "TopologyParam=nvlink_spam=1: no such setting",
            "nvlink_split=packed: ",
            "nvlink_span=degraded: ",
        ] {
            ensure!(said.matches(line).count() == 1, "{line:?} is not said once:\n{said}");
        }
        let checked = cluster.capture(&Target::controller(), &["topology-gen", "check", "--live"])?.stdout;
        let noted = "TopologyParam=nvlink_spam=1 (in force): no such setting";
        ensure!(checked.contains(noted), "topology-gen check --live does not say so:\n{checked}");
        let job = submit(cluster, &["-N3"])?;
        let nodes = outcome(cluster, job)?.context("a job of 3 waits")?;
        let names: Vec<&str> = nodes.iter().map(|node| node.as_str()).collect();
        ensure!(names == ["r01n01", "r01n02", "r02n01"], "not packed: {names:?}");
        cluster.cancel(job)?;
        let drained = "r01n01,r02n01,r03n01,r04n01";
        drain(cluster, drained)?;
        let seen = racks(cluster, &["-N2"]);
        clear(cluster, drained)?;
        let seen = seen?;
        ensure!(seen.as_ref().is_some_and(|racks| racks.len() == 2), "a job of 2 may span now: {seen:?}");
        Ok(())
    })?;
    let job = submit(cluster, &["-N2"])?;
    let nodes = outcome(cluster, job)?.context("a job of 2 waits")?;
    clear(cluster, "")?;
    ensure!(nodes[0].as_str()[..3] == nodes[1].as_str()[..3], "the settings are gone: {nodes:?}");
    Ok(())
}

/// Room for 2 is there in the first rack in 10 minutes, in the second in 60, in the others now.
fn room(cluster: &Cluster) -> anyhow::Result<()> {
    let from = log(cluster, 0)?.len();
    // One that ends before both, one that ends before the second, one that is in the way everywhere.
    let places = |after: fn(&Cluster) -> anyhow::Result<()>| -> anyhow::Result<Vec<String>> {
        for (tray, limit) in [("r01n01", "--time=10"), ("r02n01", "--time=60")] {
            cluster.wait_running(submit(cluster, &["-N1", "-w", tray, limit])?, SOON)?;
        }
        after(cluster)?;
        let mut places = Vec::new();
        for limit in ["--time=5", "--time=30", "--time=90"] {
            let job = submit(cluster, &["-N1", limit])?;
            let nodes = outcome(cluster, job)?.with_context(|| format!("a job of 1 with {limit} waits"))?;
            places.extend(nodes.iter().map(|node| node.as_str().to_owned()));
            cluster.cancel(job)?;
            cluster.wait_ended(job, SOON)?;
        }
        clear(cluster, "")?;
        Ok(places)
    };
    with_param(cluster, "nvlink_room=2,nvlink_room=two", || {
        let said = log(cluster, from)?;
        for line in ["TopologyParam=nvlink_room=two: no such setting", "nvlink_room=2: "] {
            ensure!(said.matches(line).count() == 1, "{line:?} is not said once:\n{said}");
        }
        let seen = places(|_| Ok(()))?;
        ensure!(seen == ["r01n02", "r02n02", "r01n02"], "{seen:?}");
        // A new process of slurmctld, which has placed none of the jobs that run.
        let seen = places(|cluster| {
            cluster.ctl(&["scontrol", "reconfigure"])?;
            let free =
                cluster.nodes().into_iter().filter(|tray| !["r01n01", "r02n01"].contains(&tray.as_str()));
            cluster.wait_idle(&free.collect::<Vec<_>>())
        })?;
        ensure!(seen == ["r01n02", "r02n02", "r01n02"], "after a reconfigure: {seen:?}");
        Ok(())
    })?;
    let seen = places(|_| Ok(()))?;
    ensure!(seen == ["r01n02"; 3], "the setting is gone: {seen:?}");
    Ok(())
}

/// Each rack has one busy tray, until in 10 minutes in the first and in 60 in the others. A job of 2 waits for the first rack, and
/// jobs behind it do not make other racks whole later.
fn patience(cluster: &Cluster) -> anyhow::Result<()> {
    const KEPT: &str =
        "waits: the free trays that it could have are left to larger jobs that are ahead of it";
    let from = log(cluster, 0)?.len();
    // The job that ends first, and the one that waits for it.
    let crowd = || -> anyhow::Result<(JobId, JobId)> {
        let mut running = Vec::new();
        for (rack, minutes) in [("r01", 10), ("r02", 60), ("r03", 60), ("r04", 60)] {
            let (tray, limit) = (format!("{rack}n01"), format!("--time={minutes}"));
            let job = submit(cluster, &["-N1", "-w", &tray, &limit])?;
            cluster.wait_running(job, SOON)?;
            running.push(job);
        }
        let large = submit(cluster, &["-N2", "--time=30"])?;
        ensure!(outcome(cluster, large)?.is_none(), "a job of 2 runs where no rack is free");
        Ok((running[0], large))
    };
    let is_held = |job: JobId| {
        let line = format!("JobId={job} {KEPT}");
        wait_for(&format!("the log says {line:?} once"), SOON, || {
            let said = log(cluster, from)?;
            Ok((said.matches(&line).count() == 1).then_some(()).ok_or(said))
        })
    };
    let runs_at_once = |options: &[&str]| -> anyhow::Result<()> {
        let job = submit(cluster, options)?;
        ensure!(outcome(cluster, job)?.is_some(), "a job with {options:?} waits");
        cluster.cancel(job)?;
        cluster.wait_ended(job, SOON)?;
        Ok(())
    };
    // Seconds from when it could have started.
    let waited = |job: JobId| {
        let shown = cluster.ctl(&["scontrol", "show", "job", &job.to_string()])?;
        seconds_between(&shown, "EligibleTime", "StartTime")
    };
    with_param(cluster, "nvlink_room=2,nvlink_patience=1", || {
        let said = log(cluster, from)?;
        ensure!(said.matches("nvlink_patience=1: ").count() == 1, "the setting is not said once:\n{said}");
        let (first, large) = crowd()?;
        let held = submit(cluster, &["-N1", "--time=90"])?;
        is_held(held)?;
        // Not one that ends before, and not one that comes to stand before the large job.
        runs_at_once(&["-N1", "--time=30"])?;
        let preferred = submit(cluster, &["-N1", "--time=90"])?;
        is_held(preferred)?;
        cluster.ctl(&["scontrol", "update", &format!("jobid={preferred}"), "priority=4294967000"])?;
        cluster.wait_running(preferred, SOON)?;
        let seconds = waited(preferred)?;
        ensure!(seconds < 60, "the one ahead waited {seconds} s, until its own patience was over");
        cluster.cancel(preferred)?;
        cluster.wait_running(held, Duration::from_secs(120))?;
        let seconds = waited(held)?;
        ensure!((60..120).contains(&seconds), "it waited {seconds} s");
        is_held(held)?;
        // Nobody waits behind a job that runs.
        let behind = submit(cluster, &["-N1", "--time=90"])?;
        is_held(behind)?;
        cluster.cancel(first)?;
        cluster.wait_running(large, SOON)?;
        cluster.wait_running(behind, SOON)?;
        let seconds = waited(behind)?;
        ensure!(
            seconds < 60,
            "it waited {seconds} s, until its own patience was over, behind a job that runs"
        );
        clear(cluster, "")?;
        // Nor behind one that was cancelled, or in racks where the one ahead cannot start, as it asks for a feature that they
        // lack.
        let (_, large) = crowd()?;
        cluster.cancel(large)?;
        let feature = |name: &str| -> anyhow::Result<()> {
            let (available, active) = (format!("availablefeatures={name}"), format!("activefeatures={name}"));
            cluster.ctl(&["scontrol", "update", "nodename=r01n[01-02]", &available, &active]).map(drop)
        };
        feature("here")?;
        let constrained = submit(cluster, &["-N2", "--time=30", "--constraint=here"])?;
        ensure!(outcome(cluster, constrained)?.is_none(), "a job of 2 runs beside another one");
        let elsewhere = runs_at_once(&["-N1", "--time=90"]);
        clear(cluster, "")?;
        feature("")?;
        elsewhere
    })?;
    let from = log(cluster, 0)?.len();
    with_param(cluster, "nvlink_patience=1", || {
        let said = log(cluster, from)?;
        let line = "nvlink_patience=1: nobody waits for room without nvlink_room; set it as well, as in nvlink_room=16,nvlink_patience=1";
        ensure!(said.matches(line).count() == 1, "{line:?} is not said once:\n{said}");
        crowd()?;
        runs_at_once(&["-N1", "--time=90"])
    })
}

/// Seconds between two times of `scontrol show job`, which has no more than a day between them.
fn seconds_between(shown: &str, first: &str, second: &str) -> anyhow::Result<u32> {
    let seconds = |name: &str| -> Option<u32> {
        let value = shown.split_whitespace().find_map(|field| field.strip_prefix(name)?.strip_prefix('='))?;
        let numbers = value.split_once('T')?.1.split(':').map(|part| part.parse::<u32>().ok());
        numbers.into_iter().try_fold(0, |sum, part| Some(60 * sum + part?))
    };
    let moment = |name: &str| seconds(name).with_context(|| format!("no {name} in:\n{shown}"));
    const DAY: u32 = 24 * 3600;
    Ok((DAY + moment(second)? - moment(first)?) % DAY)
}

/// How many times Slurm has gone over the waiting jobs, by its two schedulers together.
fn cycles(cluster: &Cluster) -> anyhow::Result<u64> {
    let text = cluster.ctl(&["sdiag"])?;
    let number = |line: &str| -> Option<u64> { line.split(':').nth(1)?.trim().parse().ok() };
    Ok(text.lines().filter(|line| line.contains("Total cycles:")).filter_map(number).sum())
}

/// In each rack a tray has a GPU in use. squeue shows the words of Slurm for what the topology plugin answers.
fn reasons(cluster: &Cluster) -> anyhow::Result<()> {
    for tray in ["r01n01", "r02n01", "r03n01", "r04n01"] {
        let options = ["--output=/dev/null", "-N1", "-n1", "--gpus-per-node=1", "-w", tray];
        cluster.wait_running(cluster.submit(&options, "sleep 1000")?, SOON)?;
    }
    for (options, words) in [
        (&["-N2", "--exclusive"][..], "No suitable topology unit found"),
        (&["-N2", "-n2", "--gpus=8"][..], "Insufficient resources in topology unit"),
    ] {
        let job = cluster.submit(&[&["--output=/dev/null"], options].concat(), "sleep 1000")?;
        ensure!(outcome(cluster, job)?.is_none(), "a job with {options:?} runs");
        wait_for(&format!("a job with {options:?} waits for ({words})"), SOON, || {
            let shown = cluster.ctl(&["squeue", "--noheader", "--format=%R", "--jobs", &job.to_string()])?;
            Ok(if shown.trim() == format!("({words})") { Ok(()) } else { Err(shown) })
        })?;
        cluster.cancel(job)?;
    }
    clear(cluster, "")
}

fn once(cluster: &Cluster) -> anyhow::Result<()> {
    let drained = "r01n01,r02n01,r03n01,r04n01";
    let from = log(cluster, 0)?.len();
    drain(cluster, drained)?;
    let told = told_once(cluster, from);
    clear(cluster, drained)?;
    told
}

fn told_once(cluster: &Cluster, from: usize) -> anyhow::Result<()> {
    let waiting = submit(cluster, &["-N2"])?;
    ensure!(outcome(cluster, waiting)?.is_none(), "a job of 2 runs");
    let spanning = submit(cluster, &["-N3"])?;
    cluster.wait_running(spanning, SOON)?;
    let before = cycles(cluster)?;
    wait_for("a few rounds of scheduling", SOON, || {
        let now = cycles(cluster)?;
        Ok(if now >= before + 5 { Ok(()) } else { Err(format!("{before} before, {now} now")) })
    })?;
    let said = log(cluster, from)?;
    let reason = format!(
        "JobId={waiting} waits: needs 2 trays in one NVLink partition; the best partition has 1 free and 1 drained"
    );
    ensure!(said.matches(&reason).count() == 1, "{reason:?} is not said once:\n{said}");
    ensure!(said.matches(&format!("JobId={waiting} waits")).count() == 1, "{said}");
    let spans = format!("JobId={spanning} spans 3 NVLink partitions: 1 tray of block");
    ensure!(said.matches(&spans).count() == 1, "{spans:?} is not said once:\n{said}");
    Ok(())
}
