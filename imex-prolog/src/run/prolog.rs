//! The prolog: decide whether this job gets a domain here, who is in it, and bring it up.
#![forbid(unsafe_code)]

use super::ending::{self, Run};
use super::{Ground, Phases, Summary, Surroundings, Times, begin_watch, budget, guest, let_go};
use crate::channel;
use crate::config::{ChannelPolicy, Mode, Settings, SingleTray};
use crate::deadline::{Deadline, Pauses};
use crate::fit::{Fit, fit, is_named_after_fabric};
use crate::helper::Helper;
use crate::job::{JobContext, Sharing};
use crate::job_end::JobEnd;
use crate::lifecycle::{Begun, begin};
use crate::lock::TrayLock;
use crate::members::{Members, Share, block_of, load_topologies, members as members_of, shares};
use crate::paths::Paths;
use crate::procfs::Proc;
use crate::record::{Channel, Kind, Member, Record, State};
use crate::resolve::resolve;
use crate::roll_call::Partition;
use crate::slurm_conf::SlurmConf;
use crate::standing::give_way;
use crate::tray::{TrayError, log_name};
use crate::verdict::{Domain, Outcome, of_begin, of_lock, with_fate};
use crate::version::{Query, mismatch};
use fabric::names::{BlockName, NodeName};
use fabric::nvml::NvmlError;
use fabric::reading::{TrayReading, Verdict};
use fabric::report::{Blame, Report};
use fabric::topology::Block;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// Lines of the daemon's log that a fault report shows.
const TAIL_LINES: usize = 6;
/// Bytes of the log that are looked at for them.
const TAIL_BYTES: u64 = 8 << 10;

/// Either what was asked for, or the outcome that ends the run.
pub(super) type Step<T> = Result<T, Outcome>;

pub(super) fn run(around: &Surroundings, summary: &mut Summary) -> Outcome {
    match steps(around, summary) {
        Ok(outcome) | Err(outcome) => outcome,
    }
}

fn steps(around: &Surroundings, summary: &mut Summary) -> Step<Outcome> {
    let started = Proc::new(&around.paths.proc_dir).my_start();
    let settings = Settings::load(&around.paths.settings).map_err(|error| {
        Outcome::refused(
            Blame::Config,
            &error,
            "correct the settings; imex-prolog check-config shows every fault",
        )
    })?;
    let job = around.environment.job().map_err(|error| {
        Outcome::refused(
            Blame::Config,
            &error,
            "imex-prolog must be slurm.conf's Prolog, with PrologFlags=Alloc",
        )
    })?;
    summary.job = Some(job.id);
    summary.node = Some(job.node.clone());
    summary.partition = job.partition.clone();
    summary.metrics = settings.metrics.directory.clone();
    let mode = settings.mode_for(job.partition.as_ref().map(NodeName::as_str));
    if mode == Mode::Off {
        return Ok(Outcome::Nothing("mode is off".to_owned()));
    }
    let conf = SlurmConf::load(&job.conf).map_err(|error| {
        Outcome::refused(Blame::Config, &error, "SLURM_CONF must name slurmd's slurm.conf")
    })?;
    refuse_jobs_without_gpus(&job, &conf)?;
    let job_end = JobEnd::watch(&conf.spool_dir(job.node.as_str()), job.id, job.started);
    let end = Duration::from_secs(settings.deadlines.job_end_seconds);
    let times = Times::of(budget(settings.deadlines.ready(), conf.prolog_timeout()), end);
    let budget = times.forming;

    let version = Query::start(&settings.daemon.program);
    let found = find_members(&job, mode, around, &settings, budget, summary)?;
    check_version(version, &found.driver, &job, &settings, budget)?;
    summary.phases.end("fabric");
    let channel = plan_channel(&job, mode, &settings, &conf, &around.paths)?;
    let listed = match mode {
        Mode::PerPartition => &found.block,
        Mode::PerJob | Mode::Off => &found.members,
    };
    let members = addresses(&listed.nodes, &job, &conf, around, &settings, budget)?;
    let partitions = partitions(&found.shares, &job, &conf, around, &settings, budget)?;
    summary.phases.end("resolve");
    let prepared = Ground::prepare(&around.paths, started)?;
    let ground = Ground { job_end: Some(job_end), partitions, ..prepared };
    let place = Place { paths: &around.paths, conf: &job.conf, times, helper: &around.helper };
    let record = Record {
        job: job.id,
        kind: Kind::Own,
        restarts: job.restarts,
        boot: ground.boot.clone(),
        prolog_started: ground.started,
        state: State::Starting,
        block: listed.block.clone(),
        members,
        own_index: listed.own_index,
        channel,
        daemon: None,
        note: None,
    };
    match mode {
        Mode::PerPartition => {
            let wanted = guest::wanted(record, &found.members);
            guest::join(ground, wanted, settings, place, &mut summary.phases)
        }
        Mode::PerJob | Mode::Off => bring_up(ground, record, settings, place, &mut summary.phases),
    }
}

