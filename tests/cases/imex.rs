//! A job has one IMEX domain in each NVLink partition, of exactly its own trays, for as long as it runs, and a tray that
//! cannot take part drains alone.
//!
//! slurmd, prolog and epilog are real; the IMEX daemon, its control tool and the trays' hardware are simulated.
#![forbid(unsafe_code)]

use crate::domain::{Running, all_up, exactly, finish, finish_all, log_lines, records, start, view};
use crate::harness::{Body, Case, Setup, explained};
use anyhow::{Context as _, ensure};
use fabric::JobId;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use tests::cluster::{Captured, Target};
use tests::fault::{Fault, FaultKind};
use tests::limits::SOON;
use tests::soak::Plant;
use tests::{Cluster, wait_for};

/// Two racks of 18 trays, all parts ours.
pub(crate) const RACKS: Setup = Setup { profile: "gb200-2x18", stock: false, imex: true };
/// Two racks of 4 trays, all parts ours.
pub(crate) const SMALL: Setup = Setup { profile: "small-2x4", stock: false, imex: true };

pub(crate) const CASES: &[Case] = &[
    Case { name: "imex::a_job_of_18_has_one_domain", body: Body::On(RACKS, |c| sizes(c, &["-N18"], &[18])) },
    Case {
        name: "imex::a_job_of_20_has_a_domain_in_each_rack",
        body: Body::On(RACKS, |c| sizes(c, &["-N20"], &[10, 10])),
    },
    Case {
        name: "imex::segments_of_12_have_a_domain_each",
        body: Body::On(RACKS, |c| sizes(c, &["-N24", "--segment=12"], &[12, 12])),
    },
    Case { name: "imex::jobs_in_one_rack_have_their_own_domains", body: Body::On(RACKS, side_by_side) },
    Case { name: "imex::a_job_of_one_tray_has_a_domain_of_one", body: Body::On(SMALL, one_tray) },
    Case { name: "imex::jobs_that_do_not_hold_a_tray_have_none", body: Body::On(SMALL, no_domain) },
    Case { name: "imex::settings_can_leave_jobs_without", body: Body::On(SMALL, switched_off) },
    Case { name: "imex::prolog_and_epilog_can_run_twice_or_alone", body: Body::On(SMALL, repeated) },
    Case { name: "imex::a_whole_tray_whose_gpus_have_no_numbers", body: Body::On(SMALL, no_numbers) },
    Case {
        name: "imex::a_script_waits_for_the_domains_of_all_partitions",
        body: Body::On(SMALL, other_partition_late),
    },
    Case { name: "imex::a_daemon_that_dies_under_a_job", body: Body::On(SMALL, dies_under_a_job) },
    Case { name: "imex::a_tray_at_fault_drains_alone", body: Body::Own(SMALL, sick) },
    Case { name: "imex::daemons_that_earlier_jobs_left_are_met", body: Body::Own(SMALL, leftover_is_met) },
];

/// Where imex-prolog finds its settings.
pub(crate) const SETTINGS: &str = "/etc/slurm-nvlink/imex.toml";
/// Waits of a few seconds, where the defaults suit hardware.
const SHORT: &str = "[deadlines]\nready_seconds = 12\npeer_absent_seconds = 4\npeer_lost_seconds = 4\ncontrol_call_seconds = 3\n";
/// The tray that is at fault.
const SICK: &str = "r01n03";

/// A job alone on the cluster, with this many trays in each of its domains.
fn sizes(cluster: &Cluster, options: &[&str], wanted: &[usize]) -> anyhow::Result<()> {
    let job = start(cluster, options)?;
    let domains = all_up(cluster, &job)?;
    let mut sizes: Vec<usize> = domains.iter().map(Vec::len).collect();
    sizes.sort_unstable();
    ensure!(sizes == wanted && sizes.iter().sum::<usize>() == job.nodes.len(), "{domains:?}");
    exactly(cluster, &[&job])?;
    finish_all(cluster, &[&job])
}

