//! What happens on the site, so that each panel has something to show and each alert a reason.

#![forbid(unsafe_code)]

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::tests::cluster::Target;
use ::tests::domain;
use ::tests::fault::{Fault, FaultKind};
use ::tests::stage::Artifact;
use ::tests::{Cluster, wait_for};
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::api::Window;
use super::ledger::Ledger;
use super::picture::Scene;
use super::site::{CTL, RUN, SCRAPE, SOON, Site, TEXTFILES};

/// How long the simulated daemon of one tray takes to come up: more than ImexStartSlow allows.
const SLOW: Duration = Duration::from_secs(33);
/// A prolog that waits for it.
const SLOW_PROLOG: Duration = Duration::from_secs(90);
/// A change settles, is brought into force, and is seen.
const CHANGE: Duration = Duration::from_secs(120);
/// The time of a file is set back by so many seconds, in the place of waiting for them: more than the alerts allow.
const SET_BACK: u64 = 1000;
/// The plugin, as it lies on the controller.
const PLUGIN: &str = "usr/lib/slurm-nvlink/topology_block.so";

/// What has happened.
#[derive(Debug)]
pub(super) struct Told {
    begin: f64,
    end: f64,
    /// When, and what.
    marks: Vec<(f64, String)>,
    /// Alerts that had to fire, and on which node.
    pub(super) planted: Vec<(&'static str, &'static str)>,
}

impl Told {
    /// From begin to end, with a point for each scrape.
    pub(super) fn window(&self) -> Window {
        Window { begin: self.begin, end: self.end, step: f64::from(SCRAPE) }
    }

    /// For the picture.
    pub(super) fn scene(&self) -> Scene {
        Scene { begin: self.begin, end: self.end, marks: self.marks.clone() }
    }

    fn mark(&mut self, what: &str) {
        println!("       {what}");
        self.marks.push((now(), what.to_owned()));
    }

