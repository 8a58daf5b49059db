//! The lab's host: a process that Slurm's libraries and plugins take for slurmctld.
//!
//! Run by the tree's own dynamic loader. Arguments: folder of Slurm's plugins, configuration file, log level, GPUs of each
//! node. Requests come on stdin, replies go to stdout, Slurm's log to stderr. Unsafe code is in `slurm`, `gres`, `entries`,
//! `symbols` and `stand_in` only.

mod desk;
mod entries;
mod gres;
#[path = "../../../../slurm-plugin/src/bin/slurm-nvlink-confirm/log_options.rs"]
mod log_options;
mod slurm;
#[path = "../../../../slurm-plugin/src/bin/slurm-nvlink-confirm/stand_in.rs"]
mod stand_in;
mod symbols;
mod words;

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use lab::protocol::{Reply, Request};

use crate::desk::Desk;
use crate::slurm::Slurm;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may listen any more; then there is nobody to tell.
            let _ = say(&Reply::Failed(format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn serve() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let mut next = || arguments.next().context("usage: lab-host PLUGIN_FOLDER SLURM_CONF LOG_LEVEL GPUS");
    let (folder, configuration) = (PathBuf::from(next()?), PathBuf::from(next()?));
    let level = next()?.to_str().and_then(|text| text.parse().ok()).context("no log level")?;
    let gpus = next()?.to_str().and_then(|text| text.parse().ok()).context("no number of GPUs")?;
    lab::layout::check(&folder.join("libslurmfull.so"))?;
    let slurm = Slurm::start(&folder, &configuration, level, gpus)?;
    say(&Reply::Ready { build_ns: u64::try_from(slurm.build_time.as_nanos())? })?;

    let mut desk = Desk::new(slurm);
    for line in std::io::stdin().lock().lines() {
        let reply = match serde_json::from_str(&line?)? {
            Request::Ask(question) => Reply::Answer(desk.ask(*question)?),
            Request::AskTrays(question) => {
                let question = question.in_full(desk.slurm().node_count());
                Reply::Answer(desk.ask(question)?)
            }
            Request::Move { node, block } => Reply::Changed(desk.move_node(node, block)?),
            Request::Rebuild => Reply::Changed(desk.rebuild()?),
            Request::Entries(question) => Reply::Entries(entries::answers(desk.slurm(), &question)?),
            Request::Time { answerer, repetitions } => Reply::Times(desk.time(answerer, repetitions)?),
        };
        say(&reply)?;
    }
    Ok(())
}

fn say(reply: &Reply) -> anyhow::Result<()> {
    let mut line = serde_json::to_string(reply)?;
    line.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())?;
    Ok(out.flush()?)
}
