//! `topology-gen collect`: the readings of all trays, from one command for each node.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use fabric::{Blame, HostList, NodeName, TrayReading};

use super::Output;
use super::diff::{ControllerArgs, not_answered};
use crate::emit::count;
use crate::failure::{Failure, OK, PROBLEMS};
use crate::source::remote::{Template, ask};
use crate::write;

/// Between two lines about how far it is.
const PROGRESS: Duration = Duration::from_secs(5);

/// Options of `collect`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Shell command that prints a node's reading; {} is the node
    ///
    /// Understood: topology-gen probe, nvidia-smi -q, CSV of nvidia-smi with a header.
    #[arg(
        long,
        value_name = "TEMPLATE",
        default_value = "ssh -o BatchMode=yes -o ConnectTimeout=10 {} topology-gen probe"
    )]
    command: String,
    /// The nodes; without it all of Slurm's nodes that have GPUs
    #[arg(long, value_name = "HOSTLIST")]
    nodes: Option<HostList>,
    #[command(flatten)]
    how: AskArgs,
    /// Write the readings here, for generate --readings; without it print them
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    controller: ControllerArgs,
}

/// How nodes are asked.
#[derive(Debug, clap::Args)]
pub(super) struct AskArgs {
    /// Nodes asked at the same time
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    parallel: u16,
    /// Longest time for one try, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    try_timeout: u64,
    /// More tries for a node that gives no reading
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=10))]
    retries: u32,
}

impl Default for AskArgs {
    fn default() -> Self {
        Self { parallel: 32, try_timeout: 30, retries: 1 }
    }
}

impl AskArgs {
    /// Asks the nodes until `stop`, and says how far it is while that takes long.
    pub(super) fn ask(
        &self,
        command: &str,
        nodes: &[NodeName],
        stop: &AtomicBool,
        output: &mut Output<'_>,
    ) -> BTreeMap<NodeName, Result<TrayReading, String>> {
        let template = Template {
            command: command.to_owned(),
            parallel: self.parallel.into(),
            deadline: Duration::from_secs(self.try_timeout),
            retries: self.retries,
        };
        let all = nodes.len();
        ask(&template, nodes, stop, PROGRESS, &mut |done, silent| {
            output.say(format_args!("{done} of {} asked, {silent} without a reading", count(all, "node")));
        })
    }
}

pub(super) fn run(args: &Args, output: &mut Output<'_>) -> Result<u8, Failure> {
    let nodes: Vec<NodeName> = match &args.nodes {
        Some(nodes) => nodes.iter().cloned().collect(),
        None => {
            let site = args.controller.controller().site().map_err(|error| not_answered(&error))?;
            site.nodes.into_iter().filter(|(_, node)| node.has_gpus).map(|(name, _)| name).collect()
        }
    };
    let answers = args.how.ask(&args.command, &nodes, &AtomicBool::new(false), output);
    let mut reasons: BTreeMap<&str, HostList> = BTreeMap::new();
    for (node, answer) in &answers {
        if let Err(why) = answer {
            reasons.entry(why).or_default().push(node.clone());
        }
    }
    for (why, nodes) in &reasons {
        output.say(format_args!("no reading: {nodes}: {why}"));
    }
    let silent: usize = reasons.values().map(HostList::len).sum();
    let readings: BTreeMap<&str, Option<&TrayReading>> =
        answers.iter().map(|(node, answer)| (node.as_str(), answer.as_ref().ok())).collect();
    let text =
        serde_json::to_string_pretty(&readings).map_err(|error| Failure::of(Blame::Bug, &error))? + "\n";
    match &args.out {
        Some(path) => {
            write::replace(path, &text).map_err(|error| Failure::of(Blame::Config, &error))?;
            output.say(format_args!("wrote {}", path.display()));
        }
        None => output.data(&text)?,
    }
    output.say(format_args!(
        "{} of {}",
        count(answers.len() - silent, "reading"),
        count(answers.len(), "node")
    ));
    Ok(if silent == 0 { OK } else { PROBLEMS })
}
