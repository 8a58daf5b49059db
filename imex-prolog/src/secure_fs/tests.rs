use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};

fn fresh() -> (tempfile::TempDir, Dir) {
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::create(&temp.path().join("a/b"), 0o700).unwrap();
    (temp, dir)
}

#[test]
fn directories_are_made_with_the_given_mode_and_opened_again() {
    let (temp, dir) = fresh();
    let mode = |path: &str| std::fs::metadata(temp.path().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("a"), mode("a/b")), (0o755, 0o700));
    assert_eq!(Dir::open(dir.path()).unwrap().path(), dir.path());
}

#[test]
fn relative_and_climbing_paths_are_refused() {
    for path in ["x/y", "", "/tmp/../etc"] {
        assert!(matches!(Dir::open(Path::new(path)), Err(FsError::Path { .. })), "{path:?}");
    }
}

#[test]
fn a_linked_component_is_refused() {
    let (temp, dir) = fresh();
    symlink(dir.path(), temp.path().join("link")).unwrap();
    assert!(matches!(Dir::open(&temp.path().join("link")), Err(FsError::Call { .. })));
}

#[test]
fn a_directory_that_others_may_write_to_is_refused_even_when_sticky() {
    let (_temp, dir) = fresh();
    for mode in [0o777, 0o1777, 0o720] {
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(Dir::open(dir.path()), Err(FsError::Unsafe { .. })), "{mode:o}");
    }
}

#[test]
fn below_directories_of_others_only_the_last_one_must_be_ours() {
    let (temp, dir) = fresh();
    std::fs::set_permissions(temp.path().join("a"), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(Dir::open(dir.path()), Err(FsError::Unsafe { .. })));
    Dir::open_below_others(dir.path()).unwrap().write_atomic("file", b"x", 0o644).unwrap();
    symlink(temp.path().join("a"), temp.path().join("link")).unwrap();
    assert!(matches!(Dir::open_below_others(&temp.path().join("link/b")), Err(FsError::Call { .. })));
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(Dir::open_below_others(dir.path()), Err(FsError::Unsafe { .. })));
}

#[test]
fn what_was_written_is_read_back_and_has_its_mode() {
    let (_temp, dir) = fresh();
    dir.write_atomic("file", b"one", 0o600).unwrap();
    dir.write_atomic("file", b"two", 0o600).unwrap();
    assert_eq!(dir.read("file", 3).unwrap().unwrap(), b"two");
    assert_eq!(dir.names().unwrap(), ["file"]);
    assert_eq!(dir.look("file").unwrap().unwrap().st_mode & 0o7777, 0o600);
}

#[test]
fn a_temporary_file_of_a_killed_writer_does_no_harm() {
    let (_temp, dir) = fresh();
    let own = format!(".file.{}.new", std::process::id());
    for name in [own.as_str(), ".file.2147483647.new", ".file.1.new", ".other"] {
        std::fs::File::create(dir.path().join(name)).unwrap();
    }
    dir.write_atomic("file", b"x", 0o600).unwrap();
    dir.forget_dead_writers(&Proc::new(Path::new("/proc")));
    assert_eq!(dir.names().unwrap(), [".file.1.new", ".other", "file"]);
}

#[test]
fn reading_refuses_links_directories_large_and_writable_files() {
    let (_temp, dir) = fresh();
    dir.write_atomic("file", b"four", 0o600).unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    dir.subdir("dir", 0o700).unwrap();
    assert!(matches!(dir.read("file", 3), Err(FsError::TooLarge { limit: 3, .. })));
    assert!(matches!(dir.read("link", 9), Err(FsError::Kind { .. })));
    assert!(matches!(dir.read("dir", 9), Err(FsError::Kind { .. })));
    assert!(dir.read("nothing", 9).unwrap().is_none());
    std::fs::set_permissions(dir.path().join("file"), std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(matches!(dir.read("file", 9), Err(FsError::Unsafe { mode: 0o666, .. })));
}

#[test]
fn removing_is_idempotent_and_a_flat_directory_goes_with_its_files() {
    let (_temp, dir) = fresh();
    let inner = dir.subdir("job-1", 0o700).unwrap();
    inner.write_atomic("a", b"", 0o600).unwrap();
    inner.write_atomic("b", b"", 0o600).unwrap();
    assert!(dir.remove_flat_dir("job-1").unwrap());
    assert!(!dir.remove_flat_dir("job-1").unwrap());
    assert!(!dir.remove_file("a").unwrap());
    assert!(dir.names().unwrap().is_empty());
}