fn side_by_side(cluster: &Cluster) -> anyhow::Result<()> {
    let four = start(cluster, &["-N4", "-wr01n[01-04]"])?;
    let before = records(cluster, &four)?;
    let two = start(cluster, &["-N2", "-wr01n[05-06]"])?;
    both_up(cluster, &four, &two)?;
    finish(cluster, &two)?;
    cluster.wait_idle(&two.nodes)?;
    all_up(cluster, &four)?;
    exactly(cluster, &[&four])?;
    ensure!(records(cluster, &four)? == before, "the end of a neighbour has changed the job's records");

    let two = start(cluster, &["-N2", "-wr01n[05-06]"])?;
    let before = records(cluster, &two)?;
    both_up(cluster, &four, &two)?;
    finish(cluster, &four)?;
    cluster.wait_idle(&four.nodes)?;
    all_up(cluster, &two)?;
    exactly(cluster, &[&two])?;
    ensure!(records(cluster, &two)? == before, "the end of a neighbour has changed the job's records");
    finish_all(cluster, &[&two])
}

fn both_up(cluster: &Cluster, one: &Running, other: &Running) -> anyhow::Result<()> {
    for job in [one, other] {
        let domains = all_up(cluster, job)?;
        ensure!(domains == [job.nodes.clone()], "{domains:?}");
    }
    exactly(cluster, &[one, other])
}

fn one_tray(cluster: &Cluster) -> anyhow::Result<()> {
    // Whole by --exclusive, or by holding all GPUs.
    for (exclusive, options) in [(true, ["-N1", "-wr02n02"].as_slice()), (false, &["-N1", "--gres=gpu:4"])] {
        let job = if exclusive { start(cluster, options)? } else { shared(cluster, options)? };
        let domains = all_up(cluster, &job)?;
        ensure!(domains == [job.nodes.clone()], "{domains:?}");
        exactly(cluster, &[&job])?;
        finish_all(cluster, &[&job])?;
    }
    Ok(())
}

fn shared(cluster: &Cluster, options: &[&str]) -> anyhow::Result<Running> {
    crate::domain::settled(cluster, crate::domain::submit(cluster, options)?)
}

/// The job runs, its trays have nothing of a domain, and the log says why.
fn has_none(cluster: &Cluster, job: &Running, why: &str) -> anyhow::Result<()> {
    exactly(cluster, &[])?;
    for tray in &job.nodes {
        let lines = log_lines(cluster, tray, job.id)?;
        let said = |line: &String| line.contains("outcome=\"nothing-to-do\"") && line.contains(why);
        ensure!(lines.iter().any(said), "{tray} does not say {why:?}: {lines:?}");
    }
    finish_all(cluster, &[job])
}

fn no_domain(cluster: &Cluster) -> anyhow::Result<()> {
    let none = "the job has no GPUs on this node";
    has_none(cluster, &shared(cluster, &["-N2"])?, none)?;
    has_none(cluster, &shared(cluster, &["-N2", "--gres=gpu:2"])?, "the job shares this node with others")
}

fn switched_off(cluster: &Cluster) -> anyhow::Result<()> {
    let texts = [
        ("mode = \"off\"\n", &["-N2"], "mode is off"),
        ("single_tray = \"skip\"\n", &["-N1"], "single_tray is skip"),
    ];
    let play = || {
        texts.iter().try_for_each(|(text, options, why)| {
            let write = |node: &String| cluster.write_file(&Target::node(node), SETTINGS, text);
            cluster.nodes().iter().try_for_each(write)?;
            has_none(cluster, &start(cluster, *options)?, why)
        })
    };
    let played = cluster
        .nodes()
        .iter()
        .try_for_each(|node| cluster.tray(node, &["mkdir", "-p", "/etc/slurm-nvlink"]).map(drop))
        .and_then(|()| play());
    let remove = |node: &String| cluster.tray(node, &["rm", "-f", SETTINGS]).map(drop);
    cluster.nodes().iter().try_for_each(remove)?;
    played
}

/// What Slurm says of the GPUs of a job that has a tray alone.
const ALL_GPUS: &str = "SLURM_JOB_GPUS=0,1,2,3";

