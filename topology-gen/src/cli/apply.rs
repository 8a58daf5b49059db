//! `topology-gen apply` and `topology-gen rollback`: a topology into force, verified, or nothing changed.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fabric::{Blame, Report};

use super::diff::ControllerArgs;
use super::plan::{HELD, PlanArgs};
use super::{Output, check, read_text};
use crate::apply::backup::Backups;
use crate::apply::foreground::Mode;
use crate::apply::{ApplyError, Order, Outcome, Refusal, Watch, apply};
use crate::failure::{Failure, OK, PROBLEMS};

/// Options of `apply`.
#[derive(Debug, clap::Args)]
pub(super) struct ApplyArgs {
    /// Take this topology.yaml instead of making one from the facts
    ///
    /// - for standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Options of `rollback`.
#[derive(Debug, clap::Args)]
pub(super) struct RollbackArgs {
    /// List the backups, the newest last, and change nothing
    #[arg(long)]
    list: bool,
    /// Name of the backup; without it the newest one with another text than the present file
    #[arg(long, value_name = "NAME", conflicts_with = "list")]
    to: Option<String>,
    #[command(flatten)]
    controller: ControllerArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

/// How a change is made.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Change")]
pub(super) struct ChangeArgs {
    /// The file that Slurm reads
    #[arg(long, value_name = "FILE", default_value_os_t = super::default_topology_file())]
    pub(super) target: PathBuf,
    /// Folder for old files; without it topology-backups beside the target
    #[arg(long, value_name = "FOLDER", hide_short_help = true)]
    backups: Option<PathBuf>,
    /// slurm.conf to check against; without it the one beside the target, if there is one
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    slurm_conf: Option<PathBuf>,
    /// Say what would change, and change nothing: exit code 0 nothing, 1 something
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Longest time until the controller reports the new topology, and until the nodes have it, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(1..=3600),
        hide_short_help = true
    )]
    deadline: u64,
    /// Reload a slurmctld that runs in the foreground (-D), or elsewhere: a file that it refuses may end it
    #[arg(long, hide_short_help = true)]
    allow_foreground: bool,
    /// Move trays between blocks by `scontrol update`, without a reload
    ///
    /// Where that is not enough, nothing is changed.
    #[arg(long)]
    without_reload: bool,
    /// Go on though trays with running jobs change their block; the jobs run on
    #[arg(long, hide_short_help = true)]
    move_running_jobs: bool,
    /// Go on though the check finds something wrong that Slurm accepts
    #[arg(long, hide_short_help = true)]
    accept_wrong: bool,
}

pub(super) fn run(args: &ApplyArgs, output: &mut Output<'_>) -> Result<u8, Failure> {
    let text = match &args.file {
        Some(path) => read_text(path)?,
        None => {
            let previous = Some(args.change.target.as_path()).filter(|target| target.exists());
            let planned = args.plan.planned(previous, output)?;
            if planned.held {
                output.say(format_args!("{} is not touched", args.change.target.display()));
                output.say(HELD);
                return Ok(PROBLEMS);
            }
            planned.text
        }
    };
    change(&args.change, &args.plan.source.controller, &text, output)
}

pub(super) fn rollback(args: &RollbackArgs, output: &mut Output<'_>) -> Result<u8, Failure> {
    let backups = Backups::at(&args.change.backups(), &args.change.target);
    let failure = |error| Failure::of(Blame::Config, &error);
    if args.list {
        let names = backups.list().map_err(failure)?;
        let lines = names.iter().filter_map(|path| path.file_name());
        output.data(&lines.map(|name| format!("{}\n", name.to_string_lossy())).collect::<String>())?;
        return Ok(OK);
    }
    let present = std::fs::read_to_string(&args.change.target).ok();
    let (path, text) = backups
        .find(args.to.as_deref(), present.as_deref())
        .map_err(|error| failure(error).hint("topology-gen rollback --list shows what there is"))?;
    output.say(format_args!("going back to {}", path.display()));
    change(&args.change, &args.controller, &text, output)
}

impl ChangeArgs {
    fn backups(&self) -> PathBuf {
        let beside = || self.target.parent().unwrap_or(Path::new(".")).join("topology-backups");
        self.backups.clone().unwrap_or_else(beside)
    }

    fn slurm_conf(&self) -> Option<PathBuf> {
        let beside = self.target.with_file_name("slurm.conf");
        self.slurm_conf.clone().or_else(|| beside.is_file().then_some(beside))
    }

