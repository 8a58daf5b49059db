//! A build of Slurm that the plugin does not know: what it does without a confirmation of the layout, with one, and with
//! one that is damaged or wrong. The unknown build is Slurm's own library with another build id in it.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case, Setup};
use crate::plugin_file::controller_log;
use anyhow::{Context as _, ensure};
use object::Object as _;
use std::fs;
use tests::Cluster;
use tests::cluster::Target;
use tests::limits::SOON;
use tests::stage::Artifact;
use tests::tree::Tree;

const OURS: Setup = Setup { profile: "small-2x4", stock: false, imex: false };

const FOLDER: &str = "/var/lib/slurm-nvlink/layout";
/// No topology plugin reads time limits, so nobody can measure where they are.
const NO_ROOM: &str = "nvlink_room=3: no room is kept and nvlink_patience=1 has no effect, as it is not known where this build of Slurm has the time limits of jobs";
const STEERS: &str = "jobs are steered into 2 NVLink partitions";

pub(crate) const CASES: &[Case] =
    &[Case { name: "confirmation::of_an_unknown_build", body: Body::Own(OURS, unknown_build) }];

/// A confirmation that is not what it should be.
struct Damage {
    name: &'static str,
    /// The file's new text.
    text: fn(&str) -> String,
    /// Done to the file afterwards, in its folder.
    then: &'static str,
    /// What slurmctld's log says of it, once.
    says: &'static str,
    /// Whether the plugin loads and begins to steer before it sees that something is wrong.
    loads: bool,
}

/// Damage that keeps the plugin from loading.
const fn void(name: &'static str, text: fn(&str) -> String, says: &'static str) -> Damage {
    Damage { name, text, then: "true", says, loads: false }
}

/// A wrong place with the right checksum: seen only where a record is looked at.
const fn wrong(name: &'static str, text: fn(&str) -> String, says: &'static str) -> Damage {
    Damage { name, text, then: "true", says, loads: true }
}

const NOT_SO: &str = "record is not laid out as confirmed for this build";

const DAMAGES: &[Damage] = &[
    void("cut short", |text| text[..text.len() / 2].to_owned(), "its last line is not a checksum"),
    void("a bit flipped", |text| text.replace("job.details 2", "job.details 3"), "its checksum is wrong"),
    void(
        "for another build",
        |text| sealed(text, |body| body.replace("build-id ", "build-id 00")),
        "it is for build 00",
    ),
    Damage {
        then: "chmod g+w *",
        ..void("writable by others", str::to_owned, "is writable by others than its owner")
    },
    Damage { then: "chown alice *", ..void("of a user", str::to_owned, "belongs to user 1000, not 0") },
    // NULL in a job without GRES; past the end of the record; two numbers each; a number that all nodes share.
    wrong("details elsewhere", |text| sealed(text, |body| moved(body, "job.details", 352)), NOT_SO),
    wrong("magic elsewhere", |text| sealed(text, |body| moved(body, "job.magic", 4088)), NOT_SO),
    wrong(
        "a number as bitmap",
        |text| sealed(text, |body| moved(body, "details.req_node_bitmap", 232)),
        NOT_SO,
    ),
    wrong("a number as text", |text| sealed(text, |body| moved(body, "job.network", 8)), NOT_SO),
    wrong("node index elsewhere", |text| sealed(text, |body| moved(body, "node.index", 572)), NOT_SO),
    // At the end of the details: nothing there can tell, and nothing happens.
    wrong("segments elsewhere", |text| sealed(text, |body| moved(body, "details.segment_size", 554)), STEERS),
];

/// The text with another body and the checksum that fits it.
fn sealed(text: &str, change: impl Fn(&str) -> String) -> String {
    let body = change(text.split_once("checksum ").map_or(text, |(body, _)| body));
    let fnv = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let checksum = body.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    format!("{body}checksum {checksum:016x}\n")
}

/// The body with one member at another place.
fn moved(body: &str, member: &str, place: u32) -> String {
    let line = |line: &str| match line.split_once(' ') {
        Some((name, _)) if name == member => format!("{name} {place}\n"),
        _ => format!("{line}\n"),
    };
    body.lines().map(line).collect()
}

