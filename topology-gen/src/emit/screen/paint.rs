//! Colours of a terminal. Everything that a colour says is also said by a character.
#![forbid(unsafe_code)]

use crate::emit::State;

/// Backgrounds of jobs in the palette of 256 colours; all of them carry black text.
const JOBS: [u8; 12] = [117, 214, 115, 210, 183, 179, 151, 218, 111, 180, 80, 187];

/// Whether colours are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Paint {
    /// Characters only.
    #[default]
    Plain,
    /// With the colours of an ANSI terminal.
    Colour,
}

impl Paint {
    fn dressed(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }

    pub(super) fn strong(self, text: &str) -> String {
        self.dressed("1", text)
    }

    pub(super) fn faint(self, text: &str) -> String {
        self.dressed("2", text)
    }

    /// A tray: the colour of its job, unless its state is a fault.
    pub(super) fn tray(self, text: &str, state: State, job: Option<usize>) -> String {
        let code = match (state, job) {
            (State::Down, _) => "1;37;41".to_owned(),
            (State::Drained, _) => "30;43".to_owned(),
            (_, Some(job)) => background(job),
            (State::Idle, None) => "32".to_owned(),
            (State::Reserved, None) => "35".to_owned(),
            (State::Allocated | State::Mixed | State::Completing, None) => "36".to_owned(),
            (State::PoweredDown | State::Stale | State::Unknown, None) => "2".to_owned(),
        };
        self.dressed(&code, text)
    }

    /// A line of the list of jobs: its letter as on the trays, the rest strong when the job lies in several partitions.
    pub(super) fn job_line(self, line: &str, job: usize, spread: bool) -> String {
        let mut chars = line.chars();
        let letter = chars.next().map(String::from).unwrap_or_default();
        let rest = if spread { self.strong(chars.as_str()) } else { chars.as_str().to_owned() };
        format!("{}{rest}", self.dressed(&background(job), &letter))
    }
}

fn background(job: usize) -> String {
    format!("30;48;5;{}", JOBS.get(job % JOBS.len()).copied().unwrap_or(117))
}
