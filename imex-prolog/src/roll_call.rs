//! The roll call: no prolog of a job ends well before the prolog of every member has said that its tray is complete.
//!
//! Slurm starts a batch script as soon as the prolog of the job's first node has ended, whatever the others do. IMEX shows every
//! tray whether the daemons are connected, but not whether each tray's prolog has seen it and made its channel; one that has not
//! is about to fail. So the first member calls the roll:
//!
//! ```text
//!   member k ── connects, "... member k complete" ──▶ member 0 (listens from the start of its wait)
//!            ◀────────────── "complete" ─────────────  once all have said so, itself included
//! ```
//!
//! The connection stays open meanwhile, so a prolog that dies is no longer there. What is said names job, run and member list:
//! trays that disagree about one of them never agree. Only root on a member's own address is listened to, which shows by its port.
#![forbid(unsafe_code)]

mod net;

use crate::ctl::quote;
use crate::deadline::{Deadline, Pauses};
use crate::record::{Record, crc32};
use net::Line;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::time::Duration;

/// Ports that only root may use (bindresvport(3) takes the same).
pub const ROOTS_PORTS: RangeInclusive<u16> = 600..=1023;
/// What the caller says at the end.
const COMPLETE: &str = "complete";
/// What the caller says while it waits, with the positions of those who have not answered.
const MISSING: &str = "missing";
/// How long the caller keeps its picture of who is missing to itself.
const TELL_AFTER: Duration = Duration::from_secs(1);
/// First and longest pause before the caller is dialled again.
const DIAL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// One member's part in a roll call. Dropping it hangs up.
#[derive(Debug)]
pub struct RollCall {
    own: usize,
    addresses: Vec<IpAddr>,
    port: u16,
    from: RangeInclusive<u16>,
    /// What every member says, up to its position.
    run: String,
    side: Side,
}

#[derive(Debug)]
enum Side {
    /// A domain of one.
    Alone,
    /// The first member.
    Caller(Caller),
    /// Any other.
    Answerer { line: Option<Line>, pauses: Pauses, fault: Option<String>, told: Vec<usize> },
}

/// What the first member holds.
#[derive(Debug)]
struct Caller {
    listener: Option<TcpListener>,
    lines: Vec<Line>,
    quiet_until: Deadline,
    told: Vec<usize>,
    /// What those said who answered for something else.
    strange: BTreeMap<IpAddr, String>,
}

impl RollCall {
    /// The part of `record`'s own member. `port` is the caller's; `from` are those by which members are known.
    #[must_use]
    pub fn new(record: &Record, port: u16, from: RangeInclusive<u16>) -> Self {
        let addresses: Vec<IpAddr> = record.members.iter().map(|member| member.address).collect();
        let list: Vec<String> =
            record.members.iter().map(|member| format!("{}={}", member.node, member.address)).collect();
        let restarts = record.restarts.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
        let run = format!(
            "slurm-nvlink-roll-call 1 job {} restarts {restarts} block {} list {:08x} member",
            record.job,
            record.block,
            crc32(list.join(",").as_bytes()),
        );
        let side = match (addresses.len(), record.own_index) {
            (0 | 1, _) => Side::Alone,
            (_, 0) => Side::Caller(Caller {
                listener: None,
                lines: Vec::new(),
                quiet_until: Deadline::after(TELL_AFTER),
                told: Vec::new(),
                strange: BTreeMap::new(),
            }),
            _ => Side::Answerer {
                line: None,
                pauses: Pauses::new(DIAL.0, DIAL.1),
                fault: None,
                told: Vec::new(),
            },
        };
        Self { own: record.own_index, addresses, port, from, run, side }
    }

