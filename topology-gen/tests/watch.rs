//! `watch` as a process, against a controller made of shell scripts (simulated): it settles, acts, waits for a human, and ends.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod stand_in;

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fabric::{FabricHealth, FabricId, GpuFabric, GpuReading, HostList, TrayReading};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stand_in::{OLD, Site};

const A: &str = "aaaaaaaa-1111-4222-8333-444444444444.1";
const B: &str = "bbbbbbbb-1111-4222-8333-444444444444.1";
/// Longest time for anything to happen here.
const SOON: Duration = Duration::from_secs(60);

fn reading(id: &str) -> TrayReading {
    let id: FabricId = id.parse().unwrap();
    let (domain, partition) = (id.domain, id.partition);
    let fabric = GpuFabric { domain, partition, state: 3.into(), status: 0, health: FabricHealth::default() };
    let gpu = GpuReading { index: 0, uuid: String::new(), name: String::new(), fabric: Some(fabric) };
    TrayReading { driver_version: "1".into(), gpus: vec![gpu] }
}

/// What the trays say from now on: nodes and their partition.
fn say(site: &Site, trays: &[(&str, &str)]) {
    let mut all = BTreeMap::new();
    for (nodes, id) in trays {
        all.extend(HostList::parse(nodes).unwrap().into_iter().map(|node| (node, reading(id))));
    }
    let new = site.dir.join("readings.new");
    std::fs::write(&new, serde_json::to_string(&all).unwrap()).unwrap();
    std::fs::rename(new, site.dir.join("readings")).unwrap();
}

/// A running `watch`, ended with the test.
struct Service {
    child: Child,
    socket: UnixDatagram,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    fn start(site: &Site, more: &[&str]) -> Self {
        let socket = UnixDatagram::bind(site.dir.join("notify")).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let path = |name: &str| site.dir.join(name).to_str().unwrap().to_owned();
        let child = Command::new(env!("CARGO_BIN_EXE_topology-gen"))
            .args([
                "watch",
                "--interval",
                "1",
                "--stable",
                "2",
                "--settle",
                "0",
                "--lost",
                "3",
                "--topology",
                "t",
            ])
            .args(["--readings", &path("readings"), "--scontrol", &path("scontrol")])
            .args(["--target", &path("topology.yaml"), "--backups", &path("old"), "--metrics", &path("")])
            .args(["--allow-foreground", "--accept-wrong", "--deadline", "5"])
            .args(more)
            .env("NOTIFY_SOCKET", site.dir.join("notify"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, socket }
    }

    /// Waits until systemd would have been told this.
    fn wait_for(&self, words: &str) {
        let end = Instant::now() + SOON;
        let mut bytes = [0; 4096];
        let mut told = Vec::new();
        while Instant::now() < end {
            let len = self.socket.recv(&mut bytes).unwrap_or(0);
            let text = String::from_utf8_lossy(bytes.get(..len).unwrap()).into_owned();
            if text.contains(words) {
                return;
            }
            told.push(text);
        }
        panic!("{words:?} was not told: {told:?}");
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Ends it as systemd does; gives what it said.
    fn end(mut self) -> String {
        self.signal(Signal::SIGTERM);
        self.wait_for("STOPPING=1");
        let mut words = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{words}");
        words
    }
}

#[test]
fn a_stable_change_is_applied_and_a_great_loss_is_left_to_a_human() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path());
    say(&site, &[("n[1-4]", A), ("n[5-8]", B)]);
    let service = Service::start(&site, &[]);
    service.wait_for("READY=1");
    service.wait_for("STATUS=the topology in force is what the trays say");
    say(&site, &[("n[1-5]", A), ("n[6-8]", B)]);
    service.wait_for("STATUS=a change was seen 1 of 2 times");
    service.wait_for("STATUS=bringing a change into force");
    service.wait_for("STATUS=the topology in force is what the trays say");
    assert!(site.get("loaded").contains("n[1-5]"), "{}", site.get("loaded"));
    assert_eq!(site.reloads(), 1);
    // Three trays say nothing any more, and another one seems to move.
    say(&site, &[("n[1-2]", A), ("n[6-8]", B)]);
    service.wait_for("STATUS=3 trays lost at once: n[3-5]");
    say(&site, &[("n[1-2,8]", A), ("n[6-7]", B)]);
    service.wait_for("STATUS=3 trays lost at once: n[3-5]");
    let metrics = site.get("slurm_nvlink_topology.prom");
    assert!(metrics.contains("slurm_nvlink_topology_needs_human 1\n"), "{metrics}");
    assert!(metrics.contains("slurm_nvlink_topology_changes_total{outcome=\"applied\"} 1\n"), "{metrics}");
    assert_eq!(site.reloads(), 1);
    service.signal(Signal::SIGHUP);
    service.wait_for("STATUS=bringing a change into force");
    service.wait_for("STATUS=the topology in force is what the trays say");
    assert_eq!(site.reloads(), 2);
    assert!(site.get("topology.yaml").contains("n[1-5,8]"), "{}", site.get("topology.yaml"));
    let words = service.end();
    assert!(words.contains("told to go on; trays that are not waited for: n[3-5]"), "{words}");
    assert_eq!(words.matches("3 trays lost at once").count(), 1, "said once: {words}");
}

#[test]
fn a_dry_run_touches_nothing_and_a_source_that_fails_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path());
    say(&site, &[("n[1-5]", A), ("n[6-8]", B)]);
    let service = Service::start(&site, &["--dry-run"]);
    service.wait_for("STATUS=bringing a change into force");
    service.wait_for("STATUS=this change was tried in vain");
    assert_eq!((site.get("topology.yaml").as_str(), site.reloads()), (OLD, 0));
    site.put("gone", "");
    service.wait_for("STATUS=cannot see the trays: ");
    let words = service.end();
    assert!(
        words.contains("n5 moves from b to a") && words.contains("dry run: nothing was changed"),
        "{words}"
    );
}

#[test]
fn names_that_change_with_each_look_are_refused() {
    let done = Command::new(env!("CARGO_BIN_EXE_topology-gen")).args(["watch", "--fresh"]).output().unwrap();
    assert_eq!(done.status.code(), Some(2));
    let words = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(words.contains("--fresh would give the blocks new names at each look"), "{words}");
}
