//! Who chooses the trays.

mod naive;
mod ours;

use std::error::Error;
use std::fmt;

use fabric::placement::{Outlook, Refusal, Standing};

use crate::Seconds;
use crate::job::Ask;
use crate::site::Site;
use crate::trays::TraySet;

pub use naive::Naive;
pub use ours::Ours;

/// What a placer sees of the fabric.
#[derive(Debug, Clone, Copy)]
pub struct View<'v> {
    /// The partitions.
    pub site: &'v Site,
    /// Trays that are in service, busy or not.
    pub up: &'v TraySet,
    /// Trays that the job may have; all of them are up.
    pub usable: &'v TraySet,
    /// When the job of each tray reaches its time limit; 0 where there is none.
    pub ends: &'v [Seconds],
    /// When this job would reach its own if it started now.
    pub end: Seconds,
    /// Where it stands in the queue.
    pub standing: Standing,
}

impl<'v> View<'v> {
    /// For a job of which only its trays matter: nothing is known of ends, and nobody is ahead of it.
    pub fn of_trays(site: &'v Site, up: &'v TraySet, usable: &'v TraySet) -> Self {
        Self { site, up, usable, ends: &[], end: 0, standing: Standing::default() }
    }
}

/// Why a job cannot be placed on the usable trays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// There are not as many trays, wherever they are.
    TooFew {
        /// Trays wanted.
        wanted: u32,
        /// Usable trays.
        usable: u32,
    },
    /// Our placement core refuses.
    Policy(Refusal),
    /// Slurm's code refuses, with this return code.
    Slurm(i32),
}

/// A placer that cannot go on, with its reason.
pub type PlacerFault = Box<dyn Error + Send + Sync>;

/// Chooses trays for jobs.
///
/// It must be monotone: what it refuses on some trays it refuses on fewer of them, whenever jobs end. The replay does not ask
/// again what follows from an earlier answer. [`Refusal::KeptForLarger`] is about one job at one time, and nothing follows from it.
pub trait Placer {
    /// Trays for the job out of the usable ones, or why there are none.
    ///
    /// # Errors
    /// The placer itself is broken.
    fn place(&mut self, view: View<'_>, ask: Ask) -> Result<Result<Vec<u32>, Refused>, PlacerFault>;

    /// When a job that it refuses could be placed: by default found out by asking again, with all trays that are up, and with
    /// all that there are.
    ///
    /// # Errors
    /// The placer itself is broken.
    fn outlook(&mut self, site: &Site, up: &TraySet, ask: Ask) -> Result<Outlook, PlacerFault> {
        let usable = |up: &TraySet| {
            let mut usable = up.clone();
            site.hold_back(up, &mut usable);
            usable
        };
        if self.place(View::of_trays(site, up, &usable(up)), ask)?.is_ok() {
            return Ok(Outlook::Later);
        }
        let all = TraySet::full(site.trays());
        let mended = self.place(View::of_trays(site, &all, &usable(&all)), ask)?;
        Ok(if mended.is_ok() { Outlook::WhenMended } else { Outlook::Never })
    }
}

impl Refused {
    /// Whether it is about one job at one time, and not about all that ask for the same.
    pub(crate) fn is_for_now(&self) -> bool {
        matches!(self, Self::Policy(Refusal::KeptForLarger))
    }

    /// The kind of reason, without numbers.
    pub fn kind(&self) -> String {
        match self {
            Self::TooFew { .. } => "too few free trays".to_owned(),
            Self::Slurm(code) => format!("Slurm's code {code}"),
            Self::Policy(refusal) => match refusal {
                Refusal::NoPartitionFree { .. } => "no NVLink partition has enough free trays",
                Refusal::TooFewFreeToSpan { .. } => "the fewest NVLink partitions have too few free trays",
                Refusal::NoRoomForSegments { .. } => "no room for all segments",
                Refusal::KeptForLarger => "left to larger jobs ahead",
                Refusal::SegmentTooLarge { .. } => "a segment is larger than every NVLink partition",
                _ => "required trays",
            }
            .to_owned(),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFew { wanted, usable } => write!(f, "needs {wanted} trays; {usable} are free"),
            Self::Policy(refusal) => refusal.fmt(f),
            Self::Slurm(code) => write!(f, "Slurm's topology/block refuses with {code}"),
        }
    }
}
