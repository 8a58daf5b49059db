//! From a rack change to a verified topology: topology-gen on the controller of real Slurm, the trays simulated.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case, Setup};
use anyhow::{Context as _, ensure};
use fabric::JobId;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::time::Duration;
use tests::cluster::{BlockLine, Captured, Target};
use tests::fault::{Fault, FaultKind};
use tests::{Cluster, wait_for};

pub(crate) const SMALL: Setup = Setup::PLAIN_SMALL;
/// The same with our plugin, whose choice `why` explains.
const SMALL_OURS: Setup = Setup { stock: false, ..Setup::PLAIN_SMALL };

pub(crate) const CASES: &[Case] = &[
    Case { name: "topology::the_first_generation", body: Body::OnBoth(SMALL, first_generation) },
    Case { name: "topology::a_tray_moves_to_another_partition", body: Body::On(SMALL, tray_moves) },
    Case { name: "topology::a_rack_is_cut_in_two_and_joined_again", body: Body::OnBoth(SMALL, rack_is_cut) },
    Case { name: "topology::a_rack_goes_silent_and_comes_back", body: Body::On(SMALL, rack_goes_silent) },
    Case { name: "topology::a_refused_file_is_rolled_back", body: Body::On(SMALL, refused_file) },
    Case {
        name: "topology::a_controller_in_the_foreground_is_spared",
        body: Body::On(SMALL, foreground_is_spared),
    },
    Case { name: "topology::why_says_what_slurm_does", body: Body::On(SMALL_OURS, why_is_right) },
    Case { name: "topology::any_fabric_is_loaded_as_planned", body: Body::On(SMALL, any_fabric) },
    Case { name: "topology::what_check_calls_fatal_slurm_refuses", body: Body::On(SMALL, fatal_is_fatal) },
];

pub(crate) const SOON: Duration = Duration::from_secs(30);
pub(crate) const FILE: &str = "/etc/slurm/topology.yaml";
pub(crate) const READINGS: &str = "/run/readings.json";
pub(crate) const NVML: &str = "/run/nvlink-sim/nvml.json";
pub(crate) const R01: &str = "nvl-3c9b1e52-32766";
pub(crate) const R02: &str = "nvl-a45f0d97-32766";

/// Runs topology-gen on the controller.
pub(crate) fn topology_gen(cluster: &Cluster, args: &[&str]) -> anyhow::Result<Captured> {
    cluster.capture(&Target::controller(), &[&["topology-gen"], args].concat())
}

/// Puts what the trays say now where `--readings` finds it; trays in `silent` say nothing.
pub(crate) fn collect(cluster: &Cluster, silent: &[&str]) -> anyhow::Result<()> {
    let mut readings = serde_json::Map::new();
    for node in cluster.nodes() {
        let reading = if silent.contains(&node.as_str()) {
            serde_json::Value::Null
        } else {
            let captured = cluster.capture(&Target::node(&node), &["topology-gen", "probe"])?;
            serde_json::from_str(&captured.stdout).with_context(|| format!("probe on {node}"))?
        };
        readings.insert(node, reading);
    }
    let text = serde_json::Value::Object(readings).to_string();
    cluster.write_file(&Target::controller(), READINGS, &text)
}

/// Tells Slurm what a tray says of itself now.
pub(crate) fn register(cluster: &Cluster, node: &str) -> anyhow::Result<()> {
    let extra = cluster.tray(node, &["topology-gen", "probe", "--extra"])?;
    let extra = format!("extra={}", extra.trim());
    cluster.ctl(&["scontrol", "update", &format!("nodename={node}"), &extra]).map(drop)
}

/// Applies what is in [`READINGS`].
fn apply(cluster: &Cluster, more: &[&str]) -> anyhow::Result<Captured> {
    topology_gen(cluster, &[&["apply", "--readings", READINGS], more].concat())
}

fn applied(cluster: &Cluster, more: &[&str]) -> anyhow::Result<Captured> {
    let done = apply(cluster, more)?;
    ensure!(done.status.code() == Some(0), "apply {more:?}: {}\n{}{}", done.status, done.stderr, done.stdout);
    Ok(done)
}

