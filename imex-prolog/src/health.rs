//! Whether this tray should take jobs, for slurmd's `HealthCheckProgram`.
//!
//! A fault is something that would make the next job's domain fail *here*: the fabric, the driver, the daemon's program,
//! what a dead job left and the next prolog cannot clear. What is the same on all trays (settings, `topology.yaml`) is
//! only a warning, for the reason that it is one in [`crate::verdict`]: it must not drain a whole cluster.
#![forbid(unsafe_code)]

use crate::channel;
use crate::config::{Mode, Settings};
use crate::ctl::{Ctl, OwnState, is_program};
use crate::deadline::Deadline;
use crate::fit::{Fit, fit, is_named_after_fabric};
use crate::imexd_config::CONFIG_FILE;
use crate::job_end::JobEnd;
use crate::lock::TrayLock;
use crate::members::{block_of, load_topologies};
use crate::paths::Paths;
use crate::ports::LocalPorts;
use crate::procfs::Proc;
use crate::secure_fs::Dir;
use crate::slurm_conf::SlurmConf;
use crate::status::{JobStatus, TrayStatus};
use crate::tls;
use crate::version::{Query, mismatch};
use fabric::names::{BlockName, JobId, NodeName};
use fabric::nvml::NvmlError;
use fabric::reading::TrayReading;
use fabric::report::Report;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// What a check gets from outside.
#[derive(Debug)]
pub struct Ground {
    /// Where things lie.
    pub paths: Paths,
    /// This node's name in Slurm.
    pub node: Option<NodeName>,
    /// slurmd's `slurm.conf`, with `topology.yaml` beside it.
    pub conf: PathBuf,
    /// Reads this tray's GPUs.
    pub read_tray: fn() -> Result<TrayReading, NvmlError>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Why this tray should not take jobs.
    pub faults: Vec<String>,
    /// What an operator should know all the same.
    pub warnings: Vec<String>,
    /// What is in order, in a few words.
    pub summary: Vec<String>,
}

impl Health {
    /// All faults in one line, as a drain reason has it; `None` for a healthy tray.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        (!self.faults.is_empty()).then(|| format!("imex: {}", self.faults.join("; ")))
    }

    fn fault(&mut self, report: &Report) {
        // The first fact says what the message leaves open; the rest is for the log.
        let fact = report.detail.first().map(|line| format!(" ({line})")).unwrap_or_default();
        self.faults.push(format!("{}{fact}", report.message));
    }
}

