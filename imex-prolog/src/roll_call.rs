//! The roll call: no prolog of a job ends well before the prolog of every tray has said that its tray is complete.
//!
//! Slurm starts a batch script as soon as the prolog of the job's first node has ended, whatever the others do. IMEX shows every
//! tray whether the daemons are connected, but not whether each tray's prolog has seen it and made its channel; one that has not
//! is about to fail. So the first member of each domain calls the roll, and the first of them all calls the others:
//!
//! ```text
//!   member k ── "... member k complete" ──▶ member 0 ── "... partition i complete" ──▶ member 0 of partition 0
//!            ◀─────── "complete" ──────────          ◀──────────── "complete" ───────── once all have said so
//! ```
//!
//! Callers listen from the start of their wait. Connections stay open meanwhile, so a prolog that dies is no longer there, and a
//! partition of which one member is gone hangs up itself. What is said names job, run and list: trays that disagree about one of
//! them never agree. Only root on the right address is listened to, which shows by its port.
#![forbid(unsafe_code)]

mod answerer;
mod net;

use crate::ctl::quote;
use crate::deadline::{Deadline, Pauses};
use crate::record::{Member, Record, crc32};
use answerer::{Answerer, DIAL_LONGEST};
use fabric::names::BlockName;
use net::Line;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::time::Duration;

/// Ports that only root may use (bindresvport(3) takes the same).
pub const ROOTS_PORTS: RangeInclusive<u16> = 600..=1023;
/// What a caller says at the end.
const COMPLETE: &str = "complete";
/// How long a caller keeps its picture of who is missing to itself.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// One NVLink partition of a job, as the first trays of all its partitions know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its block.
    pub block: BlockName,
    /// The first of the job's trays in it, which calls the roll there.
    pub first: Member,
    /// How many of the job's trays are in it.
    pub trays: usize,
}

/// Whose words are missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Absent {
    /// Members of the own domain by position, with what is known about each.
    pub members: Vec<(usize, String)>,
    /// Other NVLink partitions of the job, likewise.
    pub partitions: Vec<(BlockName, String)>,
}

/// One member's part in a roll call. Dropping it hangs up.
#[derive(Debug)]
pub struct RollCall {
    port: u16,
    from: RangeInclusive<u16>,
    side: Side,
}

#[derive(Debug)]
enum Side {
    /// The first member of a domain.
    Caller(Caller),
    /// Any other.
    Answerer(Answerer),
}

/// Somebody whose words a caller waits for.
#[derive(Debug)]
struct Voice {
    who: Who,
    address: IpAddr,
    words: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Member(usize),
    Partition(BlockName),
}

/// What a first member holds.
#[derive(Debug)]
struct Caller {
    own: IpAddr,
    voices: Vec<Voice>,
    listener: Option<TcpListener>,
    lines: Vec<Line>,
    quiet_until: Deadline,
    told: Told,
    /// What those said who answered for something else.
    strange: BTreeMap<IpAddr, String>,
    /// The own partition's part in the job's roll call, where it is not the first one.
    above: Option<(BlockName, Answerer)>,
}

/// Who is missing, as callers tell it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    members: Vec<usize>,
    partitions: Vec<BlockName>,
}

impl RollCall {
    /// The part of `record`'s own member. `partitions` are those of the job in the order that all its trays know, where
    /// it has several; only the first member of each needs them. `port` is the callers'; `from` are the ports by which
    /// members are known.
    #[must_use]
    pub fn new(record: &Record, partitions: &[Partition], port: u16, from: RangeInclusive<u16>) -> Self {
        let addresses: Vec<IpAddr> = record.members.iter().map(|member| member.address).collect();
        let own = addresses.get(record.own_index).copied().unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let side = match (record.own_index, addresses.first()) {
            (1.., Some(first)) => {
                let words = member_words(record, record.own_index);
                Side::Answerer(Answerer::new(own, (*first, port).into(), words, from.clone()))
            }
            _ => Side::Caller(Caller::new(record, own, partitions, port, &from)),
        };
        Self { port, from, side }
    }

    /// Begins to listen, if this is a caller: whoever dials before the caller is complete is heard when it is. A port that is
    /// taken is tried again in each step.
    ///
    /// # Errors
    /// The address cannot be listened on at all.
    pub fn open(&mut self) -> io::Result<()> {
        match &mut self.side {
            Side::Caller(caller) => caller.open(self.port),
            Side::Answerer(_) => Ok(()),
        }
    }

    /// Says that this tray is complete, and hears what the others say, until the deadline. True: all are complete.
    ///
    /// # Errors
    /// The system refuses; members that cannot be reached are no error.
    pub fn step(&mut self, deadline: Deadline) -> io::Result<bool> {
        self.open()?;
        match &mut self.side {
            Side::Caller(caller) => caller.step(&self.from, deadline),
            Side::Answerer(answerer) => answerer.step(deadline),
        }
    }

