//! The search for each member: it is where planting something makes Slurm's own code do what that member is for. Each
//! must have one place, and one only.

use std::ffi::c_int;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use topology_block::abi::confirmation::Confirmation;
use topology_block::abi::layout::{LONGEST_RECORD, Layout};
use topology_block::abi::{
    DETAILS_MAGIC_VALUE, JOB_MAGIC_VALUE, NODE_MAGIC_VALUE, SLURM_VERSION_NUMBER, TOPOLOGY_BLOCK_PLUGIN_ID,
    topology_eval_t,
};

use topology_block::host::peek;

use crate::memory::{self, text, u32_at, u64_at, zeroed};
use crate::question::{Answer, CPUS, Desk, Plant, bitmap};
use crate::slurm::{BLOCK, By, NODES, STATES, Slurm, SlurmError, TOPOLOGY_PARAM};
use crate::trial;

/// Exit code of the measuring process when it is not the measuring that failed, but the layout that has no one answer.
pub(crate) const NOT_MEASURED: i32 = 3;

/// "Not set" of numbers of four bytes.
const NO_VAL: u32 = 0xffff_fffe;
const NOT_SUPPORTED: c_int = 2036;
const TOPOLOGY_UNAVAILABLE: c_int = 2178;
/// Bits of a job's flags.
const SPREAD_JOB: u64 = 1 << 8;
const SPREAD_SEGMENTS: u64 = 1 << 43;
const CONSOLIDATE_SEGMENTS: u64 = 1 << 44;
/// Something to plant that is nowhere by itself.
const ODD_NUMBER: u32 = 4242;

/// How each member's place is proven, for people.
pub(crate) fn proof(member: &str) -> &'static str {
    match member {
        "job.magic" => "Slurm's log calls a job corrupt without it",
        "job.bit_flags" => {
            "--spread-job, --spread-segments and --consolidate-segments change the choice of nodes"
        }
        "job.details" => "leads to an allocation with the magic number of job details",
        "job.hres_select" => "Slurm resets the counters behind it at each evaluation",
        "job.job_id" => "Slurm's log prints it",
        "job.network" => "unique-channel-per-segment makes topology/block record the segments",
        "details.magic" => "the one place of the magic number in the details",
        "details.arbitrary_tpn" => "topology/block refuses arbitrary distribution",
        "details.contiguous" => "topology/flat takes no nodes with a gap between them",
        "details.min_cpus" => "counts where max_cpus is not set, and more of them need more nodes",
        "details.req_node_bitmap" => "the node in it is chosen",
        "details.segment_size" => "topology/block refuses what it does not divide, and places what it does",
        "conf.topology_param" => "leads to what slurm.conf says in TopologyParam=",
        "node.magic" => "the one place of the magic number in every node record",
        "node.index" => "Slurm finds the node's index there by its name",
        "node.node_state" => "holds what slurm.conf says in State=",
        "node.sched_weight" => "the node with the least is chosen",
        _ => "",
    }
}

/// Why there is no layout.
#[derive(Debug)]
pub(crate) enum Failure {
    Slurm(SlurmError),
    NoBuildId,
    Trial(io::Error),
    /// A question without anything planted has not the answer that it must have.
    Baseline {
        what: &'static str,
        answer: Option<Answer>,
    },
    /// No place or several are the member's.
    Places {
        member: &'static str,
        places: Vec<usize>,
    },
    /// The result cannot be a layout.
    Implausible(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slurm(error) => write!(f, "{error}"),
            Self::NoBuildId => write!(f, "libslurmfull.so has no build id, by which it could be known again"),
            Self::Trial(source) => write!(f, "this process cannot be copied: {source}"),
            Self::Baseline { what, answer: Some(answer) } => {
                write!(f, "{what}: Slurm says {} with nodes {:?}", answer.rc, answer.nodes)
            }
            Self::Baseline { what, answer: None } => write!(f, "{what}"),
            Self::Places { member, places } if places.is_empty() => {
                write!(f, "{member}: no place in the record does what it is for")
            }
            Self::Places { member, places } => write!(f, "{member}: each of the places {places:?} may be it"),
            Self::Implausible(why) => write!(f, "the result is no layout: {why}"),
        }
    }
}

impl From<SlurmError> for Failure {
    fn from(error: SlurmError) -> Self {
        Self::Slurm(error)
    }
}

