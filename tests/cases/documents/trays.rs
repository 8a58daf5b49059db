//! What the documents tell people to type on a tray.
#![forbid(unsafe_code)]

use super::step::{At, SOON, STEP, Step, finds, prints, succeeds};
use anyhow::ensure;
use tests::cluster::Target;
use tests::fault::{Fault, FaultKind};
use tests::wait_for;

const TRAY: &str = "r01n03";
/// Where imex-prolog finds its settings.
const SETTINGS: &str = "/etc/slurm-nvlink/imex.toml";

const ON_TRAY: Step = Step { at: At::Tray(TRAY), ..STEP };

pub(super) const STEPS: &[Step] = &[
    Step {
        typed: "topology-gen probe",
        then: |_, said| {
            prints(said, &["\"domain\": \"3c9b1e52-7a41-4d0e-9f63-5b1d8ae20c01\"", "\"partition\": 32766"])
        },
        ..ON_TRAY
    },
    Step {
        typed: "--extra",
        of: "topology-gen probe",
        then: |_, said| prints(said, &["3c9b1e52-7a41-4d0e-9f63-5b1d8ae20c01"]),
        ..ON_TRAY
    },
    Step {
        typed: "imex-prolog status",
        before: |cluster| {
            let job = cluster
                .submit(&["-N2", "--exclusive", "--output=/dev/null", "-wr01n[03-04]"], "sleep 1000")?;
            cluster.wait_running(job, SOON)?;
            wait_for("the job's domain is ready", SOON, || {
                let said = cluster.tray(TRAY, &["imex-prolog", "status"])?;
                Ok(if said.contains(": ready; ") { Ok(()) } else { Err(said) })
            })
        },
        then: |_, said| prints(said, &[": ready; block nvl-3c9b1e52-32766", "member "]),
        ..ON_TRAY
    },
    Step {
        typed: "imex-prolog status --json",
        then: |_, said| {
            succeeds(said)?;
            let seen: serde_json::Value = serde_json::from_str(&said.stdout)?;
            ensure!(seen.to_string().contains("nvl-3c9b1e52-32766"), "{seen}");
            Ok(())
        },
        ..ON_TRAY
    },
    Step {
        typed: "imex-prolog status",
        before: |cluster| {
            cluster.ctl(&["scancel", "--user=alice"])?;
            cluster.wait_idle(&cluster.nodes())
        },
        then: |_, said| prints(said, &["no job has an IMEX domain on this node"]),
        ..ON_TRAY
    },
    Step {
        typed: "imex-prolog health",
        before: |cluster| {
            // The test cluster has done what it warns of.
            cluster.tray(TRAY, &["sysctl", "net.ipv4.ip_local_reserved_ports="]).map(drop)
        },
        then: |_, said| prints(said, &["ok: r01n03 in block nvl-3c9b1e52-32766", "50000,50005"]),
        ..ON_TRAY
    },
    // Now it has nothing to warn of.
    Step {
        typed: "sysctl net.ipv4.ip_local_reserved_ports=50000,50005",
        then: |cluster, said| {
            succeeds(said)?;
            let health = cluster.capture(&Target::node(TRAY), &["imex-prolog", "health"])?;
            ensure!(health.status.success() && !health.stderr.contains("50000"), "{health:?}");
            Ok(())
        },
        ..ON_TRAY
    },
    Step {
        typed: "imex-prolog health",
        before: |cluster| cluster.fault(TRAY, Fault::new(FaultKind::GpuDisagrees), None),
        then: |cluster, said| {
            cluster.heal(Some(TRAY))?;
            ensure!(said.stdout.lines().count() == 1, "not one line");
            finds(said, &["GPUs do not agree on one NVLink partition"])
        },
        ..ON_TRAY
    },
    Step {
        typed: "imex-prolog check-config",
        then: |_, said| prints(said, &["mode = \"per-job\"\n", "[deadlines]\n"]),
        ..ON_TRAY
    },
    Step {
        typed: "imex-prolog check-config",
        before: |cluster| {
            cluster.tray(TRAY, &["mkdir", "--parents", "/etc/slurm-nvlink"])?;
            cluster.write_file(
                &Target::node(TRAY),
                SETTINGS,
                "mode = \"per-day\"\n[daemon]\nserver_port = 0\n",
            )
        },
        then: |cluster, said| {
            cluster.tray(TRAY, &["rm", SETTINGS])?;
            finds(said, &["per-day"])
        },
        ..ON_TRAY
    },
    Step {
        typed: "imex-prolog --help",
        then: |_, said| prints(said, &["check-config", "health"]),
        ..ON_TRAY
    },
    Step {
        typed: "imex-prolog --version",
        then: |_, said| prints(said, &[env!("CARGO_PKG_VERSION")]),
        ..ON_TRAY
    },
    Step { typed: "imex-epilog --help", then: |_, said| prints(said, &["imex-epilog"]), ..ON_TRAY },
    Step {
        typed: "imex-epilog --version",
        then: |_, said| prints(said, &[env!("CARGO_PKG_VERSION")]),
        ..ON_TRAY
    },
    Step {
        typed: "scontrol update nodename=X state=resume",
        with: &[("X", "r01n05")],
        before: |cluster| {
            cluster
                .ctl(&["scontrol", "update", "nodename=r01n05", "state=drain", "reason=Prolog error"])
                .map(drop)
        },
        then: |cluster, said| {
            succeeds(said)?;
            cluster.wait_idle(&["r01n05"])
        },
        ..STEP
    },
];
