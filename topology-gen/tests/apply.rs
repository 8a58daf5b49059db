//! `apply` against a controller made of shell scripts (simulated): every way to end, and a kill at every step.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod stand_in;

use std::cell::RefCell;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, raise};
use stand_in::{NEW, OLD, Options, Site};
use topology_gen::apply::{ApplyError, Outcome, Refusal, Step};

fn site() -> (tempfile::TempDir, Site) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path());
    (dir, site)
}

const MOVE: Options = Options {
    move_running_jobs: true,
    dry_run: false,
    allow_foreground: false,
    hasty: false,
    without_reload: false,
};
/// For controllers that never report what is waited for.
const HASTY: Options = Options { hasty: true, ..MOVE };

#[test]
fn a_change_is_brought_into_force_step_by_step() {
    let (_dir, site) = site();
    let steps = RefCell::new(Vec::new());
    let (done, _) = site.apply(NEW, MOVE, &|step| steps.borrow_mut().push(step));
    let Ok(Outcome::Applied { changes, late }) = done else { panic!("{done:?}") };
    let told: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["topology \"t\": block c is new (n8)", "topology \"t\": n8 moves from b to c"]);
    assert!(late.is_empty(), "{late}");
    assert_eq!((site.get("topology.yaml").as_str(), site.get("loaded").as_str()), (NEW, NEW));
    assert_eq!(*steps.borrow(), Step::ALL[..8]);
    assert_eq!(site.reloads(), 1);
    assert_eq!(site.backups().unfinished().unwrap(), None);
    assert_eq!(site.backups().find(None, Some(NEW)).unwrap().1, OLD);
    // The same again, and with other words: nothing is reloaded.
    for text in [NEW.to_owned(), format!("# comment\n{NEW}")] {
        assert!(matches!(site.apply(&text, MOVE, &|_| {}).0, Ok(Outcome::Unchanged)));
    }
    assert_eq!(site.reloads(), 1);
}

#[test]
fn a_dry_run_changes_nothing() {
    let (_dir, site) = site();
    let (done, _) = site.apply(NEW, Options { dry_run: true, ..MOVE }, &|_| {});
    assert!(matches!(done, Ok(Outcome::WouldChange(changes)) if changes.len() == 2));
    assert_eq!((site.get("topology.yaml").as_str(), site.reloads()), (OLD, 0));
    assert!(!site.dir.join("old").exists());
}

#[test]
fn a_file_that_is_not_sound_is_never_written() {
    let (_dir, site) = site();
    for text in ["", "[]", "topology: t\nblock: {block_sizes: [4, 12], blocks: [{block: a, nodes: n1}]}\n"] {
        let (done, _) = site.apply(text, MOVE, &|_| {});
        assert!(matches!(done, Ok(Outcome::Refused(Refusal::Check(_)))), "{done:?}");
    }
    assert_eq!((site.get("topology.yaml").as_str(), site.reloads()), (OLD, 0));
}

#[test]
fn running_jobs_on_trays_that_move_hold_the_change_back() {
    let (_dir, site) = site();
    site.put("jobs", "7|alice|n[1-2]\n8|bob|n[7-8]\n");
    let (done, _) = site.apply(NEW, Options::default(), &|_| {});
    let Ok(Outcome::Refused(Refusal::Jobs(jobs))) = done else { panic!("{done:?}") };
    let told: Vec<String> = jobs.iter().map(|(job, nodes)| format!("{} {nodes}", job.id)).collect();
    assert_eq!(told, ["8 n8"]);
    assert_eq!((site.get("topology.yaml").as_str(), site.reloads()), (OLD, 0));
    let (done, lines) = site.apply(NEW, MOVE, &|_| {});
    assert!(matches!(done, Ok(Outcome::Applied { .. })), "{done:?}");
    assert_eq!(lines[0], "job 8 of bob runs on n8, which changes its block");
}