/// The measuring process: prints a confirmation.
pub(crate) fn main(plugins: &Path) -> ExitCode {
    trial::without_cores();
    match measure(plugins) {
        Ok(confirmation) => {
            print!("{}", confirmation.render());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("slurm-nvlink-confirm: {failure}");
            ExitCode::from(NOT_MEASURED as u8)
        }
    }
}

fn measure(plugins: &Path) -> Result<Confirmation, Failure> {
    let slurm = Slurm::start(plugins)?;
    let build_id = slurm.build_id().ok_or(Failure::NoBuildId)?;
    let mut layout = Layout::UNKNOWN;
    let nodes = AtFirst::of(&slurm, slurm.nodes.iter().copied());
    node_members(&slurm, &nodes, &mut layout)?;
    layout.conf.topology_param = nodes.search("conf.topology_param", LONGEST_RECORD, 8, |offset| {
        // SAFETY: Slurm's configuration; where it is shorter, what follows it is looked at in a trial.
        let word = unsafe { u64_at(slurm.configuration + offset) };
        usize::try_from(word).ok().and_then(peek::text).as_deref() == Some(TOPOLOGY_PARAM.as_bytes())
    })?;
    let job = slurm.new_job();
    let records = AtFirst::of(&slurm, [job]);
    let details = identity(&slurm, &records, job, &mut layout)?;
    let records = AtFirst::of(&slurm, [job, details]);
    let mut desk = Desk::new(&slurm, job, details);
    let max_cpus = cpu_limits(&slurm, details, &mut layout)?;
    desk.keep((details + max_cpus, NO_VAL.to_ne_bytes().to_vec()));
    desk.keep((details + layout.details.min_cpus, 1u32.to_ne_bytes().to_vec()));
    desk.keep((details + cpus_per_task(&slurm, &records, job, details)?, 1u16.to_ne_bytes().to_vec()));
    baseline(&desk, &layout)?;
    details_members(&slurm, &records, &desk, &mut layout)?;
    job_members(&slurm, &records, &desk, &mut layout)?;
    layout.node.sched_weight = sched_weight(&slurm, &nodes, &desk)?;
    match layout.implausible() {
        None => Ok(Confirmation { slurm: SLURM_VERSION_NUMBER, build_id, layout }),
        Some(why) => Err(Failure::Implausible(why)),
    }
}

/// Slurm's records as they were before anything was planted in them.
struct AtFirst(Vec<Plant>);

impl AtFirst {
    fn of(slurm: &Slurm, records: impl IntoIterator<Item = usize>) -> Self {
        // SAFETY: a record of Slurm is as long as Slurm says.
        let copy = |record: usize| (record, unsafe { memory::peek(record, slurm.size_of(record)) });
        Self(records.into_iter().map(copy).collect())
    }

    /// The one place at which `is_it` says yes. What it plants in these records is taken out again.
    fn search(
        &self,
        member: &'static str,
        size: usize,
        width: usize,
        is_it: impl Fn(usize) -> bool,
    ) -> Result<usize, Failure> {
        let candidates: Vec<usize> = (0..=size.saturating_sub(width)).step_by(width).collect();
        let places = trial::yes_to(&candidates, || plant(&self.0), is_it).map_err(Failure::Trial)?;
        match places[..] {
            [place] => Ok(place),
            _ => Err(Failure::Places { member, places }),
        }
    }
}

/// Node records: what Slurm has written into all of them while it read its configuration.
fn node_members(slurm: &Slurm, records: &AtFirst, layout: &mut Layout) -> Result<(), Failure> {
    let size = slurm.nodes.iter().map(|&node| slurm.size_of(node)).min().unwrap_or(0);
    // SAFETY: the search stays inside the records.
    let number = |node: usize, offset: usize| unsafe { u32_at(node + offset) };
    layout.node.magic = records.search("node.magic", size, 4, |offset| {
        slurm.nodes.iter().all(|&node| number(node, offset) == NODE_MAGIC_VALUE)
    })?;
    layout.node.node_state = records.search("node.node_state", size, 4, |offset| {
        slurm.nodes.iter().zip(STATES).all(|(&node, (_, state))| number(node, offset) == state)
    })?;
    layout.node.index = records.search("node.index", size, 4, |offset| {
        let in_order = (0..).zip(&slurm.nodes).all(|(index, &node)| number(node, offset) == index);
        plant(&[(slurm.nodes[5] + offset, ODD_NUMBER.to_ne_bytes().to_vec())]);
        in_order && u32::try_from(slurm.index_of(c"n6")) == Ok(ODD_NUMBER) && slurm.index_of(c"n7") == 6
    })?;
    Ok(())
}