    /// Waits until an alert of a node fires.
    fn fires(&mut self, site: &Site, ledger: &mut Ledger, alert: &'static str, node: &'static str) {
        self.planted.push((alert, node));
        let instance = Site::instance(node);
        let query = format!("ALERTS{{alertname=\"{alert}\",instance=\"{instance}\",alertstate=\"firing\"}}");
        ledger.check(&format!("{alert} fires on {node}"), sees(site, &query, SOON).map(|()| String::new()));
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Waits until Prometheus has an answer to a query that is a condition.
fn sees(site: &Site, query: &str, deadline: Duration) -> Result<()> {
    wait_for(query, deadline, || {
        let found = site.api().now(query)?;
        Ok(if found.is_empty() { Err("no such series".to_owned()) } else { Ok(()) })
    })
}

/// Waits until Prometheus has no answer any more.
fn sees_no_more(site: &Site, query: &str) -> Result<()> {
    wait_for(&format!("no more {query}"), SOON, || {
        let found = site.api().now(query)?;
        Ok(found.first().map_or(Ok(()), |series| Err(format!("{:?}", series.labels))))
    })
}

/// Lets it happen.
///
/// # Errors
/// Something that shall happen does not. What Prometheus says of it is in the ledger.
pub(super) fn play(site: &Site, ledger: &mut Ledger) -> Result<Told> {
    // The plugin writes when Slurm asks it, and a tray at its first prolog.
    let first = domain::start(site.cluster(), &["-N8"])?;
    finish(site.cluster(), &[first])?;
    sees(site, "slurm_nvlink_topology_blocks == 2", SOON)?;
    sees(site, "slurm_nvlink_plugin_steering == 1", SOON)?;
    sees(site, "count(slurm_nvlink_imex_last_run_seconds{hook=\"epilog\"}) == 8", SOON)?;
    let begin = now();
    let mut told = Told { begin, end: begin, marks: Vec::new(), planted: Vec::new() };
    jobs(site, &mut told).context("jobs")?;
    ledger.check("no alert is pending or firing while all is well", calm(site));
    drift(site, &mut told, ledger).context("a tray that moves")?;
    imex(site, &mut told, ledger).context("faults of IMEX")?;
    losses(site, &mut told, ledger).context("trays lost and refused")?;
    plugin(site, &mut told, ledger).context("a plugin that gives up")?;
    silence(site, &mut told, ledger).context("services that are silent")?;
    told.end = now();
    Ok(told)
}

fn calm(site: &Site) -> Result<String> {
    let alerts = site.api().alerts()?;
    let words: Vec<String> =
        alerts.iter().map(|alert| format!("{:?} is {}", alert.labels, alert.state)).collect();
    ensure!(words.is_empty(), "{}", words.join("; "));
    Ok(String::new())
}

/// Lets jobs end and waits until their trays are free.
fn finish(cluster: &Cluster, jobs: &[domain::Running]) -> Result<()> {
    jobs.iter().try_for_each(|job| domain::finish(cluster, job))?;
    cluster.wait_idle(&cluster.nodes())
}

fn jobs(site: &Site, told: &mut Told) -> Result<()> {
    let cluster = site.cluster();
    told.mark("jobs of whole racks");
    for _ in 0..3 {
        let racks = ["-wr01n[01-04]", "-wr02n[01-04]"];
        let both: Vec<_> =
            racks.iter().map(|rack| domain::start(cluster, &["-N4", rack])).collect::<Result<_>>()?;
        finish(cluster, &both)?;
    }
    told.mark("a job over two racks, then one that waits for room in one");
    finish(cluster, &[domain::start(cluster, &["-N6"])?])?;
    let held: Vec<_> = ["-wr01n[01-03]", "-wr02n[01-03]"]
        .iter()
        .map(|trays| domain::start(cluster, &["-N3", trays]))
        .collect::<Result<_>>()?;
    let waiting = domain::submit(cluster, &["--exclusive", "-N2"])?;
    sees(site, "slurm_nvlink_plugin_jobs_refused_total{reason=\"no-partition-free\"} > 0", SOON)?;
    sees(site, "slurm_nvlink_plugin_jobs_placed_total{partitions=\"several\"} > 0", SOON)?;
    cluster.cancel(waiting)?;
    finish(cluster, &held)
}

/// Tells Slurm what a tray says of itself now, as its unit does at a start.
fn register(cluster: &Cluster, tray: &str) -> Result<()> {
    let says = cluster.capture(&Target::node(tray), &["topology-gen", "probe", "--extra"])?;
    let extra = format!("extra={}", says.stdout.trim());
    cluster.ctl(&["scontrol", "update", &format!("nodename={tray}"), &extra]).map(drop)
}

/// Lets faults act on trays, which tell Slurm.
fn change(cluster: &Cluster, faults: &[(&str, FaultKind)]) -> Result<()> {
    for (tray, kind) in faults {
        cluster.fault(tray, Fault::new(*kind), None)?;
        register(cluster, tray)?;
    }
    Ok(())
}

fn drift(site: &Site, told: &mut Told, ledger: &mut Ledger) -> Result<()> {
    told.mark("a tray says another NVLink partition");
    change(site.cluster(), &[("r01n04", FaultKind::WrongClique)])?;
    told.fires(site, ledger, "NvlinkTopologyDrifted", CTL);
    sees(site, "slurm_nvlink_topology_blocks == 3 and slurm_nvlink_topology_change_pending == 0", CHANGE)?;
    told.mark("the new topology is in force");
    sees_no_more(site, "ALERTS{alertname=\"NvlinkTopologyDrifted\"}")
}

fn imex(site: &Site, told: &mut Told, ledger: &mut Ledger) -> Result<()> {
    let cluster = site.cluster();
    told.mark("a slow IMEX daemon; one that is killed under its job; one that does not start");
    let slow = Fault { kind: FaultKind::ImexSlowStart, ms: u64::try_from(SLOW.as_millis()).ok() };
    cluster.fault("r02n04", slow, None)?;
    let late = domain::submit(cluster, &["--exclusive", "-N1", "-wr02n04"])?;

    let robbed = domain::start(cluster, &["-N2", "-wr01n[01-02]"])?;
    let daemon = cluster.tray("r01n01", &["pgrep", "-x", "nvidia-imex"])?;
    cluster.tray("r01n01", &["kill", "-KILL", daemon.trim()])?;
    told.fires(site, ledger, "ImexDaemonLost", "r01n01");
    cluster.cancel(robbed.id)?;

    cluster.fault("r02n01", Fault::new(FaultKind::ImexRefuse), None)?;
    let failed = domain::submit(cluster, &["--exclusive", "-N2", "-wr02n[01-02]"])?;
    cluster.wait_job(failed, "requeued and held", SOON, |job| job.state == "PENDING" && job.restarts == 1)?;
    told.fires(site, ledger, "ImexFault", "r02n01");
    cluster.cancel(failed)?;
    cluster.heal(Some("r02n01"))?;

    let over = |job: &::tests::job::Job| job.state == "RUNNING" && job.reason == "None";
    cluster.wait_job(late, "runs, its prolog over", SLOW_PROLOG, over)?;
    told.fires(site, ledger, "ImexStartSlow", "r02n04");
    cluster.cancel(late)?;
    cluster.heal(Some("r02n04"))?;
    cluster.ctl(&["scontrol", "update", "nodename=r02n01", "state=resume"])?;
    cluster.wait_idle(&cluster.nodes())
}

fn losses(site: &Site, told: &mut Told, ledger: &mut Ledger) -> Result<()> {
    let cluster = site.cluster();
    told.mark("two trays say nothing, the GPUs of a third do not agree");
    change(
        cluster,
        &[
            ("r02n01", FaultKind::NvmlMissing),
            ("r02n02", FaultKind::NvmlMissing),
            ("r02n03", FaultKind::GpuDisagrees),
        ],
    )?;
    told.fires(site, ledger, "NvlinkTopologyNeedsHuman", CTL);
    told.fires(site, ledger, "NvlinkTraysRefused", CTL);
    told.fires(site, ledger, "NvlinkTraysLost", CTL);
    told.mark("they are mended");
    for tray in ["r02n01", "r02n02", "r02n03"] {
        cluster.heal(Some(tray))?;
        register(cluster, tray)?;
    }
    sees(site, "slurm_nvlink_topology_needs_human == 0 and slurm_nvlink_topology_lost_trays == 0", SOON)
}

/// The same plugin with a panic planted in its choice of nodes takes the place of ours.
fn plugin(site: &Site, told: &mut Told, ledger: &mut Ledger) -> Result<()> {
    let cluster = site.cluster();
    told.mark("a fault in the plugin (planted): jobs are left to Slurm's own");
    let (place, new) =
        (cluster.root_of(CTL)?.join(PLUGIN), cluster.root_of(CTL)?.join(format!("{PLUGIN}.new")));
    fs::copy(Artifact::Planted.need()?, &new).context("copy the plugin with planted faults")?;
    fs::rename(new, place).context("put it in place")?;
    cluster.stop_daemon(CTL, Signal::SIGTERM)?;
    cluster.start_daemon(CTL)?;
    let plant =
        "mkdir --parents /run/slurm-nvlink && echo topology_p_eval_nodes >/run/slurm-nvlink/planted-faults";
    cluster.ctl(&["sh", "-c", plant])?;
    cluster.ctl(&["scontrol", "reconfigure"])?;
    cluster.wait_idle(&cluster.nodes())?;
    finish(cluster, &[domain::start(cluster, &["-N2"])?])?;
    // The file is written when Slurm places a job, every ten seconds at most.
    wait_for("the metrics say that jobs are left to Slurm", SOON, || {
        let job = domain::start(cluster, &["-N1"])?;
        finish(cluster, &[job])?;
        let left = site.api().now("slurm_nvlink_plugin_steering == 0")?;
        Ok(if left.is_empty() { Err("not yet".to_owned()) } else { Ok(()) })
    })?;
    told.fires(site, ledger, "NvlinkPluginDelegating", CTL);
    Ok(())
}

/// Both services end, and the clock is not waited for: the times in their files are set back.
fn silence(site: &Site, told: &mut Told, ledger: &mut Ledger) -> Result<()> {
    let cluster = site.cluster();
    told.mark("topology-gen watch and slurmctld end; the times in their files are set back");
    site.end_watch()?;
    cluster.stop_daemon(CTL, Signal::SIGTERM)?;
    for (file, name) in [
        (
            format!("{TEXTFILES}/slurm_nvlink_topology.prom"),
            "slurm_nvlink_topology_last_look_timestamp_seconds",
        ),
        (format!("{RUN}/slurm_nvlink_plugin.prom"), "slurm_nvlink_plugin_last_write_timestamp_seconds"),
    ] {
        let text = set_back(&cluster.ctl(&["cat", &file])?, name).with_context(|| file.clone())?;
        cluster.write_file(&Target::controller(), &file, &text)?;
    }
    told.fires(site, ledger, "NvlinkTopologyWatchBlind", CTL);
    told.fires(site, ledger, "NvlinkPluginSilent", CTL);
    let seen = "count_over_time(ALERTS{alertname=\"NvlinkPluginSilent\",alertstate=\"firing\"}[1m]) >= 3";
    sees(site, seen, SOON)
}

/// A file of metrics in which one time is [`SET_BACK`] seconds earlier.
fn set_back(text: &str, name: &str) -> Result<String> {
    let old = text.lines().find(|line| line.split(' ').next() == Some(name));
    let old = old.with_context(|| format!("no {name}"))?;
    let time: u64 = old.rsplit(' ').next().unwrap_or_default().parse().with_context(|| old.to_owned())?;
    Ok(text.replace(old, &format!("{name} {}", time.saturating_sub(SET_BACK))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_time_is_set_back() {
        let text = "# TYPE a gauge\na 5000\nb 5000\n";
        assert_eq!(set_back(text, "a").unwrap(), "# TYPE a gauge\na 4000\nb 5000\n");
        assert!(set_back(text, "c").is_err() && set_back("a x\n", "a").is_err());
    }
}
