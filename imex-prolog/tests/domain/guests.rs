//! Mode `per-partition`: a standing domain, and jobs that are guests in it.

use crate::cases::{Case, QUICK, wait_for};
use crate::site::{Ran, Site, kill};
use anyhow::{Result, ensure};

/// Jobs of the Slurm partition `shared` are guests; all others have domains of their own.
const SHARED: &str = "[partitions]\nshared = \"per-partition\"\n";
const BY_JOB: &str = "[channel]\npolicy = \"by-job\"\n";

pub(crate) const CASES: [(&str, Case); 7] = [
    ("guests_share_a_standing_domain_that_outlives_them", outlives),
    ("a_guest_needs_only_its_own_trays_of_the_domain", own_trays),
    ("a_dead_standing_daemon_is_replaced_by_the_next_guest", replaced),
    ("a_standing_daemon_that_does_not_serve_is_replaced_or_a_fault", not_serving),
    ("a_job_that_has_the_tray_alone_ends_the_standing_domain", gives_way),
    ("guests_with_one_channel_for_all_get_none", one_channel),
    ("a_guest_whose_channel_another_one_has_does_not_run", taken),
];

fn tray(settings: &str) -> Result<Site> {
    let site = Site::alone(&format!("{BY_JOB}{settings}{SHARED}"))?;
    site.partition("shared")?;
    Ok(site)
}

fn outlives() -> Result<()> {
    let site = tray("")?;
    site.hook("prolog", 1)?.expect(0, "all 1 members connected")?;
    let daemons = site.standing()?;
    ensure!(daemons.len() == 1 && site.daemons(1)?.is_empty());
    site.hook("prolog", 2)?.expect(0, "outcome=\"ready\"")?;
    site.hook("prolog", 2)?.expect(0, "outcome=\"ready\"")?;
    ensure!(site.channels()? == ["channel2", "channel3"], "{:?}", site.channels()?);
    site.hook("epilog", 1)?.expect(0, "outcome=\"removed\"")?;
    ensure!(site.channels()? == ["channel3"], "{:?}", site.channels()?);
    site.hook("epilog", 2)?.expect(0, "outcome=\"removed\"")?;
    ensure!(site.channels()?.is_empty() && site.standing()? == daemons);
    site.hook("prolog", 3)?.expect(0, "outcome=\"ready\"")?;
    ensure!(site.standing()? == daemons, "the daemon was replaced without need");
    site.hook("epilog", 3)?.expect(0, "outcome=\"removed\"")
}

fn own_trays() -> Result<()> {
    let settings = format!("{BY_JOB}{QUICK}{SHARED}");
    // The third tray of the block has no daemon.
    let [one, two] = Site::several("t[1-2]", [("t1", &settings), ("t2", &settings)])?;
    one.partition("shared")?;
    two.partition("shared")?;
    let prologs = (one.start("prolog", 1)?, two.start("prolog", 1)?);
    Ran::of(prologs.0)?.expect(0, "all 2 members connected")?;
    Ran::of(prologs.1)?.expect(0, "all 2 members connected")?;
    for site in [&one, &two] {
        site.hook("epilog", 1)?.expect(0, "outcome=\"removed\"")?;
    }
    // Without the peer's daemon the next job has no channel, and this tray keeps its own.
    for pid in two.standing()? {
        kill(pid);
    }
    let ran = one.hook("prolog", 2)?;
    ran.expect(0, "1 of 2 members")?;
    ran.expect(0, "member 1: t2 at 10.77.")?;
    ensure!(one.channels()?.is_empty() && one.standing()?.len() == 1);
    one.hook("epilog", 2)?.expect(0, "outcome=\"nothing-to-do\"")
}

