//! Where jobs lie: the same scenes on our plugin and on Slurm's own, which is the reference.
//!
//! Each scene says what ours must do, and either that stock does the same or what stock does instead and why ours is
//! better. Both are checked, so a difference that is no longer there fails as loudly as a new one. Differences that
//! were seen are printed at the end, as lines that begin with `difference: `.
#![forbid(unsafe_code)]

use crate::harness::{Case, Setup};
use anyhow::{Context as _, ensure};
use fabric::{JobId, NodeName};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tests::cluster::BlockLine;
use tests::job::Job;
use tests::limits::SOON;
use tests::{Cluster, wait_for};

/// Two racks of 18 trays, without prologs.
pub(crate) const RACKS: Setup = Setup { profile: "gb200-2x18", stock: false, imex: false };
/// Four racks of 2 trays, without prologs.
pub(crate) const PAIRS: Setup = Setup { profile: "small-4x2", stock: false, imex: false };

/// What happens to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// It runs with this many trays per block, most first.
    Takes(&'static [usize]),
    /// It runs in the block of the job that is held first, alone.
    BesideTheFirst,
    /// It runs in one block, another than that of the job that is held first.
    AwayFromTheFirst,
    /// It runs in just these racks.
    Racks(&'static [&'static str]),
    /// It waits for resources.
    Waits,
    /// sbatch does not take it.
    Rejected,
}

/// What stock does in comparison.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stock {
    Same,
    Differs { expect: Expect, why: &'static str },
}

/// Commands on the controller.
type Commands = &'static [&'static [&'static str]];

/// A situation and the job that is asked for in it.
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) setup: Setup,
    /// What an admin does beforehand.
    pub(crate) before: Commands,
    /// What undoes it.
    pub(crate) after: Commands,
    /// Trays that are drained beforehand.
    pub(crate) drained: &'static str,
    /// Whether the jobs share trays; otherwise they are exclusive.
    pub(crate) shared: bool,
    /// Jobs that run beforehand and go on.
    pub(crate) held: &'static [&'static [&'static str]],
    /// The job in question.
    pub(crate) asked: &'static [&'static str],
    pub(crate) ours: Expect,
    pub(crate) stock: Stock,
}

pub(crate) const PLAIN: Scene = Scene {
    name: "",
    setup: RACKS,
    before: &[],
    after: &[],
    drained: "",
    shared: false,
    held: &[],
    asked: &[],
    ours: Expect::Waits,
    stock: Stock::Same,
};

