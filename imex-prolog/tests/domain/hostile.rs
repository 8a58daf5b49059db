//! What should never be there: names with shell characters, endless host lists, planted links, a full disk, no permission.
//! Each ends in a clear error or is passed by; none is followed, run or left half done.

use crate::cases::{Case, QUICK};
use crate::site::{Ran, Site};
use anyhow::{Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

pub(crate) const CASES: [(&str, Case); 8] = [
    ("names_with_shell_characters_are_refused", names),
    ("a_host_list_of_a_million_nodes_is_read_or_refused", endless),
    ("planted_links_are_not_followed", links),
    ("planted_links_in_the_metrics_directory_are_not_followed", metrics_links),
    ("state_that_others_may_write_is_refused", open_state),
    ("a_full_disk_is_a_fault_that_leaves_nothing_half_done", full_disk),
    ("without_permission_each_run_says_so", no_permission),
    ("a_clock_that_jumps_changes_nothing", jumping_clock),
];

fn names() -> Result<()> {
    let site = Site::alone(QUICK)?;
    let witness = site.root().join("witness");
    let bad = format!("t1;touch {}", witness.display());
    for (name, value, said) in [
        ("SLURMD_NODENAME", bad.clone(), "SLURMD_NODENAME is not usable"),
        ("SLURMD_NODENAME", "../../t1".to_owned(), "SLURMD_NODENAME is not usable"),
        (
            "SLURM_JOB_NODELIST",
            format!("t1,$(touch {})", witness.display()),
            "SLURM_JOB_NODELIST is not a host list",
        ),
        ("SLURM_JOB_NODELIST", "t1,t[1".to_owned(), "SLURM_JOB_NODELIST is not a host list"),
        ("SLURM_JOB_ID", "1/../2".to_owned(), "SLURM_JOB_ID is not usable"),
        ("SLURM_JOB_UID", "0x0".to_owned(), "SLURM_JOB_UID is \"0x0\", not a number"),
        (
            "SLURM_CONF",
            "/etc/../slurm.conf".to_owned(),
            "SLURM_CONF is \"/etc/../slurm.conf\", not a plain absolute path",
        ),
    ] {
        site.environment(&format!("{name}={value}\n"))?;
        // The same on all trays: none of them drains for it.
        site.hook("prolog", 1)?.expect(0, said)?;
        ensure!(site.channel().is_none() && !witness.exists());
    }
    // Texts that a user writes are not even read.
    let comment =
        format!("SLURM_JOB_COMMENT=$(touch {0})\nSLURM_JOB_PARTITION=`touch {0}`\n", witness.display());
    site.environment(&comment)?;
    site.hook("prolog", 1)?.expect(0, "outcome=\"ready\"")?;
    site.hook("epilog", 1)?.expect(0, "outcome=\"removed\"")?;
    ensure!(!witness.exists());
    site.ensure_clean(1)
}

fn endless() -> Result<()> {
    // An emulated processor needs seconds for the longest list, which count as time for the domain.
    let site = Site::alone("[deadlines]\nready_seconds = 90\nstop_seconds = 1\n")?;
    let million: Vec<String> = (0..16).map(|rack| format!("x{rack}n[00001-65536]")).collect();
    for (list, said) in [
        // Slurm itself has at most some ten thousand nodes.
        (format!("t1,{}", million.join(",")), "host list has more than 262144 hosts"),
        (format!("{},t1", million[..3].join(",")), "all 1 members connected"),
        (million[..3].join(","), "is not in the job's node list"),
        ("t1,x[1-100000000]".to_owned(), "SLURM_JOB_NODELIST is not a host list"),
        ("t1,x[1-9999][1-9999]".to_owned(), "SLURM_JOB_NODELIST is not a host list"),
    ] {
        site.environment(&format!("SLURM_JOB_NODELIST={list}\n"))?;
        let ran = site.hook("prolog", 1)?;
        ran.expect(0, said)?;
        let longest = ran.text.lines().map(str::len).max().unwrap_or(0);
        ensure!(longest < 10_000, "a line of {longest} bytes");
        site.hook("epilog", 1)?.expect(0, "outcome=")?;
    }
    site.ensure_clean(1)
}

/// A file that nobody may change.
const SECRET: &str = "secret\n";

fn links() -> Result<()> {
    let site = Site::alone(QUICK)?;
    let elsewhere = tempfile::tempdir()?;
    let secret = elsewhere.path().join("secret");
    std::fs::write(&secret, SECRET)?;
    let run = &site.paths.run_dir;
    std::fs::create_dir_all(run)?;
    std::fs::set_permissions(run, std::fs::Permissions::from_mode(0o700))?;
    std::fs::create_dir_all(&site.paths.channel_dir)?;

    // In place of the channel: the link goes, what it leads to stays.
    symlink(&secret, site.paths.channel_dir.join("channel0"))?;
    site.hook("prolog", 1)?.expect(0, "outcome=\"ready\"")?;
    site.hook("epilog", 1)?.expect(0, "outcome=\"removed\"")?;
    // In place of a record: it cannot be read, and is removed as a link.
    symlink(&secret, run.join("job-1.record"))?;
    site.hook("prolog", 1)?.expect(0, "outcome=\"ready\"")?;
    site.hook("epilog", 1)?.expect(0, "outcome=\"removed\"")?;
    site.ensure_clean(1)?;
    // In place of a job's directory and of the lock: refused.
    symlink(elsewhere.path(), run.join("job-1"))?;
    site.hook("prolog", 1)?.expect(1, "cannot open directory")?;
    ensure!(std::fs::read_dir(elsewhere.path())?.count() == 1, "something was written through the link");
    std::fs::remove_file(run.join("job-1"))?;
    site.hook("epilog", 1)?.expect(0, "outcome=")?;
    std::fs::remove_file(run.join("tray.lock"))?;
    symlink(&secret, run.join("tray.lock"))?;
    site.hook("prolog", 1)?.expect(1, "cannot open the tray lock")?;
    std::fs::remove_file(run.join("tray.lock"))?;
    // In place of the own log: words go to standard error alone.
    std::fs::remove_file(site.paths.own_log())?;
    symlink(&secret, site.paths.own_log())?;
    site.hook("prolog", 1)?.expect(0, "outcome=\"ready\"")?;
    site.hook("epilog", 1)?.expect(0, "outcome=\"removed\"")?;
    ensure!(std::fs::read_to_string(&secret)? == SECRET, "the file behind the links was changed");
    site.ensure_clean(1)
}

/// The only directory of ours that another program reads, and that a site may have opened to its users by mistake.
fn metrics_links() -> Result<()> {
    const FILE: &str = "slurm_nvlink_imex.prom";
    let elsewhere = tempfile::tempdir()?;
    let secret = elsewhere.path().join("secret");
    std::fs::write(&secret, SECRET)?;
    let directory = elsewhere.path().join("metrics");
    let site = Site::alone(&format!("{QUICK}[metrics]\ndirectory = \"{}\"\n", directory.display()))?;
    // No run fails for want of metrics.
    let both = |job: u32, said: &str| -> Result<()> {
        for (hook, word) in [("prolog", "ready"), ("epilog", "removed")] {
            let ran = site.hook(hook, job)?;
            ran.expect(0, &format!("outcome=\"{word}\""))?;
            ran.expect(0, said)?;
        }
        ensure!(std::fs::read_to_string(&secret)? == SECRET, "the file behind the links was changed");
        site.ensure_clean(job)
    };
    // In place of the directory: refused.
    let real = elsewhere.path().join("real");
    std::fs::create_dir(&real)?;
    symlink(&real, &directory)?;
    both(1, "cannot use the metrics directory")?;
    ensure!(std::fs::read_dir(&real)?.next().is_none(), "something was written through the link");
    // One that everybody may write: refused, whatever lies in it.
    std::fs::remove_file(&directory)?;
    std::fs::create_dir(&directory)?;
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777))?;
    symlink(&secret, directory.join(FILE))?;
    both(2, "is not safe to use")?;
    ensure!(directory.join(FILE).is_symlink());
    // In place of the file, and where the new one is written first: the links go, what they lead to stays.
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755))?;
    both(3, "outcome=")?;
    let written = std::fs::symlink_metadata(directory.join(FILE))?;
    ensure!(written.is_file() && written.permissions().mode() & 0o7777 == 0o644, "{written:?}");
    let text = std::fs::read_to_string(directory.join(FILE))?;
    ensure!(text.contains("runs_total{hook=\"prolog\",outcome=\"ready\"} 1\n"), "{text}");
    // A file of somebody else's, a device and an endless one are begun anew.
    std::fs::set_permissions(directory.join(FILE), std::fs::Permissions::from_mode(0o666))?;
    both(1, "outcome=")?;
    let text = std::fs::read_to_string(directory.join(FILE))?;
    ensure!(text.contains("runs_total{hook=\"prolog\",outcome=\"ready\"} 1\n"), "{text}");
    Ok(())
}

