//! The example of a cli_filter for Slurm's Lua plugin: what users read at submission, and what a site can require.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case};
use crate::placement::PAIRS;
use anyhow::{Context as _, ensure};
use tests::Cluster;
use tests::cluster::{Captured, Target};

pub(crate) const CASES: &[Case] = &[
    Case { name: "submit_help::users_read_what_a_segment_would_do", body: Body::On(PAIRS, said) },
    Case { name: "submit_help::a_site_can_require_segments", body: Body::On(PAIRS, required) },
    Case { name: "submit_help::a_mistake_in_the_file_keeps_no_job_out", body: Body::On(PAIRS, mistaken) },
];

const EXAMPLE: &str = include_str!("../../packaging/examples/cli_filter.lua");
const FILE: &str = "/etc/slurm/cli_filter.lua";
const SLURM_CONF: &str = "/etc/slurm/slurm.conf";

/// The example with other words in the place of some; all of them must be there.
fn example(changes: &[(&str, &str)]) -> anyhow::Result<String> {
    changes.iter().try_fold(EXAMPLE.to_owned(), |text, (old, new)| {
        ensure!(text.contains(old), "the example has no {old:?}");
        Ok(text.replace(old, new))
    })
}

/// Runs `body` with this filter in force for whoever submits on the controller.
fn with_filter(
    cluster: &Cluster,
    filter: &str,
    body: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let controller = Target::controller();
    let whole = cluster.ctl(&["cat", SLURM_CONF])?;
    cluster.write_file(&controller, FILE, filter)?;
    cluster.write_file(&controller, SLURM_CONF, &format!("CliFilterPlugins=cli_filter/lua\n{whole}"))?;
    let done = body();
    cluster.write_file(&controller, SLURM_CONF, &whole)?;
    cluster.ctl(&["rm", FILE])?;
    cluster.ctl(&["scancel", "--user=alice"])?;
    cluster.wait_idle(&cluster.nodes())?;
    done
}

/// Submits a job that waits until it is cancelled.
fn sbatch(cluster: &Cluster, options: &[&str]) -> anyhow::Result<Captured> {
    let words = [&["sbatch", "--hold", "--output=/dev/null", "--wrap=true"], options].concat();
    cluster.capture(&Target::controller().as_user(), &words)
}

/// What the filter said, line by line.
fn lines(captured: &Captured) -> Vec<&str> {
    captured.stderr.lines().filter_map(|line| line.split_once(" lua: ").map(|(_, said)| said)).collect()
}

fn accepted<'a>(what: &str, captured: &'a Captured) -> anyhow::Result<Vec<&'a str>> {
    ensure!(captured.status.success(), "{what} is refused: {captured:?}");
    Ok(lines(captured))
}

/// Racks of two trays: 8 are all there are.
fn said(cluster: &Cluster) -> anyhow::Result<()> {
    with_filter(cluster, &example(&[("trays_in_partition = 18", "trays_in_partition = 4")])?, || {
        for quiet in [&["-N4"][..], &["-n3"], &["-N2-8"], &["-N8", "--segment=2"], &["-N6", "--quiet"]] {
            let captured = sbatch(cluster, quiet)?;
            ensure!(accepted(&format!("{quiet:?}"), &captured)?.is_empty(), "{quiet:?}: {captured:?}");
        }
        let spans =
            |trays: u32| format!("{trays} trays are more than one NVLink partition has (4): the job spans");
        let eight = sbatch(cluster, &["-N8"])?;
        let with = "with --segment=4 each 4 of them lie in one NVLink partition, wherever that many are free";
        let smaller = "smaller segments find room sooner: 2";
        ensure!(accepted("-N8", &eight)? == [spans(8).as_str(), with, smaller], "{eight:?}");
        let seven = sbatch(cluster, &["-N7"])?;
        let none = "7 trays have no segment; 8 can have --segment=4";
        ensure!(accepted("-N7", &seven)? == [spans(7).as_str(), none], "{seven:?}");
        let large = sbatch(cluster, &["-N8", "--segment=8"])?;
        let never = "--segment=8: no NVLink partition has more than 4 trays; such a job waits for ever";
        ensure!(accepted("--segment=8", &large)? == [never], "{large:?}");
        // A step inside of a job asks for nothing new.
        let step = ["salloc", "-N8", "--segment=2", "srun", "-N8", "true"];
        let step = cluster.capture(&Target::controller().as_user(), &step)?;
        ensure!(accepted("a step", &step)?.is_empty(), "{step:?}");
        Ok(())
    })
}

fn required(cluster: &Cluster) -> anyhow::Result<()> {
    let changes = [
        ("trays_in_partition = 18", "trays_in_partition = 2"),
        ("segment_required = false", "segment_required = true"),
        ("slurm_partitions = nil", "slurm_partitions = { \"trays\" }"),
    ];
    let conf = cluster.ctl(&["scontrol", "show", "partition", "--oneliner"])?;
    let name = conf.split_whitespace().find_map(|word| word.strip_prefix("PartitionName="));
    ensure!(name == Some("trays"), "the Slurm partition has another name: {conf}");
    with_filter(cluster, &example(&changes)?, || {
        for options in [&["-N4"][..], &["-N4", "-ptrays"], &["-N8", "--segment=4"]] {
            let captured = sbatch(cluster, options)?;
            ensure!(!captured.status.success(), "{options:?} is accepted: {captured:?}");
            let words = if options.len() == 2 && options[1].starts_with("--") {
                "waits for ever"
            } else {
                "requires"
            };
            ensure!(lines(&captured).last().is_some_and(|line| line.contains(words)), "{captured:?}");
        }
        for options in [&["-N2"][..], &["-N4", "--segment=2"], &["-n2"]] {
            let captured = sbatch(cluster, options)?;
            ensure!(accepted(&format!("{options:?}"), &captured)?.is_empty(), "{captured:?}");
        }
        let queue = cluster.ctl(&["squeue", "--noheader", "--format=%i"])?;
        ensure!(queue.lines().count() == 3, "refused jobs are in the queue, or others are not:\n{queue}");
        Ok(())
    })
}

fn mistaken(cluster: &Cluster) -> anyhow::Result<()> {
    let mistake = [("local lines, goes_on = advice", "local lines, goes_on = nothing.advice")];
    with_filter(cluster, &example(&mistake)?, || {
        let captured = sbatch(cluster, &["-N4"])?;
        ensure!(accepted("-N4", &captured).context("with a mistake in the file")?.is_empty(), "{captured:?}");
        Ok(())
    })
}
