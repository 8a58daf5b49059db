//! `topology-gen show`: the racks, how each tray is, which job sits where, and what still fits.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use fabric::topology::{BlockTopology, cluster_default};
use fabric::{Blame, Block, BlockName, NodeName, Report, Topology};

use super::diff::{ControllerArgs, not_answered};
use super::{Output, in_file, read_text};
use crate::apply::backup;
use crate::emit::screen::{Paint, Screen};
use crate::emit::{Facts, Job, Racks, State, html, parse_jobs, screen, svg};
use crate::failure::{Failure, OK};
use crate::natural;
use crate::reconcile::{Trays, reconcile};
use crate::site::{self, Site};
use crate::source::{file, slurm};
use crate::write;

/// Options of `show`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show the blocks of this topology.yaml instead of asking the controller for everything
    ///
    /// - for standard input.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Take the trays from the output of `scontrol show nodes --json` in a file
    #[arg(long, value_name = "FILE")]
    nodes_json: Option<PathBuf>,
    /// Take the NVLink partitions from a file of readings, as `collect` writes it
    #[arg(long, value_name = "FILE", conflicts_with = "nodes_json")]
    readings: Option<PathBuf>,
    /// Take the jobs from a JSON file
    ///
    /// - for standard input: {"jobs":[{"id":1,"name":"a","nodes":"n[1-4]"}]}
    #[arg(long, value_name = "FILE")]
    jobs: Option<PathBuf>,
    /// Which block topology; without it the default one, else the first
    #[arg(long, value_name = "NAME")]
    topology: Option<String>,
    /// Write the picture to this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write a page with the picture and the same in tables to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Title; without it the cluster and the time
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Colours in the terminal
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Auto)]
    color: When,
    /// Columns of the terminal; without it as many as it has
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(40..))]
    width: Option<u16>,
    #[command(flatten)]
    controller: ControllerArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    /// In a terminal, unless NO_COLOR is set
    Auto,
    /// Also into a file
    Always,
    /// Characters only
    Never,
}

impl Args {
    /// Whether the controller is asked.
    fn is_live(&self) -> bool {
        self.file.is_none() && self.nodes_json.is_none() && self.readings.is_none()
    }

    fn screen(&self, screen: Screen) -> Screen {
        let paint = match self.color {
            When::Auto => screen.paint,
            When::Always => Paint::Colour,
            When::Never => Paint::Plain,
        };
        Screen { paint, width: self.width.map_or(screen.width, usize::from) }
    }
}

pub(super) fn run(args: &Args, output: &mut Output<'_>) -> Result<u8, Failure> {
    let seen = look(args, output)?;
    let topology = match &seen.topologies {
        Some(topologies) => chosen(topologies, args.topology.as_deref())?.clone(),
        None => as_observed(&seen.trays),
    };
    let racks =
        Racks::new(&topology, seen.jobs, &facts(&topology, &seen.trays, seen.site.as_ref(), seen.has_jobs));
    let title = args.title.clone().unwrap_or(seen.title);
    let put = |path: &PathBuf, text: &str, output: &mut Output<'_>| -> Result<(), Failure> {
        write::replace(path, text).map_err(|error| Failure::of(Blame::Config, &error))?;
        output.say(format_args!("wrote {}", path.display()));
        Ok(())
    };
    output.data(&screen::text(&racks, &title, args.screen(output.screen)))?;
    if let Some(path) = &args.svg {
        put(path, &svg::text(&racks, &title), output)?;
    }
    if let Some(path) = &args.html {
        put(path, &html::text(&racks, &title), output)?;
    }
    Ok(OK)
}

/// What there is to draw.
struct Seen {
    /// None: as the trays say.
    topologies: Option<Vec<Topology>>,
    trays: Trays,
    site: Option<Site>,
    jobs: Vec<Job>,
    has_jobs: bool,
    title: String,
}