    /// Brings the text into force as these options say.
    ///
    /// # Errors
    /// slurm.conf cannot be read; how the run itself ended is inside.
    pub(super) fn apply(
        &self,
        controller: &ControllerArgs,
        text: &str,
        output: &mut Output<'_>,
    ) -> Result<Result<Outcome, ApplyError>, Failure> {
        let conf = self.slurm_conf().as_deref().map(check::conf_of).transpose()?;
        let order = Order {
            target: &self.target,
            backups: &self.backups(),
            controller: &controller.controller(),
            conf: conf.as_ref(),
            proc: Path::new("/proc"),
            deadline: Duration::from_secs(self.deadline),
            allow_foreground: self.allow_foreground,
            without_reload: self.without_reload,
            move_running_jobs: self.move_running_jobs,
            accept_wrong: self.accept_wrong,
            dry_run: self.dry_run,
        };
        let mut say = |line: &dyn Display| output.say(line);
        Ok(apply(&order, text, &mut Watch { say: &mut say, step: &|_| {} }))
    }
}

fn change(
    args: &ChangeArgs,
    controller: &ControllerArgs,
    text: &str,
    output: &mut Output<'_>,
) -> Result<u8, Failure> {
    let done = args.apply(controller, text, output)?;
    told(done, &args.target.display().to_string(), output)
}

/// Says how a run ended, and gives its exit code.
pub(super) fn told(
    done: Result<Outcome, ApplyError>,
    target: &str,
    output: &mut Output<'_>,
) -> Result<u8, Failure> {
    match done {
        Ok(Outcome::Unchanged) => {
            output.say(format_args!("{target} and the controller are up to date; nothing was reloaded"));
            Ok(OK)
        }
        Ok(Outcome::WouldChange(changes)) => {
            output.data(&changes.iter().map(|change| format!("{change}\n")).collect::<String>())?;
            output.say("dry run: nothing was changed");
            Ok(PROBLEMS)
        }
        Ok(Outcome::Applied { changes, late }) => {
            output.data(&changes.iter().map(|change| format!("{change}\n")).collect::<String>())?;
            if !late.is_empty() {
                output.say(format_args!("warning: {late}: slurmd has not yet taken the new file"));
                output.say("hint: change nothing in it before they have, and look at their slurmd logs");
            }
            output.say("done: the new topology is in force");
            Ok(OK)
        }
        Ok(Outcome::Refused(refusal)) => {
            refused(&refusal, target, output)?;
            output.say("nothing was changed");
            Ok(PROBLEMS)
        }
        Ok(Outcome::RolledBack { why, log }) => {
            output.say(format_args!("error: {why}"));
            for line in log {
                output.say(format_args!("slurmctld: {line}"));
            }
            output.say("rolled back: file and controller are as before");
            Ok(PROBLEMS)
        }
        Err(error) => Err(failure(error)),
    }
}

fn refused(refusal: &Refusal, target: &str, output: &mut Output<'_>) -> Result<(), Failure> {
    match refusal {
        Refusal::Check(findings) => {
            output.data(&check::lines("new file", findings))?;
            output.say(format_args!("the new file is not fit for {target}"));
            output.say("hint: mend it; --accept-wrong lets through what Slurm accepts");
        }
        Refusal::Jobs(jobs) => {
            for (job, nodes) in jobs {
                let (id, user) = (&job.id, &job.user);
                output.data(&format!("job {id} of {user} runs on {nodes}, which changes its block\n"))?;
            }
            output.say("running jobs stand on trays that change their block");
            output.say("hint: if these trays really moved, the jobs have lost their NVLink already: give --move-running-jobs");
        }
        Refusal::Reload(reason) => {
            output.say(reason);
            output.say("hint: apply it without --without-reload");
        }
        Refusal::Foreground(mode) => {
            output.say(mode);
            output.say(match mode {
                Mode::Unknown => "hint: run this on the controller, or give --allow-foreground",
                _ => "hint: start slurmctld without -D or with --systemd, or give --allow-foreground and stand by to start it again",
            });
        }
    }
    Ok(())
}

fn failure(error: ApplyError) -> Failure {
    let report = Report::of_error(Blame::Config, &error);
    match error {
        ApplyError::NotRestored { log, .. } => {
            let report =
                log.into_iter().fold(report, |report, line| report.with_detail(format!("slurmctld: {line}")));
            Failure(report)
                .hint("look whether slurmctld runs (scontrol ping); started again, it takes the old file")
        }
        ApplyError::Restore { .. } => {
            Failure(report).hint("put the old file back by hand before any slurmd or job starts")
        }
        ApplyError::Controller(_) => Failure(report).hint("check that slurmctld answers: scontrol ping"),
        ApplyError::Backup(crate::apply::backup::BackupError::Busy { .. }) => {
            Failure(report).hint("wait for it; when none runs, the lock is free by itself")
        }
        _ => Failure(report),
    }
}