#[test]
fn a_controller_in_the_foreground_is_reloaded_only_when_allowed() {
    let (_dir, site) = site();
    for (cmdline, words) in
        [("slurmctld\0-D\0", "(process 44) runs in the foreground"), ("sh\0", "no slurmctld runs here")]
    {
        site.put("proc/44/cmdline", cmdline);
        let (done, _) = site.apply(NEW, MOVE, &|_| {});
        let Ok(Outcome::Refused(Refusal::Foreground(mode))) = done else { panic!("{done:?}") };
        assert!(mode.to_string().contains(words), "{mode}");
    }
    assert_eq!(site.reloads(), 0);
    let (done, _) = site.apply(NEW, Options { allow_foreground: true, ..MOVE }, &|_| {});
    assert!(matches!(done, Ok(Outcome::Applied { .. })), "{done:?}");
}

#[test]
fn what_the_controller_refuses_is_rolled_back_with_its_words() {
    let (_dir, site) = site();
    let (done, _) = site.apply(&format!("# REFUSE\n{NEW}"), MOVE, &|_| {});
    let Ok(Outcome::RolledBack { why, log }) = done else { panic!("{done:?}") };
    assert!(why.contains("slurm_reconfigure error:Unspecified error"), "{why}");
    assert_eq!(log, ["[now] fatal: this file is refused (simulated)"]);
    assert_eq!((site.get("topology.yaml").as_str(), site.get("loaded").as_str()), (OLD, OLD));
    assert_eq!(site.backups().unfinished().unwrap(), None);
}

#[test]
fn what_the_controller_understands_otherwise_is_rolled_back() {
    let (_dir, site) = site();
    let (done, _) = site.apply(&format!("# MISREAD\n{NEW}"), HASTY, &|_| {});
    let Ok(Outcome::RolledBack { why, .. }) = done else { panic!("{done:?}") };
    assert!(why.contains("does not report this topology within 2 s"), "{why}");
    assert_eq!((site.get("topology.yaml").as_str(), site.get("loaded").as_str()), (OLD, OLD));
}

#[test]
fn a_controller_that_is_gone_after_the_reload_leaves_the_old_file() {
    let (_dir, site) = site();
    let gone = site.dir.join("gone");
    let (done, _) = site.apply(NEW, HASTY, &|step| {
        if step == Step::Reloaded {
            std::fs::write(&gone, "").unwrap();
        }
    });
    assert!(matches!(done, Err(ApplyError::NotRestored { .. })), "{done:?}");
    assert_eq!(site.get("topology.yaml"), OLD);
    // It is back, and so is the way forward.
    std::fs::remove_file(&gone).unwrap();
    assert!(matches!(site.apply(NEW, MOVE, &|_| {}).0, Ok(Outcome::Applied { .. })));
}

#[test]
fn a_first_file_that_is_refused_is_removed_again() {
    let (_dir, site) = site();
    std::fs::remove_file(site.target()).unwrap();
    let (done, _) = site.apply(&format!("# REFUSE\n{NEW}"), MOVE, &|_| {});
    assert!(matches!(done, Ok(Outcome::RolledBack { .. })), "{done:?}");
    assert!(!site.target().exists());
}

#[test]
fn of_two_runs_at_once_one_waits_for_nobody() {
    let (_dir, site) = site();
    let (done, _) = site.apply(NEW, MOVE, &|step| {
        let (other, _) = site.apply(OLD, MOVE, &|_| {});
        assert!(matches!(other, Err(ApplyError::Backup(_))), "at {step:?}: {other:?}");
    });
    assert!(matches!(done, Ok(Outcome::Applied { .. })), "{done:?}");
    assert!(
        matches!(site.apply(OLD, MOVE, &|_| {}).0, Ok(Outcome::Applied { .. })),
        "the lock is free again"
    );
}

/// Environment of the process that kills itself: folder and step.
const KILL: (&str, &str) = ("TOPOLOGY_GEN_KILL_DIR", "TOPOLOGY_GEN_KILL_STEP");