/// Takes everything from files, or everything from the controller: three questions, however large the cluster.
fn look(args: &Args, output: &mut Output<'_>) -> Result<Seen, Failure> {
    let controller = args.controller.controller();
    let asked = |error| not_answered(&error);
    let topologies = match &args.file {
        Some(path) => Some(from_file(path, output)?),
        None if args.is_live() => Some(controller.topologies().map_err(asked)?),
        None => None,
    };
    let nodes = match &args.nodes_json {
        Some(path) => Some(read_text(path)?),
        None if args.is_live() => Some(
            slurm::ask(&args.controller.scontrol, Duration::from_secs(args.controller.timeout))
                .map_err(no_nodes)?,
        ),
        None => None,
    };
    let inventory = match (&nodes, &args.readings) {
        (Some(text), _) => Some(slurm::parse(text).map_err(no_nodes)?),
        (None, Some(path)) => Some(file::parse(&read_text(path)?).map_err(|error| in_file(path, &error))?),
        (None, None) => None,
    };
    let site = nodes.as_deref().map(site::parse).transpose().map_err(no_nodes)?;
    let trays = inventory.map(|inventory| reconcile(&inventory, None, &BTreeSet::new())).unwrap_or_default();
    let jobs = match &args.jobs {
        Some(path) => Some(parse_jobs(&read_text(path)?).map_err(|error| in_file(path, &error))?),
        None if args.is_live() => Some(controller.queue().map_err(asked)?),
        None => None,
    };
    let has_jobs = jobs.is_some();
    let title = title(site.as_ref().map(|site| site.cluster.as_str()), args.is_live());
    Ok(Seen { topologies, trays, site, jobs: jobs.unwrap_or_default(), has_jobs, title })
}

fn from_file(path: &std::path::Path, output: &mut Output<'_>) -> Result<Vec<Topology>, Failure> {
    let (topologies, notes) =
        fabric::slurm_yaml::parse_with_notes(&read_text(path)?).map_err(|error| in_file(path, &error))?;
    for note in notes {
        output.say(format_args!("warning: {}: {note}", path.display()));
    }
    Ok(topologies)
}

fn no_nodes(error: slurm::SlurmError) -> Failure {
    let hint = error.hint();
    Failure::of(Blame::Config, &error).hint(hint)
}

/// `NVLink partitions of CLUSTER, 2026-11-22 09:14 UTC`; the time only for what is so now.
fn title(cluster: Option<&str>, now: bool) -> String {
    let mut title = "NVLink partitions".to_owned();
    if let Some(cluster) = cluster.filter(|cluster| !cluster.is_empty()) {
        title.push_str(&format!(" of {cluster}"));
    }
    if now {
        let time =
            backup::utc(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
        let part = |range: std::ops::Range<usize>| time.get(range).unwrap_or_default();
        title.push_str(&format!(
            ", {}-{}-{} {}:{} UTC",
            part(0..4),
            part(4..6),
            part(6..8),
            part(9..11),
            part(11..13)
        ));
    }
    title
}

/// One block for each NVLink partition that the trays report, in natural order of their first nodes.
fn as_observed(trays: &Trays) -> BlockTopology {
    let mut partitions: Vec<_> = trays.partitions.iter().collect();
    let first = |nodes: &[NodeName]| nodes.first().map(|node| node.as_str().to_owned()).unwrap_or_default();
    partitions.sort_by(|(_, a), (_, b)| natural::compare(&first(a), &first(b)));
    let block = |(id, nodes): (&fabric::FabricId, &Vec<NodeName>)| Block {
        name: BlockName::for_fabric(id),
        nodes: nodes.iter().cloned().collect(),
    };
    BlockTopology { sizes: None, blocks: partitions.into_iter().map(block).collect() }
}

fn facts(topology: &BlockTopology, trays: &Trays, site: Option<&Site>, has_jobs: bool) -> Facts {
    let states =
        site.map(|site| site.nodes.iter().map(|(node, facts)| (node.clone(), State::of(facts))).collect());
    let mut domains = BTreeMap::new();
    for (id, nodes) in &trays.partitions {
        domains.extend(nodes.iter().map(|node| (node.clone(), id.domain)));
    }
    let inside: BTreeSet<&NodeName> = topology.blocks.iter().flat_map(|block| &block.nodes).collect();
    let strays = trays.partitions.values().flatten().filter(|node| !inside.contains(node)).cloned().collect();
    let otherwise = (has_jobs && site.is_none()).then_some(State::Idle);
    Facts { states: states.unwrap_or_default(), domains, strays, otherwise }
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
