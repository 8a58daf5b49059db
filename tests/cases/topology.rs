//! From a rack change to a verified topology: topology-gen on the controller of real Slurm, the trays simulated.
#![forbid(unsafe_code)]

mod fabrics;
mod faults;
mod racks;
pub(crate) mod steps;

use crate::harness::{Body, Case, Setup};
use anyhow::ensure;
use nix::sys::signal::Signal;
use steps::{
    FILE, NVML, R01, R02, RACK_1, RACK_2, SOON, applied, blocks, collect, hold, nodes_of, register,
    still_runs, topology_gen, waits, with_return,
};
use tests::cluster::Target;
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
    Case { name: "topology::what_check_calls_fatal_slurm_refuses", body: Body::On(SMALL, fatal_is_fatal) },
    Case { name: "topology::a_tray_is_replaced", body: Body::On(SMALL, tray_replaced) },
    Case { name: "topology::show_draws_what_runs", body: Body::On(SMALL, show_draws) },
    Case { name: "topology::racks_come_and_go", body: Body::Own(SMALL, racks::come_and_go) },
    Case { name: "topology::any_fabric_is_loaded_as_planned", body: Body::Own(SMALL, fabrics::any_fabric) },
    Case { name: "topology::every_bad_reading_is_told", body: Body::On(SMALL, faults::bad_readings) },
    Case { name: "topology::a_killed_apply_leaves_a_whole_file", body: Body::On(SMALL, faults::killed) },
    Case {
        name: "topology::of_two_applies_one_waits_for_nobody",
        body: Body::On(SMALL, faults::two_at_once),
    },
    Case { name: "topology::a_full_disk_changes_nothing", body: Body::On(SMALL, faults::full_disk) },
];

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

/// A dead tray goes out, another one comes in its place: while it is away and while its fabric is not ready, nothing changes, and
/// afterwards nothing has changed.
fn tray_replaced(cluster: &Cluster) -> anyhow::Result<()> {
    with_return(cluster, || {
        let beside = hold(cluster, &["-N2", "-wr02n[01-02]"])?;
        let nothing_changed = |what: &str| -> anyhow::Result<()> {
            ensure!(blocks(cluster)? == [RACK_1, RACK_2], "{what}: {:?}", blocks(cluster)?);
            still_runs(cluster, beside)
        };
        cluster.stop_daemon("r02n03", Signal::SIGKILL)?;
        collect(cluster, &["r02n03"])?;
        let done = applied(cluster, &[])?;
        ensure!(done.stderr.contains(&format!("stale: r02n03: kept in {R02} where it was last")), "{done:?}");
        nothing_changed("while the tray is away")?;
        // The new tray's GPUs have other numbers; its fabric begins to work some time after its slurmd.
        let settings = cluster.tray("r02n03", &["cat", NVML])?.replace("GPU-", "GPU-ff");
        cluster.write_file(&Target::node("r02n03"), NVML, &settings)?;
        cluster.fault("r02n03", Fault::new(FaultKind::FabricInProgress), None)?;
        cluster.start_daemon("r02n03")?;
        collect(cluster, &[])?;
        let done = topology_gen(cluster, &["apply", "--readings", steps::READINGS])?;
        ensure!(done.status.code() == Some(1), "{done:?}");
        ensure!(done.stderr.contains("refused, not ready: r02n03: "), "{}", done.stderr);
        nothing_changed("while its fabric is not ready")?;
        cluster.heal(None)?;
        collect(cluster, &[])?;
        let done = applied(cluster, &[])?;
        ensure!(done.stderr.contains("nothing was reloaded"), "{}", done.stderr);
        nothing_changed("with the new tray")?;
        cluster.wait_idle(&["r02n03"])?;
        let nodes = nodes_of(cluster, &["-N2", "-wr02n03"])?;
        ensure!(nodes == ["r02n03", "r02n04"], "{nodes:?}");
        Ok(())
    })
}

fn show_draws(cluster: &Cluster) -> anyhow::Result<()> {
    with_return(cluster, || {
        let alone = hold(cluster, &["-N1", "-wr01n01", "-Jalone"])?;
        let wide = hold(cluster, &["-N5", "-wr01n[03-04],r02n[01-03]", "-Jwide"])?;
        cluster.ctl(&["scontrol", "update", "nodename=r02n04", "state=drain", "reason=cable"])?;
        let shown = topology_gen(cluster, &["show", "--width", "100", "--svg", "/run/racks.svg"])?;
        cluster.ctl(&["scontrol", "update", "nodename=r02n04", "state=resume"])?;
        ensure!(shown.status.success(), "{shown:?}");
        for line in [
            "8 trays in 2 NVLink partitions: 6 allocated, 1 idle, 1 drained".to_owned(),
            format!("  {R01}  A · B B   1 idle     r01n[01-04]"),
            format!("  {R02}  B B B #   1 drained  r02n[01-04]"),
            "segments of  1  2  4  trays".to_owned(),
            "fit now      1  0  0".to_owned(),
        ] {
            ensure!(shown.stdout.lines().any(|shown| shown == line), "not shown: {line}\n{}", shown.stdout);
        }
        let job = |letter, id, name| format!("{letter}  {id:<3}  {name:<5}  alice  ");
        let told = shown.stdout.replace("  ", " ").replace("  ", " ");
        for (letter, id, name) in [('A', alone, "alone"), ('B', wide, "wide")] {
            let line = job(letter, id.to_string(), name).replace("  ", " ").replace("  ", " ");
            ensure!(told.contains(line.trim_end()), "{line}\n{}", shown.stdout);
        }
        ensure!(told.contains(&format!("2 NVLink partitions: {R01} (2), {R02} (3)")), "{}", shown.stdout);
        let picture = cluster.ctl(&["cat", "/run/racks.svg"])?;
        ensure!(picture.contains(&format!("<title>r01n04: job {wide} wide</title>")), "{picture}");
        Ok(())
    })
}
