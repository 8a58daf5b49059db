//! The baseline that knows nothing of the fabric: the first trays that are free.

use super::{Placer, PlacerFault, Refused, View};
use crate::job::Ask;

/// Takes the free trays with the lowest numbers, whatever partition they are in.
///
/// It refuses only when there are too few, so no policy can place more. Because the trays of a rack have neighbouring numbers
/// it still keeps many jobs together; a placer that took random trays would not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Naive;

impl Naive {
    /// What it does, in a sentence.
    pub const ASSUMPTION: &str =
        "naive: the free trays with the lowest numbers, whatever partition they are in.";
}

impl Placer for Naive {
    fn place(&mut self, view: View<'_>, ask: Ask) -> Result<Result<Vec<u32>, Refused>, PlacerFault> {
        let chosen: Vec<u32> = view.usable.ones().take(ask.trays as usize).collect();
        Ok(if chosen.len() == ask.trays as usize {
            Ok(chosen)
        } else {
            Err(Refused::TooFew { wanted: ask.trays, usable: view.usable.count() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Site;
    use crate::trays::TraySet;

    #[test]
    fn the_first_free_trays_are_taken_over_every_border() {
        let site = Site::racks(2, 4, 1, 0).unwrap();
        let up = TraySet::full(8);
        let mut usable = up.clone();
        usable.remove_all(&[0, 1, 2]);
        let ask =
            |trays| Naive.place(View::of_trays(&site, &up, &usable), Ask { trays, segment: 0 }).unwrap();
        assert_eq!(ask(2), Ok(vec![3, 4]));
        assert_eq!(ask(6), Err(Refused::TooFew { wanted: 6, usable: 5 }));
    }
}
