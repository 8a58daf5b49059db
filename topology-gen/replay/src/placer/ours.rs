//! Our placement core, the one that the plugin and `topology-gen why` use.

use fabric::placement::{Leaves, Partition, Request, Rules, Span, Split, candidates};

use super::{Placer, PlacerFault, Refused, View};
use crate::Seconds;
use crate::job::Ask;
use crate::site::Site;

/// Asks [`fabric::placement`] and takes its first candidate, on the free trays with the lowest numbers of each partition.
///
/// The plugin does the same where jobs have whole trays, all trays weigh the same and no GRES or CPUs are short, and where it
/// knows the time limits of all jobs: it forgets them with a restart of slurmctld.
#[derive(Debug, Clone, Default)]
pub struct Ours {
    rules: Rules,
    partitions: Vec<Partition>,
    /// Of the busy trays of a partition.
    ends: Vec<Seconds>,
}

impl Ours {
    /// With a site's settings. Aggregated blocks come with the site.
    pub fn new(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// What these settings mean on this site, in sentences.
    pub fn assumptions(rules: &Rules, site: &Site) -> Vec<String> {
        let split = match rules.split {
            Split::Even => "evenly",
            Split::Packed => "one partition filled before the next",
        };
        let span = match rules.span {
            Span::Larger if site.levels().promised().is_some() => {
                "only jobs larger than every partition, and those above the base size that no partition holds while trays are away,"
            }
            Span::Larger => "only jobs larger than every partition",
            Span::Degraded => "also jobs that no partition holds while trays are away",
        };
        let mut said =
            vec![format!("ours: jobs over several NVLink partitions are divided {split}; {span} span.")];
        if rules.room > 0 {
            let wait = match rules.patience {
                0 => "where they can choose".to_owned(),
                minutes => format!("and behind a larger job wait for that, up to {minutes} minutes"),
            };
            said.push(format!("ours: jobs of fewer than {0} trays leave room for {0}, {wait}.", rules.room));
        }
        said
    }
}

impl Placer for Ours {
    fn place(&mut self, view: View<'_>, ask: Ask) -> Result<Result<Vec<u32>, Refused>, PlacerFault> {
        if self.rules.levels != *view.site.levels() {
            self.rules.levels = view.site.levels().clone();
        }
        let leaves = self.rules.leaves(ask.trays, view.standing);
        let ends = &mut self.ends;
        self.partitions.clear();
        self.partitions.extend(view.site.partitions().iter().map(|trays| {
            let capacity = view.site.capacity(trays);
            let free = view.usable.count_in(trays);
            let mut spare = |leaves: Leaves| {
                let busy = view.up.ones_in(trays).filter(|&tray| !view.usable.contains(tray));
                ends.clear();
                ends.extend(busy.map(|tray| view.ends.get(tray as usize).copied().unwrap_or(0)));
                leaves.spare(free, ends, view.end)
            };
            Partition {
                trays: capacity,
                healthy: view.up.count_in(trays).min(capacity),
                free,
                idle: free,
                required: 0,
                weight: 0,
                light: free,
                spare: leaves.map_or(free, &mut spare),
            }
        }));
        let request = Request { held: leaves.is_some_and(|leaves| leaves.held), ..ask.request() };
        let candidate = match candidates(&self.partitions, &request, &self.rules) {
            Ok(mut ways) => ways.next().ok_or("the placement core offers no candidate")?,
            Err(refusal) => return Ok(Err(Refused::Policy(refusal))),
        };
        let mut chosen = Vec::with_capacity(ask.trays as usize);
        for share in candidate.shares {
            let trays = &view.site.partitions()[share.partition];
            chosen.extend(view.usable.ones_in(trays).take(share.trays as usize));
        }
        Ok(Ok(chosen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trays::TraySet;
    use fabric::placement::{Outlook, Refusal, Standing};

    #[test]
    fn a_small_job_leaves_room_by_the_time_limits() {
        // Racks of 4, 2 busy in each: room for 3 is there at 100 in the first, at 500 in the second.
        let site = Site::racks(2, 4, 1, 0).unwrap();
        let up = TraySet::full(8);
        let mut usable = up.clone();
        usable.remove_all(&[0, 1, 4, 5]);
        let ends = [100, 100, 0, 0, 500, 500, 0, 0];
        let chosen = |room, end| {
            let mut ours = Ours::new(Rules { room, ..Rules::default() });
            let standing = Standing::default();
            let view = View { site: &site, up: &up, usable: &usable, ends: &ends, end, standing };
            ours.place(view, Ask { trays: 2, segment: 0 }).unwrap().unwrap()
        };
        assert_eq!([chosen(3, 90), chosen(3, 300), chosen(3, 600)], [[2, 3], [6, 7], [2, 3]]);
        assert_eq!(chosen(0, 300), [2, 3]);
    }

    #[test]
    fn settings_are_said() {
        let site = Site::racks(2, 4, 1, 0).unwrap();
        let said = |text: &str| {
            let mut rules = Rules::default();
            assert!(rules.read(text).is_empty());
            Ours::assumptions(&rules, &site)
        };
        let first = "ours: jobs over several NVLink partitions are divided evenly; only jobs larger than every partition span.";
        assert_eq!(said(""), [first]);
        assert_eq!(
            said("nvlink_room=3"),
            [first, "ours: jobs of fewer than 3 trays leave room for 3, where they can choose."]
        );
        assert_eq!(
            said("nvlink_room=3,nvlink_patience=60"),
            [
                first,
                "ours: jobs of fewer than 3 trays leave room for 3, and behind a larger job wait for that, up to 60 minutes."
            ]
        );
    }

    #[test]
    fn the_core_chooses_and_says_why_not() {
        let site = Site::racks(2, 4, 1, 0).unwrap();
        let mut up = TraySet::full(8);
        up.remove(4);
        let mut usable = up.clone();
        usable.remove_all(&[0, 1]);
        let mut ours = Ours::default();
        let mut ask =
            |trays, segment| ours.place(View::of_trays(&site, &up, &usable), Ask { trays, segment }).unwrap();
        assert_eq!(ask(2, 0), Ok(vec![2, 3]));
        assert_eq!(ask(3, 0), Ok(vec![5, 6, 7]));
        assert_eq!(ask(4, 2), Ok(vec![2, 3, 5, 6]));
        assert_eq!(
            ask(4, 0),
            Err(Refused::Policy(Refusal::NoPartitionFree { wanted: 4, best_free: 3, best_unhealthy: 1 }))
        );
        let mut outlook = |trays| ours.outlook(&site, &up, Ask { trays, segment: 0 }).unwrap();
        assert_eq!(
            [outlook(4), outlook(8), outlook(9)],
            [Outlook::Later, Outlook::WhenMended, Outlook::Never]
        );
    }
}