/// What makes a job record one, and leads to its details, whose address is returned.
fn identity(slurm: &Slurm, records: &AtFirst, job: usize, layout: &mut Layout) -> Result<usize, Failure> {
    let size = slurm.size_of(job);
    layout.job.magic = records.search("job.magic", size, 4, |offset| {
        // SAFETY: the search stays inside the record.
        let is_there = unsafe { u32_at(job + offset) } == JOB_MAGIC_VALUE;
        let before = slurm.describe(job) == "JobId=0";
        plant(&[(job + offset, (!JOB_MAGIC_VALUE).to_ne_bytes().to_vec())]);
        is_there && before && slurm.describe(job) == "JobId=CORRUPT"
    })?;
    layout.job.job_id = records.search("job.job_id", size, 4, |offset| {
        plant(&[(job + offset, ODD_NUMBER.to_ne_bytes().to_vec())]);
        slurm.describe(job) == format!("JobId={ODD_NUMBER}")
    })?;
    // In a trial each, because most words of the record are no addresses.
    layout.job.details = records.search("job.details", size, 8, |offset| {
        details_behind(slurm, job, offset).is_some_and(|(_, magic)| magic.len() == 1)
    })?;
    let (details, magic) = details_behind(slurm, job, layout.job.details).unwrap_or_default();
    layout.details.magic =
        magic.first().copied().ok_or(Failure::Places { member: "details.magic", places: magic })?;
    Ok(details)
}

/// The allocation behind a word of the job's record, and where the magic number of job details is in it.
fn details_behind(slurm: &Slurm, job: usize, offset: usize) -> Option<(usize, Vec<usize>)> {
    // SAFETY: the callers stay inside the record.
    let address = usize::try_from(unsafe { u64_at(job + offset) }).ok().filter(|&address| address != 0)?;
    let size = slurm.size_of(address);
    // SAFETY: an allocation of Slurm's is as long as it says; anything else crashes in a trial.
    let is_magic = |place: &usize| unsafe { u32_at(address + place) } == DETAILS_MAGIC_VALUE;
    let places: Vec<usize> = (0..size.saturating_sub(3)).step_by(4).filter(is_magic).collect();
    (!places.is_empty()).then_some((address, places))
}

/// `min_cpus` and `max_cpus`, whose place is returned: the least counts only where the most is not set.
fn cpu_limits(slurm: &Slurm, details: usize, layout: &mut Layout) -> Result<usize, Failure> {
    let size = slurm.size_of(details);
    let blank = zeroed(size);
    let wanted = i64::from(ODD_NUMBER);
    let with = |plants: &[(usize, u32)]| {
        for (offset, value) in plants {
            plant(&[(blank + offset, value.to_ne_bytes().to_vec())]);
        }
        let result = slurm.remaining_cpus(blank, 1);
        for (offset, _) in plants {
            plant(&[(blank + offset, vec![0; 4])]);
        }
        result
    };
    let offsets = || (0..=size.saturating_sub(4)).step_by(4);
    let mut pairs = Vec::new();
    for most in offsets().filter(|&most| with(&[(most, ODD_NUMBER)]) == wanted) {
        let is_least = |&least: &usize| {
            least != most
                && with(&[(least, ODD_NUMBER)]) == 0
                && with(&[(least, ODD_NUMBER), (most, NO_VAL)]) == wanted
        };
        pairs.extend(offsets().filter(is_least).map(|least| (least, most)));
    }
    match pairs[..] {
        [(least, most)] => {
            layout.details.min_cpus = least;
            Ok(most)
        }
        _ => Err(Failure::Places {
            member: "details.min_cpus",
            places: pairs.iter().map(|&(least, _)| least).collect(),
        }),
    }
}

/// `cpus_per_task`, which the plugin does not read but Slurm's evaluators divide by.
fn cpus_per_task(slurm: &Slurm, records: &AtFirst, job: usize, details: usize) -> Result<usize, Failure> {
    records.search("details.cpus_per_task", slurm.size_of(details), 2, |offset| {
        let before = slurm.tasks(job, 1000);
        plant(&[(details + offset, 4u16.to_ne_bytes().to_vec())]);
        before == 1000 && slurm.tasks(job, 1000) == 250
    })
}

const ALL: [usize; NODES] = {
    let mut all = [0; NODES];
    let mut index = 0;
    while index < NODES {
        all[index] = index;
        index += 1;
    }
    all
};

