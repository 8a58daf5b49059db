//! The daemon's own state, from what it sees.
//!
//! ```text
//! INITIALIZING -> (WAITING_FOR_RECOVERY) -> INIT_GPU -> READY -> SHUTTING_DOWN
//! ```
#![forbid(unsafe_code)]

use crate::state::DaemonState;
use std::collections::BTreeSet;

/// Where the start has come to.
#[derive(Debug, Clone)]
pub struct Startup {
    state: DaemonState,
    awaited: BTreeSet<usize>,
    gpu_ready: bool,
}

/// What the daemon sees at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// The peer port is open.
    pub ports_open: bool,
    /// For each node whether the own connection to it is in service.
    pub connected: &'a [bool],
    /// The GPUs can serve.
    pub gpu_ready: bool,
    /// A fault keeps the daemon from being READY.
    pub held: bool,
    /// The daemon was told to end.
    pub ending: bool,
}

impl Startup {
    /// Begins; `awaited` are the nodes that imported memory before an unclean end.
    pub fn new(awaited: BTreeSet<usize>) -> Self {
        Self { state: DaemonState::Initializing, awaited, gpu_ready: false }
    }

    /// The state now.
    pub fn state(&self) -> DaemonState {
        self.state
    }

    /// Whether the GPUs were found ready once; they are not asked again after that.
    pub fn gpu_ready(&self) -> bool {
        self.gpu_ready
    }

    /// Moves on as far as possible; returns the new state if it is another one.
    pub fn step(&mut self, sight: Sight<'_>) -> Option<DaemonState> {
        if sight.ports_open {
            self.awaited.retain(|id| !sight.connected.get(*id).copied().unwrap_or(true));
        }
        let next = if sight.ending {
            DaemonState::ShuttingDown
        } else if !sight.ports_open {
            DaemonState::Initializing
        } else if !self.awaited.is_empty() {
            DaemonState::WaitingForRecovery
        } else {
            self.gpu_ready |= sight.gpu_ready;
            if sight.held || !self.gpu_ready { DaemonState::InitGpu } else { DaemonState::Ready }
        };
        let changed = next != self.state;
        self.state = next;
        changed.then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Sight<'_> = Sight {
        ports_open: true,
        connected: &[true, false, false],
        gpu_ready: true,
        held: false,
        ending: false,
    };

    #[test]
    fn a_clean_start_goes_straight_to_ready() {
        let mut startup = Startup::new(BTreeSet::new());
        assert_eq!(startup.step(Sight { ports_open: false, ..OPEN }), None);
        assert_eq!(startup.step(OPEN), Some(DaemonState::Ready));
        assert_eq!(
            startup.step(Sight { gpu_ready: false, ..OPEN }),
            None,
            "a READY daemon does not ask the GPUs"
        );
        assert_eq!(startup.step(Sight { ending: true, ..OPEN }), Some(DaemonState::ShuttingDown));
    }

    #[test]
    fn importers_are_awaited_before_the_gpus() {
        let mut startup = Startup::new(BTreeSet::from([2, 9]));
        assert_eq!(startup.step(OPEN), Some(DaemonState::WaitingForRecovery));
        let back = Sight { connected: &[true, false, true], gpu_ready: false, ..OPEN };
        assert_eq!(startup.step(back), Some(DaemonState::InitGpu), "9 is no member, so nobody waits for it");
        assert_eq!(startup.step(OPEN), Some(DaemonState::Ready), "a lost importer is not awaited again");
    }

    #[test]
    fn a_hang_holds_and_lets_go() {
        let mut startup = Startup::new(BTreeSet::new());
        startup.step(OPEN);
        assert_eq!(startup.step(Sight { held: true, ..OPEN }), Some(DaemonState::InitGpu));
        assert_eq!(startup.step(OPEN), Some(DaemonState::Ready));
    }
}
