use super::*;
use crate::record::tests::sample;

#[test]
fn only_the_documented_arguments_are_taken() {
    let request = |hook, words: &[&str]| parse(hook, &words.iter().map(OsString::from).collect::<Vec<_>>());
    assert_eq!(request(Hook::Prolog, &[]), Request::Run);
    assert_eq!(request(Hook::Prolog, &["status"]), Request::Status);
    assert_eq!(request(Hook::Prolog, &["check-config"]), Request::CheckConfig);
    assert_eq!(request(Hook::Epilog, &["status"]), Request::Refused("status".to_owned()));
    assert_eq!(request(Hook::Prolog, &["--help", "x"]), Request::Refused("--help x".to_owned()));
    assert_eq!(request(Hook::Epilog, &["--version"]), Request::Version);
}

#[test]
fn help_names_every_command() {
    assert_eq!(
        help(Hook::Prolog),
        "Brings up a job's IMEX domain on this node. Run by slurmd as Prolog with PrologFlags=Alloc.\n\n\
         Usage:\n  imex-prolog                 as slurmd runs it, with Slurm's environment\n  \
         imex-prolog check-config    print the effective settings, or every fault in them\n  \
         imex-prolog status          print what runs on this node for which job\n  \
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
fn status_tells_what_the_records_say() {
    let temp = tempfile::tempdir().unwrap();
    let paths = Paths::below(temp.path());
    assert_eq!(status(&paths).out, "no job has an IMEX domain on this node\n");
    let dir = Dir::create(&paths.run_dir, 0o700).unwrap();
    assert_eq!(status(&paths).out, "no job has an IMEX domain on this node\n");
    let file = crate::record::file_name(sample().job);
    let record = crate::record::Record { note: Some("a note".to_owned()), ..sample() };
    dir.write_atomic(&file, &record.encode().unwrap(), 0o600).unwrap();
    dir.write_atomic("job-7.record", b"x", 0o600).unwrap();
    dir.subdir("job-8", 0o700).unwrap();
    assert_eq!(
        status(&paths).out,
        "job 7: record cannot be read: not a record of this program\n\
         job 8: files without a record\n\
         job 1234: starting; block nvl-7e1c0f5a-32766, daemon 4321 is gone, channel 0\n  note: a note\n  \
         member 0: h001 10.75.1.1\n  member 1: h002 10.75.1.2 (this node)\n"
    );
}
