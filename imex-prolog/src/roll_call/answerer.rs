//! The one who answers: says its sentence to a caller, and waits for the caller's word.
#![forbid(unsafe_code)]

use super::net::{self, Line};
use super::{COMPLETE, Told};
use crate::deadline::{Deadline, Pauses};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// First pause before a caller is dialled again.
const DIAL_FIRST: Duration = Duration::from_millis(10);
/// Longest pause before a caller is dialled again.
pub(super) const DIAL_LONGEST: Duration = Duration::from_millis(250);

/// One side of a connection to a caller. Dropping it hangs up.
#[derive(Debug)]
pub(super) struct Answerer {
    own: IpAddr,
    caller: SocketAddr,
    words: String,
    from: RangeInclusive<u16>,
    line: Option<Line>,
    pauses: Pauses,
    fault: Option<String>,
    told: Told,
}

impl Answerer {
    /// Says `words` to `caller` from one of the ports `from` of `own`.
    pub(super) fn new(own: IpAddr, caller: SocketAddr, words: String, from: RangeInclusive<u16>) -> Self {
        let pauses = Pauses::new(DIAL_FIRST, DIAL_LONGEST);
        Self { own, caller, words, from, line: None, pauses, fault: None, told: Told::default() }
    }

    /// Dials, or hears what the caller says, until the deadline. True: the caller says that all are complete.
    pub(super) fn step(&mut self, deadline: Deadline) -> io::Result<bool> {
        let Some(line) = &mut self.line else {
            let dialled = net::dial(self.own, self.caller, &self.from, deadline)
                .and_then(|stream| Line::new(stream, self.caller))
                .and_then(|mut line| line.say(&self.words).map(|()| line));
            match dialled {
                Ok(line) => (self.line, self.fault) = (Some(line), None),
                Err(error) => {
                    self.fault = Some(error.to_string());
                    self.pauses.pause(deadline);
                }
            }
            return Ok(false);
        };
        net::wait_for_any(&[line.as_fd()], deadline)?;
        match line.hear() {
            Ok(said) => {
                for words in said {
                    if words == COMPLETE {
                        return Ok(true);
                    }
                    if let Some(told) = Told::of_line(&words) {
                        self.told = told;
                    }
                }
            }
            Err(error) => (self.line, self.fault) = (None, Some(error.to_string())),
        }
        Ok(false)
    }

    /// Takes back what was said.
    pub(super) fn hang_up(&mut self) {
        self.line = None;
    }

    /// Whether the caller's prolog cannot be reached.
    pub(super) fn is_unheard(&self) -> bool {
        self.line.is_none()
    }

    /// Why it cannot.
    pub(super) fn complaint(&self) -> Option<String> {
        let why = self.fault.as_deref().unwrap_or("not tried yet");
        let port = self.caller.port();
        self.is_unheard().then(|| format!("its prolog does not answer at port {port}: {why}"))
    }

    /// Whom the caller has called missing.
    pub(super) fn told(&self) -> &Told {
        &self.told
    }
}