fn open_state() -> Result<()> {
    let site = Site::alone(QUICK)?;
    std::fs::create_dir_all(&site.paths.run_dir)?;
    std::fs::set_permissions(&site.paths.run_dir, std::fs::Permissions::from_mode(0o777))?;
    let ran = site.hook("prolog", 1)?;
    ran.expect(1, "is not safe to use")?;
    ran.expect(1, "must belong to root and be closed to writing by others")?;
    std::fs::set_permissions(&site.paths.run_dir, std::fs::Permissions::from_mode(0o700))?;
    std::fs::set_permissions(&site.paths.settings, std::fs::Permissions::from_mode(0o666))?;
    // One file for the whole cluster, as a rule: no tray drains for it.
    site.hook("prolog", 1)?.expect(0, "cannot use the settings file")?;
    ensure!(site.channel().is_none());
    Ok(())
}

fn full_disk() -> Result<()> {
    let site = Site::alone(QUICK)?;
    let run = &site.paths.run_dir;
    std::fs::create_dir_all(run)?;
    mount(Some("tmpfs"), run, Some("tmpfs"), MsFlags::empty(), Some("size=64k,mode=700"))?;
    let filler = run.join("filler");
    // Fills it to the last page; the error is the point.
    let full = std::fs::write(&filler, vec![0; 1 << 20]);
    ensure!(full.is_err(), "the small disk took everything");
    let ran = site.hook("prolog", 1)?;
    ran.expect(1, "cannot keep the state of job 1")?;
    ran.expect(1, "No space left on device")?;
    ensure!(site.daemons(1)?.is_empty() && site.channel().is_none());
    // The epilog cannot leave its mark either, and says so.
    site.hook("epilog", 1)?.expect(1, "No space left on device")?;
    std::fs::remove_file(&filler)?;
    site.hook("epilog", 1)?.expect(0, "outcome=")?;
    site.hook("prolog", 2)?.expect(0, "outcome=\"ready\"")?;
    site.hook("epilog", 2)?.expect(0, "outcome=\"removed\"")?;
    let clean = site.ensure_clean(2);
    // A process that another test starts just now holds all open files of this one until it is its own program.
    umount2(run, MntFlags::MNT_DETACH)?;
    clean
}