    /// Begins to listen, if this is the caller: whoever dials before the caller is complete is heard when it is. A port that is
    /// taken is tried again in each step.
    ///
    /// # Errors
    /// The address cannot be listened on at all.
    pub fn open(&mut self) -> io::Result<()> {
        let Side::Caller(Caller { listener: listener @ None, .. }) = &mut self.side else { return Ok(()) };
        let Some(address) = self.addresses.get(self.own) else { return Ok(()) };
        match TcpListener::bind((*address, self.port)) {
            Ok(bound) => {
                bound.set_nonblocking(true)?;
                *listener = Some(bound);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Says that this tray is complete, and hears what the others say, until the deadline. True: all are complete.
    ///
    /// # Errors
    /// The system refuses; members that cannot be reached are no error.
    pub fn step(&mut self, deadline: Deadline) -> io::Result<bool> {
        self.open()?;
        match &mut self.side {
            Side::Alone => Ok(true),
            Side::Caller(Caller { listener: None, .. }) => {
                Pauses::new(DIAL.1, DIAL.1).pause(deadline);
                Ok(false)
            }
            Side::Caller(_) => self.call(deadline),
            Side::Answerer { .. } => self.answer(deadline),
        }
    }

    fn call(&mut self, deadline: Deadline) -> io::Result<bool> {
        let Side::Caller(caller) = &mut self.side else { return Ok(false) };
        let Caller { listener: Some(listener), lines, quiet_until, told, strange } = caller else {
            return Ok(false);
        };
        let mut fds = vec![listener.as_fd()];
        fds.extend(lines.iter().map(Line::as_fd));
        // Whoever is missing is told in time.
        let until = if quiet_until.has_passed() { deadline } else { deadline.or_earlier(*quiet_until) };
        net::wait_for_any(&fds, until)?;
        while let Ok((stream, address)) = listener.accept() {
            if net::is_member(address, &self.addresses, &self.from) {
                lines.push(Line::new(stream, address)?);
            } else {
                note(strange, address.ip(), "its connection is not from root on a member");
            }
        }
        let (run, addresses) = (&self.run, &self.addresses);
        lines.retain_mut(|line| {
            let Ok(said) = line.hear() else { return false };
            said.iter().all(|words| {
                let right = line.introduce(words, run, addresses);
                if !right {
                    note(
                        strange,
                        line.from.ip(),
                        &format!("its prolog answers for something else: {}", quote(words)),
                    );
                }
                right
            })
        });
        let missing = absent(lines, addresses.len(), self.own);
        if missing.is_empty() {
            // One that has just died is Slurm's to notice: its prolog has failed.
            lines.iter_mut().for_each(|line| drop(line.say(COMPLETE)));
            return Ok(true);
        }
        if quiet_until.has_passed() && *told != missing {
            let words: Vec<String> = missing.iter().map(usize::to_string).collect();
            let words = format!("{MISSING} {}", words.join(" "));
            lines.retain_mut(|line| line.say(&words).is_ok());
            *told = missing;
        }
        Ok(false)
    }

    fn answer(&mut self, deadline: Deadline) -> io::Result<bool> {
        let Side::Answerer { line, pauses, fault, told } = &mut self.side else { return Ok(false) };
        let (Some(own), Some(caller)) = (self.addresses.get(self.own), self.addresses.first()) else {
            return Ok(false);
        };
        let Some(open) = line else {
            let words = format!("{} {} {COMPLETE}", self.run, self.own);
            let dialled = net::dial(*own, SocketAddr::new(*caller, self.port), &self.from, deadline)
                .and_then(|stream| Line::new(stream, SocketAddr::new(*caller, self.port)))
                .and_then(|mut line| line.say(&words).map(|()| line));
            match dialled {
                Ok(open) => (*line, *fault) = (Some(open), None),
                Err(error) => {
                    *fault = Some(error.to_string());
                    pauses.pause(deadline);
                }
            }
            return Ok(false);
        };
        net::wait_for_any(&[open.as_fd()], deadline)?;
        match open.hear() {
            Ok(said) => {
                for words in said {
                    if words == COMPLETE {
                        return Ok(true);
                    }
                    if let Some(list) = words.strip_prefix(MISSING) {
                        *told = list.split_whitespace().filter_map(|word| word.parse().ok()).collect();
                    }
                }
            }
            Err(error) => (*line, *fault) = (None, Some(error.to_string())),
        }
        Ok(false)
    }

    /// Whether this is not the caller, and the caller's prolog cannot be reached.
    #[must_use]
    pub fn is_unheard(&self) -> bool {
        matches!(&self.side, Side::Answerer { line: None, .. })
    }

    /// Who has not answered, as far as is known here, with what is known about it.
    #[must_use]
    pub fn missing(&self) -> Vec<(usize, String)> {
        let silent = |index: &usize| (*index, "its prolog has not said that its node is complete".to_owned());
        let strange = |caller: &Caller, index: usize| {
            let words = self.addresses.get(index).and_then(|address| caller.strange.get(address));
            words.map_or_else(|| silent(&index), |words| (index, words.clone()))
        };
        match &self.side {
            Side::Alone => Vec::new(),
            Side::Caller(Caller { listener: None, .. }) => {
                vec![(self.own, format!("port {} is held by another program", self.port))]
            }
            Side::Caller(caller) => {
                let absent = absent(&caller.lines, self.addresses.len(), self.own);
                absent.into_iter().map(|index| strange(caller, index)).collect()
            }
            Side::Answerer { line: None, fault, .. } => {
                let why = fault.as_deref().unwrap_or("not tried yet");
                vec![(0, format!("its prolog does not answer at port {}: {why}", self.port))]
            }
            Side::Answerer { told, .. } => told.iter().map(silent).collect(),
        }
    }
}

/// Members that nobody has answered for.
fn absent(lines: &[Line], count: usize, own: usize) -> Vec<usize> {
    let answered = |index: &usize| lines.iter().any(|line| line.member == Some(*index));
    (0..count).filter(|index| *index != own && !answered(index)).collect()
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