/// The blocks as `name=nodes`, in Slurm's order.
pub(crate) fn blocks(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let line = |block: BlockLine| {
        let nodes: Vec<&str> = block.nodes.iter().map(|node| node.trim_start_matches('r')).collect();
        format!("{}={}", block.name, nodes.join(","))
    };
    Ok(cluster.blocks()?.into_iter().map(line).collect())
}

pub(crate) const RACK_1: &str = "nvl-3c9b1e52-32766=01n01,01n02,01n03,01n04";
pub(crate) const RACK_2: &str = "nvl-a45f0d97-32766=02n01,02n02,02n03,02n04";

/// Runs a case, then brings the cluster back to what it was, also after a failure.
pub(crate) fn with_return(
    cluster: &Cluster,
    case: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let settings: Vec<(String, String)> = cluster
        .nodes()
        .into_iter()
        .map(|node| Ok((node.clone(), cluster.tray(&node, &["cat", NVML])?)))
        .collect::<anyhow::Result<_>>()?;
    let done = case();
    let back = || -> anyhow::Result<()> {
        cluster.ctl(&["scancel", "--user=alice"])?;
        cluster.heal(None)?;
        for (node, text) in settings {
            cluster.write_file(&Target::node(&node), NVML, &text)?;
        }
        collect(cluster, &[])?;
        applied(cluster, &["--fresh", "--move-running-jobs", "--base-size", "4"])?;
        cluster.wait_idle(&cluster.nodes())?;
        let found = blocks(cluster)?;
        ensure!(found == [RACK_1, RACK_2], "the cluster is not as before: {found:?}");
        Ok(())
    };
    let back = back().context("back to the beginning");
    done.and(back)
}

/// Starts a job that stays, and waits until it runs.
pub(crate) fn hold(cluster: &Cluster, options: &[&str]) -> anyhow::Result<JobId> {
    let id = start(cluster, options)?;
    cluster.wait_running(id, SOON)?;
    Ok(id)
}

pub(crate) fn start(cluster: &Cluster, options: &[&str]) -> anyhow::Result<JobId> {
    cluster.submit(&[&["--output=/dev/null", "--exclusive"], options].concat(), "sleep 1000")
}

/// Starts a job, gives its nodes, and ends it.
pub(crate) fn nodes_of(cluster: &Cluster, options: &[&str]) -> anyhow::Result<Vec<String>> {
    let id = hold(cluster, options)?;
    let nodes = cluster.job(id)?.nodes.iter().map(ToString::to_string).collect();
    cluster.ctl(&["scancel", &id.to_string()])?;
    cluster.wait_ended(id, SOON)?;
    Ok(nodes)
}

/// The job was looked at and waits.
pub(crate) fn waits(cluster: &Cluster, options: &[&str]) -> anyhow::Result<()> {
    let id = start(cluster, options)?;
    wait_for(&format!("{options:?} is looked at"), SOON, || {
        let job = cluster.job(id)?;
        ensure!(job.state == "PENDING", "{options:?} runs: {job:?}");
        let looked_at = !matches!(job.reason.as_str(), "None" | "Priority");
        Ok(if looked_at { Ok(()) } else { Err(job.reason) })
    })?;
    cluster.ctl(&["scancel", &id.to_string()])?;
    Ok(())
}

pub(crate) fn still_runs(cluster: &Cluster, id: JobId) -> anyhow::Result<()> {
    let job = cluster.job(id)?;
    ensure!(job.state == "RUNNING" && job.restarts == 0, "job {id} does not run on: {job:?}");
    Ok(())
}

