//! What a prolog that was killed has left behind, removed by its watch.
#![forbid(unsafe_code)]

use super::epilog::KILL_RESERVE;
use super::{Ground, Phases, Times};
use crate::config::Settings;
use crate::daemon::DaemonOwner;
use crate::deadline::{Deadline, Pauses};
use crate::lifecycle::{Stored, World, end};
use crate::lock::TrayLock;
use crate::paths::Paths;
use crate::procfs::Started;
use crate::tray::Tray;
use crate::verdict::{Outcome, of_end, of_lock};
use fabric::names::JobId;
use std::time::Duration;

/// An epilog, where there is one, comes within this time and tells more.
const EPILOG: Duration = Duration::from_secs(2);

/// Removes what this very run of the job's prolog had begun, if an epilog does not.
pub(super) fn remove(paths: &Paths, job: JobId, prolog: Started) -> (Outcome, Phases) {
    let mut phases = Phases::default();
    let outcome = match steps(paths, job, prolog, &mut phases) {
        Ok(outcome) | Err(outcome) => outcome,
    };
    (outcome, phases)
}

fn steps(paths: &Paths, job: JobId, prolog: Started, phases: &mut Phases) -> Result<Outcome, Outcome> {
    let settings = Settings::load(&paths.settings).unwrap_or_default();
    let deadlines = &settings.deadlines;
    let lock = deadlines.epilog_lock();
    let times =
        Times::of(EPILOG + lock + Duration::from_secs(deadlines.stop_seconds) + KILL_RESERVE, Duration::ZERO);
    let ground = Ground::prepare(paths, Ok(prolog))?;
    let mut tray = ground.tray(paths, settings, times)?;
    let nothing = || Outcome::Nothing("nothing of this run is left".to_owned());
    let epilog = Deadline::after(EPILOG);
    let mut pauses = Pauses::new(Duration::from_millis(100), Duration::from_millis(400));
    while !epilog.has_passed() {
        if !is_left(&mut tray, job, prolog) {
            return Ok(nothing());
        }
        pauses.pause(epilog);
    }
    phases.end("read");
    let _lock = TrayLock::take(&tray.state, times.whole.within(lock)).map_err(|error| of_lock(&error))?;
    phases.end("lock");
    if !is_left(&mut tray, job, prolog) {
        return Ok(nothing());
    }
    let result = end(&mut tray, job, prolog);
    phases.end("remove");
    Ok(of_end(result))
}

/// Another run of the job's prolog has a record of its own, and an epilog to come.
fn is_left<O: DaemonOwner>(tray: &mut Tray<O>, job: JobId, prolog: Started) -> bool {
    matches!(tray.load(job), Ok(Stored::Record(record)) if record.prolog_started == prolog)
}
