//! The cases; each has its own tray.

use crate::site::{Ran, Site, kill};
use anyhow::{Result, ensure};
use imex_prolog::deadline::{Deadline, Pauses};
use libtest_mimic::{Failed, Trial};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

pub(crate) const QUICK: &str =
    "[deadlines]\nready_seconds = 10\ncontrol_call_seconds = 3\nstop_seconds = 1\n";

pub(crate) type Case = fn() -> Result<()>;

/// All cases; without root they are listed as ignored.
pub(crate) fn all(is_root: bool) -> Vec<Trial> {
    let cases: [(&str, Case); 21] = [
        ("a_job_on_one_tray_gets_its_domain_and_loses_it", one_tray),
        ("a_second_prolog_keeps_the_domain_and_a_second_epilog_finds_nothing", twice),
        ("a_daemon_that_refuses_to_start_is_this_trays_fault", refused),
        ("a_daemon_that_is_never_ready_is_this_trays_fault", never_ready),
        ("a_control_tool_that_hangs_is_bounded", tool_hangs),
        ("a_daemon_that_ignores_sigterm_is_killed_by_the_epilog", ignores_sigterm),
        ("an_epilog_ends_the_wait_of_an_orphaned_prolog", epilog_wins),
        ("a_prolog_killed_at_any_time_leaves_nothing_after_the_epilog", killed),
        ("a_prolog_killed_while_no_epilog_comes_leaves_nothing", killed_alone),
        ("a_second_prolog_that_is_killed_leaves_the_running_job_alone", killed_twice),
        ("two_trays_form_one_domain", pair),
        ("a_tray_that_fails_drains_itself_and_not_its_peer", failing_peer),
        ("members_give_up_soon_after_one_of_them_has_left", leaving_peer),
        ("a_prolog_sees_that_its_job_was_cancelled", cancelled),
        ("no_tray_is_ready_while_another_ones_prolog_cannot_tell", half_formed),
        ("a_job_whose_peer_never_comes_is_put_back", put_back),
        ("an_encrypted_domain_has_checked_keys", encrypted),
        ("a_daemon_that_ends_under_its_job_is_told_with_its_time", lost),
        ("a_daemon_of_another_version_is_this_trays_fault", other_version),
        ("runs_are_timed_in_the_log_and_counted_in_the_metrics", timed),
        ("the_next_job_clears_what_a_lost_epilog_left", next_job),
    ];
    let trial = |(name, case): (&str, Case)| {
        let body = move || case().map_err(|error| Failed::from(format!("{error:#}")));
        Trial::test(name, body).with_ignored_flag(!is_root)
    };
    cases.into_iter().chain(crate::guests::CASES).chain(crate::hostile::CASES).map(trial).collect()
}

fn one_tray() -> Result<()> {
    let site = Site::alone("")?;
    site.hook("prolog", 1)?.expect(0, "all 1 members connected")?;
    let channel = site.channel();
    let owner = channel.map(|data| (data.mode() & 0o7777, data.uid(), data.gid()));
    ensure!(owner == Some((0o600, 1000, 100)), "channel: {owner:?}");
    ensure!(site.daemons(1)?.len() == 1);
    site.hook("epilog", 1)?.expect(0, "the domain was complete; the daemon has ended in order")?;
    site.ensure_clean(1)
}

fn twice() -> Result<()> {
    let site = Site::alone("")?;
    site.hook("prolog", 1)?.expect(0, "outcome=\"ready\"")?;
    let daemons = site.daemons(1)?;
    site.hook("prolog", 1)?.expect(0, "complete already")?;
    ensure!(site.daemons(1)? == daemons);
    site.hook("epilog", 1)?.expect(0, "outcome=\"removed\"")?;
    site.hook("epilog", 1)?.expect(0, "outcome=\"nothing-to-do\"")?;
    site.ensure_clean(1)?;
    // The job's next run is not stopped by the mark of the last one.
    site.hook("prolog", 1)?.expect(0, "outcome=\"ready\"")?;
    site.hook("epilog", 1)?.expect(0, "outcome=\"removed\"")
}