/// Only does something as a child of the test below.
#[test]
fn child_that_is_killed() {
    let (Some(dir), Ok(at)) = (std::env::var_os(KILL.0), std::env::var(KILL.1)) else { return };
    let site = Site { dir: dir.into() };
    let text = if at.starts_with("Restore") { format!("# REFUSE\n{NEW}") } else { NEW.to_owned() };
    let _ = site.apply(&text, MOVE, &|step| {
        if format!("{step:?}") == at {
            raise(Signal::SIGKILL).unwrap();
        }
    });
}

fn run_until(dir: &Path, step: Step) {
    let own: PathBuf = std::env::current_exe().unwrap();
    let status = Command::new(own)
        .args(["--exact", "child_that_is_killed"])
        .env(KILL.0, dir)
        .env(KILL.1, format!("{step:?}"))
        .output()
        .unwrap()
        .status;
    assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "the run did not come to {step:?}");
}

#[test]
fn after_a_kill_at_any_step_the_next_run_ends_the_work() {
    for step in Step::ALL {
        let (dir, site) = site();
        run_until(dir.path(), step);
        // One of the files as a whole, whatever happened.
        let (file, loaded) = (site.get("topology.yaml"), site.get("loaded"));
        assert!(file == OLD || file == NEW, "{step:?}: {file}");
        assert!(loaded == OLD || loaded == NEW, "{step:?}: {loaded}");
        let (done, _) = site.apply(NEW, MOVE, &|_| {});
        assert!(matches!(done, Ok(Outcome::Applied { .. } | Outcome::Unchanged)), "{step:?}: {done:?}");
        assert_eq!((site.get("topology.yaml").as_str(), site.get("loaded").as_str()), (NEW, NEW), "{step:?}");
        assert_eq!(site.backups().unfinished().unwrap(), None, "{step:?}");
        assert_eq!(site.hidden(), Vec::<String>::new(), "{step:?}");
    }
}

#[test]
fn after_a_kill_behind_a_bad_file_the_next_run_goes_back_to_what_was_in_force() {
    for step in [Step::Marked, Step::Replaced, Step::Reloaded] {
        let (dir, site) = site();
        run_until(dir.path(), step);
        // The controller never gets to take a file with this in it, whoever wrote it.
        site.put("topology.yaml", &format!("# REFUSE\n{}", site.get("topology.yaml")));
        let other = NEW.replace("block: c", "block: REFUSE");
        let (done, _) = site.apply(&other, MOVE, &|_| {});
        assert!(
            matches!(done, Ok(Outcome::RolledBack { .. }) | Err(ApplyError::NotRestored { .. })),
            "{step:?}: {done:?}"
        );
        assert_eq!(site.get("topology.yaml"), OLD, "{step:?}");
        assert_eq!(site.backups().find(None, Some(NEW)).unwrap().1, OLD);
    }
}

/// Environment of the process that has a small disk of its own: folder of the disk, and its free bytes.
const DISK: (&str, &str) = ("TOPOLOGY_GEN_DISK", "TOPOLOGY_GEN_DISK_FREE");

