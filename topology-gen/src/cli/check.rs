//! `topology-gen check`: is this file what Slurm and its users should get?
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use fabric::Blame;

use super::diff::{ControllerArgs, not_answered};
use super::{Output, read_text};
use crate::apply::jobs_on_moved_trays;
use crate::check::{Finding, Findings, Input, Severity, check};
use crate::conf::{self, ClusterSettings, SlurmConf};
use crate::diff::diff;
use crate::emit::count;
use crate::failure::{Failure, OK, PROBLEMS};
use crate::site::{self, Site};
use crate::version::SlurmVersion;

/// Options of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The topology.yaml to check, - for standard input
    #[arg(value_name = "FILE", default_value_os_t = super::default_topology_file())]
    file: PathBuf,
    /// Check against the nodes in the output of `scontrol show nodes --json`, - for standard input
    #[arg(long, value_name = "FILE")]
    nodes_json: Option<PathBuf>,
    /// Check against the nodes and settings of the running controller
    ///
    /// And list running jobs whose trays would change their block. With --slurm-conf its settings count.
    #[arg(long, conflicts_with = "nodes_json")]
    live: bool,
    /// Check against the partitions, nodes and settings of this slurm.conf
    #[arg(long, value_name = "FILE")]
    slurm_conf: Option<PathBuf>,
    /// Rules of this version; without it that of the node list, else of all versions from 25.05 on
    #[arg(long, value_name = "VERSION")]
    slurm_version: Option<SlurmVersion>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    controller: ControllerArgs,
}

pub(super) fn run(args: &Args, output: &mut Output<'_>) -> Result<u8, Failure> {
    let text = read_text(&args.file)?;
    let controller = args.controller.controller();
    let site = match &args.nodes_json {
        Some(path) => Some(site_of(path)?),
        None if args.live => Some(controller.site().map_err(|error| not_answered(&error))?),
        None => None,
    };
    let conf = args.slurm_conf.as_deref().map(conf_of).transpose()?;
    let in_force = if args.live && conf.is_none() {
        let settings = controller.settings().map_err(|error| not_answered(&error))?;
        Some(ClusterSettings::in_force(&settings))
    } else {
        None
    };
    let input = Input {
        text: &text,
        version: args.slurm_version,
        site: site.as_ref(),
        conf: conf.as_ref(),
        in_force: in_force.as_ref(),
    };
    let findings = check(&input);
    if args.json {
        let text =
            serde_json::to_string_pretty(&serde_json::json!({"version": 1, "findings": findings.list}))
                .map_err(|error| Failure::of(Blame::Bug, &error))?;
        output.data(&(text + "\n"))?;
    } else {
        output.data(&lines(&args.file.display().to_string(), &findings.list))?;
    }
    if args.live
        && let Some(topologies) = &findings.topologies
    {
        let live = controller.topologies().map_err(|error| not_answered(&error))?;
        let jobs = jobs_on_moved_trays(&controller, &diff(&live, topologies));
        for (job, nodes) in jobs.map_err(|error| not_answered(&error))? {
            output
                .say(format_args!("job {} of {} runs on {nodes}, which changes its block", job.id, job.user));
        }
    }
    output.say(summary(&findings));
    Ok(if is_sound(&findings) { OK } else { PROBLEMS })
}

/// Slurm's nodes from a file.
pub(super) fn site_of(path: &Path) -> Result<Site, Failure> {
    site::parse(&read_text(path)?).map_err(|error| {
        let hint = error.hint();
        super::in_file(path, &error).hint(hint)
    })
}

/// slurm.conf from a file.
pub(super) fn conf_of(path: &Path) -> Result<SlurmConf, Failure> {
    conf::read(path).map_err(|error| Failure::of(Blame::Config, &error))
}

/// Whether nothing is fatal or wrong.
pub(super) fn is_sound(findings: &Findings) -> bool {
    !matches!(findings.worst(), Some(Severity::Fatal | Severity::Wrong))
}

/// One group of lines for each finding.
pub(super) fn lines(file: &str, findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { severity, line, what, hint } in findings {
        let place = if *line == 0 { file.to_owned() } else { format!("{file}:{line}") };
        text.push_str(&format!("{place}: {severity}: {what}\n  hint: {hint}\n"));
    }
    text
}

/// The findings in one line.
pub(super) fn summary(findings: &Findings) -> String {
    let number = |severity| findings.count(severity);
    if findings.list.is_empty() {
        return "no findings".to_owned();
    }
    let (fatal, wrong) = (number(Severity::Fatal), number(Severity::Wrong));
    let verdict = match (fatal, wrong) {
        (0, 0) => "Slurm takes the file",
        (0, _) => "Slurm takes the file, but not as it is meant",
        _ => "Slurm refuses the file or dies of it",
    };
    format!("{fatal} fatal, {wrong} wrong, {}: {verdict}", count(number(Severity::Note), "note"))
}