/// Looks at everything. Nothing is changed; the tray lock is held for a moment if it is free.
#[must_use]
pub fn check(ground: &Ground) -> Health {
    let mut health = Health::default();
    let settings = Settings::load(&ground.paths.settings).unwrap_or_else(|error| {
        health.warnings.push(format!("{}; jobs get no channel until that is corrected", chain(&error)));
        Settings::default()
    });
    let is_used = settings.uses(|mode| mode != Mode::Off);
    let query = is_used.then(|| Query::start(&settings.daemon.program));
    let block = find_block(ground, &mut health);
    let reading = (ground.read_tray)();
    let on_fabric = check_fabric(&reading, block.as_ref(), &settings, &mut health);
    if let Some(query) = query
        && on_fabric
    {
        let driver = reading.as_ref().ok().map(|reading| reading.driver_version.as_str());
        check_programs(ground, &settings, query, driver, &mut health);
    }
    check_tray(ground, &settings, is_used, &mut health);
    health
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn find_block(ground: &Ground, health: &mut Health) -> Option<BlockName> {
    let Some(node) = &ground.node else {
        health.warnings.push("this node's name in Slurm is not known".to_owned());
        return None;
    };
    let topologies = load_topologies(&ground.conf).unwrap_or_else(|error| {
        health.warnings.push(chain(&error));
        Vec::new()
    });
    let block = block_of(&topologies, node).map(|block| block.name.clone());
    match &block {
        Some(name) => health.summary.push(format!("{node} in block {name}")),
        None => health.summary.push(format!("{node} in no block")),
    }
    block
}

/// Whether this tray has an NVLink fabric that jobs may use.
fn check_fabric(
    reading: &Result<TrayReading, NvmlError>,
    block: Option<&BlockName>,
    settings: &Settings,
    health: &mut Health,
) -> bool {
    let Some(block) = block else { return false };
    match reading {
        Ok(reading) => match fit(reading, settings.expected_gpus(), block) {
            Fit::Fits { id, warnings } => {
                health.warnings.extend(warnings);
                health.summary.push(format!("NVLink partition {id}"));
                true
            }
            Fit::NoFabric(why) => {
                health.summary.push(format!("no multi-node NVLink: {why}"));
                false
            }
            Fit::Unfit(report) => {
                health.fault(&report);
                true
            }
        },
        Err(NvmlError::Load { .. }) if !is_named_after_fabric(block) => false,
        Err(error) => {
            health.faults.push(format!("GPUs cannot be read: {}", chain(error)));
            true
        }
    }
}

/// What a domain needs of this node's software.
fn check_programs(
    ground: &Ground,
    settings: &Settings,
    query: Query,
    driver: Option<&str>,
    health: &mut Health,
) {
    for program in [&settings.daemon.program, &settings.daemon.control] {
        if !is_program(program) {
            health.faults.push(format!("{} is not an executable file", program.display()));
        }
    }
    if is_program(&settings.daemon.program) {
        let limit = Duration::from_secs(settings.deadlines.control_call_seconds);
        match query.finish(Deadline::after(limit)) {
            Ok(version) => {
                if let Some(report) =
                    driver.and_then(|driver| mismatch(&settings.daemon.program, &version, driver))
                {
                    health.fault(&report);
                }
            }
            Err(error) => health.warnings.push(chain(&error)),
        }
    }
    if settings.encryption.enabled
        && !settings.encryption.is_by_job()
        && let Ok(any) = JobId::new(1)
        && let Err(error) = tls::checked(&settings.encryption, any)
    {
        health.faults.push(chain(&error));
    }
    let conf = SlurmConf::load(&ground.conf).unwrap_or_default();
    if !conf.slurm_makes_channels()
        && let Err(error) = channel::read_major(&ground.paths.devices)
    {
        health.faults.push(chain(&error));
    }
    if let Some(ports) = LocalPorts::read(&ground.paths.proc_dir) {
        health.warnings.extend(ports.warning(settings.all_ports()));
    }
}

/// What is left on the tray, and who else runs a daemon.
fn check_tray(ground: &Ground, settings: &Settings, is_used: bool, health: &mut Health) {
    let program = settings.daemon.program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    // A prolog or epilog that is at work explains everything that looks half done.
    let lock = Dir::open(&ground.paths.run_dir)
        .ok()
        .map(|dir| TrayLock::take(&dir, Deadline::after(Duration::ZERO)));
    if let Some(Err(_)) = &lock {
        health.summary.push("a prolog or epilog is at work".to_owned());
        return;
    }
    let status = match TrayStatus::read(&ground.paths, program) {
        Ok(status) => status,
        Err(error) => {
            health.faults.push(chain(&error));
            return;
        }
    };
    for job in &status.jobs {
        judge_job(job, health);
        if is_over_for_slurm(job, ground) {
            health.warnings.push(format!(
                "Slurm has ended job {}, and no epilog has removed its IMEX domain yet; the next prolog does",
                job.job
            ));
        }
    }
    if let Some(standing) = &status.standing {
        judge_standing(standing, ground, settings, health);
    }
    health.summary.push(format!("{} job(s) with a domain", status.jobs.len()));
    health.faults.extend(status.strays.iter().map(|line| format!("IMEX daemon of a dead job runs: {line}")));
    if is_used {
        let ours = ground.paths.run_dir.display().to_string();
        let strangers = Proc::new(&ground.paths.proc_dir).running_as(program);
        let strangers = strangers.into_iter().filter(|(_, line)| !line.contains(&ours));
        health.faults.extend(
            strangers.map(|(pid, line)| format!("another IMEX daemon holds this node: {pid} {line}")),
        );
    }
}

fn judge_job(job: &JobStatus, health: &mut Health) {
    let id = job.job;
    match (&job.domain, &job.fault) {
        (Some(domain), _) if domain.ended => {
            health.faults.push(format!("job {id} has ended, but its IMEX domain is still here"));
        }
        (Some(domain), _) if domain.age_seconds.is_none() => {
            health
                .warnings
                .push(format!("job {id} left a record before the last boot; the next prolog removes it"));
        }
        (Some(domain), _) if domain.daemon.as_ref().is_some_and(|daemon| !daemon.alive) => {
            let lost = domain.daemon.as_ref().and_then(|daemon| daemon.lost_at);
            let at = lost.map(|at| format!(" since {at} (seconds since 1970)")).unwrap_or_default();
            health.warnings.push(format!(
                "the IMEX daemon of job {id} is gone{at}, and with it the job's shared memory; the next prolog starts its own"
            ));
        }
        (Some(_), _) => {}
        (None, fault) => {
            let why = fault.as_deref().unwrap_or_default();
            health.warnings.push(format!("job {id}: {why}; the next prolog removes it"));
        }
    }
}

/// Whether slurmd has written down the end of a job whose domain is here as if it ran. slurmd forgets it after some minutes.
fn is_over_for_slurm(job: &JobStatus, ground: &Ground) -> bool {
    let Some(domain) = job.domain.as_ref().filter(|domain| !domain.ended) else { return false };
    let (Some(age), Some(node)) = (domain.age_seconds, &ground.node) else { return false };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |span| span.as_secs());
    let spool = SlurmConf::load(&ground.conf).unwrap_or_default().spool_dir(node.as_str());
    // All three times are cut to whole seconds: a job may be over in the second in which its prolog began.
    JobEnd::watch(&spool, job.job, now.checked_sub(age + 2)).is_over()
}

fn judge_standing(standing: &JobStatus, ground: &Ground, settings: &Settings, health: &mut Health) {
    let daemon = standing.domain.as_ref().and_then(|domain| domain.daemon.as_ref());
    if !daemon.is_some_and(|daemon| daemon.alive) {
        health
            .warnings
            .push("the standing domain's IMEX daemon is gone; the next prolog starts it again".to_owned());
        return;
    }
    let ctl = Ctl {
        program: settings.daemon.control.clone(),
        config: ground.paths.run_dir.join("standing").join(CONFIG_FILE),
    };
    let limit = Duration::from_secs(settings.deadlines.control_call_seconds);
    match ctl.own_state(Deadline::after(limit)) {
        Ok(OwnState::Ready) => health.summary.push("standing domain READY".to_owned()),
        Ok(OwnState::Other(word)) => {
            health.faults.push(format!("the standing domain's IMEX daemon is {word}"));
        }
        Err(error) => {
            health
                .faults
                .push(format!("the standing domain's IMEX daemon gives no answer: {}", chain(&error)));
        }
    }
}

#[cfg(test)]
mod tests;