const SCENES: &[Scene] = &[
    Scene {
        name: "placement::a_job_of_18_fills_one_partition",
        asked: &["-N18"],
        ours: Expect::Takes(&[18]),
        ..PLAIN
    },
    Scene {
        name: "placement::a_second_job_of_18_gets_the_other_partition",
        held: &[&["-N18"]],
        asked: &["-N18"],
        ours: Expect::AwayFromTheFirst,
        ..PLAIN
    },
    Scene {
        name: "placement::a_job_waits_when_every_partition_is_full",
        held: &[&["-N18"], &["-N18"]],
        asked: &["-N1"],
        ours: Expect::Waits,
        ..PLAIN
    },
    Scene {
        name: "placement::a_job_of_18_waits_rather_than_span",
        held: &[&["-N1", "-wr01n07"], &["-N1", "-wr02n07"]],
        asked: &["-N18"],
        ours: Expect::Waits,
        ..PLAIN
    },
    Scene {
        name: "placement::a_job_of_17_fits_beside_a_drained_tray",
        drained: "r01n03,r02n03",
        asked: &["-N17"],
        ours: Expect::Takes(&[17]),
        ..PLAIN
    },
    Scene {
        name: "placement::a_job_of_1_does_not_break_a_free_partition",
        held: &[&["-N4", "-wr02n[01-04]"]],
        asked: &["-N1"],
        ours: Expect::BesideTheFirst,
        stock: Stock::Differs {
            expect: Expect::AwayFromTheFirst,
            why: "one-node jobs bypass stock's block placement and take the first free node, here of a whole free \
                  partition",
        },
        ..PLAIN
    },
    Scene {
        name: "placement::a_job_of_1_task_does_not_break_a_free_partition",
        held: &[&["-N4", "-wr02n[01-04]"]],
        asked: &["-n1"],
        ours: Expect::BesideTheFirst,
        stock: Stock::Differs {
            expect: Expect::AwayFromTheFirst,
            why: "one-node jobs bypass stock's block placement, also when only a task is asked for",
        },
        ..PLAIN
    },
    Scene {
        name: "placement::a_job_of_8_takes_the_fuller_partition",
        held: &[&["-N4", "-wr01n[01-04]"]],
        asked: &["-N8"],
        ours: Expect::BesideTheFirst,
        ..PLAIN
    },
    Scene {
        name: "placement::a_job_of_16_goes_where_it_fits",
        held: &[&["-N4", "-wr01n[01-04]"]],
        asked: &["-N16"],
        ours: Expect::AwayFromTheFirst,
        ..PLAIN
    },
    Scene {
        name: "placement::a_job_of_20_is_split_evenly",
        asked: &["-N20"],
        ours: Expect::Takes(&[10, 10]),
        stock: Stock::Differs {
            expect: Expect::Takes(&[18, 2]),
            why: "stock fills one block first; an even split needs no more partitions and gives each the same share",
        },
        ..PLAIN
    },
    Scene {
        name: "placement::segments_of_12_lie_in_one_partition_each",
        asked: &["-N24", "--segment=12"],
        ours: Expect::Takes(&[12, 12]),
        ..PLAIN
    },
    Scene {
        name: "placement::segments_share_a_partition_where_they_fit",
        asked: &["-N16", "--segment=8"],
        ours: Expect::Takes(&[16]),
        ..PLAIN
    },
    Scene {
        name: "placement::spread_segments_do_not_share_a_partition",
        asked: &["-N16", "--segment=8", "--spread-segments"],
        ours: Expect::Takes(&[8, 8]),
        ..PLAIN
    },
    Scene {
        name: "placement::consolidated_segments_are_stocks",
        asked: &["-N16", "--segment=8", "--consolidate-segments"],
        ours: Expect::Takes(&[16]),
        ..PLAIN
    },
    Scene {
        name: "placement::a_range_of_nodes_takes_the_least",
        asked: &["-N2-4"],
        ours: Expect::Takes(&[2]),
        ..PLAIN
    },
    Scene {
        name: "placement::gpus_per_node_are_found_in_one_partition",
        asked: &["-N5", "--gres=gpu:4"],
        ours: Expect::Takes(&[5]),
        ..PLAIN
    },
    Scene {
        name: "placement::gpus_per_job_are_found_in_one_partition",
        asked: &["-N3", "--gpus=12"],
        ours: Expect::Takes(&[3]),
        ..PLAIN
    },
    Scene {
        name: "placement::a_required_tray_brings_the_job_to_its_partition",
        held: &[&["-N4", "-wr01n[01-04]"]],
        asked: &["-N3", "-wr02n05"],
        ours: Expect::AwayFromTheFirst,
        ..PLAIN
    },
    Scene {
        name: "placement::excluded_trays_are_left_out",
        held: &[&["-N1", "-wr01n18"]],
        asked: &["-N10", "-xr01n[01-09]"],
        ours: Expect::AwayFromTheFirst,
        ..PLAIN
    },
    Scene {
        name: "placement::a_partition_to_oneself_is_left_alone",
        held: &[&["-N2", "--exclusive=topo"]],
        asked: &["-N2"],
        ours: Expect::AwayFromTheFirst,
        ..PLAIN
    },
    Scene {
        name: "placement::a_job_over_partitions_runs_on_the_healthy_trays",
        setup: PAIRS,
        drained: "r01n01,r02n01",
        asked: &["-N6"],
        ours: Expect::Takes(&[2, 2, 1, 1]),
        stock: Stock::Differs {
            expect: Expect::Waits,
            why: "stock allows ceil(6/2) = 3 blocks, which with two trays drained hold only five; the job would wait \
                  for ever though six healthy trays are idle",
        },
        ..PLAIN
    },
    Scene {
        name: "placement::a_job_over_partitions_does_not_scatter",
        setup: PAIRS,
        held: &[&["-N1", "-wr01n01"], &["-N1", "-wr02n01"]],
        asked: &["-N6"],
        ours: Expect::Waits,
        ..PLAIN
    },
];

