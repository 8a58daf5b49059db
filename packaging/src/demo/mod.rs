//! `cargo xtask demo`: two racks, real Slurm, and jobs that stay inside their NVLink partitions.
//!
//! ```text
//! plan     which jobs, side by side with which
//! observe  asks the running cluster       imex   reads the daemon's answer
//! check    what was seen -> what is wrong show   what was seen -> words
//! ```
//! It ends with an error when anything is not as it must be. Slurm is real; trays, GPUs, NVML, IMEX and its channels are
//! simulated, and the output says so.

#![forbid(unsafe_code)]

mod check;
mod imex;
mod observe;
mod plan;
mod show;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use tests::{Cluster, Profile};

use crate::console::seconds;
use crate::workspace::Workspace;
use crate::{artifacts, setup};
use check::{Partitions, Seen};
use plan::Wish;
use show::{heading, quote};

/// Options of `demo`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Hardware shape of the simulated racks: a name as in tests/profiles, or a TOML file.
    #[arg(long, default_value = tests::profile::DEFAULT)]
    profile: String,
    /// Where to write the picture of the racks.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Sets up, boots, runs the jobs, checks, and tears down.
///
/// # Errors
/// When something could not be done at all; what was done and came out wrong is in the exit code.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let started = Instant::now();
    setup::ensure()?;
    artifacts::build(workspace)?;
    let profile = Profile::load(&options.profile)?;
    let boot = Instant::now();
    let cluster =
        Cluster::builder().name(&format!("demo-{}", std::process::id())).profile(&options.profile).start()?;
    println!("Real: Slurm {}, its daemons and commands, this project's programs.", cluster.about().slurm);
    println!(
        "Simulated: trays, GPUs, NVML, nvidia-imex, IMEX channels ({}: {}).",
        options.profile, profile.description
    );
    println!("\n1. {} trays are idle after {}", cluster.nodes().len(), seconds(boot.elapsed()));

    let svg = options.svg.clone().unwrap_or_else(|| workspace.target().join("demo.svg"));
    let wrong = tell(&cluster, &profile, &svg).inspect_err(|_| eprintln!("{}", cluster.log_tails()))?;
    println!("\nall of it in {}", seconds(started.elapsed()));
    if wrong.is_empty() {
        println!("demo: everything is as it must be");
        return Ok(ExitCode::SUCCESS);
    }
    for line in &wrong {
        println!("WRONG: {line}");
    }
    println!("demo: {} things are not as they must be", wrong.len());
    Ok(ExitCode::FAILURE)
}

/// The story; returns what is wrong.
fn tell(cluster: &Cluster, profile: &Profile, svg: &std::path::Path) -> Result<Vec<String>> {
    println!(
        "{}",
        heading(2, "topology-gen asks every tray's NVML (simulated) and finds the NVLink partitions")
    );
    print!("{}", quote(&observe::discovery(cluster)?));
    println!("{}", heading(3, "it writes topology.yaml"));
    print!("{}", quote(&observe::topology_yaml(cluster)?));
    println!("{}", heading(4, "slurmctld has it in force: scontrol show topology"));
    print!("{}", quote(&observe::topology_in_force(cluster)?));
    let partitions = observe::partitions(cluster)?;
    let mut wrong = check::discovery(&partitions, &profile.nvlink_partitions());

    println!("{}", heading(5, "slurmctld runs the plugin: slurmctld.log"));
    let lines = observe::plugin_lines(cluster)?;
    print!("{}", quote(&lines.join("\n")));
    if !lines.iter().any(|line| line.contains(" loaded")) {
        wrong.push("slurmctld.log does not say that the plugin is loaded".to_owned());
    }

    println!(
        "{}",
        heading(6, "jobs; nvidia-imex-ctl -N (simulated) tells the IMEX domain on a tray while the job runs")
    );
    let sizes: Vec<usize> = partitions.values().map(std::collections::BTreeSet::len).collect();
    let mut pictures = Vec::new();
    for group in plan::GROUPS {
        let fits = |wish: &&Wish| wish.fewest_partitions(&sizes).is_some();
        let (wishes, too_large): (Vec<&Wish>, Vec<&Wish>) = group.iter().partition(fits);
        for wish in too_large {
            println!("   left out: {} does not fit on {}", wish.options().join(" "), cluster.about().profile);
        }
        let jobs = together(cluster, &wishes, &partitions, &mut wrong)?;
        pictures.push(observe::picture(cluster, &jobs, &title(&jobs))?);
        wrong.extend(check::traces(&jobs, &observe::traces(cluster)?));
        let ending = Instant::now();
        observe::end(cluster, &jobs)?;
        println!("   (ended, trays free after {})", seconds(ending.elapsed()));
    }

    println!("{}", heading(7, "after the jobs: daemons, channels, records and config files on the trays"));
    let left = check::traces(&[], &observe::traces(cluster)?);
    if left.is_empty() {
        println!("   none of them on any of {} trays", cluster.nodes().len());
    }
    wrong.extend(left);
    fs::write(svg, pictures.first().map_or("", String::as_str))
        .with_context(|| format!("write {}", svg.display()))?;
    println!("{}", heading(8, &format!("the racks with the first jobs: {}", svg.display())));
    Ok(wrong)
}

/// Runs jobs side by side and shows each as soon as it runs.
fn together(
    cluster: &Cluster,
    wishes: &[&Wish],
    partitions: &Partitions,
    wrong: &mut Vec<String>,
) -> Result<Vec<Seen>> {
    let mut jobs = Vec::new();
    for wish in wishes {
        let seen = observe::start(cluster, **wish, partitions)?;
        print!("{}", show::job(&seen));
        wrong.extend(check::job(&seen, partitions));
        jobs.push(seen);
    }
    wrong.extend(check::apart(&jobs));
    Ok(jobs)
}

fn title(jobs: &[Seen]) -> String {
    let sizes: Vec<String> = jobs.iter().map(|job| job.wish.trays.to_string()).collect();
    format!("Jobs of {} trays (simulated hardware)", sizes.join(", "))
}