fn refused() -> Result<()> {
    let site = Site::alone(QUICK)?;
    site.simulate(r#"{"fault":{"kind":"refuse","message":"no such luck"}}"#)?;
    let ran = site.hook("prolog", 1)?;
    ran.expect(1, "daemon log: ")?;
    ran.expect(1, "no such luck")?;
    ensure!(site.channel().is_none());
    site.hook("epilog", 1)?.expect(0, "outcome=\"removed\"")?;
    site.ensure_clean(1)
}

fn never_ready() -> Result<()> {
    let site = Site::alone(QUICK)?;
    site.simulate(r#"{"fault":{"kind":"hang"}}"#)?;
    site.hook("prolog", 1)?.expect(1, "did not become READY; last answer: INIT_GPU")?;
    site.hook("epilog", 1)?.expect(0, "outcome=\"removed\"")?;
    site.ensure_clean(1)
}

fn tool_hangs() -> Result<()> {
    let site = Site::alone(QUICK)?;
    site.simulate(r#"{"fault":{"kind":"ctl-hang"}}"#)?;
    site.hook("prolog", 1)?.expect(1, "was ended")?;
    site.hook("epilog", 1)?.expect(0, "outcome=\"removed\"")?;
    site.ensure_clean(1)
}

fn ignores_sigterm() -> Result<()> {
    let site = Site::alone(QUICK)?;
    site.simulate(r#"{"fault":{"kind":"ignore-sigterm"}}"#)?;
    site.hook("prolog", 1)?.expect(0, "outcome=\"ready\"")?;
    let ran = site.hook("epilog", 1)?;
    ran.expect(0, "ignored SIGTERM and was killed")?;
    ran.expect(0, "the daemon had to be killed")?;
    site.ensure_clean(1)
}

fn epilog_wins() -> Result<()> {
    let site = Site::alone("[deadlines]\nready_seconds = 60\n")?;
    site.simulate(r#"{"fault":{"kind":"hang"}}"#)?;
    let prolog = site.start("prolog", 1)?;
    wait_for("the daemon", || Ok(!site.daemons(1)?.is_empty()))?;
    site.hook("epilog", 1)?.expect(0, "outcome=\"removed\"")?;
    Ran::of(prolog)?.expect(0, "Slurm has ended this run")?;
    site.ensure_clean(1)
}

fn killed() -> Result<()> {
    let site = Site::alone(QUICK)?;
    let mut reached = [0; 2];
    for millis in (0..200).step_by(5) {
        let mut prolog = site.start("prolog", 1)?;
        let mut pauses = Pauses::new(Duration::from_millis(millis), Duration::from_millis(millis));
        pauses.pause(Deadline::after(Duration::from_millis(millis)));
        prolog.kill()?;
        let begun = usize::from(Ran::of(prolog)?.code.is_none());
        reached[begun] += 1;
        site.hook("epilog", 1)?.expect(0, "outcome=")?;
        site.ensure_clean(1)?;
    }
    ensure!(reached[1] > 0, "no prolog was killed in time: {reached:?}");
    Ok(())
}

/// As slurmd does when it is ended itself.
fn killed_alone() -> Result<()> {
    let site = Site::alone("[deadlines]\nready_seconds = 60\n")?;
    site.simulate(r#"{"fault":{"kind":"hang"}}"#)?;
    let mut prolog = site.start("prolog", 1)?;
    wait_for("the daemon", || Ok(!site.daemons(1)?.is_empty()))?;
    prolog.kill()?;
    Ran::of(prolog)?;
    wait_for("the watch removes what is left", || Ok(site.ensure_clean(1).is_ok()))?;
    let told = "watch: the prolog was killed: the domain was still forming; the daemon has ended in order";
    let log = site.paths.log_dir.join("imex.log");
    wait_for("the watch tells of it", || Ok(std::fs::read_to_string(&log)?.contains(told)))?;
    // The next job finds an empty tray.
    site.simulate("{}")?;
    site.hook("prolog", 2)?.expect(0, "all 1 members connected")?;
    site.hook("epilog", 2)?.expect(0, "outcome=\"removed\"")
}

fn killed_twice() -> Result<()> {
    let site = Site::alone(QUICK)?;
    site.hook("prolog", 1)?.expect(0, "all 1 members connected")?;
    let before = site.daemons(1)?;
    // It waits for the lock of the tray, or has ended, when it is killed.
    for _ in 0..3 {
        let mut again = site.start("prolog", 1)?;
        again.kill()?;
        Ran::of(again)?;
    }
    site.hook("prolog", 1)?.expect(0, "the domain was complete already")?;
    ensure!(site.channel().is_some() && site.daemons(1)? == before);
    site.hook("epilog", 1)?.expect(0, "outcome=\"removed\"")?;
    site.ensure_clean(1)
}

fn pair() -> Result<()> {
    let [one, two] = Site::several("t[1-2]", [("t1", ""), ("t2", "")])?;
    let prologs = (one.start("prolog", 1)?, two.start("prolog", 1)?);
    Ran::of(prologs.0)?.expect(0, "all 2 members connected")?;
    Ran::of(prologs.1)?.expect(0, "all 2 members connected")?;
    ensure!(one.channel().is_some() && two.channel().is_some());
    for site in [one, two] {
        site.hook("epilog", 1)?.expect(0, "the domain was complete; the daemon has ended in order")?;
        site.ensure_clean(1)?;
    }
    Ok(())
}

fn failing_peer() -> Result<()> {
    let [one, two] = Site::several("t[1-2]", [("t1", QUICK), ("t2", QUICK)])?;
    two.simulate(r#"{"fault":{"kind":"refuse"}}"#)?;
    let prologs = (one.start("prolog", 1)?, two.start("prolog", 1)?);
    Ran::of(prologs.1)?.expect(1, "outcome=\"fault\"")?;
    let ran = Ran::of(prologs.0)?;
    ran.expect(0, "1 of 2 members are missing, on one no IMEX daemon listens")?;
    ran.expect(0, "member 1: t2 at 10.77.")?;
    ensure!(one.channel().is_none(), "a half-formed domain got a channel");
    for site in [one, two] {
        site.hook("epilog", 1)?.expect(0, "outcome=\"removed\"")?;
        site.ensure_clean(1)?;
    }
    Ok(())
}

fn leaving_peer() -> Result<()> {
    let patient = "[deadlines]\nready_seconds = 60\npeer_lost_seconds = 1\n";
    let [one, two] = Site::several("t[1-3]", [("t1", patient), ("t2", QUICK)])?;
    let begin = std::time::Instant::now();
    let prologs = (one.start("prolog", 1)?, two.start("prolog", 1)?);
    Ran::of(prologs.1)?.expect(0, "1 of 3 members are missing, on one no IMEX daemon listens")?;
    Ran::of(prologs.0)?.expect(0, "2 of 3 members are missing, one left again")?;
    ensure!(begin.elapsed() < Duration::from_secs(30), "gave up only after {:?}", begin.elapsed());
    for site in [one, two] {
        site.hook("epilog", 1)?.expect(0, "the domain had been given up, since a member was missing")?;
        site.ensure_clean(1)?;
    }
    Ok(())
}

fn cancelled() -> Result<()> {
    let site = Site::alone("[deadlines]\nready_seconds = 60\n")?;
    site.environment("SLURM_JOB_START_TIME=1790000000\n")?;
    site.simulate(r#"{"fault":{"kind":"hang"}}"#)?;
    site.revoke(1, 1_789_999_000)?;
    let prolog = site.start("prolog", 1)?;
    wait_for("the daemon", || Ok(!site.daemons(1)?.is_empty()))?;
    site.revoke(1, 1_790_000_003)?;
    let begin = std::time::Instant::now();
    Ran::of(prolog)?.expect(0, "Slurm has ended this run")?;
    ensure!(begin.elapsed() < Duration::from_secs(30), "backed out only after {:?}", begin.elapsed());
    ensure!(site.channel().is_none());
    site.hook("epilog", 1)?.expect(0, "the domain was still forming")?;
    site.ensure_clean(1)
}

fn half_formed() -> Result<()> {
    let long = "[deadlines]\nready_seconds = 8\nown_ready_seconds = 2\ncontrol_call_seconds = 1\n";
    let [one, two] = Site::several("t[1-2]", [("t1", long), ("t2", long)])?;
    two.simulate(r#"{"fault":{"kind":"ctl-hang"}}"#)?;
    let prologs = (one.start("prolog", 1)?, two.start("prolog", 1)?);
    Ran::of(prologs.1)?.expect(1, "did not become READY")?;
    let ran = Ran::of(prologs.0)?;
    // Its daemon is gone by now, too; either shows that the domain is not whole.
    ran.expect(0, "outcome=\"no-domain\"")?;
    ran.expect(0, "member 1: t2 at 10.77.")?;
    ensure!(one.channel().is_none() && two.channel().is_none(), "a half-formed domain got a channel");
    for site in [one, two] {
        site.hook("epilog", 1)?.expect(0, "outcome=\"removed\"")?;
        site.ensure_clean(1)?;
    }
    Ok(())
}

fn put_back() -> Result<()> {
    let [one] = Site::several("t[1-2]", [("t1", QUICK)])?;
    one.environment("SLURM_JOB_START_TIME=1790000000\n")?;
    let ran = one.hook("prolog", 1)?;
    ran.expect(0, "the job could not be ended")?;
    ran.expect(0, "and runs without an IMEX channel here")?;
    ensure!(
        one.asked()? == ["requeuehold Incomplete 1", "requeuehold Incomplete 1", "1"],
        "{:?}\n{}",
        one.asked()?,
        ran.text
    );
    one.hook("epilog", 1)?.expect(0, "outcome=\"removed\"")?;
    // Now Slurm hears it.
    one.slurm_hears(1, 1_790_000_009)?;
    let ran = one.hook("prolog", 1)?;
    ran.expect(0, "Slurm has ended the job at this node's request (requeued and held it)")?;
    ran.expect(0, "outcome=\"no-domain\"")?;
    one.hook("epilog", 1)?.expect(0, "outcome=\"removed\"")?;
    one.ensure_clean(1)
}

fn lost() -> Result<()> {
    let site = Site::alone("")?;
    site.hook("prolog", 1)?.expect(0, "outcome=\"ready\"")?;
    let note = site.paths.run_dir.join("job-1.lost");
    let log = site.paths.own_log();
    // Also when the watch is still on its way.
    site.daemons(1)?.into_iter().for_each(kill);
    wait_for("the note", || Ok(note.exists()))?;
    wait_for("the log", || Ok(std::fs::read_to_string(&log)?.contains("has ended under its running job")))?;
    let ran = site.hook("epilog", 1)?;
    ran.expect(0, "WARN the IMEX daemon had ended before its job did")?;
    ran.expect(0, "lost_at=")?;
    ran.expect(0, "the domain was complete; the daemon was not running")?;
    site.ensure_clean(1)
}

fn encrypted() -> Result<()> {
    let keys = tempfile::tempdir()?;
    let names = ["server_key", "server_cert", "server_ca", "client_key", "client_cert", "client_ca"];
    let mut settings = "[encryption]\nenabled = true\ntarget_name = \"imex\"\n".to_owned();
    for name in names {
        let file = keys.path().join(format!("%j.{name}"));
        settings.push_str(&format!("{name} = \"{}\"\n", file.display()));
    }
    let site = Site::alone(&format!("{QUICK}{settings}"))?;
    // Keys of the job that nobody has delivered are this tray's fault: no daemon could start here.
    site.hook("prolog", 1)?.expect(1, "encryption.server_key: there is no ")?;
    site.hook("epilog", 1)?.expect(0, "outcome=\"removed\"")?;
    site.ensure_clean(1)?;
    for name in names {
        let file = keys.path().join(format!("2.{name}"));
        std::fs::write(&file, "-----BEGIN TEST-----\n")?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
    }
    site.hook("prolog", 2)?.expect(0, "outcome=\"ready\"")?;
    let config = std::fs::read_to_string(site.paths.run_dir.join("job-2/config.cfg"))?;
    for line in [
        "IMEX_ENABLE_AUTH_ENCRYPTION=1".to_owned(),
        "IMEX_SECURITY_TARGET_OVERRIDE=imex".to_owned(),
        format!("IMEX_CLIENT_CERT_AUTH={}", keys.path().join("2.client_ca").display()),
    ] {
        ensure!(config.lines().any(|found| found == line), "no {line} in\n{config}");
    }
    site.hook("epilog", 2)?.expect(0, "outcome=\"removed\"")?;
    site.ensure_clean(2)
}

fn other_version() -> Result<()> {
    let site = Site::alone(QUICK)?;
    site.simulate(r#"{"version":"570.124.06"}"#)?;
    site.hook("prolog", 1)?.expect(1, "is version 570.124.06, but the NVIDIA driver is version 580.95.05")?;
    ensure!(site.daemons(1)?.is_empty() && site.channel().is_none());
    site.hook("epilog", 1)?.expect(0, "outcome=\"nothing-to-do\"")
}

fn timed() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let site = Site::alone(&format!("[metrics]\ndirectory = \"{}\"\n", directory.path().display()))?;
    let ran = site.hook("prolog", 1)?;
    for phase in ["read_ms=", "fabric_ms=", "resolve_ms=", "lock_ms=", "start_ms=", "forming_ms="] {
        ran.expect(0, phase)?;
    }
    site.hook("epilog", 1)?.expect(0, "remove_ms=")?;
    site.hook("epilog", 1)?.expect(0, "outcome=\"nothing-to-do\"")?;
    let text = std::fs::read_to_string(directory.path().join("slurm_nvlink_imex.prom"))?;
    for line in [
        "slurm_nvlink_imex_runs_total{hook=\"prolog\",outcome=\"ready\"} 1\n",
        "slurm_nvlink_imex_runs_total{hook=\"epilog\",outcome=\"removed\"} 1\n",
        "slurm_nvlink_imex_runs_total{hook=\"epilog\",outcome=\"nothing-to-do\"} 1\n",
        "slurm_nvlink_imex_last_phase_seconds{hook=\"prolog\",phase=\"forming\"}",
    ] {
        ensure!(text.contains(line), "no {line} in\n{text}");
    }
    site.ensure_clean(1)
}

fn next_job() -> Result<()> {
    let site = Site::alone("")?;
    site.hook("prolog", 1)?.expect(0, "outcome=\"ready\"")?;
    site.hook("prolog", 2)?.expect(0, "outcome=\"ready\"")?;
    ensure!(site.daemons(1)?.is_empty() && site.daemons(2)?.len() == 1);
    site.hook("epilog", 1)?.expect(0, "outcome=\"nothing-to-do\"")?;
    ensure!(site.channel().is_some(), "the late epilog of job 1 took the channel of job 2");
    site.hook("epilog", 2)?.expect(0, "outcome=\"removed\"")?;
    site.ensure_clean(2)
}

pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Deadline::after(Duration::from_secs(20));
    let mut pauses = Pauses::new(Duration::from_millis(5), Duration::from_millis(50));
    while !holds()? {
        ensure!(!deadline.has_passed(), "waited 20 s for {what}");
        pauses.pause(deadline);
    }
    Ok(())
}