fn replaced() -> Result<()> {
    let site = tray("")?;
    site.hook("prolog", 1)?.expect(0, "outcome=\"ready\"")?;
    let before = site.standing()?;
    before.iter().copied().for_each(kill);
    wait_for("the daemon's end", || Ok(site.standing()?.is_empty()))?;
    site.hook("prolog", 2)?.expect(0, "outcome=\"ready\"")?;
    let after = site.standing()?;
    ensure!(after.len() == 1 && after != before);
    // The first guest's channel is still its own: it may be using it.
    ensure!(site.channels()? == ["channel2", "channel3"]);
    for job in [1, 2] {
        site.hook("epilog", job)?.expect(0, "outcome=\"removed\"")?;
    }
    Ok(())
}

fn not_serving() -> Result<()> {
    let site = tray(&format!("{QUICK}[standing]\nverify_seconds = 1\n"))?;
    site.hook("prolog", 1)?.expect(0, "outcome=\"ready\"")?;
    let before = site.standing()?;
    site.simulate(r#"{"fault":{"kind":"ctl-hang"}}"#)?;
    // While a guest is here the daemon is not touched.
    site.hook("prolog", 2)?.expect(1, "did not become READY")?;
    ensure!(site.standing()? == before);
    site.simulate("{}")?;
    for job in [1, 2] {
        site.hook("epilog", job)?.expect(0, "outcome=")?;
    }
    // Nobody is here: it is replaced, and the new one serves no better.
    site.simulate(r#"{"fault":{"kind":"ctl-hang"}}"#)?;
    let ran = site.hook("prolog", 3)?;
    ran.expect(1, "once more")?;
    ran.expect(1, "did not become READY")?;
    ensure!(site.channels()?.is_empty());
    site.simulate("{}")?;
    site.hook("prolog", 3)?.expect(0, "outcome=\"ready\"")?;
    site.hook("epilog", 3)?.expect(0, "outcome=\"removed\"")
}

fn gives_way() -> Result<()> {
    let site = tray("")?;
    site.hook("prolog", 1)?.expect(0, "outcome=\"ready\"")?;
    site.hook("epilog", 1)?.expect(0, "outcome=\"removed\"")?;
    site.partition("whole")?;
    site.hook("prolog", 2)?.expect(0, "outcome=\"ready\"")?;
    ensure!(site.standing()?.is_empty() && site.daemons(2)?.len() == 1);
    site.hook("epilog", 2)?.expect(0, "outcome=\"removed\"")?;
    site.ensure_clean(2)?;
    site.partition("shared")?;
    site.hook("prolog", 3)?.expect(0, "outcome=\"ready\"")?;
    ensure!(site.standing()?.len() == 1);
    site.hook("epilog", 3)?.expect(0, "outcome=\"removed\"")
}

fn taken() -> Result<()> {
    // Job 2 + 2047 has the number of job 2: the next one of 2048 channels would be the first again.
    const SAME: u32 = 2 + 2047;
    let site = tray(QUICK)?;
    site.hook("prolog", 2)?.expect(0, "outcome=\"ready\"")?;
    let ran = site.hook("prolog", SAME)?;
    ran.expect(
        0,
        "job 2 on this node has the IMEX channel that this job would get; the job could not be ended",
    )?;
    let requeue = format!("requeuehold Incomplete {SAME}");
    // It asks again while it has time.
    let (asked, once) = (site.asked()?, [requeue.clone(), requeue, SAME.to_string()]);
    ensure!(!asked.is_empty() && asked.chunks(3).all(|asked| *asked == once), "{asked:?}");
    ensure!(site.channels()? == ["channel3"], "{:?}", site.channels()?);
    site.hook("epilog", SAME)?.expect(0, "outcome=\"nothing-to-do\"")?;
    ensure!(site.channels()? == ["channel3"], "the refused job's epilog took the other one's channel");
    site.hook("epilog", 2)?.expect(0, "outcome=\"removed\"")
}

fn one_channel() -> Result<()> {
    let site = Site::alone(SHARED)?;
    site.partition("shared")?;
    site.hook("prolog", 1)?.expect(0, "gives all jobs the same IMEX channel")?;
    ensure!(site.standing()?.is_empty() && site.channels()?.is_empty());
    site.hook("epilog", 1)?.expect(0, "outcome=\"nothing-to-do\"")
}
