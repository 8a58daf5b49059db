//! The readiness wait's view of the real tray.
#![forbid(unsafe_code)]

use super::{Tray, log_name};
use crate::ctl::{Ctl, CtlError, OwnRow, OwnState};
use crate::daemon::DaemonOwner;
use crate::deadline::{Deadline, Pauses};
use crate::lifecycle::World;
use crate::network::{self, Knock};
use crate::readiness::{PAUSE_FIRST, PAUSE_LONGEST, Probe};
use crate::record::Record;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longest wait for an answer to one knock at a peer's port; inside a rack an answer takes less than a millisecond.
const KNOCK: Duration = Duration::from_millis(200);

/// A daemon that has written nothing into its log for so long, after it had, has done for now what it has to do: it writes a
/// line for each connection that comes or goes.
const QUIET: Duration = Duration::from_millis(20);

/// Distance between two looks at the length of the log; one costs a microsecond, a question to the control tool milliseconds
/// here and on each peer.
const GLANCE: Duration = Duration::from_millis(8);

/// What the daemon's log says of a member with another node list (NVIDIA's daemon, by public reports of its log). The control
/// tool's word for such a connection is not documented, and missing in earlier versions.
const REFUSAL: &str = "Node configuration mapping mismatch";
/// How much of the log is read for it.
const LOG_MAX: u64 = 1 << 20;

/// Asks the daemon's process, the control tool and the ending mark.
pub(super) struct TrayProbe<'a, O> {
    tray: &'a mut Tray<O>,
    record: &'a Record,
    ctl: Ctl,
    call: Duration,
    begin: Instant,
    pauses: Pauses,
    log: PathBuf,
    /// How long the log was when the tool was asked last.
    length: Option<u64>,
}

impl<'a, O: DaemonOwner> TrayProbe<'a, O> {
    /// `call` bounds each call of the control tool.
    pub(super) fn new(tray: &'a mut Tray<O>, record: &'a Record, ctl: Ctl, call: Duration) -> Self {
        let log = tray.paths.log_dir.join(log_name(record.kind, record.job));
        Self {
            tray,
            record,
            ctl,
            call,
            begin: Instant::now(),
            pauses: Pauses::new(PAUSE_FIRST, PAUSE_LONGEST),
            log,
            length: None,
        }
    }

    /// `None` where there is no log.
    fn log_length(&self) -> Option<u64> {
        fs::metadata(&self.log).ok().map(|data| data.len())
    }

    fn call_deadline(&self) -> Deadline {
        self.tray.forming.within(self.call)
    }
}

impl<O: DaemonOwner> Probe for TrayProbe<'_, O> {
    fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    fn remaining(&self) -> Duration {
        self.tray.forming.remaining()
    }

    fn pause(&mut self) {
        let end = self.tray.forming.within(self.pauses.next_length());
        let (mut length, mut since) = (self.log_length(), Instant::now());
        let mut glances = Pauses::new(GLANCE, GLANCE);
        while !end.has_passed() && (length == self.length || since.elapsed() < QUIET) {
            glances.pause(end);
            let now = self.log_length();
            if now != length {
                (length, since) = (now, Instant::now());
            }
        }
        self.length = length;
    }

    fn has_ended(&mut self) -> bool {
        // A mark that cannot be read is looked for again in the next round.
        self.tray.has_ended(self.record.job, self.record.prolog_started).unwrap_or(false)
    }

    fn is_daemon_alive(&mut self) -> bool {
        // Not being able to tell is no sign of death: the control tool is asked as well.
        self.tray.is_daemon_alive(self.record).unwrap_or(true)
    }

    fn own_state(&mut self) -> Result<OwnState, CtlError> {
        self.ctl.own_state(self.call_deadline())
    }

    fn own_row(&mut self) -> Result<OwnRow, CtlError> {
        self.ctl.own_row(self.record.own_index, self.record.members.len(), self.call_deadline())
    }

    fn has_refused(&mut self) -> bool {
        let said = || -> io::Result<bool> {
            let mut text = Vec::new();
            File::open(&self.log)?.take(LOG_MAX).read_to_end(&mut text)?;
            Ok(String::from_utf8_lossy(&text).contains(REFUSAL))
        };
        said().unwrap_or(false)
    }

    fn own_index(&self) -> Option<usize> {
        Some(self.record.own_index)
    }

    fn knock(&mut self, members: &[usize]) -> Vec<Knock> {
        let port = self.tray.ports_of(self.record).server;
        let members = members.iter().filter_map(|index| self.record.members.get(*index));
        let addresses: Vec<SocketAddr> =
            members.map(|member| SocketAddr::new(member.address, port)).collect();
        network::knock(&addresses, KNOCK.min(self.tray.forming.remaining()))
    }

    fn cut_off(&mut self, knocks: &[Knock]) -> Option<String> {
        let own = self.record.members.get(self.record.own_index)?;
        network::cut_off(own.address, knocks)
    }
}