/// Where a run is, and until when.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) paths: &'a Paths,
    /// slurmd's `slurm.conf`.
    pub(super) conf: &'a Path,
    pub(super) times: Times,
    pub(super) helper: &'a Helper,
}

/// The address of each node, the same for all that look.
fn addresses(
    nodes: &[NodeName],
    job: &JobContext,
    conf: &SlurmConf,
    around: &Surroundings,
    settings: &Settings,
    budget: Deadline,
) -> Step<Vec<Member>> {
    let limit = budget.within(Duration::from_secs(settings.deadlines.resolve_seconds));
    resolve(nodes, conf, around.lookup, limit).map_err(|error| {
        let blame = if *error.node() == job.node { Blame::Config } else { Blame::Peer };
        let hint = "all nodes must find the same address for each node: set NodeAddr in slurm.conf, or correct name resolution";
        Outcome::refused(blame, &error, hint)
    })
}

/// The job's NVLink partitions with the addresses of those who call the roll there.
fn partitions(
    shares: &[Share],
    job: &JobContext,
    conf: &SlurmConf,
    around: &Surroundings,
    settings: &Settings,
    budget: Deadline,
) -> Step<Vec<Partition>> {
    let firsts: Vec<NodeName> = shares.iter().map(|share| share.first.clone()).collect();
    let firsts = addresses(&firsts, job, conf, around, settings, budget)?;
    let partition = |(share, first): (&Share, Member)| Partition {
        block: share.block.clone(),
        first,
        trays: share.trays,
    };
    Ok(shares.iter().zip(firsts).map(partition).collect())
}

/// A job that has the node alone has its GPUs, whether Slurm names them or not. It does not where `gres.conf` has none, and for
/// jobs that a slurmctld starts after its restart before the node has registered again (seen on Slurm 26.05.5, stock
/// plugins too): their allocation has counts of GPUs, and no numbers.
fn refuse_jobs_without_gpus(job: &JobContext, conf: &SlurmConf) -> Step<()> {
    let named = job.gpus.as_ref().is_some_and(|gpus| !gpus.is_empty());
    match (named, job.sharing) {
        (true, _) => Ok(()),
        (false, Sharing::WholeNode) => {
            if conf.slurm_manages_gpus() {
                tracing::warn!(
                    job = %job.id,
                    "Slurm names no GPUs of this node, which the job has alone, as after a restart of slurmctld: all are its own"
                );
            }
            Ok(())
        }
        (false, _) if conf.slurm_manages_gpus() => {
            Err(Outcome::Nothing("the job has no GPUs on this node".to_owned()))
        }
        (false, _) => Err(Outcome::Nothing("the job shares this node".to_owned())),
    }
}

/// Who is in the domain, and this tray's driver.
struct Found {
    /// The job's trays in this tray's block.
    members: Members,
    /// All trays of the block.
    block: Members,
    /// All NVLink partitions of the job that have a domain, if they are several and this tray calls the roll in its own.
    shares: Vec<Share>,
    driver: String,
}

/// The job's trays in this tray's block, after this tray's own fabric has been read and agrees with it.
fn find_members(
    job: &JobContext,
    mode: Mode,
    around: &Surroundings,
    settings: &Settings,
    budget: Deadline,
    summary: &mut Summary,
) -> Step<Found> {
    let topologies = load_topologies(&job.conf).map_err(|error| {
        Outcome::refused(Blame::Config, &error, "write topology.yaml anew with topology-gen generate")
    })?;
    let Some(block) = block_of(&topologies, &job.node) else {
        return Err(Outcome::Nothing("this node is in no block of topology.yaml".to_owned()));
    };
    summary.block = Some(block.name.clone());
    let members = members_of(block, &job.node, &job.nodes).map_err(|error| {
        Outcome::refused(Blame::Config, &error, "this node's name in Slurm must be in the job's node list")
    })?;
    summary.members = Some(members.nodes.len());
    summary.phases.end("read");
    let driver = check_fabric(job, mode, block, around, settings, budget)?;
    if members.nodes.len() == 1 && settings.single_tray == SingleTray::Skip {
        return Err(Outcome::Nothing(
            "the job has one node in this block, and single_tray is skip".to_owned(),
        ));
    }
    let all = members_of(block, &job.node, &block.nodes)
        .map_err(|error| Outcome::refused(Blame::Config, &error, "topology.yaml contradicts itself"))?;
    let shares = if calls_the_roll(job, &members) { shares(&topologies, &job.nodes) } else { Vec::new() };
    let has_domain = |share: &Share| share.trays > 1 || settings.single_tray != SingleTray::Skip;
    let shares: Vec<Share> = shares.into_iter().filter(has_domain).collect();
    let shares = if shares.len() > 1 { shares } else { Vec::new() };
    Ok(Found { members, block: all, shares, driver })
}