fn first_generation(cluster: &Cluster) -> anyhow::Result<()> {
    with_return(cluster, || {
        let flat = "- topology: nvlink\n  cluster_default: true\n  flat: true\n";
        cluster.write_file(&Target::controller(), "/run/flat.yaml", flat)?;
        let done = topology_gen(cluster, &["apply", "--file", "/run/flat.yaml"])?;
        ensure!(done.status.success() && cluster.blocks()?.is_empty(), "{done:?}");
        // Only Slurm's own list, with what the trays registered.
        let dry = topology_gen(cluster, &["apply", "--dry-run"])?;
        ensure!(dry.status.code() == Some(1) && dry.stdout.contains("was flat, now block"), "{dry:?}");
        ensure!(cluster.blocks()?.is_empty(), "a dry run has changed something");
        let done = topology_gen(cluster, &["apply"])?;
        ensure!(done.status.success(), "{done:?}");
        ensure!(blocks(cluster)? == [RACK_1, RACK_2], "{:?}", blocks(cluster)?);
        let again = topology_gen(cluster, &["apply"])?;
        ensure!(again.status.success() && again.stderr.contains("nothing was reloaded"), "{again:?}");
        let live = topology_gen(cluster, &["diff", "--live"])?;
        ensure!(live.status.success(), "{live:?}");
        // And back, and forth.
        let back = topology_gen(cluster, &["rollback"])?;
        ensure!(back.status.success() && cluster.blocks()?.is_empty(), "{back:?}");
        let forth = topology_gen(cluster, &["rollback"])?;
        ensure!(forth.status.success() && blocks(cluster)? == [RACK_1, RACK_2], "{forth:?}");
        let nodes = nodes_of(cluster, &["-N4", "-wr02n01"])?;
        ensure!(nodes == ["r02n01", "r02n02", "r02n03", "r02n04"], "{nodes:?}");
        Ok(())
    })
}

fn tray_moves(cluster: &Cluster) -> anyhow::Result<()> {
    with_return(cluster, || {
        let beside = hold(cluster, &["-N1", "-wr01n01"])?;
        let on_it = hold(cluster, &["-N1", "-wr01n04"])?;
        // The tray now hangs on the other rack's switches. Slurm takes over what slurmd says of itself only at a node's first
        // registration and after a reboot of the node; without one, somebody tells it.
        let settings = cluster.tray("r02n01", &["cat", NVML])?;
        cluster.write_file(&Target::node("r01n04"), NVML, &settings)?;
        register(cluster, "r01n04")?;
        let held = topology_gen(cluster, &["apply"])?;
        ensure!(
            held.status.code() == Some(1)
                && held.stdout.contains(&format!("job {on_it} of alice runs on r01n04")),
            "{held:?}"
        );
        ensure!(blocks(cluster)? == [RACK_1, RACK_2], "a refused change was made");
        let done = topology_gen(cluster, &["apply", "--move-running-jobs"])?;
        ensure!(done.status.success(), "{done:?}");
        let wanted = [format!("{R01}=01n01,01n02,01n03"), format!("{R02}=01n04,02n01,02n02,02n03,02n04")];
        ensure!(blocks(cluster)? == wanted, "{:?}", blocks(cluster)?);
        still_runs(cluster, beside)?;
        still_runs(cluster, on_it)?;
        cluster.ctl(&["scancel", &on_it.to_string()])?;
        cluster.wait_ended(on_it, SOON)?;
        let nodes = nodes_of(cluster, &["-N5"])?;
        ensure!(nodes == ["r01n04", "r02n01", "r02n02", "r02n03", "r02n04"], "{nodes:?}");
        // Also a restarted slurmd does not bring the old reading back.
        cluster.stop_daemon("r01n04", Signal::SIGTERM)?;
        cluster.start_daemon("r01n04")?;
        cluster.wait_idle(&["r01n04"])?;
        let again = topology_gen(cluster, &["apply"])?;
        ensure!(again.stderr.contains("nothing was reloaded"), "{again:?}");
        still_runs(cluster, beside)?;
        cluster.write_file(&Target::node("r01n04"), NVML, &cluster.tray("r01n03", &["cat", NVML])?)?;
        register(cluster, "r01n04")
    })
}

