use super::*;
use std::time::Instant;

#[test]
fn gpus_are_counted_as_gres_writes_them() {
    for (gres, count) in [
        ("gpu:gb200:4(S:0-1),nvme:1", Some(4)),
        ("gpu:4", Some(4)),
        ("gpu", Some(1)),
        ("gpu:gb200", Some(1)),
        ("gpu:a:2(S:0,1),gpu:b:2(IDX:0,1)", Some(4)),
        ("gpu:0", None),
        ("nvme:4", None),
        ("", None),
        ("gpus:4", None),
    ] {
        assert_eq!(gpu_count(gres), count, "{gres}");
    }
}

#[test]
fn a_node_that_cannot_be_understood_does_not_stop_the_others() {
    let text = r#"{"nodes":[
        {"name":"n1","extra":"","gres":"gpu:4","state":["IDLE"]},
        {"name":"n 2"},
        {"extra":"x"},
        {"name":"n3","extra":"rack=7","gres":"gpu:4","state":["DOWN","NOT_RESPONDING"]},
        {"name":"cpu1","state":["IDLE"]}
    ],"last_update":{"number":1},"meta":{},"errors":[],"warnings":[]}"#;
    let inventory = parse(text).unwrap();
    let seen: Vec<(&str, &Seen, Option<&str>)> =
        inventory.observations.iter().map(|o| (o.node.as_str(), &o.seen, o.stale.as_deref())).collect();
    assert_eq!(
        seen,
        [
            ("n1", &Seen::Silent("no NVLink reading in its Extra field".into()), None),
            (
                "n3",
                &Seen::Silent("the field Extra is not JSON: expected value at line 1 column 1".into()),
                Some("the node is DOWN")
            ),
            ("cpu1", &Seen::NoGpus("no GPUs in its Gres".into()), None),
        ]
    );
    assert_eq!(
        inventory.notes,
        [
            "node n 2 in Slurm's list: name \"n 2\" holds ' ', which cannot be part of a name",
            "node without a name in Slurm's list: missing field `name`",
        ]
    );
}

#[test]
fn text_that_is_no_node_list_is_refused() {
    for text in ["", "slurm_load_node error: Unable to contact slurm controller", "{}", "[]"] {
        assert_eq!(
            parse(text).unwrap_err().to_string(),
            "Slurm's node list is not JSON of the expected form"
        );
    }
}

fn script(name: &str, body: &str) -> (tempfile::TempDir, PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    (dir, path)
}

#[test]
fn scontrol_is_asked_once_and_its_words_are_kept() {
    let (_dir, good) = script("scontrol", r#"[ "$*" = "show nodes --json" ] && echo '{"nodes":[]}'"#);
    assert_eq!(ask(&good, Duration::from_secs(20)).unwrap(), "{\"nodes\":[]}\n");
    let (_dir, bad) =
        script("scontrol", "echo 'slurm_load_node error: Unable to contact slurm controller' >&2; exit 1");
    let error = ask(&bad, Duration::from_secs(20)).unwrap_err().to_string();
    assert!(
        error.ends_with("(exit status: 1): slurm_load_node error: Unable to contact slurm controller"),
        "{error}"
    );
    assert!(matches!(ask(Path::new("/no/scontrol"), Duration::from_secs(20)), Err(SlurmError::Start { .. })));
}

#[test]
fn an_scontrol_that_hangs_is_ended_at_the_deadline() {
    let (_dir, slow) = script("scontrol", "exec sleep 600");
    let begin = Instant::now();
    assert!(matches!(ask(&slow, Duration::from_millis(200)), Err(SlurmError::Deadline { .. })));
    assert!(begin.elapsed() < Duration::from_secs(60));
}
