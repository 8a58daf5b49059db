//! The roll call on the real tray.
#![forbid(unsafe_code)]

use super::Tray;
use crate::daemon::DaemonOwner;
use crate::lifecycle::World;
use crate::readiness::{Missing, Readiness};
use crate::record::{Kind, Record};
use crate::roll_call::{Absent, ROOTS_PORTS, RollCall};
use std::time::{Duration, Instant};

/// Longest time without a look at the own daemon and at the end of the job.
const LOOK: Duration = Duration::from_millis(250);

impl<O: DaemonOwner> Tray<O> {
    /// Has the first member listen before the others can be complete. One that is open stays, with those who have answered it,
    /// when the own daemon is started anew.
    pub(super) fn open_roll(&mut self, record: &Record) {
        if self.roll.is_some() {
            return;
        }
        let port = self.settings.roll_call.port_for(record.job.get());
        self.roll = port.map(|port| RollCall::new(record, &self.partitions, port, ROOTS_PORTS));
        if let Some(roll) = &mut self.roll
            && let Err(error) = roll.open()
        {
            tracing::debug!(job = %record.job, %error, "the roll call cannot begin yet");
        }
    }

    /// Waits until the prologs of all the job's trays have said that their trays are complete; how long that took.
    pub(super) fn answer_roll(&mut self, record: &Record) -> Result<Duration, Readiness> {
        let begin = Instant::now();
        let Some(mut roll) = self.roll.take() else { return Ok(Duration::ZERO) };
        let absent = Duration::from_secs(self.settings.deadlines.peer_absent_seconds);
        let mut heard_at = Instant::now();
        loop {
            if self.has_ended(record.job, record.prolog_started).unwrap_or(false) {
                return Err(Readiness::RunEnded);
            }
            // A guest has no daemon of its own; the standing one was alive a moment ago.
            if record.kind != Kind::Guest && !self.is_daemon_alive(record).unwrap_or(true) {
                return Err(Readiness::DaemonDied);
            }
            match roll.step(self.forming.within(LOOK)) {
                Ok(true) => return Ok(begin.elapsed()),
                Ok(false) => {}
                Err(error) => return Err(Readiness::NoRollCall { why: error.to_string() }),
            }
            if !roll.is_unheard() {
                heard_at = Instant::now();
            }
            if self.forming.has_passed() || heard_at.elapsed() >= absent {
                return Err(unanswered(roll.missing()));
            }
        }
    }
}

/// A member of the own domain explains more than another partition, which may be waiting for that member.
fn unanswered(absent: Absent) -> Readiness {
    if absent.members.is_empty() && !absent.partitions.is_empty() {
        return Readiness::PartitionsMissing { missing: absent.partitions };
    }
    Readiness::PeersMissing { missing: absent.members, why: Missing::Unanswered }
}