/// The questions of the searches, with nothing planted.
fn baseline(desk: &Desk<'_>, layout: &Layout) -> Result<(), Failure> {
    let expect = |what: &'static str, answer: Answer, good: &dyn Fn(&Answer) -> bool| {
        if good(&answer) { Ok(()) } else { Err(Failure::Baseline { what, answer: Some(answer) }) }
    };
    let in_blocks =
        |answer: &Answer, blocks: usize| answer.rc == 0 && blocks_of(&answer.nodes).len() == blocks;
    expect("a plain job of 3 nodes", desk.ask(By::Block, &ALL, 3, &[]), &|answer| in_blocks(answer, 1))?;
    expect("a plain job of 4 nodes", desk.ask(By::Block, &ALL, 4, &[]), &|answer| in_blocks(answer, 1))?;
    expect("a plain job of 2 nodes with a gap", desk.ask(By::Flat, &GAPS, 2, &[]), &|answer| answer.rc == 0)?;
    let cpus = |count: u32| (desk.details + layout.details.min_cpus, count.to_ne_bytes().to_vec());
    let one_node = u32::from(CPUS);
    expect("as many CPUs as a node has", desk.ask(By::Block, &ALL, 1, &[cpus(one_node)]), &|a| a.rc == 0)?;
    expect("more CPUs than a node has", desk.ask(By::Block, &ALL, 1, &[cpus(one_node + 1)]), &|a| a.rc != 0)
}

/// Nodes of which no two are neighbours.
const GAPS: [usize; 4] = [0, 2, 4, 6];

fn details_members(
    slurm: &Slurm,
    records: &AtFirst,
    desk: &Desk<'_>,
    layout: &mut Layout,
) -> Result<(), Failure> {
    let size = slurm.size_of(desk.details);
    let at = |offset: usize, bytes: &[u8]| -> Plant { (desk.details + offset, bytes.to_vec()) };
    layout.details.segment_size = records.search("details.segment_size", size, 2, |offset| {
        let segment = [at(offset, &2u16.to_ne_bytes())];
        desk.ask(By::Block, &ALL, 3, &segment).rc == TOPOLOGY_UNAVAILABLE
            && desk.ask(By::Block, &ALL, 4, &segment).nodes.len() == 4
    })?;
    let tasks = zeroed(2 * NODES);
    layout.details.arbitrary_tpn = records.search("details.arbitrary_tpn", size, 8, |offset| {
        desk.ask(By::Block, &ALL, 1, &[at(offset, &tasks.to_ne_bytes())]).rc == NOT_SUPPORTED
    })?;
    layout.details.req_node_bitmap = records.search("details.req_node_bitmap", size, 8, |offset| {
        [13, 6].iter().all(|&node| {
            let required = bitmap(NODES, &[node]).to_ne_bytes();
            desk.ask(By::Block, &ALL, 1, &[at(offset, &required)]).nodes == [node]
        })
    })?;
    layout.details.contiguous = records.search("details.contiguous", size, 2, |offset| {
        let contiguous = [at(offset, &1u16.to_ne_bytes())];
        desk.ask(By::Flat, &GAPS, 2, &contiguous).rc != 0
            && desk.ask(By::Flat, &[0, 2, 5, 6], 2, &contiguous).nodes == [5, 6]
    })?;
    Ok(())
}

fn job_members(
    slurm: &Slurm,
    records: &AtFirst,
    desk: &Desk<'_>,
    layout: &mut Layout,
) -> Result<(), Failure> {
    let size = slurm.size_of(desk.job);
    let at = |offset: usize, bytes: &[u8]| -> Plant { (desk.job + offset, bytes.to_vec()) };
    let segment = |size: u16| (desk.details + layout.details.segment_size, size.to_ne_bytes().to_vec());
    layout.job.bit_flags = records.search("job.bit_flags", size, 8, |offset| {
        let flag = |flag: u64| at(offset, &flag.to_ne_bytes());
        flags_change_the_choice(desk, &segment, &flag)
    })?;
    let [counters, reset_to, hres] = [zeroed(64), zeroed(64), zeroed(256)];
    layout.job.hres_select = records.search("job.hres_select", size, 8, |offset| {
        // Addresses of the counters and of what they are reset to, then ones: one layer, one for each node.
        plant(&[
            (counters, vec![0; 64]),
            (reset_to, vec![0xab; 64]),
            (hres, [1, 0].repeat(128)),
            (hres, counters.to_ne_bytes().to_vec()),
            (hres + 8, reset_to.to_ne_bytes().to_vec()),
        ]);
        desk.ask(By::Flat, &ALL, 1, &[at(offset, &hres.to_ne_bytes())]);
        // SAFETY: memory of ours.
        unsafe { u32_at(counters) != 0 }
    })?;
    let [channels, other] = ["x,unique-channel-per-segment", "x,another-channel-per-segment"].map(text);
    layout.job.network = records.search("job.network", size, 8, |offset| {
        let recorded = |network: usize| {
            let plants = [at(offset, &network.to_ne_bytes()), segment(2)];
            desk.ask(By::Block, &ALL, 4, &plants).rc == 0 && records_segments(desk.job, size)
        };
        recorded(channels) && !recorded(other)
    })?;
    Ok(())
}

