//! Which jobs the demonstration runs, and in which company.

#![forbid(unsafe_code)]

/// A job to submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    /// Whole trays.
    pub(super) trays: usize,
    /// Trays that must share an NVLink partition (`--segment`); without it Slurm's plugin decides.
    pub(super) segment: Option<usize>,
}

impl Wish {
    const fn whole(trays: usize) -> Self {
        Self { trays, segment: None }
    }

    /// Options of sbatch. Whole trays, because a tray can be in one IMEX domain only.
    pub(super) fn options(self) -> Vec<String> {
        let mut options = vec![format!("--nodes={}", self.trays), "--exclusive".to_owned()];
        options.push("--output=/dev/null".to_owned());
        options.extend(self.segment.map(|segment| format!("--segment={segment}")));
        options
    }

    /// The fewest NVLink partitions that can hold the job on an empty cluster with partitions of these sizes, or
    /// nothing if none can.
    pub(super) fn fewest_partitions(self, sizes: &[usize]) -> Option<usize> {
        let mut usable: Vec<usize> = match self.segment {
            Some(segment) => sizes.iter().map(|size| size / segment * segment).collect(),
            None => sizes.to_vec(),
        };
        usable.sort_unstable_by(|a, b| b.cmp(a));
        let mut held = 0;
        usable
            .iter()
            .take_while(|size| **size > 0)
            .position(|size| {
                held += size;
                held >= self.trays
            })
            .map(|position| position + 1)
    }
}

/// Jobs that run side by side, submitted in this order. On two racks of 18 trays each group fits at once.
pub(super) const GROUPS: &[&[Wish]] = &[
    &[Wish::whole(18), Wish::whole(16), Wish::whole(1)],
    &[Wish::whole(20), Wish::whole(4)],
    &[Wish { trays: 24, segment: Some(12) }],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_partitions_follow_from_sizes() {
        let racks = [18, 18];
        assert_eq!(Wish::whole(18).fewest_partitions(&racks), Some(1));
        assert_eq!(Wish::whole(20).fewest_partitions(&racks), Some(2));
        assert_eq!(Wish::whole(37).fewest_partitions(&racks), None);
        assert_eq!(Wish::whole(13).fewest_partitions(&[6, 9, 12]), Some(2));
    }

    #[test]
    fn a_segment_uses_whole_multiples_only() {
        let job = Wish { trays: 24, segment: Some(12) };
        assert_eq!(job.fewest_partitions(&[18, 18]), Some(2));
        assert_eq!(job.fewest_partitions(&[9, 9, 12, 6]), None);
        assert_eq!(job.fewest_partitions(&[26]), Some(1));
    }

    #[test]
    fn each_group_fits_on_two_racks_side_by_side() {
        for group in GROUPS {
            assert!(group.iter().map(|job| job.trays).sum::<usize>() <= 36, "{group:?}");
        }
    }
}