/// Runs a hook on a tray as slurmd would for this job, by hand.
fn hook(
    cluster: &Cluster,
    program: &str,
    tray: &str,
    job: u32,
    nodes: &[String],
    gpus: &str,
) -> anyhow::Result<Captured> {
    let variables = [
        format!("SLURM_JOB_ID={job}"),
        format!("SLURM_JOB_NODELIST={}", nodes.join(",")),
        format!("SLURMD_NODENAME={tray}"),
    ];
    let fixed = [
        "SLURM_JOB_UID=1000",
        "SLURM_JOB_GID=1000",
        "SLURM_JOB_RESTART_COUNT=0",
        "SLURM_JOB_EXCLUSIVE=NODE",
        gpus,
        "SLURM_CONF=/run/slurm/conf/slurm.conf",
    ];
    let mut argv = vec!["env", "--ignore-environment"];
    argv.extend(variables.iter().map(String::as_str).chain(fixed));
    argv.push(program);
    let captured = cluster.capture(&Target::node(tray), &argv)?;
    ensure!(captured.status.success(), "{program} on {tray}: {captured:?}");
    Ok(captured)
}

/// What must not change on a tray when a hook has nothing to do there.
fn picture(cluster: &Cluster, job: &Running, tray: &str) -> anyhow::Result<(Vec<String>, u64)> {
    let channel = cluster.root_of(tray)?.join("dev/nvidia-caps-imex-channels/channel0");
    Ok((records(cluster, job)?, fs::metadata(channel)?.ino()))
}

const PROLOG: &str = "/usr/sbin/imex-prolog";
const EPILOG: &str = "/usr/sbin/imex-epilog";

/// As Slurm starts a job between the restart of slurmctld and the tray's registration.
fn no_numbers(cluster: &Cluster) -> anyhow::Result<()> {
    let (job, tray) = (JobId::new(4_000_001)?, "r01n02");
    let nodes = [tray.to_owned()];
    hook(cluster, PROLOG, tray, job.get(), &nodes, "SLURM_JOB_GPUS=")?;
    let lines = log_lines(cluster, tray, job)?;
    let said = |words: &str| lines.iter().any(|line| line.contains(words));
    ensure!(said("names no GPUs") && said("outcome=\"ready\""), "{lines:?}");
    hook(cluster, EPILOG, tray, job.get(), &nodes, "SLURM_JOB_GPUS=")?;
    exactly(cluster, &[])
}

fn repeated(cluster: &Cluster) -> anyhow::Result<()> {
    const NEVER_BEGUN: u32 = 4_000_000;
    let job = start(cluster, &["-N2", "-wr01n[01-02]"])?;
    let (tray, idle) = ("r01n02", "r02n04");
    let before = picture(cluster, &job, tray)?;
    // An epilog whose prolog never ran, on a tray of another job and on an idle one.
    for node in [tray, idle] {
        hook(cluster, EPILOG, node, NEVER_BEGUN, &[node.to_owned()], ALL_GPUS)?;
    }
    // The prolog of the running job once more.
    hook(cluster, PROLOG, tray, job.id.get(), &job.nodes, ALL_GPUS)?;
    ensure!(picture(cluster, &job, tray)? == before, "{before:?} became {:?}", picture(cluster, &job, tray)?);
    all_up(cluster, &job)?;
    exactly(cluster, &[&job])?;
    finish_all(cluster, &[&job])?;
    // Its epilog once more.
    hook(cluster, EPILOG, tray, job.id.get(), &job.nodes, ALL_GPUS)?;
    exactly(cluster, &[])
}

