//! `topology-gen probe` on simulated trays: the real program against the simulated `libnvidia-ml.so.1`.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const DOMAIN: &str = "51a7ed00-0000-4000-8000-000000000001";

/// A simulated tray: a folder with the library under its real name, and one with the settings.
struct Tray {
    dir: tempfile::TempDir,
}

impl Tray {
    fn new(settings: &str) -> Self {
        let tray = Self { dir: tempfile::tempdir().unwrap() };
        std::os::unix::fs::symlink(simulated_library(), tray.dir.path().join("libnvidia-ml.so.1")).unwrap();
        std::fs::write(tray.dir.path().join("nvml.json"), settings).unwrap();
        tray
    }

    fn probe(&self, args: &[&str]) -> Output {
        probe(self.dir.path(), args)
    }
}

/// Building these tests builds the simulated library beside them, as a dependency.
fn simulated_library() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let built = tests.parent().unwrap().join("libnvidia_ml.so");
    assert!(built.exists(), "the simulated library is not at {}", built.display());
    built
}

fn probe(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_topology-gen"))
        .arg("probe")
        .args(args)
        .env("LD_LIBRARY_PATH", dir)
        .env("NVLINK_SIM_DIR", dir)
        .output()
        .unwrap()
}

fn data(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn every_version_of_the_query_gives_the_same_partition() {
    for api in ["v1", "v2", "v3"] {
        let output = Tray::new(&format!(r#"{{"fabric_api":["{api}"]}}"#)).probe(&[]);
        assert_eq!(output.status.code(), Some(0), "{api}: {}", words(&output));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["judgement"]["verdict"], "member", "{api}");
        assert_eq!(json["judgement"]["id"], format!("{DOMAIN}.32766"), "{api}");
        assert_eq!(json["judgement"]["gpus"], 4, "{api}");
    }
}

#[test]
fn a_tray_without_fabric_is_told_and_the_facts_come_out() {
    for settings in [r#"{"fabric_api":[]}"#, r#"{"gpus":[{"fabric_error":3}]}"#, r#"{"gpus":[]}"#] {
        let output = Tray::new(settings).probe(&[]);
        assert_eq!(output.status.code(), Some(1), "{settings}: {}", words(&output));
        assert!(
            words(&output).contains("this tray is in no NVLink partition: "),
            "{settings}: {}",
            words(&output)
        );
        assert!(data(&output).contains("\"verdict\": \"no-fabric\""), "{settings}: {}", data(&output));
    }
}

#[test]
fn gpus_that_disagree_are_a_problem_and_the_facts_come_out() {
    let tray = Tray::new(r#"{"gpus":[{"fabric":{"clique_id":1}},{"fabric":{"clique_id":4294967295}}]}"#);
    let output = tray.probe(&["--extra"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        data(&output).starts_with(r#"{"nvlink":{"v":1,"#) && data(&output).contains(".4294967295"),
        "{}",
        data(&output)
    );
    assert_eq!(
        words(&output),
        format!(
            "topology-gen: this tray has no usable NVLink partition: GPUs do not agree on one NVLink partition: \
             GPU 0 -> {DOMAIN}.1, GPU 1 -> {DOMAIN}.4294967295\n"
        )
    );
}

#[test]
fn a_lost_gpu_is_found_by_the_expected_number() {
    let tray = Tray::new(r#"{"gpus":[{},{},{}]}"#);
    assert_eq!(tray.probe(&["--expect-gpus", "3"]).status.code(), Some(0));
    let output = tray.probe(&["--expect-gpus", "4"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output).contains("3 of 4 GPUs answer"), "{}", words(&output));
}

#[test]
fn a_driver_that_fails_or_hangs_could_not_run() {
    for (settings, args, message) in [
        (
            r#"{"init_error":9}"#,
            ["--timeout", "60"],
            "because: NVML does not start\n  because: NVIDIA driver is not loaded",
        ),
        (r#"{"init_delay_ms":600000}"#, ["--timeout", "1"], "error: NVML does not answer within 1 s"),
        (r#"{"gpus":[{"fabric_error":15}]}"#, ["--timeout", "60"], "fails with NVML error 15"),
    ] {
        let output = Tray::new(settings).probe(&args);
        assert_eq!((output.status.code(), data(&output).as_str()), (Some(2), ""), "{settings}");
        assert!(
            words(&output).contains(message) && words(&output).contains("\nhint: "),
            "{}",
            words(&output)
        );
    }
}

#[test]
fn a_missing_library_says_what_to_install() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("libnvidia-ml.so.1"), "not a library").unwrap();
    let output = probe(dir.path(), &[]);
    assert_eq!((output.status.code(), data(&output).as_str()), (Some(2), ""));
    assert!(words(&output).contains("\n  because: cannot load libnvidia-ml.so.1\n"), "{}", words(&output));
    assert!(
        words(&output).contains("\nhint: install the NVIDIA driver's NVML library on this node"),
        "{}",
        words(&output)
    );
}