fn unknown_build(setup: &Setup) -> anyhow::Result<()> {
    let tree = Tree::ensure()?;
    let library = tree.plugin_dir().join("libslurmfull.so");
    let mut bytes = fs::read(tree.root().join(library.strip_prefix("/")?))?;
    let mut build_id = object::File::parse(&*bytes)?.build_id()?.context("no build id")?.to_vec();
    let place = bytes.windows(build_id.len()).position(|window| window == build_id).context("no build id")?;
    bytes[place] ^= 0xff;
    build_id[0] ^= 0xff;
    let build_id: String = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let other = tempfile::NamedTempFile::new()?;
    fs::write(other.path(), bytes)?;

    let confirm = Artifact::Confirm.need()?;
    let builder = setup.builder("unknown").copy("/usr/sbin/slurm-nvlink-confirm", confirm);
    let cluster = builder
        .set("TopologyParam", "nvlink_room=3,nvlink_patience=1")
        .copy(library, other.path())
        .start()?;
    let file = format!("{FOLDER}/{build_id}");
    let log = controller_log(&cluster)?;
    let refusal = format!(
        "the layout of this build of Slurm is not confirmed (libslurmfull.so has build id {build_id}): there is no {file}"
    );
    ensure!(log.contains(&refusal), "without a confirmation:\n{log}");
    // Commands load the plugin too, and people read their output.
    let shown = cluster.ctl(&["scontrol", "show", "topology"])?;
    ensure!(shown.lines().all(|line| line.starts_with("BlockName=")), "{shown}");
    run_jobs(&cluster)?;

    let said = cluster.ctl(&["slurm-nvlink-confirm"])?;
    ensure!(
        said.ends_with(&format!("this build is not among the known ones\nconfirmed: {file}\n")),
        "{said}"
    );
    let log = reloaded(&cluster)?;
    let loaded =
        format!("loaded; running Slurm 26.05.5 (build id {build_id}, confirmed by {file}); it steers jobs");
    ensure!(
        log.contains(&loaded) && log.contains(STEERS) && log.contains(NO_ROOM),
        "with a confirmation:\n{log}"
    );
    run_jobs(&cluster)?;

    let good = cluster.ctl(&["cat", &file])?;
    for damage in DAMAGES {
        try_damage(&cluster, &file, &good, damage).with_context(|| damage.name)?;
    }
    Ok(())
}

fn try_damage(cluster: &Cluster, file: &str, good: &str, damage: &Damage) -> anyhow::Result<()> {
    cluster.ctl(&["rm", "--force", file])?;
    cluster.write_file(&Target::controller(), file, &(damage.text)(good))?;
    cluster.ctl(&["sh", "-c", &format!("cd {FOLDER} && {}", damage.then)])?;
    let before = controller_log(cluster)?.len();
    let _ = reloaded(cluster)?;
    run_jobs(cluster)?;
    let log = controller_log(cluster)?.split_off(before);
    ensure!(log.matches(damage.says).count() == 1, "not said once: {:?}\n{log}", damage.says);
    ensure!(log.contains("it steers jobs") == damage.loads, "{log}");
    Ok(())
}

/// Has slurmctld start anew, as a reload does, and gives what its log says of that.
fn reloaded(cluster: &Cluster) -> anyhow::Result<String> {
    let before = controller_log(cluster)?.len();
    cluster.ctl(&["scontrol", "reconfigure"])?;
    cluster.wait_idle(&cluster.nodes())?;
    Ok(controller_log(cluster)?.split_off(before))
}

/// Jobs that the two racks can run, a named node and a network option among them, run.
fn run_jobs(cluster: &Cluster) -> anyhow::Result<()> {
    let options: [&[&str]; 4] = [
        &["--nodes=4", "--segment=2"],
        &["--nodes=1", "--nodelist=r02n03"],
        &["--nodes=1", "--network=no-such-thing"],
        &["--nodes=6"],
    ];
    let submit = |options: &&[&str]| {
        let options: Vec<&str> =
            ["--output=/dev/null", "--exclusive"].iter().chain(*options).copied().collect();
        cluster.submit(&options, "true")
    };
    let jobs = options.iter().map(submit).collect::<anyhow::Result<Vec<_>>>()?;
    for (job, options) in jobs.into_iter().zip(options) {
        let job = cluster.wait_ended(job, SOON)?;
        ensure!(job.state == "COMPLETED", "{options:?}: {job:?}");
    }
    Ok(())
}