/// Two trays have the daemon of an earlier job, whose epilog never came, and one of them removes it late: by then the new daemons
/// of all others have met it, and refuse that tray.
fn leftover_is_met(setup: &Setup) -> anyhow::Result<()> {
    let cluster = setup.builder("met").with_orders().start()?;
    let played = (|| {
        let (early, late) = ("r01n02", "r01n03");
        for tray in [early, late] {
            Plant::NoEpilog.on(&cluster, tray)?;
        }
        let job = start(&cluster, &["-N3", "-wr01n[01-03]"])?;
        finish(&cluster, &job)?;
        let earlier = format!("earlier_job={}", job.id);
        cluster.wait_idle(&cluster.nodes())?;
        for (tray, after_ms) in [(early, 0), (late, 2_500)] {
            let prolog = sim::hook::Orders { after_ms, ..sim::hook::Orders::default() };
            cluster.order(tray, &sim::hook::Settings { prolog, ..sim::hook::Settings::default() })?;
        }
        let job = start(&cluster, &["-N4", "-wr01n[01-04]"])?;
        all_up(&cluster, &job)?;
        exactly(&cluster, &[&job])?;
        let lines = log_lines(&cluster, "r01n01", job.id)?;
        ensure!(
            lines.iter().any(|line| line.contains("it is started anew")),
            "r01n01 has met no daemon of the earlier job, so the case shows nothing: {lines:?}"
        );
        ensure!(cluster.job(job.id)?.restarts == 0, "{:?}", cluster.job(job.id)?);
        for tray in [early, late] {
            let lines = log_lines(&cluster, tray, job.id)?;
            ensure!(lines.iter().any(|line| line.contains(&earlier)), "{tray} names no {earlier}: {lines:?}");
        }
        finish_all(&cluster, &[&job])
    })();
    played.map_err(|error| explained(error, &cluster, "imex::daemons_that_earlier_jobs_left_are_met"))
}

/// The script runs on a tray of the first rack, whose domain is complete long before that of the second one.
fn other_partition_late(cluster: &Cluster) -> anyhow::Result<()> {
    const LATE: &str = "r02n04";
    let slow = Fault { kind: FaultKind::ImexSlowStart, ms: Some(4_000) };
    cluster.fault(LATE, slow, None)?;
    let begun = begins_whole(cluster);
    cluster.heal(Some(LATE))?;
    finish_all(cluster, &[&begun?])
}

fn begins_whole(cluster: &Cluster) -> anyhow::Result<Running> {
    let script = "touch /tmp/began-$SLURM_JOB_ID; until [ -e /tmp/end-$SLURM_JOB_ID ]; do sleep 0.05; done";
    let id = cluster.submit(&["-N8", "--exclusive", "--output=/dev/null"], script)?;
    let began = cluster.root_of("r01n01")?.join(format!("tmp/began-{id}"));
    wait_for("the script begins", SOON, || {
        Ok(if began.exists() { Ok(()) } else { Err(format!("{:?}", cluster.job(id)?)) })
    })?;
    // What is not so now was not so when the script began.
    for tray in cluster.nodes() {
        let record = cluster.root_of(&tray)?.join(format!("run/slurm-nvlink/imex/job-{id}.record"));
        let text = fs::read_to_string(record)?;
        ensure!(text.contains("\"state\":\"ready\""), "the script has begun, and {tray} has {text}");
    }
    let job = crate::domain::settled(cluster, id)?;
    all_up(cluster, &job)?;
    exactly(cluster, &[&job])?;
    Ok(job)
}

fn dies_under_a_job(cluster: &Cluster) -> anyhow::Result<()> {
    let job = start(cluster, &["-N4", "-wr01n[01-04]"])?;
    cluster.fault(SICK, Fault { kind: FaultKind::ImexDie, ms: Some(1_000) }, None)?;
    let seen = sees_a_dead_member(cluster, &job);
    cluster.heal(Some(SICK))?;
    seen?;
    let now = cluster.job(job.id)?;
    ensure!(now.state == "RUNNING" && now.restarts == 0, "{now:?}");
    // Nobody drains for it: the job may not have needed the fabric any more, and the next one has a daemon of its own.
    finish_all(cluster, &[&job])?;
    works(cluster)
}

/// The others stay READY and see that the domain is not UP; the tray itself can tell.
fn sees_a_dead_member(cluster: &Cluster, job: &Running) -> anyhow::Result<()> {
    let healthy: Vec<&str> = job.nodes.iter().map(String::as_str).filter(|node| *node != SICK).collect();
    wait_for("the domain has lost a member", SOON, || {
        let view = view(cluster, "r01n01", job.id)?;
        let (status, ready) = view.ready();
        Ok(if status != "UP" && ready == healthy { Ok(()) } else { Err(format!("{view:?}")) })
    })?;
    wait_for("the tray tells since when its daemon is gone", SOON, || {
        let status = cluster.tray(SICK, &["imex-prolog", "status"])?;
        Ok(if status.contains("is gone since") { Ok(()) } else { Err(status) })
    })?;
    let lines = log_lines(cluster, SICK, job.id)?;
    let told = |line: &String| line.contains("WARN") && line.contains("has ended under its running job");
    ensure!(lines.iter().any(told), "{lines:?}");
    Ok(())
}

