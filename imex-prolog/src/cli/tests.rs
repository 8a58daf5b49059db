use super::*;
use crate::secure_fs::Dir;

#[test]
fn only_the_documented_arguments_are_taken() {
    let request = |hook, words: &[&str]| parse(hook, &words.iter().map(OsString::from).collect::<Vec<_>>());
    assert_eq!(request(Hook::Prolog, &[]), Request::Run);
    assert_eq!(request(Hook::Prolog, &["status"]), Request::Status(Form::Text));
    assert_eq!(request(Hook::Prolog, &["check-config"]), Request::CheckConfig);
    assert_eq!(request(Hook::Epilog, &["status"]), Request::Refused("status".to_owned()));
    assert_eq!(request(Hook::Prolog, &["--help", "x"]), Request::Refused("--help x".to_owned()));
    assert_eq!(request(Hook::Epilog, &["--version"]), Request::Version);
    // For ourselves.
    assert_eq!(request(Hook::Prolog, &["end-job", "7"]), Request::EndJob(JobId::new(7).unwrap()));
    assert_eq!(request(Hook::Prolog, &["end-job", "x"]), Request::Refused("end-job x".to_owned()));
    assert_eq!(request(Hook::Epilog, &["end-job", "7"]), Request::Refused("end-job 7".to_owned()));
}

#[test]
fn help_names_every_command() {
    assert_eq!(
        help(Hook::Prolog),
        "Brings up a job's IMEX domain on this node. Run by slurmd as Prolog with PrologFlags=Alloc.\n\n\
         Usage:\n  imex-prolog                 as slurmd runs it, with Slurm's environment\n  \
         imex-prolog check-config    print the effective settings, or every fault in them\n  \
         imex-prolog status [--json] print what runs on this node for which job\n  \
         imex-prolog health          say in one line why this node should take no jobs, and exit 1\n  \
         imex-prolog --help\n  imex-prolog --version\n\n\
         Settings: /etc/slurm-nvlink/imex.toml. Log: /var/log/slurm-nvlink/imex.log.\n\
         Exit: 0 unless this node itself is at fault (1); wrong arguments 2.\n"
    );
    assert!(!help(Hook::Epilog).contains("status"));
}

#[test]
fn check_config_prints_the_settings_or_every_fault() {
    let temp = tempfile::tempdir().unwrap();
    let paths = Paths::below(temp.path());
    let answer = check_config(&paths);
    assert_eq!(answer.out, Settings::default().to_text());
    let dir = Dir::create(paths.settings.parent().unwrap(), 0o755).unwrap();
    dir.write_atomic("imex.toml", b"mode = 1\nx = 2\n", 0o644).unwrap();
    let answer = check_config(&paths);
    assert_eq!((answer.code, answer.err.lines().count()), (PROBLEMS, 2), "{}", answer.err);
    assert!(answer.err.starts_with(&paths.settings.display().to_string()), "{}", answer.err);
}

#[test]
fn status_and_health_answer_on_a_tray_without_anything() {
    let temp = tempfile::tempdir().unwrap();
    let paths = Paths::below(temp.path());
    assert_eq!(status(&paths, Form::Text).out, "no job has an IMEX domain on this node\n");
    assert_eq!(status(&paths, Form::Json).out, "{\"standing\":null,\"jobs\":[],\"strays\":[]}\n");
    let ground = Ground {
        conf: temp.path().join("slurm.conf"),
        node: Some(NodeName::new("x").unwrap()),
        paths,
        read_tray: || Err(fabric::nvml::NvmlError::Load { source: "none".into() }),
    };
    std::fs::create_dir_all(ground.paths.settings.parent().unwrap()).unwrap();
    std::fs::write(&ground.paths.settings, "mode = \"off\"\n").unwrap();
    let answer = health(&ground);
    assert_eq!((answer.out.as_str(), answer.code), ("ok: x in no block, 0 job(s) with a domain\n", 0));
}
