use super::*;
use crate::record::tests::sample;

fn state() -> (tempfile::TempDir, Paths, Dir) {
    let temp = tempfile::tempdir().unwrap();
    let paths = Paths::below(temp.path());
    let dir = Dir::create(&paths.run_dir, 0o700).unwrap();
    (temp, paths, dir)
}

fn read(paths: &Paths) -> TrayStatus {
    TrayStatus::read(paths, "imexd-of-status-test").unwrap()
}

fn put(dir: &Dir, record: &Record) {
    dir.write_atomic(&record.file_name(), &record.encode().unwrap(), 0o600).unwrap();
}

#[test]
fn a_tray_without_a_state_directory_has_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let status = TrayStatus::read(&Paths::below(temp.path()), "x").unwrap();
    assert_eq!(status.to_text(), "no job has an IMEX domain on this node\n");
    assert_eq!(status.to_json().unwrap(), "{\"standing\":null,\"jobs\":[],\"strays\":[]}\n");
}

#[test]
fn people_read_one_line_for_each_job_and_its_members() {
    let (_temp, paths, dir) = state();
    put(&dir, &Record { note: Some("a note".to_owned()), ..sample() });
    put(&dir, &Record { kind: Kind::Standing, state: State::Ready, ..sample() });
    dir.write_atomic("job-7.record", b"x", 0o600).unwrap();
    dir.subdir("job-8", 0o700).unwrap();
    assert_eq!(
        read(&paths).to_text(),
        "standing domain: ready; block nvl-7e1c0f5a-32766, daemon 4321 is gone\n  member 0: h001 10.75.1.1\n  \
         member 1: h002 10.75.1.2 (this node)\n\
         job 7: record cannot be read: not a record of this program\n\
         job 8: files without a record\n\
         job 1234: starting; block nvl-7e1c0f5a-32766, daemon 4321 is gone, channel 0\n  note: a note\n  \
         member 0: h001 10.75.1.1\n  member 1: h002 10.75.1.2 (this node)\n"
    );
}

#[test]
fn a_record_of_this_boot_has_an_age_and_a_living_daemon() {
    let (_temp, paths, dir) = state();
    let proc = Proc::new(std::path::Path::new("/proc"));
    let mut record = Record { boot: proc.boot_id().unwrap(), kind: Kind::Own, ..sample() };
    record.state = State::Ready;
    record.daemon = Some(proc.myself().unwrap());
    record.prolog_started.nanos = proc.now_nanos().unwrap() - 5_000_000_000;
    put(&dir, &record);
    let status = read(&paths);
    let domain = status.jobs[0].domain.clone().unwrap();
    assert!((5..60).contains(&domain.age_seconds.unwrap()), "{domain:?}");
    assert!(domain.daemon.unwrap().alive && !domain.ended);
    let text = status.to_text();
    assert!(text.contains(" runs, channel 0, for "), "{text}");
}

#[test]
fn programs_read_the_same_as_json() {
    let (_temp, paths, dir) = state();
    put(&dir, &Record { channel: None, daemon: None, kind: Kind::Guest, ..sample() });
    assert_eq!(
        read(&paths).to_json().unwrap(),
        "{\"standing\":null,\"jobs\":[{\"job\":1234,\"domain\":{\"kind\":\"guest\",\"state\":\"starting\",\
         \"block\":\"nvl-7e1c0f5a-32766\",\"members\":[{\"node\":\"h001\",\"address\":\"10.75.1.1\",\"own\":false},\
         {\"node\":\"h002\",\"address\":\"10.75.1.2\",\"own\":true}],\"channel\":null,\"daemon\":null,\
         \"age_seconds\":null,\"ended\":false,\"note\":null},\"fault\":null}],\"strays\":[]}\n"
    );
}