    /// Whether nothing is missing but a caller's prolog that cannot be reached.
    #[must_use]
    pub fn is_unheard(&self) -> bool {
        match &self.side {
            Side::Answerer(answerer) => answerer.is_unheard(),
            Side::Caller(caller) => {
                caller.absent().next().is_none()
                    && caller.above.as_ref().is_some_and(|(_, above)| above.is_unheard())
            }
        }
    }

    /// Who has not answered, as far as is known here, with what is known about it.
    #[must_use]
    pub fn missing(&self) -> Absent {
        match &self.side {
            Side::Answerer(answerer) => match answerer.complaint() {
                Some(why) => Absent { members: vec![(0, why)], partitions: Vec::new() },
                None => answerer.told().in_words(),
            },
            Side::Caller(caller) if caller.is_deaf() => {
                let why = format!("port {} is held by another program", self.port);
                Absent { members: vec![(0, why)], partitions: Vec::new() }
            }
            Side::Caller(caller) => caller.missing(),
        }
    }
}

impl Caller {
    fn new(
        record: &Record,
        own: IpAddr,
        partitions: &[Partition],
        port: u16,
        from: &RangeInclusive<u16>,
    ) -> Self {
        let members = record.members.iter().enumerate().skip(1).map(|(index, member)| Voice {
            who: Who::Member(index),
            address: member.address,
            words: member_words(record, index),
        });
        let mut voices: Vec<Voice> = members.collect();
        let mut above = None;
        match partitions.iter().position(|partition| partition.block == record.block) {
            Some(0) => voices.extend(partitions.iter().enumerate().skip(1).map(|(index, partition)| Voice {
                who: Who::Partition(partition.block.clone()),
                address: partition.first.address,
                words: partition_words(record, partitions, index),
            })),
            Some(index) => {
                above = partitions.first().map(|top| {
                    let words = partition_words(record, partitions, index);
                    let caller = (top.first.address, port).into();
                    (top.block.clone(), Answerer::new(own, caller, words, from.clone()))
                });
            }
            None => {}
        }
        Self {
            own,
            voices,
            listener: None,
            lines: Vec::new(),
            quiet_until: Deadline::after(TELL_AFTER),
            told: Told::default(),
            strange: BTreeMap::new(),
            above,
        }
    }