fn rack_is_cut(cluster: &Cluster) -> anyhow::Result<()> {
    with_return(cluster, || {
        let beside = hold(cluster, &["-N4", "-wr02n01"])?;
        for node in ["r01n03", "r01n04"] {
            cluster.fault(node, Fault::new(FaultKind::WrongClique), None)?;
        }
        collect(cluster, &[])?;
        applied(cluster, &[])?;
        let half = "nvl-3c9b1e52-32773";
        let cut = [format!("{R01}=01n01,01n02"), RACK_2.to_owned(), format!("{half}=01n03,01n04")];
        ensure!(blocks(cluster)? == cut, "{:?}", blocks(cluster)?);
        still_runs(cluster, beside)?;
        ensure!(nodes_of(cluster, &["-N2", "-wr01n03"])? == ["r01n03", "r01n04"]);
        ensure!(nodes_of(cluster, &["-N2", "-wr01n02"])? == ["r01n01", "r01n02"]);
        waits(cluster, &["-N3"])?;
        cluster.heal(None)?;
        collect(cluster, &[])?;
        applied(cluster, &[])?;
        // The half keeps its place, empty, so that no position moves.
        let joined = [RACK_1.to_owned(), RACK_2.to_owned(), format!("{half}=")];
        ensure!(blocks(cluster)? == joined, "{:?}", blocks(cluster)?);
        still_runs(cluster, beside)?;
        let nodes = nodes_of(cluster, &["-N4"])?;
        ensure!(nodes == ["r01n01", "r01n02", "r01n03", "r01n04"], "{nodes:?}");
        Ok(())
    })
}

fn rack_goes_silent(cluster: &Cluster) -> anyhow::Result<()> {
    let rack = ["r02n01", "r02n02", "r02n03", "r02n04"];
    with_return(cluster, || {
        let beside = hold(cluster, &["-N1", "-wr01n01"])?;
        for node in rack {
            cluster.fault(node, Fault::new(FaultKind::SlurmdKill), None)?;
        }
        collect(cluster, &rack)?;
        let done = applied(cluster, &[])?;
        ensure!(done.stderr.contains("stale: r02n[01-04]: kept in"), "{}", done.stderr);
        ensure!(done.stderr.contains("nothing was reloaded"), "{}", done.stderr);
        // Another rack changes meanwhile. Nobody waits beyond the deadline for nodes that do not answer; they get the
        // file when they come back.
        cluster.fault("r01n04", Fault::new(FaultKind::WrongClique), None)?;
        collect(cluster, &rack)?;
        applied(cluster, &["--deadline", "4"])?;
        let wanted =
            [format!("{R01}=01n01,01n02,01n03"), RACK_2.to_owned(), "nvl-3c9b1e52-32773=01n04".to_owned()];
        ensure!(blocks(cluster)? == wanted, "{:?}", blocks(cluster)?);
        still_runs(cluster, beside)?;
        cluster.heal(None)?;
        cluster.wait_idle(&rack)?;
        let nodes = nodes_of(cluster, &["-N4"])?;
        ensure!(nodes == rack, "{nodes:?}");
        collect(cluster, &[])?;
        applied(cluster, &[])?;
        ensure!(blocks(cluster)?[..2] == [RACK_1, RACK_2], "{:?}", blocks(cluster)?);
        still_runs(cluster, beside)
    })
}

fn refused_file(cluster: &Cluster) -> anyhow::Result<()> {
    with_return(cluster, || {
        let beside = hold(cluster, &["-N4", "-wr01n01"])?;
        let before = cluster.ctl(&["cat", FILE])?;
        // A switch of nothing: a kind of topology that topology-gen carries along unread.
        let bad = format!(
            "{before}- topology: fat\n  cluster_default: false\n  tree:\n    switches:\n      - switch: s1\n        children: nothing\n"
        );
        cluster.write_file(&Target::controller(), "/run/bad.yaml", &bad)?;
        let done = topology_gen(cluster, &["apply", "--file", "/run/bad.yaml"])?;
        ensure!(done.status.code() == Some(1), "{done:?}");
        ensure!(done.stderr.contains("rolled back") && done.stderr.contains("fatal: "), "{}", done.stderr);
        ensure!(cluster.ctl(&["cat", FILE])? == before, "the file is not as before");
        ensure!(blocks(cluster)? == [RACK_1, RACK_2], "{:?}", blocks(cluster)?);
        still_runs(cluster, beside)?;
        let nodes = nodes_of(cluster, &["-N4"])?;
        ensure!(nodes == ["r02n01", "r02n02", "r02n03", "r02n04"], "{nodes:?}");
        Ok(())
    })
}

