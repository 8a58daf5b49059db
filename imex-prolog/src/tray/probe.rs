//! The readiness wait's view of the real tray.
#![forbid(unsafe_code)]

use super::Tray;
use crate::ctl::{Ctl, CtlError, OwnRow, OwnState};
use crate::daemon::DaemonOwner;
use crate::deadline::{Deadline, Pauses};
use crate::lifecycle::World;
use crate::readiness::{PAUSE_FIRST, PAUSE_LONGEST, Probe};
use crate::record::Record;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest wait for an answer to one knock at a peer's port; inside a rack an answer takes less than a millisecond.
const KNOCK: Duration = Duration::from_millis(200);

/// Asks the daemon's process, the control tool and the ending mark.
pub(super) struct TrayProbe<'a, O> {
    tray: &'a mut Tray<O>,
    record: &'a Record,
    ctl: Ctl,
    call: Duration,
    begin: Instant,
    pauses: Pauses,
}

impl<'a, O: DaemonOwner> TrayProbe<'a, O> {
    /// `call` bounds each call of the control tool.
    pub(super) fn new(tray: &'a mut Tray<O>, record: &'a Record, ctl: Ctl, call: Duration) -> Self {
        Self {
            tray,
            record,
            ctl,
            call,
            begin: Instant::now(),
            pauses: Pauses::new(PAUSE_FIRST, PAUSE_LONGEST),
        }
    }

    fn call_deadline(&self) -> Deadline {
        self.tray.budget.within(self.call)
    }
}

impl<O: DaemonOwner> Probe for TrayProbe<'_, O> {
    fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    fn remaining(&self) -> Duration {
        self.tray.budget.remaining()
    }

    fn pause(&mut self) {
        self.pauses.pause(self.tray.budget);
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

    fn is_listening(&mut self, index: usize) -> bool {
        let Some(member) = self.record.members.get(index) else { return false };
        let address = SocketAddr::new(member.address, self.tray.ports_of(self.record).server);
        let limit = KNOCK.min(self.tray.budget.remaining());
        !limit.is_zero() && TcpStream::connect_timeout(&address, limit).is_ok()
    }
}