    fn open(&mut self, port: u16) -> io::Result<()> {
        if self.listener.is_some() || self.voices.is_empty() {
            return Ok(());
        }
        match TcpListener::bind((self.own, port)) {
            Ok(bound) => {
                bound.set_nonblocking(true)?;
                self.listener = Some(bound);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether it cannot hear those whom it waits for.
    fn is_deaf(&self) -> bool {
        self.listener.is_none() && !self.voices.is_empty()
    }

    fn step(&mut self, from: &RangeInclusive<u16>, deadline: Deadline) -> io::Result<bool> {
        if self.is_deaf() {
            Pauses::new(DIAL_LONGEST, DIAL_LONGEST).pause(deadline);
            return Ok(false);
        }
        if self.absent().next().is_some() {
            // Whoever is missing is told in time.
            let quiet = self.quiet_until;
            self.wait(if quiet.has_passed() { deadline } else { deadline.or_earlier(quiet) })?;
        }
        self.accept(from)?;
        self.hear();
        let whole = self.absent().next().is_none();
        let all = match &mut self.above {
            // The partition is complete no more, or not yet.
            Some((_, above)) if !whole => {
                above.hang_up();
                false
            }
            Some((_, above)) => above.step(deadline)?,
            None => whole,
        };
        if all {
            // One that has just died is Slurm's to notice: its prolog has failed.
            self.lines.iter_mut().for_each(|line| drop(line.say(COMPLETE)));
        } else {
            self.tell();
        }
        Ok(all)
    }

    fn wait(&self, until: Deadline) -> io::Result<()> {
        let mut fds: Vec<_> = self.listener.iter().map(AsFd::as_fd).collect();
        fds.extend(self.lines.iter().map(Line::as_fd));
        net::wait_for_any(&fds, until).map(drop)
    }

    fn accept(&mut self, from: &RangeInclusive<u16>) -> io::Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        while let Ok((stream, address)) = listener.accept() {
            let known = self.voices.iter().any(|voice| voice.address == address.ip().to_canonical());
            if known && from.contains(&address.port()) {
                self.lines.push(Line::new(stream, address)?);
            } else {
                note(
                    &mut self.strange,
                    address.ip(),
                    "its connection is not from root on one of the job's nodes",
                );
            }
        }
        Ok(())
    }

    fn hear(&mut self) {
        let (voices, strange) = (&self.voices, &mut self.strange);
        self.lines.retain_mut(|line| {
            let Ok(said) = line.hear() else { return false };
            said.iter().all(|words| {
                let from = line.from.ip().to_canonical();
                line.voice = voices.iter().position(|voice| voice.words == *words && voice.address == from);
                if line.voice.is_none() {
                    let words = format!("its prolog answers for something else: {}", quote(words));
                    note(strange, from, &words);
                }
                line.voice.is_some()
            })
        });
    }

    /// Those that nobody has answered for.
    fn absent(&self) -> impl Iterator<Item = &Voice> {
        let answered = |index: usize| self.lines.iter().any(|line| line.voice == Some(index));
        self.voices.iter().enumerate().filter(move |(index, _)| !answered(*index)).map(|(_, voice)| voice)
    }

    fn tell(&mut self) {
        let mut now = Told::default();
        for voice in self.absent() {
            match &voice.who {
                Who::Member(index) => now.members.push(*index),
                Who::Partition(block) => now.partitions.push(block.clone()),
            }
        }
        if let Some((top, above)) = self.above.as_ref().filter(|_| now == Told::default()) {
            now.partitions =
                if above.is_unheard() { vec![top.clone()] } else { above.told().partitions.clone() };
        }
        if self.quiet_until.has_passed() && self.told != now {
            let words = now.to_line();
            self.lines.retain_mut(|line| line.say(&words).is_ok());
            self.told = now;
        }
    }

    fn missing(&self) -> Absent {
        let mut all = Absent::default();
        for voice in self.absent() {
            let said = self.strange.get(&voice.address).cloned();
            match &voice.who {
                Who::Member(index) => all.members.push((*index, said.unwrap_or_else(silent_member))),
                Who::Partition(block) => {
                    all.partitions.push((block.clone(), said.unwrap_or_else(silent_partition)));
                }
            }
        }
        match &self.above {
            Some((top, above)) if all == Absent::default() => match above.complaint() {
                Some(why) => Absent { partitions: vec![(top.clone(), why)], ..Absent::default() },
                None => Absent { members: Vec::new(), ..above.told().in_words() },
            },
            _ => all,
        }
    }
}

fn silent_member() -> String {
    "its prolog has not said that its node is complete".to_owned()
}

fn silent_partition() -> String {
    "its first node has not said that all of the job's nodes there are complete".to_owned()
}

impl Told {
    /// What a line begins with that says who is missing.
    const MEMBERS: &str = "missing";
    /// What separates members from partitions in it.
    const PARTITIONS: &str = "partitions";
    /// Most partitions in a line.
    const PARTITIONS_MAX: usize = 8;

    fn to_line(&self) -> String {
        let members = self.members.iter().map(usize::to_string);
        let blocks = self.partitions.iter().take(Self::PARTITIONS_MAX).map(ToString::to_string);
        let words = members.chain([Self::PARTITIONS.to_owned()]).chain(blocks);
        format!("{} {}", Self::MEMBERS, words.collect::<Vec<_>>().join(" "))
    }

    fn of_line(line: &str) -> Option<Self> {
        let (members, partitions) = line.strip_prefix(Self::MEMBERS)?.split_once(Self::PARTITIONS)?;
        Some(Self {
            members: members.split_whitespace().filter_map(|word| word.parse().ok()).collect(),
            partitions: partitions.split_whitespace().filter_map(|word| BlockName::new(word).ok()).collect(),
        })
    }

    fn in_words(&self) -> Absent {
        Absent {
            members: self.members.iter().map(|index| (*index, silent_member())).collect(),
            partitions: self.partitions.iter().map(|block| (block.clone(), silent_partition())).collect(),
        }
    }
}

/// What every sentence begins with.
fn run_words(record: &Record) -> String {
    let restarts = record.restarts.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
    format!("slurm-nvlink-roll-call 1 job {} restarts {restarts}", record.job)
}

/// What the member at this position says.
fn member_words(record: &Record, index: usize) -> String {
    let list: Vec<String> =
        record.members.iter().map(|member| format!("{}={}", member.node, member.address)).collect();
    let (run, list) = (run_words(record), crc32(list.join(",").as_bytes()));
    format!("{run} block {} list {list:08x} member {index} {COMPLETE}", record.block)
}

/// What the first member of the partition at this position says.
fn partition_words(record: &Record, partitions: &[Partition], index: usize) -> String {
    let list: Vec<String> = partitions
        .iter()
        .map(|partition| format!("{}={} {}", partition.block, partition.first.node, partition.trays))
        .collect();
    let (run, list) = (run_words(record), crc32(list.join(",").as_bytes()));
    format!("{run} partitions {list:08x} partition {index} {COMPLETE}")
}

/// Keeps what was wrong with one who answered, and logs it once.
fn note(strange: &mut BTreeMap<IpAddr, String>, from: IpAddr, words: &str) {
    // No more than could be members twice over: a flood of strangers must not fill the log.
    if strange.len() < 64 && strange.insert(from, words.to_owned()).is_none() {
        tracing::warn!(%from, "roll call: {words}");
    }
}

#[cfg(test)]
mod tests;