/// Only does something as a child of the test below: a run on a disk with so much space left.
#[test]
fn child_on_a_small_disk() {
    let (Some(dir), Ok(free)) = (std::env::var_os(DISK.0), std::env::var(DISK.1)) else { return };
    let site = Site::new(Path::new(&dir));
    let free: usize = free.parse().unwrap();
    std::fs::create_dir_all(site.dir.join("old")).unwrap();
    std::fs::write(site.dir.join("old/lock"), "").unwrap();
    // The stand-in's own files have their space; what is left is for the run.
    let filler = site.dir.join("filler");
    let mut size = 1 << 20;
    while size > 0 {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&filler).unwrap();
        if std::io::Write::write_all(&mut file, &vec![0; size]).is_err() {
            size /= 2;
        }
    }
    let full = std::fs::metadata(&filler).unwrap().len();
    let room = u64::try_from(free).unwrap();
    std::fs::OpenOptions::new().write(true).open(&filler).unwrap().set_len(full - room).unwrap();
    let text = format!("# {}\n{NEW}", "x".repeat(9000));
    let (done, _) = site.apply(&text, HASTY, &|_| {});
    let file = site.get("topology.yaml");
    println!("free {free}: {}", if done.is_ok() { "done" } else { "could not" });
    match done {
        Ok(Outcome::Applied { .. }) => assert_eq!(file, text),
        Ok(Outcome::RolledBack { .. }) | Err(_) => assert_eq!(file, OLD, "{done:?}"),
        other => panic!("{other:?}"),
    }
    // What was in force is held only while a run has not ended.
    let held = site.backups().unfinished().unwrap().is_some();
    assert!(site.hidden().is_empty() || held, "{:?}", site.hidden());
    // With space again the work is done.
    std::fs::remove_file(&filler).unwrap();
    let (done, _) = site.apply(&text, MOVE, &|_| {});
    assert!(matches!(done, Ok(Outcome::Applied { .. } | Outcome::Unchanged)), "{done:?}");
    assert_eq!((site.get("topology.yaml"), site.get("loaded")), (text.clone(), text));
    assert_eq!(site.backups().unfinished().unwrap(), None);
}

#[test]
fn on_a_full_disk_the_file_is_the_old_one_or_the_new_one() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: a disk of its own needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut ends = Vec::new();
    // A page for the backup, one for the mark, three for the file, three for the stand-in's copy of it.
    for pages in 0..=12 {
        let script = "mount -t tmpfs -o size=256k tmpfs \"$1\" && exec \"$2\" --exact child_on_a_small_disk --nocapture";
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh"])
            .args([dir.path(), &std::env::current_exe().unwrap()])
            .env(DISK.0, dir.path())
            .env(DISK.1, (pages * 4096).to_string())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{pages} pages: {text}{}", String::from_utf8_lossy(&output.stderr));
        ends.extend(text.lines().find(|line| line.contains("free ")).map(|line| line.ends_with("done")));
    }
    assert_eq!(ends.len(), 13);
    assert!(ends.first() == Some(&false) && ends.last() == Some(&true), "{ends:?}");
}

#[test]
fn trays_that_only_change_their_block_move_without_a_reload() {
    let (_dir, site) = site();
    // Updates cannot end a controller, so it does not matter how it runs.
    site.put("proc/44/cmdline", "slurmctld\0-D\0");
    let moved = OLD.replace("n[1-4]", "n[1-3]").replace("n[5-8]", "n[4-8]");
    let live = Options { without_reload: true, ..MOVE };
    let (done, _) = site.apply(&moved, live, &|_| {});
    assert!(matches!(done, Ok(Outcome::Applied { .. })), "{done:?}");
    assert_eq!((site.reloads(), site.get("moves").as_str()), (0, "nodename=n4 topology=t:b\n"));
    assert_eq!((site.get("topology.yaml"), site.get("loaded")), (moved.clone(), moved.clone()));
    // More than that needs a reload, and is left alone.
    let (done, _) = site.apply(NEW, live, &|_| {});
    let Ok(Outcome::Refused(Refusal::Reload(reason))) = done else { panic!("{done:?}") };
    assert!(reason.to_string().contains("block c is new"), "{reason}");
    assert_eq!((site.reloads(), site.get("topology.yaml")), (0, moved.clone()));
    // What the controller refuses is taken back.
    site.put("stuck", "");
    let (done, _) = site.apply(OLD, live, &|_| {});
    let Ok(Outcome::RolledBack { why, .. }) = done else { panic!("{done:?}") };
    assert!(why.contains("Requested topology configuration is not available"), "{why}");
    assert_eq!((site.get("topology.yaml"), site.get("loaded")), (moved.clone(), moved));
    assert_eq!(site.backups().unfinished().unwrap(), None);
}
