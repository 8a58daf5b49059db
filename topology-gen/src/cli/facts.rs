//! Where the facts of a run come from: Slurm, a file of readings, nvidia-smi, or a command for each node.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use fabric::{Blame, NodeName, Report};

use super::collect::AskArgs;
use super::diff::{ControllerArgs, not_answered};
use super::{Output, in_file, read_text};
use crate::failure::Failure;
use crate::source::{Inventory, Observation, Seen, file, nvidia_smi, slurm};

/// The source.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Source, without one Slurm's own list with what each slurmd registered")]
pub(super) struct SourceArgs {
    /// Read the output of `scontrol show nodes --json` from a file
    ///
    /// - for standard input. Slurm is not asked then.
    #[arg(long, value_name = "FILE", group = "source")]
    nodes_json: Option<PathBuf>,
    /// Read readings from a file, as `collect` writes it
    ///
    /// A JSON object of node names and what `topology-gen probe` printed there.
    #[arg(long, value_name = "FILE", group = "source")]
    pub(super) readings: Option<PathBuf>,
    /// Ask each node by this shell command, in which {} is the node
    ///
    /// As `collect` does.
    #[arg(long, value_name = "TEMPLATE", group = "source")]
    ask: Option<String>,
    /// Read the CSV of nvidia-smi from many nodes, each line with `node: ` in front
    ///
    /// - for standard input.
    #[arg(long, value_name = "FILE", group = "source")]
    nvidia_smi_csv: Option<PathBuf>,
    /// The fields that were asked of nvidia-smi, when its CSV has no header
    #[arg(long, value_name = "FIELDS", default_value = nvidia_smi::FIELDS, hide_short_help = true)]
    csv_fields: String,
    /// Read a folder with the output of `nvidia-smi -q` in one file for each node: NODE or NODE.txt
    #[arg(long, value_name = "FOLDER", group = "source", hide_short_help = true)]
    nvidia_smi_folder: Option<PathBuf>,
    #[command(flatten)]
    pub(super) controller: ControllerArgs,
    /// Set when the program shall end soon.
    #[arg(skip)]
    pub(super) stop: Arc<AtomicBool>,
}

impl SourceArgs {
    /// What the source says now.
    ///
    /// # Errors
    /// The source as a whole gives nothing; one bad node is part of the inventory.
    pub(super) fn inventory(&self, output: &mut Output<'_>) -> Result<Inventory, Failure> {
        let slurm_failure = |error: slurm::SlurmError| {
            let hint = error.hint();
            Failure::of(Blame::Config, &error).hint(hint)
        };
        if let Some(path) = &self.readings {
            return file::parse(&read_text(path)?).map_err(|error| in_file(path, &error));
        }
        if let Some(path) = &self.nvidia_smi_csv {
            return Ok(nvidia_smi::nodes(&read_text(path)?, &self.csv_fields));
        }
        if let Some(folder) = &self.nvidia_smi_folder {
            return from_folder(folder);
        }
        if let Some(command) = &self.ask {
            return self.asked(command, output);
        }
        let text = match &self.nodes_json {
            Some(path) => read_text(path)?,
            None => {
                let ControllerArgs { scontrol, timeout } = &self.controller;
                slurm::ask(scontrol, Duration::from_secs(*timeout)).map_err(slurm_failure)?
            }
        };
        slurm::parse(&text).map_err(slurm_failure)
    }

    /// Asks Slurm's nodes with GPUs. What Slurm knows of their state comes along.
    fn asked(&self, command: &str, output: &mut Output<'_>) -> Result<Inventory, Failure> {
        let site = self.controller.controller().site().map_err(|error| not_answered(&error))?;
        let nodes: Vec<NodeName> =
            site.nodes.iter().filter(|(_, node)| node.has_gpus).map(|(name, _)| name.clone()).collect();
        let answers = AskArgs::default().ask(command, &nodes, &self.stop, output);
        let observation = |(node, answer): (NodeName, Result<fabric::TrayReading, String>)| {
            let unusable = site.nodes.get(&node).is_some_and(|node| !node.is_healthy());
            let seen = answer.map_or_else(Seen::Silent, Seen::Reading);
            Observation { unusable, ..Observation::now(node, seen) }
        };
        Ok(Inventory { observations: answers.into_iter().map(observation).collect(), ..Inventory::default() })
    }
}

/// One file for each node; one that cannot be understood makes its node silent.
fn from_folder(folder: &Path) -> Result<Inventory, Failure> {
    let fault = |error: std::io::Error| {
        let report = Report::new(Blame::Config, format!("cannot read {}", folder.display()));
        Failure(report.with_detail(format!("because: {error}")))
    };
    let mut inventory = Inventory::default();
    for entry in std::fs::read_dir(folder).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let node = match NodeName::new(name.strip_suffix(".txt").unwrap_or(&name)) {
            Ok(node) if path.is_file() => node,
            _ => {
                inventory.notes.push(format!("{} is no file of a node", path.display()));
                continue;
            }
        };
        let seen = nvidia_smi::tray(&read_text(&path)?).map_or_else(Seen::Silent, Seen::Reading);
        inventory.observations.push(Observation::now(node, seen));
    }
    Ok(inventory)
}