/// Whether three flags of a job, planted by `flag`, do what they are for.
fn flags_change_the_choice(
    desk: &Desk<'_>,
    segment: &dyn Fn(u16) -> Plant,
    flag: &dyn Fn(u64) -> Plant,
) -> bool {
    // The last block but one is taken.
    let with_a_gap: Vec<usize> = ALL.into_iter().filter(|node| node / BLOCK != 2).collect();
    let blocks = |usable: &[usize], nodes: u32, plants: &[Plant]| {
        let answer = desk.ask(By::Block, usable, nodes, plants);
        if answer.rc == 0 { blocks_of(&answer.nodes) } else { Vec::new() }
    };
    let spread = blocks(&ALL, 4, &[segment(2)]).len() == 1
        && blocks(&ALL, 4, &[segment(2), flag(SPREAD_SEGMENTS)]).len() == 2;
    let consolidate = blocks(&with_a_gap, 8, &[segment(4)]).contains(&3)
        && blocks(&with_a_gap, 8, &[segment(4), flag(CONSOLIDATE_SEGMENTS)]) == [0, 1];
    let asked = |plants: &[Plant]| {
        WAS_ASKED.store(false, Ordering::Relaxed);
        desk.ask_common(&ALL, 2, plants, note);
        WAS_ASKED.load(Ordering::Relaxed)
    };
    spread && consolidate && asked(&[]) && !asked(&[flag(SPREAD_JOB)])
}

static WAS_ASKED: AtomicBool = AtomicBool::new(false);

/// A plugin's own evaluator that only notes that it was asked.
unsafe extern "C" fn note(_eval: *mut topology_eval_t) -> c_int {
    WAS_ASKED.store(true, Ordering::Relaxed);
    0
}

/// Whether a job's record leads to data of topology/block that is not empty.
fn records_segments(job: usize, size: usize) -> bool {
    let leads_there = |offset: usize| {
        // SAFETY: inside the record.
        let Ok(address) = usize::try_from(unsafe { u64_at(job + offset) }) else { return false };
        // A wrapper is sixteen bytes: an address, and the id of the plugin.
        let wrapper = peek::bytes::<16>(address);
        wrapper.is_some_and(|wrapper| {
            let word = |i: usize| wrapper[i..i + 8].try_into().map_or(0, u64::from_ne_bytes);
            word(0) != 0 && word(8) as u32 == TOPOLOGY_BLOCK_PLUGIN_ID
        })
    };
    (0..=size.saturating_sub(8)).step_by(8).any(leads_there)
}

/// The node with the least weight is chosen, whichever it is.
fn sched_weight(slurm: &Slurm, records: &AtFirst, desk: &Desk<'_>) -> Result<usize, Failure> {
    const HEAVY: u64 = 2 << 40;
    const LIGHT: u64 = 1 << 40;
    let size = slurm.nodes.iter().map(|&node| slurm.size_of(node)).min().unwrap_or(0);
    records.search("node.sched_weight", size, 8, |offset| {
        [2, 11, 7].iter().all(|&light| {
            let weight = |index: usize| if index == light { LIGHT } else { HEAVY };
            let weights = slurm.nodes.iter().enumerate();
            let plants: Vec<Plant> =
                weights.map(|(index, &node)| (node + offset, weight(index).to_ne_bytes().to_vec())).collect();
            desk.ask(By::Block, &ALL, 1, &plants).nodes == [light]
        })
    })
}

/// The blocks of these nodes, in order.
fn blocks_of(nodes: &[usize]) -> Vec<usize> {
    let mut blocks: Vec<usize> = nodes.iter().map(|node| node / BLOCK).collect();
    blocks.dedup();
    blocks
}

fn plant(plants: &[Plant]) {
    for (address, bytes) in plants {
        // SAFETY: inside a record of Slurm that nobody else uses, or memory of ours; the copies of a trial end soon.
        unsafe { crate::memory::poke(*address, bytes) };
    }
}
