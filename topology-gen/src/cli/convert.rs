//! `topology-gen convert`: topology.conf to topology.yaml and back.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::ValueEnum;
use fabric::{Blame, Report};

use super::diff::topologies_of;
use super::{Output, in_file, read_text};
use crate::convert::{from_conf, to_conf};
use crate::failure::{Failure, OK};

/// Options of `convert`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file to convert, - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The form to write
    #[arg(long, value_name = "FORM", value_enum)]
    to: Form,
    /// Name of the topology: what a topology.conf becomes, or which one of a topology.yaml is taken
    #[arg(long, value_name = "NAME")]
    topology: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// topology.yaml
    Yaml,
    /// topology.conf
    Conf,
}

pub(super) fn run(args: &Args, output: &mut Output<'_>) -> Result<u8, Failure> {
    if args.to == Form::Yaml {
        let name = args.topology.as_deref().unwrap_or("default");
        let topology =
            from_conf(&read_text(&args.file)?, name).map_err(|error| in_file(&args.file, &error))?;
        output.data(&fabric::slurm_yaml::emit(&[topology]))?;
        return Ok(OK);
    }
    let topologies = topologies_of(&args.file)?;
    let found = match (&args.topology, topologies.as_slice()) {
        (Some(name), all) => all.iter().find(|topology| topology.name == *name),
        (None, [one]) => Some(one),
        (None, _) => None,
    };
    let Some(topology) = found else {
        let names: Vec<&str> = topologies.iter().map(|topology| topology.name.as_str()).collect();
        let report =
            Report::new(Blame::Config, "topology.conf holds one topology; choose it with --topology");
        return Err(Failure(report.with_detail(format!("topologies in the file: {}", names.join(", ")))));
    };
    output.data(&to_conf(topology).map_err(|error| in_file(&args.file, &error))?)?;
    if topologies.len() > 1 {
        output.say("warning: the other topologies of the file are left out");
    }
    Ok(OK)
}
