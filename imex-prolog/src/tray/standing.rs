//! The standing domain on the real tray.
#![forbid(unsafe_code)]

use super::probe::TrayProbe;
use super::{STANDING_DIR, Tray, TrayError};
use crate::ctl::{Ctl, CtlError, OwnRow, OwnState};
use crate::daemon::{DaemonOwner, Ended};
use crate::imexd_config::CONFIG_FILE;
use crate::lifecycle::Stored;
use crate::network::Knock;
use crate::readiness::{Patience, Probe, Readiness, wait_ready};
use crate::record::{Kind, Record, STANDING_FILE, State};
use crate::standing::StandingWorld;
use fabric::names::JobId;
use std::time::Duration;

/// How long a standing daemon may refuse a guest's trays before it is started anew, where no other guest needs it.
const REFUSED: Duration = Duration::from_secs(2);

impl<O: DaemonOwner> StandingWorld for Tray<O> {
    fn load_standing(&mut self) -> Result<Stored, TrayError> {
        let stored = self.load_file(STANDING_FILE, STANDING_DIR).map_err(TrayError::Standing)?;
        Ok(match stored {
            Stored::Record(record) if record.kind != Kind::Standing => {
                Stored::Damaged("it is the record of a job".to_owned())
            }
            stored => stored,
        })
    }

    fn drop_standing(&mut self, record: Option<&Record>) -> Result<Ended, TrayError> {
        let config = self.paths.run_dir.join(STANDING_DIR).join(CONFIG_FILE);
        // For messages: nobody else knows the standing domain by a job.
        let job = record.map_or(JobId::new(1).ok(), |record| Some(record.job));
        let ended = match job {
            Some(job) => self.stop_by_config(job, &config, record)?,
            None => Ended::Already,
        };
        self.state
            .remove_flat_dir(STANDING_DIR)
            .and_then(|_| self.state.remove_file(STANDING_FILE))
            .and_then(|_| self.state.sync())
            .map_err(TrayError::Standing)?;
        Ok(ended)
    }

    fn wait_joined(&mut self, standing: &Record, guest: &Record) -> Readiness {
        let deadlines = &self.settings.deadlines;
        let ctl = Ctl { program: self.settings.daemon.control.clone(), config: self.config_of(standing) };
        // One that has been READY before is again at once, or not at all.
        let own_seconds = match standing.state {
            State::Ready => self.settings.standing.verify_seconds,
            State::Starting | State::NoDomain | State::Stopping => deadlines.own_ready_seconds,
        };
        let patience = Patience {
            own: Duration::from_secs(own_seconds),
            lost: Duration::from_secs(deadlines.peer_lost_seconds),
            absent: Duration::from_secs(deadlines.peer_absent_seconds),
            refused: Some(REFUSED),
        };
        let call = Duration::from_secs(deadlines.control_call_seconds);
        // The run that an epilog may end is the guest's; the daemon and its members are the standing domain's.
        let seen = Record {
            job: guest.job,
            prolog_started: guest.prolog_started,
            kind: Kind::Guest,
            ..standing.clone()
        };
        let position = |node| standing.members.iter().position(|member| member == node);
        let positions = guest.members.iter().filter_map(position).collect();
        self.open_roll(guest);
        let inner = TrayProbe::new(self, &seen, ctl, call);
        wait_ready(&mut GuestProbe { inner, positions }, patience)
    }
}

/// The standing daemon as one guest sees it: of its connections those to the guest's trays.
struct GuestProbe<'a, O> {
    inner: TrayProbe<'a, O>,
    /// Where the guest's trays are among the members.
    positions: Vec<usize>,
}

impl<O: DaemonOwner> Probe for GuestProbe<'_, O> {
    fn elapsed(&self) -> Duration {
        self.inner.elapsed()
    }

    fn remaining(&self) -> Duration {
        self.inner.remaining()
    }

    fn pause(&mut self) {
        self.inner.pause();
    }

    fn has_ended(&mut self) -> bool {
        self.inner.has_ended()
    }

    fn is_daemon_alive(&mut self) -> bool {
        self.inner.is_daemon_alive()
    }

    fn own_state(&mut self) -> Result<OwnState, CtlError> {
        self.inner.own_state()
    }

    fn own_row(&mut self) -> Result<OwnRow, CtlError> {
        let row = self.inner.own_row()?;
        let word = |position: &usize| row.words.get(*position).cloned().unwrap_or_default();
        let words = self.positions.iter().map(word).collect();
        Ok(OwnRow { words, ..row })
    }

    fn has_refused(&mut self) -> bool {
        self.inner.has_refused()
    }

    fn own_index(&self) -> Option<usize> {
        let own = self.inner.own_index();
        self.positions.iter().position(|position| Some(*position) == own)
    }

    fn knock(&mut self, members: &[usize]) -> Vec<Knock> {
        let positions: Vec<usize> =
            members.iter().filter_map(|index| self.positions.get(*index).copied()).collect();
        self.inner.knock(&positions)
    }

    fn cut_off(&mut self, knocks: &[Knock]) -> Option<String> {
        self.inner.cut_off(knocks)
    }
}