/// The scenes as cases; `$index` stands in for a closure, which a table of functions cannot hold.
macro_rules! cases {
    ($($index:literal)*) => {
        &[$($crate::harness::Case {
            name: SCENES[$index].name,
            body: $crate::harness::Body::OnBoth(SCENES[$index].setup, {
                fn run(cluster: &tests::Cluster) -> anyhow::Result<()> {
                    $crate::placement::play(&SCENES[$index], cluster)
                }
                run as $crate::harness::OnCluster
            }),
        }),*]
    };
}
pub(crate) use cases;

pub(crate) const CASES: &[Case] = cases!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21);
const _: () = assert!(CASES.len() == SCENES.len(), "each scene is a case");

/// The differences that were seen.
static DIFFERENCES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps a difference between stock and ours for the end.
pub(crate) fn note_difference(line: String) {
    DIFFERENCES.lock().unwrap_or_else(PoisonError::into_inner).push(line);
}

/// Prints the differences that were seen, for people and for the runner.
pub(crate) fn print_differences() {
    for line in DIFFERENCES.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("difference: {line}");
    }
}

/// Plays a scene and clears the stage, also after a failure.
pub(crate) fn play(scene: &Scene, cluster: &Cluster) -> anyhow::Result<()> {
    let played = check(scene, cluster);
    cluster.ctl(&["scancel", "--user=alice"])?;
    let undone: anyhow::Result<Vec<String>> =
        scene.after.iter().map(|command| cluster.ctl(command)).collect();
    let cleared = clear(cluster, scene.drained);
    played.and(undone.map(drop)).and(cleared)
}

fn check(scene: &Scene, cluster: &Cluster) -> anyhow::Result<()> {
    let stock = cluster.about().plugin == "stock";
    drain(cluster, scene.drained)?;
    for command in scene.before {
        cluster.ctl(command)?;
    }
    let blocks = cluster.blocks()?;
    let submit =
        |options| if scene.shared { submit_shared(cluster, options) } else { submit(cluster, options) };
    let mut held = Vec::new();
    for options in scene.held {
        held.push(cluster.wait_running(submit(options)?, SOON)?.nodes);
    }
    let seen = match submit(scene.asked) {
        Ok(job) => outcome(cluster, job)?.map_or(Seen::Waits, Seen::Runs),
        Err(error) => Seen::Rejected(format!("{error:#}")),
    };
    let expected = match (stock, scene.stock) {
        (true, Stock::Differs { expect, .. }) => expect,
        _ => scene.ours,
    };
    ensure!(
        expected.fits(&seen, held.first(), &blocks),
        "expected {expected:?}, saw {seen:?}; held: {held:?}"
    );
    if let (true, Stock::Differs { expect, why }) = (stock, scene.stock) {
        note_difference(format!(
            "{}: stock {}, ours {}: {why}",
            scene.name,
            expect.words(),
            scene.ours.words()
        ));
    }
    Ok(())
}

/// Drains the named nodes, if any.
pub(crate) fn drain(cluster: &Cluster, nodes: &str) -> anyhow::Result<()> {
    if !nodes.is_empty() {
        let nodes = format!("nodename={nodes}");
        cluster.ctl(&["scontrol", "update", &nodes, "state=drain", "reason=scene"])?;
    }
    Ok(())
}

/// Ends all jobs and brings the drained nodes back.
pub(crate) fn clear(cluster: &Cluster, drained: &str) -> anyhow::Result<()> {
    cluster.ctl(&["scancel", "--user=alice"])?;
    if !drained.is_empty() {
        cluster.ctl(&["scontrol", "update", &format!("nodename={drained}"), "state=resume"])?;
    }
    cluster.wait_idle(&cluster.nodes())
}