/// The next job of the rack has a domain as if nothing had been.
fn works(cluster: &Cluster) -> anyhow::Result<()> {
    let job = start(cluster, &["-N4", "-wr01n[01-04]"])?;
    all_up(cluster, &job)?;
    exactly(cluster, &[&job])?;
    finish_all(cluster, &[&job])
}

/// Faults of a tray that its own prolog notices: of the daemon, of the fabric, of the control tool.
const FAULTS: [FaultKind; 4] =
    [FaultKind::ImexRefuse, FaultKind::ImexDie, FaultKind::WrongClique, FaultKind::CtlHang];

/// Jobs of four trays of which one has a fault.
fn sick(setup: &Setup) -> anyhow::Result<()> {
    let cluster = setup.builder("sick").file(SETTINGS, SHORT).start()?;
    FAULTS.into_iter().try_for_each(|kind| {
        let played = one_tray_drains(&cluster, kind).with_context(|| kind.name());
        played.map_err(|error| explained(error, &cluster, "imex::a_tray_at_fault_drains_alone"))
    })
}

fn one_tray_drains(cluster: &Cluster, kind: FaultKind) -> anyhow::Result<()> {
    cluster.fault(SICK, Fault::new(kind), None)?;
    let script = "ls /dev/nvidia-caps-imex-channels > /tmp/began-$SLURM_JOB_ID; exec sleep 1000";
    let options = ["-N4", "-wr01n[01-04]", "--exclusive", "--output=/dev/null"];
    let id = cluster.submit(&options, script)?;
    cluster.wait_job(id, "requeued and held", SOON, |job| {
        job.state == "PENDING" && job.restarts == 1 && job.reason == "JobHeldUser"
    })?;
    let healthy: Vec<String> = cluster.nodes().into_iter().filter(|node| node != SICK).collect();
    cluster.wait_idle(&healthy)?;
    wait_for("exactly the tray at fault drains", SOON, || {
        let drained = drained(cluster)?;
        let wanted = BTreeMap::from([(SICK.to_owned(), "drain Prolog error".to_owned())]);
        Ok(if drained == wanted { Ok(()) } else { Err(format!("{drained:?}")) })
    })?;
    exactly(cluster, &[])?;
    not_begun(cluster, id)?;
    for tray in ["r01n01", "r01n02", SICK, "r01n04"] {
        let lines = log_lines(cluster, tray, id)?;
        let closing = lines.iter().find(|line| line.contains(" prolog: ") && line.contains(" outcome="));
        let closing = closing.with_context(|| format!("{tray}: no closing line: {lines:?}"))?;
        let (word, exit) = if tray == SICK { ("outcome=\"fault\"", "exit=1") } else { ("", "exit=0") };
        ensure!(closing.contains(word) && closing.ends_with(exit), "{tray}: {closing}");
    }
    cluster.cancel(id)?;
    cluster.heal(Some(SICK))?;
    cluster.ctl(&["scontrol", "update", &format!("nodename={SICK}"), "state=resume"])?;
    cluster.wait_idle(&cluster.nodes())?;
    works(cluster)
}

/// The script must not have begun, with a channel or without: its domain was never whole.
fn not_begun(cluster: &Cluster, job: JobId) -> anyhow::Result<()> {
    let began = fs::read_to_string(cluster.root_of("r01n01")?.join(format!("tmp/began-{job}")));
    ensure!(began.is_err(), "the script began with {began:?}");
    Ok(())
}

/// Nodes that take no more jobs, with state and reason.
fn drained(cluster: &Cluster) -> anyhow::Result<BTreeMap<String, String>> {
    let text = cluster.ctl(&["sinfo", "--noheader", "--Node", "--states=drain", "--format=%N|%t %E"])?;
    let lines = text.lines().filter_map(|line| line.trim().split_once('|'));
    Ok(lines.map(|(node, rest)| (node.to_owned(), rest.to_owned())).collect())
}