/// A slurmctld that was started with -D dies of a file that it refuses, after it has said that all is well.
fn foreground_is_spared(cluster: &Cluster) -> anyhow::Result<()> {
    let answers = |cluster: &Cluster| {
        wait_for("slurmctld answers", SOON, || {
            Ok(cluster.ctl(&["scontrol", "show", "topoconf"]).map(drop).map_err(|error| error.to_string()))
        })
    };
    with_return(cluster, || {
        let before = cluster.ctl(&["cat", FILE])?;
        cluster.stop_daemon("ctl", Signal::SIGTERM)?;
        cluster.ctl(&["sh", "-c", "setsid slurmctld -D >/run/foreground.out 2>&1 </dev/null &"])?;
        answers(cluster)?;
        let sound = before.replace("block_sizes: [4]", "block_sizes: [4, 8]");
        cluster.write_file(&Target::controller(), "/run/sound.yaml", &sound)?;
        let done = topology_gen(cluster, &["apply", "--file", "/run/sound.yaml"])?;
        ensure!(
            done.status.code() == Some(1) && done.stderr.contains("runs in the foreground (-D)"),
            "{done:?}"
        );
        let bad =
            format!("{before}- topology: fat\n  tree: {{switches: [{{switch: s1, children: nothing}}]}}\n");
        cluster.write_file(&Target::controller(), "/run/bad.yaml", &bad)?;
        let args =
            ["apply", "--file", "/run/bad.yaml", "--accept-wrong", "--allow-foreground", "--deadline", "3"];
        let done = topology_gen(cluster, &args)?;
        ensure!(
            done.status.code() == Some(2) && done.stderr.contains("the old file is in place again"),
            "{done:?}"
        );
        ensure!(cluster.ctl(&["cat", FILE])? == before, "the file is not as before");
        // So that it can be started again at once.
        cluster.start_daemon("ctl")?;
        answers(cluster)?;
        let done = topology_gen(cluster, &["apply", "--file", "/run/sound.yaml"])?;
        ensure!(done.status.code() == Some(0), "{done:?}");
        Ok(())
    })
}

/// What `why` says of a job is what happens to it.
fn why_is_right(cluster: &Cluster) -> anyhow::Result<()> {
    with_return(cluster, || {
        hold(cluster, &["-N2", "-wr01n[01-02]"])?;
        hold(cluster, &["-N1", "-wr02n01"])?;
        let asked: [(&[&str], bool); 7] = [
            (&["-N2"], true),
            (&["-N3"], true),
            (&["-N4"], false),
            (&["-N5"], true),
            (&["-N6"], false),
            (&["-N4", "--segment=2"], true),
            (&["-N1", "-wr02n01"], false),
        ];
        for (options, fits) in asked {
            let said = topology_gen(cluster, &[&["why"], options].concat())?;
            ensure!((said.status.code() == Some(0)) == fits, "{options:?}: {said:?}");
            if fits {
                nodes_of(cluster, options)?;
                cluster.wait_idle(&["r01n03", "r01n04", "r02n02", "r02n03", "r02n04"])?;
            } else {
                waits(cluster, options)?;
            }
        }
        Ok(())
    })
}

/// Numbers that look random and are the same in each run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A reading as `topology-gen probe` prints it.
fn reading(domain: &str, partition: u64) -> serde_json::Value {
    let gpu = |index: u32| {
        serde_json::json!({"index": index, "uuid": "", "name": "simulated",
            "fabric": {"domain": domain, "partition": partition, "state": 3, "status": 0}})
    };
    serde_json::json!({"driver_version": "1", "gpus": (0..4).map(gpu).collect::<Vec<_>>()})
}