/// What became of a job.
#[derive(Debug)]
enum Seen {
    Runs(Vec<NodeName>),
    Waits,
    Rejected(String),
}

/// Submits a job that shares its trays.
fn submit_shared(cluster: &Cluster, options: &[&str]) -> anyhow::Result<JobId> {
    cluster.submit(&[&["--output=/dev/null"], options].concat(), "sleep 1000")
}

/// Submits an exclusive job.
pub(crate) fn submit(cluster: &Cluster, options: &[&str]) -> anyhow::Result<JobId> {
    let exclusive = options.iter().any(|option| option.starts_with("--exclusive"));
    let mut all = vec!["--output=/dev/null"];
    if !exclusive {
        all.push("--exclusive");
    }
    all.extend(options);
    cluster.submit(&all, "sleep 1000")
}

/// The nodes of a job that runs; None for one that was looked at and waits.
pub(crate) fn outcome(cluster: &Cluster, id: JobId) -> anyhow::Result<Option<Vec<NodeName>>> {
    wait_for(&format!("job {id} is decided"), SOON, || {
        let job = cluster.job(id).context("the job in question")?;
        Ok(decided(&job).ok_or_else(|| format!("{job:?}")))
    })
}

fn decided(job: &Job) -> Option<Option<Vec<NodeName>>> {
    match (job.state.as_str(), job.reason.as_str()) {
        ("RUNNING", _) => Some(Some(job.nodes.clone())),
        // Not looked at yet.
        ("PENDING", "None" | "Priority") => None,
        ("PENDING", _) => Some(None),
        _ => None,
    }
}

impl Expect {
    fn fits(self, seen: &Seen, first: Option<&Vec<NodeName>>, blocks: &[BlockLine]) -> bool {
        let nodes = match seen {
            Seen::Runs(nodes) => nodes,
            Seen::Waits => return self == Self::Waits,
            Seen::Rejected(words) => {
                return self == Self::Rejected && words.contains("topology configuration");
            }
        };
        let used = per_block(nodes, blocks);
        let of_first = first.map(|nodes| per_block(nodes, blocks)).unwrap_or_default();
        match self {
            Self::Waits | Self::Rejected => false,
            Self::Racks(racks) => {
                let in_rack = |node: &NodeName, rack: &str| node.as_str().starts_with(rack);
                racks.iter().all(|rack| nodes.iter().any(|node| in_rack(node, rack)))
                    && nodes.iter().all(|node| racks.iter().any(|rack| in_rack(node, rack)))
            }
            Self::Takes(shape) => {
                let mut counts: Vec<usize> = used.values().copied().collect();
                counts.sort_unstable_by(|a, b| b.cmp(a));
                counts == shape
            }
            Self::BesideTheFirst => used.len() == 1 && used.keys().eq(of_first.keys()),
            Self::AwayFromTheFirst => {
                used.len() == 1 && !used.keys().any(|block| of_first.contains_key(block))
            }
        }
    }

    fn words(self) -> String {
        match self {
            Self::Takes(shape) => {
                let shape: Vec<String> = shape.iter().map(ToString::to_string).collect();
                format!("takes {} trays per partition", shape.join("+"))
            }
            Self::BesideTheFirst => "shares the partition that is in use".to_owned(),
            Self::AwayFromTheFirst => "breaks the free partition".to_owned(),
            Self::Racks(racks) => format!("takes trays of {}", racks.join(" and ")),
            Self::Waits => "waits".to_owned(),
            Self::Rejected => "does not take the job".to_owned(),
        }
    }
}

/// How many of the nodes lie in each block.
pub(crate) fn per_block<'a>(nodes: &[NodeName], blocks: &'a [BlockLine]) -> BTreeMap<&'a str, usize> {
    let mut used = BTreeMap::new();
    for block in blocks {
        let count = nodes.iter().filter(|node| block.nodes.iter().any(|name| name == node.as_str())).count();
        if count > 0 {
            used.insert(block.name.as_str(), count);
        }
    }
    used
}
