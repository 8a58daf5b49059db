#![forbid(unsafe_code)]
//! A random mixture of all that makes slurmctld call its topology plugin.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::random::Random;
use tests::cluster::BlockLine;
use tests::{Cluster, wait_for};

/// The queue may be this long before more is submitted.
const QUEUE: usize = 20;
/// What runs ends within this time. Under memcheck all takes twenty to fifty times as long.
const ENDS: Duration = Duration::from_secs(180);
/// When the queue has not changed for so long, it will not: a cycle of the scheduler takes no longer under memcheck.
const REST: Duration = Duration::from_secs(6);
/// Asking for the queue takes as long as submitting does, so it is looked at after so many jobs.
const LOOKED: u32 = 5;
/// A line is said after so many jobs.
const SAID: u32 = 100;

/// What was done.
#[derive(Default)]
pub(super) struct Done {
    jobs: u32,
    refused: u32,
    cancelled: u32,
    moves: u32,
    drains: u32,
    looks: u32,
    reconfigures: u32,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jobs, refused, cancelled, moves, drains, looks, reconfigures } = self;
        write!(
            f,
            "{jobs} jobs ({refused} refused by sbatch, {cancelled} cancelled), {moves} nodes moved, {drains} drained, \
             {looks} looks at the topology, {reconfigures} reconfigures"
        )
    }
}

/// Stirs until so many jobs were submitted, then waits until none is left.
pub(super) fn run(cluster: &Cluster, seed: u64, jobs: u32) -> Result<Done> {
    let mut random = Random::new(seed);
    let mut done = Done::default();
    let blocks = cluster.blocks()?;
    let nodes = cluster.nodes();
    let mut said = 0;
    ensure!(!blocks.is_empty(), "there are no blocks");
    while done.jobs < jobs {
        match random.between(1, 100) {
            1..=70 => submit(cluster, &mut random, &mut done)?,
            71..=80 => cancel(cluster, &mut random, &mut done)?,
            81..=88 => move_node(cluster, &blocks, &nodes, &mut random, &mut done)?,
            89..=93 => drain(cluster, &nodes, &mut random, &mut done)?,
            94..=97 => look(cluster, &mut done)?,
            _ => {
                cluster.ctl(&["scontrol", "reconfigure"])?;
                done.reconfigures += 1;
            }
        }
        if done.jobs.is_multiple_of(LOOKED) && queue(cluster, "")? > QUEUE {
            shorten(cluster, QUEUE / 2)?;
        }
        if done.jobs / SAID > said {
            said = done.jobs / SAID;
            println!("{done}");
        }
    }
    shorten(cluster, 0)?;
    Ok(done)
}

fn submit(cluster: &Cluster, random: &mut Random, done: &mut Done) -> Result<()> {
    let nodes = random.between(1, 8);
    let mut options = vec!["--output=/dev/null".to_owned(), format!("--nodes={nodes}")];
    let mut sometimes = |percent, option: String| {
        if random.percent(percent) {
            options.push(option);
        }
    };
    sometimes(60, "--exclusive".to_owned());
    sometimes(20, "--gres=gpu:2".to_owned());
    sometimes(10, "--nodelist=r01n02".to_owned());
    sometimes(10, "--exclude=r02n03".to_owned());
    sometimes(5, "--exclusive=topo".to_owned());
    sometimes(5, "--contiguous".to_owned());
    sometimes(5, "--ntasks-per-node=2".to_owned());
    if random.percent(40) {
        let divisors: Vec<u32> = (1..=nodes).filter(|size| nodes.is_multiple_of(*size)).collect();
        let size = divisors[random.between(1, divisors.len() as u32) as usize - 1];
        options.push(format!("--segment={size}"));
        if random.percent(30) {
            let word = if random.percent(50) { "--spread-segments" } else { "--consolidate-segments" };
            options.push(word.to_owned());
        }
    }
    done.jobs += 1;
    if cluster.submit(&options, "true").is_err() {
        done.refused += 1;
    }
    Ok(())
}

fn cancel(cluster: &Cluster, random: &mut Random, done: &mut Done) -> Result<()> {
    if done.jobs > 0 {
        let job = random.between(1, done.jobs).to_string();
        // It has ended long ago, most often.
        if cluster.ctl(&["scancel", &job]).is_ok() {
            done.cancelled += 1;
        }
    }
    Ok(())
}

fn move_node(
    cluster: &Cluster,
    blocks: &[BlockLine],
    nodes: &[String],
    random: &mut Random,
    done: &mut Done,
) -> Result<()> {
    let node = &nodes[random.between(1, nodes.len() as u32) as usize - 1];
    let block = &blocks[random.between(1, blocks.len() as u32) as usize - 1].name;
    // Out of all blocks now and then.
    let place = if random.percent(10) { "nvlink".to_owned() } else { format!("nvlink:{block}") };
    let (node, place) = (format!("nodename={node}"), format!("topology={place}"));
    if cluster.ctl(&["scontrol", "update", &node, &place]).is_ok() {
        done.moves += 1;
    }
    Ok(())
}

fn drain(cluster: &Cluster, nodes: &[String], random: &mut Random, done: &mut Done) -> Result<()> {
    let node = format!("nodename={}", nodes[random.between(1, nodes.len() as u32) as usize - 1]);
    cluster.ctl(&["scontrol", "update", &node, "state=drain", "reason=stirred"])?;
    cluster.ctl(&["scontrol", "update", &node, "state=resume"])?;
    done.drains += 1;
    Ok(())
}

fn look(cluster: &Cluster, done: &mut Done) -> Result<()> {
    cluster.ctl(&["scontrol", "show", "topology"])?;
    cluster.ctl(&["scontrol", "show", "topoconf"])?;
    cluster.ctl(&["scontrol", "show", "topology", "node=r01n01"])?;
    done.looks += 1;
    Ok(())
}

/// Jobs in these states, by the names that squeue has for them; in all of its usual ones for "".
fn queue(cluster: &Cluster, states: &str) -> Result<usize> {
    let mut command = vec!["squeue", "--noheader", "--format=%i"];
    if !states.is_empty() {
        command.extend(["--states", states]);
    }
    Ok(cluster.ctl(&command)?.lines().count())
}

/// Waits until there are at most so many jobs, or none begins or ends for a while, and cancels what is there then: jobs
/// that are larger than what the moved nodes leave, and jobs of which Slurm forgot the launch over a reconfigure.
fn shorten(cluster: &Cluster, most: usize) -> Result<()> {
    let mut last = ((0, 0), Instant::now());
    let mut length = most;
    wait_for(&format!("at most {most} jobs, or none that begins or ends"), ENDS, || {
        let (all, waiting) = (queue(cluster, "")?, queue(cluster, "PENDING")?);
        length = all;
        if last.0 != (all, waiting) {
            last = ((all, waiting), Instant::now());
        }
        let done = all <= most || last.1.elapsed() > REST;
        Ok(if done { Ok(()) } else { Err(format!("{all} jobs, {waiting} wait")) })
    })?;
    if length > most {
        cluster.ctl(&["scancel", "--user=alice"])?;
        wait_for(&format!("at most {most} jobs after all were cancelled"), ENDS, || {
            let all = queue(cluster, "")?;
            Ok(if all <= most { Ok(()) } else { Err(format!("{all} jobs")) })
        })?;
    }
    Ok(())
}