/// Whether this tray calls the roll in its NVLink partition of a job that has trays elsewhere, too. Of a job that
/// shares its nodes other trays may have no domain, which nobody but they can tell.
fn calls_the_roll(job: &JobContext, members: &Members) -> bool {
    members.own_index == 0 && job.sharing == Sharing::WholeNode && job.nodes.len() > members.nodes.len()
}

/// A daemon of another version than the driver's does not start, or its peers refuse it. One whose version is not known
/// may be right.
fn check_version(
    query: Query,
    driver: &str,
    job: &JobContext,
    settings: &Settings,
    budget: Deadline,
) -> Step<()> {
    let limit = budget.within(Duration::from_secs(settings.deadlines.control_call_seconds));
    match query.finish(limit) {
        Ok(version) => match mismatch(&settings.daemon.program, &version, driver) {
            Some(report) => Err(Outcome::Refused(report)),
            None => Ok(()),
        },
        Err(error) => {
            tracing::warn!(job = %job.id, "the IMEX daemon's version is not known: {error}");
            Ok(())
        }
    }
}

/// This tray's fabric as NVML tells it now, and gives the driver's version. Anything that only a job with the whole
/// tray needs is no fault for another one.
fn check_fabric(
    job: &JobContext,
    mode: Mode,
    block: &Block,
    around: &Surroundings,
    settings: &Settings,
    budget: Deadline,
) -> Step<String> {
    let limit = budget.within(Duration::from_secs(settings.deadlines.fabric_seconds));
    let reading = match read_settled(around, settings, limit) {
        Ok(reading) => reading,
        Err(error) => return Err(nvml_fault(&error, job, &block.name)),
    };
    let gpus = u32::try_from(reading.gpus.len()).unwrap_or(u32::MAX);
    if mode == Mode::PerJob && !job.holds_tray(gpus) {
        let words =
            "the job shares this node with others: one IMEX daemon serves a whole node, so it gets none";
        return Err(Outcome::Nothing(words.to_owned()));
    }
    match fit(&reading, settings.expected_gpus(), &block.name) {
        Fit::Fits { id, warnings } => {
            for warning in warnings {
                tracing::warn!(job = %job.id, nvlink_partition = %id, "{warning}");
            }
            Ok(reading.driver_version)
        }
        Fit::NoFabric(why) => Err(Outcome::Nothing(format!("no multi-node NVLink: {why}"))),
        Fit::Unfit(report) => Err(Outcome::Refused(report)),
    }
}

/// Reads the tray again while a GPU's registration at the fabric is still under way.
fn read_settled(
    around: &Surroundings,
    settings: &Settings,
    limit: Deadline,
) -> Result<TrayReading, NvmlError> {
    let mut pauses = Pauses::new(Duration::from_millis(200), Duration::from_secs(1));
    loop {
        let reading = (around.read_tray)()?;
        let rejected = matches!(reading.judge(settings.expected_gpus()), Verdict::Rejected { .. });
        if !(rejected && reading.is_pending()) || limit.has_passed() {
            return Ok(reading);
        }
        pauses.pause(limit);
    }
}

/// NVML that cannot be read is a fault of a tray that should have it: one in a block named after a fabric.
fn nvml_fault(error: &NvmlError, job: &JobContext, block: &BlockName) -> Outcome {
    let no_library = matches!(error, NvmlError::Load { .. });
    if job.sharing != Sharing::WholeNode || (no_library && !is_named_after_fabric(block)) {
        let report = Report::of_error(Blame::Node, error);
        return Outcome::Nothing(format!("GPUs cannot be read: {}", report.to_string().replace('\n', ";")));
    }
    Outcome::refused(Blame::Node, error, error.hint())
}

/// The job's channel; none where Slurm makes them. The driver's device class is looked for before anything is begun.
fn plan_channel(
    job: &JobContext,
    mode: Mode,
    settings: &Settings,
    conf: &SlurmConf,
    paths: &Paths,
) -> Step<Option<Channel>> {
    if conf.slurm_makes_channels() {
        return Ok(None);
    }
    if mode == Mode::PerPartition && settings.channel.policy == ChannelPolicy::Fixed {
        let report = Report::new(
            Blame::Config,
            "mode per-partition gives all jobs the same IMEX channel, and with it each other's memory",
        );
        return Err(Outcome::Refused(report.with_hint(
            "set SwitchType=switch/nvidia_imex in slurm.conf, or policy = \"by-job\" under [channel] in the settings",
        )));
    }
    channel::read_major(&paths.devices).map_err(|error| {
        let hint = "load the NVIDIA driver with NVreg_ImexChannelCount above 0";
        Outcome::refused(Blame::Node, &error, hint)
    })?;
    Ok(Some(Channel { number: settings.channel.number_for(job.id.get()), uid: job.uid, gid: job.gid }))
}