fn any_fabric(cluster: &Cluster) -> anyhow::Result<()> {
    let domains = [
        "00000000-0000-0000-0000-000000000000",
        "11111111-0000-4000-8000-00000000000a",
        "11111111-0000-4000-8000-00000000000b",
        "fedcba98-0000-4000-8000-000000000000",
    ];
    with_return(cluster, || {
        for seed in 1..=8u64 {
            let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut partitions: std::collections::BTreeMap<(usize, u64), BTreeSet<String>> =
                Default::default();
            let mut readings = serde_json::Map::new();
            for node in cluster.nodes() {
                let at = usize::try_from(numbers.below(4))?;
                let clique = [0, 1, 32766, 4_294_967_295][usize::try_from(numbers.below(4))?];
                readings.insert(node.clone(), reading(domains[at], clique));
                // A zero domain is no fabric.
                if at > 0 {
                    partitions.entry((at, clique)).or_default().insert(node);
                }
            }
            ensure!(!partitions.is_empty(), "seed {seed} gives no fabric; choose another");
            let text = serde_json::Value::Object(readings).to_string();
            cluster.write_file(&Target::controller(), READINGS, &text)?;
            // Nodes without fabric share a Slurm partition with the others here, which the check calls wrong.
            applied(cluster, &["--fresh", "--accept-wrong", "--move-running-jobs"])
                .with_context(|| format!("seed {seed}: {text}"))?;
            let wanted: BTreeSet<BTreeSet<String>> = partitions.into_values().collect();
            let found: BTreeSet<BTreeSet<String>> =
                cluster.blocks()?.into_iter().map(|block| block.nodes.into_iter().collect()).collect();
            ensure!(found == wanted, "seed {seed}: {found:?} instead of {wanted:?}");
        }
        Ok(())
    })
}

/// What the check calls fatal, real Slurm refuses; what it calls sound, real Slurm takes.
fn fatal_is_fatal(cluster: &Cluster) -> anyhow::Result<()> {
    let of = |rest: &str| format!("- topology: nvlink\n  block:\n    {rest}\n");
    let nodes = "blocks: [{block: a, nodes: 'r01n[01-04]'}, {block: b, nodes: 'r02n[01-04]'}]";
    let files = [
        (of(&format!("block_sizes: [4, 12]\n    {nodes}")), true),
        (of(&format!("block_sizes: [0]\n    {nodes}")), true),
        (of(&format!("block_sizes: [8, 4]\n    {nodes}")), true),
        (of(&format!("block_sizes: '4,8'\n    {nodes}")), true),
        (of(&format!("block_sizes: [4, 8]\n    {nodes}")), false),
        (of(nodes), false),
        (of("blocks: [{block: a, nodes: 'r01n[01-04]'}, {block: a}]"), true),
        (of("blocks: [{nodes: 'r01n[01-04]'}]"), true),
        (of("blocks: [{block: a, nodes: 'r01n[01-04'}]"), true),
        (of("blocks: [{block: a, nodes: [r01n01]}]"), true),
        (of("blocks: [{block: 'rack[1', nodes: r01n01}, {block: b, nodes: r01n02}]"), true),
        (of("blocks: [{block: a}]"), true),
        (of("block_sizes: 4\n    blocks: [{block: a}]"), false),
        ("- topology: nvlink\n".to_owned(), true),
        ("- topology: other\n  flat: true\n".to_owned(), true),
        ("{}\n".to_owned(), true),
        ("x: [\n".to_owned(), true),
        ("topology: nvlink\nflat: true\n".to_owned(), false),
    ];
    with_return(cluster, || {
        for (text, fatal) in files {
            cluster.write_file(&Target::controller(), "/run/try.yaml", &text)?;
            let args = [
                "check",
                "/run/try.yaml",
                "--slurm-conf",
                "/etc/slurm/slurm.conf",
                "--slurm-version",
                "26.05.5",
            ];
            let check = topology_gen(cluster, &args)?;
            ensure!(check.stdout.contains(": fatal: ") == fatal, "check of\n{text}\n{check:?}");
            cluster.write_file(&Target::controller(), FILE, &text)?;
            let slurm = cluster.capture(&Target::controller(), &["scontrol", "reconfigure"])?;
            ensure!(slurm.status.success() != fatal, "Slurm on\n{text}\n{slurm:?}");
            if !fatal {
                // No file may change while slurmds still take the one before.
                cluster.reload_topology(&cluster.nodes())?;
            }
        }
        Ok(())
    })
}
