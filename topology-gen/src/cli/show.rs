//! `topology-gen show`: the racks, and which job sits where.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use fabric::topology::{BlockTopology, cluster_default};
use fabric::{Blame, Report, Topology};

use super::{Output, in_file, read_text};
use crate::emit::{Racks, parse_jobs, svg, table};
use crate::failure::{Failure, OK};
use crate::write;

/// Options of `show`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The topology.yaml to show
    #[arg(value_name = "FILE", default_value_os_t = super::default_topology_file())]
    file: PathBuf,
    /// Which block topology of the file; without it the default one, else the first
    #[arg(long, value_name = "NAME")]
    topology: Option<String>,
    /// Job placement as JSON, - for standard input: {"jobs":[{"id":1,"name":"a","nodes":"n[1-4]"}]}
    #[arg(long, value_name = "FILE")]
    jobs: Option<PathBuf>,
    /// Write the picture to this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Title of the picture
    #[arg(long, value_name = "TEXT", default_value = "NVLink partitions")]
    title: String,
}

pub(super) fn run(args: &Args, output: &mut Output<'_>) -> Result<u8, Failure> {
    let text = read_text(&args.file)?;
    let (topologies, notes) =
        fabric::slurm_yaml::parse_with_notes(&text).map_err(|error| in_file(&args.file, &error))?;
    for note in notes {
        output.say(format_args!("warning: {}: {note}", args.file.display()));
    }
    let jobs = match &args.jobs {
        Some(path) => parse_jobs(&read_text(path)?).map_err(|error| in_file(path, &error))?,
        None => Vec::new(),
    };
    let racks = Racks::new(chosen(&topologies, args.topology.as_deref())?, jobs, &BTreeSet::new());
    output.data(&table::text(&racks))?;
    if let Some(path) = &args.svg {
        write::replace(path, &svg::text(&racks, &args.title))
            .map_err(|error| Failure::of(Blame::Config, &error))?;
        output.say(format_args!("wrote {}", path.display()));
    }
    Ok(OK)
}

/// The block topology of that name; without a name the default one if it has blocks, else the first that has.
pub(super) fn chosen<'a>(
    topologies: &'a [Topology],
    name: Option<&str>,
) -> Result<&'a BlockTopology, Failure> {
    let found = match name {
        Some(name) => topologies.iter().find(|topology| topology.name == name).and_then(Topology::block),
        None => cluster_default(topologies)
            .and_then(Topology::block)
            .or_else(|| topologies.iter().find_map(Topology::block)),
    };
    found.ok_or_else(|| {
        let names: Vec<String> = topologies.iter().map(|topology| format!("{:?}", topology.name)).collect();
        let what = name
            .map(|name| format!("no block topology called {name:?}"))
            .unwrap_or("no block topology".into());
        Failure(
            Report::new(Blame::Config, what)
                .with_detail(format!("topologies in the file: {}", names.join(", "))),
        )
    })
}