/// Takes the lock and does it.
fn bring_up(
    ground: Ground,
    record: Record,
    settings: Settings,
    place: Place<'_>,
    phases: &mut Phases,
) -> Step<Outcome> {
    let limit = place.times.forming.within(Duration::from_secs(settings.deadlines.lock_seconds));
    let _lock = TrayLock::take(&ground.state, limit).map_err(|error| of_lock(&error))?;
    phases.end("lock");
    let (proc, program) = (ground.proc.clone(), settings.daemon.program.clone());
    let (job, members) = (record.job, record.members.clone());
    let run = Run { job, started: record.prolog_started, own: record.own_index };
    let mut tray = ground.tray(place.paths, settings, place.times)?;
    tracing::info!(
        %job,
        block = %record.block,
        members = %describe(&members),
        channel = record.channel.map(|channel| channel.number),
        settings = settings_words(&tray.settings),
        budget_ms = u64::try_from(place.times.forming.remaining().as_millis()).unwrap_or(u64::MAX),
        "beginning the domain"
    );
    let lifeline = begin_watch(place.helper, job, run.started);
    let result = give_way(&mut tray).and_then(|()| begin(&mut tray, record));
    phases.end_start(&result);
    let fate = ending::fate(&mut tray, &run, &result, place.conf, place.helper);
    let_go(lifeline, job, matches!(result, Ok(Begun::Ready { .. })));
    phases.end("end");
    let outcome = outcome(result, place.paths, &program, &members, &log_name(Kind::Own, job), &proc);
    Ok(with_fate(outcome, fate.as_ref()))
}

/// What a begin means, told with the daemon's log and other daemons of the tray.
pub(super) fn outcome(
    result: Result<Begun, TrayError>,
    paths: &Paths,
    program: &Path,
    members: &[Member],
    log: &str,
    proc: &Proc,
) -> Outcome {
    if let Ok(Begun::Ready { .. } | Begun::AlreadyReady | Begun::RunEnded) = &result {
        // A look at every process of the tray would be time that each job waits.
        return of_begin(result, Domain { members, log_tail: &[], strangers: &[] });
    }
    let log_tail = log_tail(paths, log);
    let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let strangers = strangers(proc, name, paths);
    of_begin(result, Domain { members, log_tail: &log_tail, strangers: &strangers })
}

/// What the settings have instead of their defaults, in one line.
pub(super) fn settings_words(settings: &Settings) -> String {
    let value = |settings: &Settings| serde_json::to_value(settings).unwrap_or_default();
    difference(&value(settings), &value(&Settings::default()))
        .map_or_else(|| "defaults".to_owned(), |difference| difference.to_string())
}

/// The parts of `value` that are not the same in `usual`.
fn difference(value: &Value, usual: &Value) -> Option<Value> {
    match (value, usual) {
        _ if value == usual => None,
        (Value::Object(entries), Value::Object(others)) => {
            let changed = entries.iter().filter_map(|(key, value)| {
                difference(value, others.get(key).unwrap_or(&Value::Null)).map(|part| (key.clone(), part))
            });
            Some(Value::Object(changed.collect()))
        }
        (value, _) => Some(value.clone()),
    }
}

pub(super) fn describe(members: &[Member]) -> String {
    let words: Vec<String> =
        members.iter().map(|member| format!("{}={}", member.node, member.address)).collect();
    words.join(",")
}

/// IMEX daemons on this tray that are not ours.
fn strangers(proc: &Proc, program: &str, paths: &Paths) -> Vec<String> {
    let ours = paths.run_dir.display().to_string();
    let others = proc.running_as(program).into_iter().filter(|(_, line)| !line.contains(&ours));
    others.map(|(pid, line)| format!("{pid} {line}")).collect()
}

/// The last lines of the daemon's log.
fn log_tail(paths: &Paths, name: &str) -> Vec<String> {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(paths.log_dir.join(name))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let skipped = lines.len().saturating_sub(TAIL_LINES);
    lines.into_iter().skip(skipped).map(|line| line.chars().filter(|c| !c.is_control()).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_only_the_settings_that_were_changed() {
        assert_eq!(settings_words(&Settings::default()), "defaults");
        let text = "single_tray = \"skip\"\n[daemon]\nserver_port = 51000\n[partitions]\nx = \"off\"\n";
        assert_eq!(
            settings_words(&Settings::parse(text).unwrap()),
            r#"{"daemon":{"server_port":51000},"partitions":{"x":"off"},"single_tray":"skip"}"#
        );
    }
}