fn no_permission() -> Result<()> {
    const NOBODY: u32 = 65_534;
    let site = Site::alone(QUICK)?;
    // The files are to be seen, but nothing may be made.
    std::fs::set_permissions(site.root(), std::fs::Permissions::from_mode(0o755))?;
    let run =
        |hook: &str| -> Result<Ran> { Ran::of(site.command(hook, 1)?.uid(NOBODY).gid(NOBODY).spawn()?) };
    let program = std::env::current_exe()?;
    if !std::process::Command::new(&program)
        .arg("--list")
        .uid(NOBODY)
        .output()
        .is_ok_and(|ran| ran.status.success())
    {
        // This program itself lies where nobody else may read it.
        return Ok(());
    }
    let ran = run("prolog")?;
    ran.expect(1, "Permission denied")?;
    ran.expect(1, "must be run by slurmd as root")?;
    run("epilog")?.expect(1, "Permission denied")?;
    ensure!(!site.paths.run_dir.exists() && site.channel().is_none());
    Ok(())
}

/// Takes the place of the C library's clock: each look at the time of day is a year away from the one before, forth and back; the
/// other clocks are the kernel's.
const JUMPING: &str = r#"
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static int looks;
int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME)
        time->tv_sec += (__sync_fetch_and_add(&looks, 1) % 2 ? 1 : -1) * 31536000L;
    return result;
}
"#;

fn jumping_clock() -> Result<()> {
    let site = Site::alone(QUICK)?;
    let (source, library) = (site.root().join("clock.c"), site.root().join("clock.so"));
    std::fs::write(&source, JUMPING)?;
    let built = std::process::Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status()?;
    ensure!(built.success(), "the jumping clock was not built");
    let begin = Instant::now();
    let run =
        |hook: &str| -> Result<Ran> { Ran::of(site.command(hook, 1)?.env("LD_PRELOAD", &library).spawn()?) };
    let prolog = run("prolog")?;
    prolog.expect(0, "outcome=\"ready\"")?;
    let years: std::collections::BTreeSet<&str> =
        prolog.text.lines().filter_map(|line| line.get(..4)).collect();
    ensure!(years.len() > 1, "the clock did not jump: {}", prolog.text);
    run("epilog")?.expect(0, "outcome=\"removed\"")?;
    ensure!(begin.elapsed() < Duration::from_secs(30), "took {:?}", begin.elapsed());
    site.ensure_clean(1)
}
